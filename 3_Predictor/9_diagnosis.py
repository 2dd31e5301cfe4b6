"""Tell which step of a finished run fails: the reward model, the reward filter, the Reasoner or the Predictor.

    python 3_Predictor/9_diagnosis.py --dataset Music_data

Reads  rating_for_test_by_predictor.pkl and rating_for_valid_by_predictor.pkl, those of them that are there,
       raw_data/train.pkl, train_summarizer_generation_results.pkl, checkpoints/DATASET/Predictor, and where they are
       there checkpoints/DATASET/reason_reward_model, train_12000.pkl, distilling_high_quality_reasons.pkl
Writes results/diagnosis.json, {"splits": {SPLIT: {"reward_model", "predictor", "aspects"}}, "reward_filter",
       "settings"}
Each expert reads a row's own text and, for comparison, that of another row and none. docs/evaluation.md says how to
read the table.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.reason4rec import diagnosis, distillation
from reason4rec.systems.reason4rec.artifacts import DIAGNOSIS, REWARD_MODEL, SUMMARIES
from reason4rec.systems.reason4rec.reason_checks import vocabulary


def run(step: utils.ExpertStep) -> None:
    rows, seed = diagnosis.rows_of(step), step.common.seed
    known = vocabulary(step.read(SUMMARIES), seed)
    splits = {
        split: {"aspects": diagnosis.foreseen(targets, step.histories(targets), known, seed)}
        for split, targets in rows.items()
    }
    asked = {"predictor": diagnosis.of_predictor(step, "Predictor", rows)}
    if REWARD_MODEL in step.reads:
        asked["reward_model"] = diagnosis.of_reward_model(step, REWARD_MODEL.path, rows)
    else:
        print(f"left out: the reward model, which is not in {step.path(REWARD_MODEL)}")
    for section, of_splits in asked.items():
        for split, errors in of_splits.items():
            splits[split][section] = errors
    counts = distillation.counts_of(step.folder)
    result = {"splits": splits, "reward_filter": counts, "settings": step.provenance["settings"]}
    step.write(DIAGNOSIS, result)
    print(diagnosis.as_text(result))
    total = sum(map(len, rows.values()))
    step.summary(total, total, **{f"rows_of_{split}": len(targets) for split, targets in rows.items()})


def show(step: utils.ExpertStep) -> None:
    print(diagnosis.as_text(json.loads(step.path(DIAGNOSIS).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    utils.start(run, __doc__, show)
