"""Draw the results of a dataset: errors of all models, by history, calibration, tau, and the losses of the trainings.

    python figs/draw_results.py --dataset Music_data

Reads  results/metrics.json, results/ablations.json, checkpoints/DATASET/*/loss_curve.json, those of them that exist
Writes results/figures/DATASET_models.png, _history.png, _calibration.png, _tau.png, _training.png
The published pictures come from the published files: `--dataset Demo_data --results results/Demo_data --out figs`.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reason4rec.errors import InputError
from reason4rec.evaluation import figures, ratings
from reason4rec.run.files import folder_in
from reason4rec.run.project import own
from reason4rec.systems.reason4rec.artifacts import ABLATIONS, METRICS
from reason4rec.systems.reason4rec.experts import EXPERTS
from reason4rec.systems.reason4rec.figures import kind_of, tau_curve
from reason4rec.systems.reason4rec.pipeline import PIPELINE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset", default="Music_data", help="folder of the dataset in the data root")
    parser.add_argument("--data_root", type=Path, default=own("0_Data"), help="folder of all datasets")
    parser.add_argument("--checkpoint_root", type=Path, default=own("checkpoints"), help="folder of all adapters")
    parser.add_argument("--results", type=Path, help="folder of the result files (default: results/ of the dataset)")
    parser.add_argument("--out", type=Path, help="folder to write to (default: results/figures/ of the dataset)")
    args = parser.parse_args()
    try:
        draw(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def draw(args: argparse.Namespace) -> None:
    """Draws each figure whose file is there, and says which are not."""
    own_results = (folder_in(args.data_root, args.dataset, "--dataset") / METRICS.path).parent
    results, out = args.results or own_results, args.out or own_results / "figures"
    metrics, ablations = (results / Path(one.path).name for one in (METRICS, ABLATIONS))
    checkpoints = folder_in(args.checkpoint_root, args.dataset, "--dataset")
    # Published results hold no curves, and those of a training here may be of another run.
    curves = {} if args.results else {name: read(checkpoints / name / "loss_curve.json") for name in EXPERTS}
    drawn = {}
    if metrics.exists():
        result = ratings.read(metrics)
        drawn["models"] = figures.errors_by_model(result, args.dataset, kind_of)
        if len(figures.history_groups(result)) > 1:
            drawn["history"] = figures.errors_by_history(result, args.dataset, kind_of)
        if any(row["n"] for row in result["calibration"]):
            drawn["calibration"] = figures.calibration(result, args.dataset, kind_of)
    # Without the kept reasons of a run, put in place by a person, a row has no number of accepted ones.
    taus = [row for row in read(ablations) if row.get("tau") is not None and "accepted" in row]
    if taus:
        drawn["tau"] = tau_curve(taus, args.dataset)
    if any(curves.values()):
        drawn["training"] = figures.training_losses(curves, args.dataset)
    for name, figure in drawn.items():
        path = out / f"{args.dataset}_{name}.png"
        figures.save(figure, path)
        print(f"drawn: {path}")
    for name, needed in (
        ("models", f"{metrics}, which {PIPELINE.producer(METRICS).script} writes"),
        ("history", f"{metrics} with two lengths of history of {figures.FEWEST} test rows or more"),
        ("calibration", f"{metrics} with a model that gives probabilities of the ratings"),
        ("tau", f"{ablations} with rows that have a tau, which {PIPELINE.producer(ABLATIONS).script} writes"),
        ("training", f"adapters in {checkpoints}, and no --results"),
    ):
        if name not in drawn:
            print(f"not drawn: {args.dataset}_{name}.png needs {needed}")


def read(path: Path) -> list[dict]:
    """The rows of a result file, none if it is not there; InputError if it is damaged."""
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
            raise ValueError("no list of rows")
        return rows
    except ValueError as error:
        raise InputError(f"{path}: cannot be drawn ({error}); write it again") from error


if __name__ == "__main__":
    main()
