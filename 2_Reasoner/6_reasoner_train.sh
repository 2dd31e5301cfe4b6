#!/usr/bin/env bash
# Train the Reasoner.
#
#     bash 2_Reasoner/6_reasoner_train.sh --dataset Music_data
#
# Reads  Reasoner_train_instruct.pkl
# Writes checkpoints/DATASET/Reasoner
# Any other flag goes to the trainer: bash 2_Reasoner/6_reasoner_train.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m reason4rec.training.sft --adapter Reasoner "$@"
