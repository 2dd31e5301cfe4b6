#!/usr/bin/env bash
# Train the Summarizer.
#
#     bash 1_Summarizer/3_summarizer_train.sh --dataset Music_data
#
# Reads  Summarizer_train_instruct.pkl
# Writes checkpoints/DATASET/Summarizer
# Any other option goes to the trainer: bash 1_Summarizer/3_summarizer_train.sh --help
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m reason4rec.systems.reason4rec.train --adapter Summarizer "$@"
