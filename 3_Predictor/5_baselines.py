"""Predict the ratings of the test rows in other ways, to compare ours with.

    python 3_Predictor/5_baselines.py --dataset Music_data --model all

Reads  raw_data/train.pkl, raw_data/valid.pkl, raw_data/test.pkl, train_summarizer_generation_results.pkl where it is
Writes predictions/MODEL.pkl (predictions/MODEL@SEED.pkl for models with a seed), results/efforts.json
Settings are chosen on the validation rows, with the grids of reason4rec/systems/reason4rec/baselines.py. `all` is every
model but three that cost a GPU's time or money: ask for them by name. zero_shot, the untrained base model, and
zero_shot_teacher are asked the Predictor's prompt without a reason; zero_shot_reasoned, the base again, first writes a
reason by the Reasoner's prompt. Histories show summaries, or whole reviews where there are no summaries yet. Some
models need `python -m pip install -r requirements-baselines.txt`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.reason4rec import baseline_runs
from reason4rec.systems.reason4rec.artifacts import EFFORTS, predictions_of


def run(step: utils.ExpertStep) -> None:
    for name in baseline_runs.names(step):
        for run_name, seed in baseline_runs.runs(name, step):
            part = baseline_runs.part_of(step, name, run_name, seed)
            if part.done():
                continue
            predictions, effort = baseline_runs.in_own_process(name, part, seed)
            # First, so that predictions never lack it.
            baseline_runs.put_effort(step.path(EFFORTS), effort)
            part.write(predictions_of(run_name), predictions)
            tuned = {"tuned_on_rows": effort["valid_rows"]} if effort["valid_rows"] else {}
            part.summary(len(predictions), len(predictions), model=run_name, **tuned, own_peak_gb=effort["peak_gb"])


if __name__ == "__main__":
    utils.start(run, __doc__)
