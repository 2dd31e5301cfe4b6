#!/usr/bin/env bash
# Train the generator: QLoRA fine-tuning of one adapter and of the new tokens, on rows in the order of a curriculum.
#
#     bash GREAM/7_generator_train.sh --dataset Grocery
#
# Reads  gream/Generator_train_instruct.pkl, checkpoints/DATASET/GREAM_base
# Writes checkpoints/DATASET/Generator; with --order shuffled checkpoints/DATASET/Generator_shuffled
# Any other option goes to the trainer: bash GREAM/7_generator_train.sh --help
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m reason4rec.systems.gream.train "$@"
