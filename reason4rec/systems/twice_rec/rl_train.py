"""Train the recommender further by a reward that a collaborative model weighs.

    python -m reason4rec.systems.twice_rec.rl_train --dataset Grocery --reward mended

Reads  twice_rec/sequences.pkl, items.pkl, candidates.pkl, collaborative_scores.pkl, checkpoints/DATASET/Recommender
Writes checkpoints/DATASET/Recommender_REWARD (adapter, settings.json, loss_curve.json)

Prompts are training cases, so that no target of the validation or the test is in any of them but as a candidate of
another user. Before the training, policies written by hand are scored by every reward; the table stands in the record,
with a warning where a cheat beats a candidate drawn at random. Paper: stage 3.
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from reason4rec.llm.base import resolve_device
from reason4rec.run.files import adapter
from reason4rec.systems.twice_rec import collaborative, probes, rewards
from reason4rec.systems.twice_rec.artifacts import RECOMMENDER, SCORES
from reason4rec.systems.twice_rec.options import Reinforcement, Reward
from reason4rec.systems.twice_rec.prompts import RATIONALE_FIRST
from reason4rec.systems.twice_rec.step import RecommenderStep
from reason4rec.training import grpo, trackers
from reason4rec.training.options import RunsOn
from reason4rec.training.policy import Policy
