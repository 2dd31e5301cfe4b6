#!/usr/bin/env bash
# Train the Summarizer.
#
#     bash 1_Summarizer/3_summarizer_train.sh --dataset Music_data
#
# Reads  Summarizer_train_instruct.pkl
# Writes checkpoints/DATASET/Summarizer
# Any other flag goes to the trainer: bash 1_Summarizer/3_summarizer_train.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m reason4rec.training.sft --adapter Summarizer "$@"
