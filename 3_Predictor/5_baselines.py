"""Predict the ratings of the test rows in other ways, to compare ours with.

    python 3_Predictor/5_baselines.py --dataset Music_data --model all

Reads  raw_data/train.pkl, raw_data/valid.pkl, raw_data/test.pkl, train_summarizer_generation_results.pkl where it is
Writes predictions/MODEL.pkl (predictions/MODEL@SEED.pkl for models with a seed), results/efforts.json
Settings are chosen on the validation rows, with the grids of reason4rec/baselines.py. `all` is every model but
zero_shot (the untrained base model) and zero_shot_teacher, which cost a GPU's time or money: ask for them by name.
Both are asked the Predictor's prompt without a reason, with summaries in the histories, or whole reviews where there
are no summaries yet. Some models need `python -m pip install -r requirements-baselines.txt`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.reason4rec import baselines
from reason4rec.systems.reason4rec.artifacts import EFFORTS, predictions_of


def flags(parser: argparse.ArgumentParser) -> None:
    models = ("all", *baselines.LEARNED, *baselines.ASKED)
    parser.add_argument("--model", choices=models, default="all", help="which baseline (default: all that ask no LLM)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(baselines.SEEDS), help="of models with a seed")
    parser.add_argument("--base_model", help="hub name or folder for zero_shot (default: the dataset's)")


def run(args: argparse.Namespace) -> None:
    names = baselines.installed(list(baselines.LEARNED)) if args.model == "all" else [args.model]
    for name in names:
        for run_name, seed in baselines.runs(name, args):
            step = baselines.step_for(name, run_name, seed, args)
            if step.done():
                continue
            predictions, effort = baselines.in_own_process(name, step, seed)
            # First, so that predictions never lack it.
            baselines.put_effort(step.path(EFFORTS), effort)
            step.write(predictions_of(run_name), predictions)
            step.card(len(predictions), len(predictions), model=run_name, own_peak_gb=effort["peak_gb"])


if __name__ == "__main__":
    utils.main(run, __doc__, flags, utils.prompt_flags, utils.model_flags, utils.teacher_flags)
