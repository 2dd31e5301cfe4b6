#!/usr/bin/env bash
# Train the reward model.
#
#     bash 2_Reasoner/3_reward_model_train.sh --dataset Music_data
#
# Reads  review_train_data.pkl
# Writes checkpoints/DATASET/reason_reward_model
# Any other flag goes to the trainer: bash 2_Reasoner/3_reward_model_train.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m reason4rec.training.sft --adapter reason_reward_model "$@"
