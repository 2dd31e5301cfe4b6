#!/usr/bin/env bash
# Run the whole method, step by step, and print the results table.
#
#     bash run_all.sh                          the embedded demo: no GPU, no key, no download of a model
#     bash run_all.sh --dataset Music_data     a real dataset: needs OPENAI_API_KEY, and a GPU in practice
#     bash run_all.sh --dataset Music_data --from 2/5 --to 3/4
#
# --from and --to name steps as in the file names: 0/2, 1/1 ... 3/4. --limit N and --seed N go to every step.
# A step whose output is complete and still fits its inputs and settings is skipped.
set -euo pipefail
cd "$(dirname "$0")"

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
fail() { echo "error: $1" >&2; exit 2; }

DATASET=Demo_data FROM=0/0 TO=9/9 BASE_MODEL=() COMMON=() RAW=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --dataset | --from | --to | --base_model | --limit | --seed | --data_root | --checkpoint_root | --reviews | --metadata | --core)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case "$1" in
        --dataset) DATASET=$2 ;;
        --from) FROM=$2 ;;
        --to) TO=$2 ;;
        --base_model) BASE_MODEL=(--base_model "$2") ;;
        --reviews | --metadata | --core) RAW+=("$1" "$2") ;;
        *) COMMON+=("$1" "$2") ;;
      esac
      shift 2 ;;
    --overwrite) COMMON+=(--overwrite); shift ;;
    *) fail "unknown flag $1; see bash run_all.sh --help" ;;
  esac
done
for step in "$FROM" "$TO"; do
  case "$step" in [0-9]/[0-9]) ;; *) fail "no step $step: steps are named as in 2/5" ;; esac
done
