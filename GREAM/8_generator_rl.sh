#!/usr/bin/env bash
# Train the generator further by how much of the semantic id its answer begins with (SRPO).
#
#     bash GREAM/8_generator_rl.sh --dataset Grocery
#
# Reads  twice_rec/sequences.pkl, items.pkl, gream/semantic_ids.json, checkpoints/DATASET/Generator, GREAM_base
# Writes checkpoints/DATASET/Generator_ADVANTAGE, for --advantage srpo (default), grpo or no_bonus
# Any other option goes to the trainer: bash GREAM/8_generator_rl.sh --help
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m reason4rec.systems.gream.rl_train "$@"
