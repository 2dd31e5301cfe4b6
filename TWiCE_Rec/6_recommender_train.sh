#!/usr/bin/env bash
# Train the recommender: QLoRA fine-tuning of one adapter on the three tasks.
#
#     bash TWiCE_Rec/6_recommender_train.sh --dataset Grocery
#
# Reads  twice_rec/Recommender_train_instruct.pkl
# Writes checkpoints/DATASET/Recommender
# Any other option goes to the trainer: bash TWiCE_Rec/6_recommender_train.sh --help
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m reason4rec.systems.twice_rec.train "$@"
