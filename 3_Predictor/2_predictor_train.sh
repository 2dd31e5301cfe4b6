#!/usr/bin/env bash
# Train the Predictor.
#
#     bash 3_Predictor/2_predictor_train.sh --dataset Music_data
#
# Reads  Predictor_train_instruct.pkl
# Writes checkpoints/DATASET/Predictor
# Any other flag goes to the trainer: bash 3_Predictor/2_predictor_train.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m reason4rec.training.sft --adapter Predictor "$@"
