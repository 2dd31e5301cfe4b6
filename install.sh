# Sourced by run_all.sh and tests/run.sh: makes .venv with a requirements file and sets PYTHON to its interpreter.
# Files after the first name packages of which only the files are used: they come without what they need in turn.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=$root/.venv/bin/python
wanted=$root/${1:-requirements.txt}
install() { "$PYTHON" -m pip install --quiet --disable-pip-version-check "$@"; }
mark=$root/.venv/installed-$(basename "$wanted")
if ! cat "$root/requirements.txt" "$wanted" | cmp -s - "$mark"; then
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or later is needed" >&2; exit 2; }
  echo "== installing $(basename "$wanted") into $root/.venv"
  python3 -m venv "$root/.venv"
  install "$(grep '^torch==' "$root/requirements.txt")"
  install -r "$wanted"
  cat "$root/requirements.txt" "$wanted" >"$mark"
fi
for file in "${@:2}"; do
  mark=$root/.venv/installed-$file
  if ! cmp -s "$root/$file" "$mark"; then
    echo "== installing $file into $root/.venv"
    install --no-deps -r "$root/$file"
    cat "$root/$file" >"$mark"
  fi
done
