"""Draw the results on a dataset of sequences: GREAM's recalls, and what each reward of TWiCE-Rec teaches.

    python figs/draw_sequences.py --dataset Demo_sequences

Reads  results/gream_metrics.json, results/twice_rec_rewards.json of the dataset, those of them that exist
Writes results/figures/DATASET_gream_recalls.png, DATASET_twice_rec_rewards.png
The published pictures come from the published files: `--dataset Demo_sequences --results results/gream/Demo_sequences
--out figs`, and the same with results/twice_rec.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reason4rec.errors import InputError
from reason4rec.evaluation.figures import save
from reason4rec.run.files import folder_in
from reason4rec.run.project import own
from reason4rec.systems.gream import artifacts as gream
from reason4rec.systems.gream import evaluation
from reason4rec.systems.gream.figures import recalls
from reason4rec.systems.gream.pipeline import PIPELINE as GREAM
from reason4rec.systems.twice_rec import artifacts as twice_rec
from reason4rec.systems.twice_rec import reward_comparison
from reason4rec.systems.twice_rec.figures import hits_and_popularity
from reason4rec.systems.twice_rec.pipeline import PIPELINE as TWICE_REC

PICTURES = {
    "gream_recalls": (GREAM, gream.METRICS, evaluation.read, recalls),
    "twice_rec_rewards": (TWICE_REC, twice_rec.COMPARISON, reward_comparison.read, hits_and_popularity),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset", default="Demo_sequences", help="folder of the dataset in the data root")
    parser.add_argument("--data_root", type=Path, default=own("0_Data"), help="folder of all datasets")
    parser.add_argument("--results", type=Path, help="folder of the result files (default: results/ of the dataset)")
    parser.add_argument("--out", type=Path, help="folder to write to (default: results/figures/ of the dataset)")
    args = parser.parse_args()
    try:
        draw(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def draw(args: argparse.Namespace) -> None:
    """Draws each picture whose file is there, and says which are not."""
    own_results = folder_in(args.data_root, args.dataset, "--dataset") / "results"
    results, out = args.results or own_results, args.out or own_results / "figures"
    sources = [results / Path(artifact.path).name for _, artifact, _, _ in PICTURES.values()]
    if not any(source.exists() for source in sources):
        raise InputError(f"{results}: neither {' nor '.join(source.name for source in sources)} is there to draw")
    for name, (pipeline, artifact, read, picture) in PICTURES.items():
        source, path = results / Path(artifact.path).name, out / f"{args.dataset}_{name}.png"
        if source.exists():
            save(picture(read(source), args.dataset), path)
            print(f"drawn: {path}")
        else:
            print(f"not drawn: {path.name} needs {source}, which {pipeline.producer(artifact).script} writes")


if __name__ == "__main__":
    main()
