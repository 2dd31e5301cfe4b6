"""Change one thing at a time in a finished run, and see what it is worth.

    python 3_Predictor/6_ablations.py --dataset Music_data --variants without_reasoner tau_0.05 history_5

Reads  the files and adapters of the finished run; give the flags that it was given
Writes ablations/VARIANT/ and checkpoints/DATASET/ablations/VARIANT, predictions/VARIANT.pkl, results/ablations.json
The variants are without_summarizer, without_reasoner, without_rewards, one_step and rating_first, and tau_X, history_N
and draws_N for any numbers. One that needs reasons which are not kept yet asks the teacher. The table holds those of
earlier calls too.
Paper: ablation study and analyses; which variants it has is known from third parties.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data import schema
from reason4rec.data.schema import KEYS, PREDICTION, PROBABILITIES
from reason4rec.systems.reason4rec import ablations
from reason4rec.systems.reason4rec.artifacts import ABLATIONS, TEST_RATINGS, predictions_of


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variants", nargs="+", default=list(ablations.FIXED), help="names (default: all with a name)")


def run(args: argparse.Namespace) -> None:
    dataset = utils.dataset_of(args)
    folder, checkpoints = args.data_root / args.dataset, args.checkpoint_root / args.dataset
    chosen = [ablations.variant(name) for name in dict.fromkeys(args.variants)]
    passed = {
        "all": ["--seed", args.seed, *(["--limit", args.limit] if args.limit else [])],
        "prompts": ["--prompts", args.prompts.resolve()],
        "teacher": ["--teacher_model", args.teacher_model, "--requests_at_once", args.requests_at_once]
        + ["--retries", args.retries],
        "model": ["--device", args.device, *(["--batch_size", args.batch_size] if args.batch_size else [])],
        "writer": ["--max_new_tokens", args.max_new_tokens],
    }
    for variant in chosen:
        ablations.place(variant, dataset, folder.resolve(), checkpoints.resolve())
        ablations.run_steps(variant, folder.resolve(), checkpoints.resolve(), passed)
    finished = ablations.finished(folder)
    made = {variant.name: folder / ablations.FOLDER / variant.name / TEST_RATINGS.path for variant in finished}
    outputs = [*(predictions_of(name) for name in made), ABLATIONS]
    step = utils.Step(args, reads=[TEST_RATINGS, *made.values()], writes=outputs, variants=list(made))
    if step.done():
        return
    for variant, path in made.items():
        predicted = schema.read(path.parent, TEST_RATINGS)
        step.write(predictions_of(variant), predicted[[*KEYS, "ratings", PREDICTION, *PROBABILITIES]])
    rows = ablations.compared(folder, finished, args.seed)
    step.write(ABLATIONS, rows)
    print(ablations.as_text(rows))
    step.card(len(made), len(rows))


if __name__ == "__main__":
    utils.main(run, __doc__, flags, utils.prompt_flags, utils.model_flags, utils.generation_flags, utils.teacher_flags)
