#!/usr/bin/env bash
# Train the Predictor.
#
#     bash 3_Predictor/2_predictor_train.sh --dataset Music_data
#
# Reads  Predictor_train_instruct.pkl
# Writes checkpoints/DATASET/Predictor
# Any other option goes to the trainer: bash 3_Predictor/2_predictor_train.sh --help
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m reason4rec.systems.reason4rec.train --adapter Predictor "$@"
