"""Publish the results of a dataset in `results/gream/`, and write the tables of the docs from what is there.

    python -m reason4rec.systems.gream.report
    python -m reason4rec.systems.gream.report --publish --dataset Demo_sequences --minutes 12

Reads  results/gream/DATASET/*.json, and for --publish the results of the dataset
Writes docs/*.md and README.md between their marks `<!-- gream NAME -->` and `<!-- /gream -->`; --publish also
       results/gream/DATASET
`NAME` is a dataset, or that with `_ids`, `_lists`, `_draws` or `_parts`. What stands between the marks stays as it is
as long as its file is not published.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from reason4rec.run import markdown, published
from reason4rec.run.commands import guarded
from reason4rec.run.files import Artifact, folder_in, write_text
from reason4rec.run.project import ROOT, check_clone, own
from reason4rec.systems.gream import evaluation, id_card
from reason4rec.systems.gream.artifacts import COMPARISON, ID_CARD, METRICS
from reason4rec.systems.gream.pipeline import PIPELINE

FOLDER = ROOT / "results" / "gream"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MARKS = re.compile(r"(<!-- gream (\w+) -->\n)(.*?)(<!-- /gream -->)", re.DOTALL)
TESTED = "Recall@10"


def run(args: argparse.Namespace) -> None:
    """Publishes if asked to, and writes the tables."""
    check_clone("the docs and the published results")
    if args.publish:
        folders = [folder_in(root, args.dataset, "--dataset") for root in (args.data_root, args.checkpoint_root)]
        publish(*folders, args.dataset, args.minutes)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if found := [name for _, name, *_ in MARKS.findall(text)]:
            write_text(page, with_tables(text))
            absent = [name for name in found if not is_published(name)]
            written = [name for name in found if name not in absent]
            print(f"{page.name}: written {', '.join(written) or '-'}; not published {', '.join(absent) or '-'}")


def publish(folder: Path, adapters: Path, name: str, minutes: float | None) -> None:
    """Copies what there is of a dataset's results to `results/gream/NAME`.

    InputError without any evaluation, and where one of the files is out of date.
    """
    found = [one for one in (METRICS, ID_CARD, COMPARISON) if (folder / one.path).exists()]
    if not found:
        raise PIPELINE.missing(folder / METRICS.path, METRICS)
    published.check(PIPELINE, folder, adapters, found)
    published.publish([folder / one.path for one in found], FOLDER / name, minutes)


def with_tables(text: str) -> str:
    """A page with the content of every table between its marks, but of those that are not published."""
    return MARKS.sub(lambda mark: f"{mark[1]}{table(mark[2])}\n{mark[4]}" if is_published(mark[2]) else mark[0], text)


def is_published(name: str) -> bool:
    """Whether the file of a table is there."""
    dataset, artifact, _ = _source(name)
    return _path(dataset, artifact).exists()


def table(name: str) -> str:
    """A table of a published dataset: its ranks, or what its ending names; InputError where it is not published."""
    dataset, artifact, write = _source(name)
    return write(published.read(_path(dataset, artifact)))


def ranks(result: dict) -> str:
    """A line for each model: metrics with intervals, and the test of Recall@10."""
    settings = result["settings"]
    about = f"n = {settings['cases']:,} cases, ranked among all {settings['items']:,} items but those of each history."
    return f"{about}\n\n{_tested(result['ranks'])}"


def lists(result: dict) -> str:
    """What is in the lists of each model."""
    lines = []
    for row in result["lists"]:
        shares = [f"{row[name]:.1%}" if name in row else "-" for name in ("invalid", "in_history")]
        lines.append(
            [row["model"], f"{row['length']:.1f}", f"{row['coverage']:.1%}", markdown.interval(row["first"]), *shares]
        )
    header = ["model", "items in a list", "catalogue in any", "popularity of the first", "no item", "in the history"]
    return markdown.table(header, lines)


def draws(result: dict) -> str:
    """Pass@k of the replies that were drawn, a line for each model and k."""
    lines = [
        [row["model"], str(row["draws"]), f"{row['invalid']:.1%}", f"Pass@{one['k']}", markdown.interval(one)]
        for row in result["draws"]
        for one in row["pass"]
    ]
    return markdown.table(["model", "draws", "no item", "Pass@k", "value"], lines)


def parts(result: dict) -> str:
    """What each part of the training teaches, over seeds: a table for each mode, and one of the policies in each."""
    settings = result["settings"]
    about = f"n = {settings['cases']:,} cases, seeds {', '.join(map(str, settings['seeds']))}."
    tables = [
        f"In the {mode} mode:\n\n{_tested(rows)}"
        for against in ("against_generator", "against_srpo")
        for mode, rows in result[against].items()
    ]
    return "\n\n".join([about, *tables])


def _tested(rows: list[dict]) -> str:
    by_model: dict[str, dict[str, dict]] = {}
    for row in rows:
        by_model.setdefault(row["model"], {})[row["metric"]] = row
    lines = []
    for model, of in by_model.items():
        of_test, test = of[TESTED], "-"
        if "p_corrected" in of_test:
            interval = markdown.brackets(of_test["difference_low"], of_test["difference_high"], "+.3f")
            test = f"{of_test['difference']:+.3f}{interval}, p {of_test['p_corrected']:.4f}"
        lines.append([model, of_test["seeds"], *(markdown.interval(of[name]) for name in evaluation.METRICS), test])
    against = next((row["against"] for row in rows if "against" in row), "-")
    return markdown.table(["model", "seeds", *evaluation.METRICS, f"{TESTED} less that of {against}"], lines)


KINDS: dict[str, tuple[Artifact, Callable[[dict], str]]] = {
    "_ids": (ID_CARD, id_card.as_text),
    "_lists": (METRICS, lists),
    "_draws": (METRICS, draws),
    "_parts": (COMPARISON, parts),
}


def _source(name: str) -> tuple[str, Artifact, Callable[[dict], str]]:
    for ending, (artifact, write) in KINDS.items():
        if name.endswith(ending):
            return name.removesuffix(ending), artifact, write
    return name, METRICS, ranks


def _path(dataset: str, artifact: Artifact) -> Path:
    return FOLDER / dataset / Path(artifact.path).name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset", default="Demo_sequences", help="folder of the dataset in the data root")
    parser.add_argument("--data_root", type=Path, default=own("0_Data"), help="folder of all datasets")
    parser.add_argument("--checkpoint_root", type=Path, default=own("checkpoints"), help="folder of all adapters")
    parser.add_argument("--publish", action="store_true", help="first copy the results of --dataset to results/")
    parser.add_argument("--minutes", type=float, help="minutes that the whole run took")
    args = parser.parse_args()
    guarded(lambda: run(args))


if __name__ == "__main__":
    main()
