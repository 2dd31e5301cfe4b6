#!/usr/bin/env bash
# Train the reward model.
#
#     bash 2_Reasoner/3_reward_model_train.sh --dataset Music_data
#
# Reads  review_train_data.pkl
# Writes checkpoints/DATASET/reason_reward_model
# Any other option goes to the trainer: bash 2_Reasoner/3_reward_model_train.sh --help
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m reason4rec.systems.reason4rec.train --adapter reason_reward_model "$@"
