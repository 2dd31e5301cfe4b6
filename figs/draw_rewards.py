"""Draw what each reward of TWiCE-Rec teaches: hits against the popularity of what is recommended.

    python figs/draw_rewards.py --dataset Demo_sequences

Reads  results/twice_rec_rewards.json of the dataset, which TWiCE_Rec/12_compare_rewards.py writes
Writes results/figures/DATASET_twice_rec_rewards.png
The published picture comes from the published file: `--dataset Demo_sequences --results
results/twice_rec/Demo_sequences --out figs`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reason4rec.errors import InputError
from reason4rec.evaluation.figures import save
from reason4rec.run.files import folder_in
from reason4rec.run.project import own
from reason4rec.systems.twice_rec import reward_comparison
from reason4rec.systems.twice_rec.artifacts import COMPARISON
from reason4rec.systems.twice_rec.figures import hits_and_popularity
from reason4rec.systems.twice_rec.pipeline import PIPELINE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset", default="Demo_sequences", help="folder of the dataset in the data root")
    parser.add_argument("--data_root", type=Path, default=own("0_Data"), help="folder of all datasets")
    parser.add_argument("--results", type=Path, help="folder of the result file (default: results/ of the dataset)")
    parser.add_argument("--out", type=Path, help="folder to write to (default: results/figures/ of the dataset)")
    args = parser.parse_args()
    try:
        draw(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def draw(args: argparse.Namespace) -> None:
    """Draws the picture; InputError where the file is not there."""
    folder = folder_in(args.data_root, args.dataset, "--dataset")
    path = (args.results or (folder / COMPARISON.path).parent) / Path(COMPARISON.path).name
    if not path.exists():
        raise PIPELINE.missing(path, COMPARISON)
    out = (args.out or folder / "results" / "figures") / f"{args.dataset}_twice_rec_rewards.png"
    save(hits_and_popularity(reward_comparison.read(path), args.dataset), out)
    print(out)


if __name__ == "__main__":
    main()
