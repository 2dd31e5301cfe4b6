#!/usr/bin/env bash
# Train the Reasoner further by a reward: how near the Predictor comes to the true rating with its reasons.
#
#     bash 2_Reasoner/8_reasoner_rl.sh --dataset Music_data
#
# Reads  train_12000.pkl, train_summarizer_generation_results.pkl, raw_data/valid.pkl,
#        checkpoints/DATASET/Reasoner and Predictor
# Writes checkpoints/DATASET/Reasoner_rl
# Any other option goes to the trainer: bash 2_Reasoner/8_reasoner_rl.sh --help
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m reason4rec.systems.reason4rec.reinforced.train "$@"
