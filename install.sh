# Sourced by run_all.sh and tests/run.sh: makes .venv with a requirements file and sets PYTHON to its interpreter.
PYTHON=.venv/bin/python
wanted=${1:-requirements.txt}
mark=.venv/installed-$wanted
if ! cat requirements.txt "$wanted" | cmp -s - "$mark"; then
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or later is needed" >&2; exit 2; }
  echo "== installing $wanted into .venv"
  python3 -m venv .venv
  "$PYTHON" -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' requirements.txt)"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$wanted"
  cat requirements.txt "$wanted" >"$mark"
fi
