#!/usr/bin/env bash
# Train the Reasoner.
#
#     bash 2_Reasoner/6_reasoner_train.sh --dataset Music_data
#
# Reads  Reasoner_train_instruct.pkl
# Writes checkpoints/DATASET/Reasoner
# Any other option goes to the trainer: bash 2_Reasoner/6_reasoner_train.sh --help
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m reason4rec.systems.reason4rec.train --adapter Reasoner "$@"
