#!/usr/bin/env bash
# Train the recommender further by a reward that the collaborative model weighs (GRPO).
#
#     bash TWiCE_Rec/7_recommender_rl.sh --dataset Grocery
#
# Reads  twice_rec/sequences.pkl, items.pkl, candidates.pkl, collaborative_scores.pkl,
#        checkpoints/DATASET/SASRec, checkpoints/DATASET/Recommender
# Writes checkpoints/DATASET/Recommender_REWARD, for --reward mended (default), faithful or match
# Any other option goes to the trainer: bash TWiCE_Rec/7_recommender_rl.sh --help
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m reason4rec.systems.twice_rec.rl_train "$@"
