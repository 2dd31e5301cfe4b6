"""Publish the results of a dataset in `results/twice_rec/`, and write the tables of the docs from what is there.

    python -m reason4rec.systems.twice_rec.report
    python -m reason4rec.systems.twice_rec.report --publish --dataset Demo_sequences --minutes 12

Reads  results/twice_rec/DATASET/*.json, and for --publish the results of the dataset
Writes docs/*.md and README.md between their marks `<!-- twice_rec NAME -->` and `<!-- /twice_rec -->`; --publish also
       results/twice_rec/DATASET
`NAME` is a published dataset, or that with `_named`, `_protocol`, `_rationales`, `_collaborative` or `_rewards`;
`reported_DOMAIN` is what the paper reports.
"""

import argparse
import re
from pathlib import Path

from reason4rec.run import markdown, published
from reason4rec.run.commands import guarded
from reason4rec.run.files import Artifact, folder_in, write_text
from reason4rec.run.project import ROOT, check_clone, own
from reason4rec.systems.twice_rec.artifacts import COMPARISON, METRICS, QUALITY, SASREC
from reason4rec.systems.twice_rec.evaluation import PROTOCOL
from reason4rec.systems.twice_rec.pipeline import PIPELINE

FOLDER = ROOT / "results" / "twice_rec"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MARKS = re.compile(r"(<!-- twice_rec (\w+) -->\n).*?(<!-- /twice_rec -->)", re.DOTALL)
CARD = "card.json"
REPORTED = "reported_"
SHOWN = ("HR@1", "HR@5", "NDCG@5", "NDCG@10", "MRR")


def run(args: argparse.Namespace) -> None:
    """Publishes if asked to, and writes the tables."""
    check_clone("the docs and the published results")
    if args.publish:
        folder = folder_in(args.data_root, args.dataset, "--dataset")
        publish(folder, folder_in(args.checkpoint_root, args.dataset, "--dataset"), args.dataset, args.minutes)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if MARKS.search(text):
            write_text(page, with_tables(text))
            print(f"tables written to {page.name}: {', '.join(name for _, name, _ in MARKS.findall(text))}")


def publish(folder: Path, adapters: Path, name: str, minutes: float | None) -> None:
    """Copies what there is of a dataset's results to `results/twice_rec/NAME`.

    InputError without any evaluation, and where one of the files is out of date.
    """
    there = [one for one in (METRICS, QUALITY, COMPARISON) if (folder / one.path).exists()]
    card = adapters / SASREC.path / CARD
    published.check(PIPELINE, folder, adapters, there + ([SASREC] if card.exists() else []))
    found = [folder / one.path for one in there] + ([card] if card.exists() else [])
    if not found:
        raise PIPELINE.missing(folder / METRICS.path, METRICS)
    published.publish(found, FOLDER / name, minutes)


def with_tables(text: str) -> str:
    """A page with the content of every table between its marks; InputError where a dataset is not published."""
    return MARKS.sub(lambda mark: f"{mark[1]}{table(mark[2])}\n{mark[3]}", text)


def table(name: str) -> str:
    """A table of a published dataset: its ranks, or what its ending names."""
    if name.startswith(REPORTED):
        return reported(name.removeprefix(REPORTED))
    for ending, write in (
        ("_named", named),
        ("_protocol", protocol),
        ("_rationales", rationales),
        ("_collaborative", collaborative),
        ("_rewards", rewards),
    ):
        if name.endswith(ending):
            return write(name.removesuffix(ending))
    result = _read(name, METRICS)
    popular = {row["model"]: row for row in result["top"]}
    return ranks(result["ranks"], {name: f"{row['value']:.3f}" for name, row in popular.items()})


def ranks(rows: list[dict], popularity: dict[str, str]) -> str:
    """A line for each model: metrics with intervals, the popularity of what it ranks first, and the test of HR@1."""
    by_model: dict[str, dict[str, dict]] = {}
    for row in rows:
        by_model.setdefault(row["model"], {})[row["metric"]] = row
    lines = []
    for model, of in by_model.items():
        hits = of["HR@1"]
        test = "-"
        if "p_corrected" in hits:
            interval = markdown.brackets(hits["difference_low"], hits["difference_high"], "+.3f")
            test = f"{hits['difference']:+.3f}{interval}, p {hits['p_corrected']:.4f}"
        lines.append(
            [model, hits["seeds"], *(markdown.interval(of[name]) for name in SHOWN), popularity.get(model, "-"), test]
        )
    against = next((row["against"] for row in rows if "against" in row), "-")
    header = ["model", "seeds", *SHOWN, "popularity of the first", f"HR@1 less that of {against}"]
    return f"n = {rows[0]['n']:,} test cases.\n\n" + markdown.table(header, lines)


def named(name: str) -> str:
    """What the recommenders name themselves."""
    lines = []
    for row in _read(name, METRICS)["named"]:
        drawn = f"{row['pass']['value']:.3f} (any of {row['draws']})" if "pass" in row else "-"
        shares = [f"{row[kind]:.1%}" for kind in ("malformed", "outside_the_list", "title_of_another")]
        lines.append([row["model"], markdown.interval(row["greedy"]), drawn, *shares])
    header = ["model", "greedy HR@1", "pass@k", "malformed", "outside the list", "title of another"]
    return markdown.table(header, lines)


def protocol(name: str) -> str:
    """The paper's protocol: hits in a few draws of each recommender, taken for a list in the order drawn."""
    result = _read(name, METRICS)
    drawn = [row for row in result["named"] if "ndcg" in row]
    if not drawn:
        return f"It has not been run: it takes `--draws` of {PIPELINE['T/8'].script}."
    k = drawn[0]["draws"]
    lines = [[row["model"], *(markdown.interval(row[part]) for part in PROTOCOL)] for row in drawn]
    settings = result["settings"]
    about = f"{settings['cases']:,} cases, lists of {settings['candidates']}, {k} draws."
    return f"{about}\n\n" + markdown.table(["model", "HR@1", f"HR@{k}", f"NDCG@{k}"], lines)


def reported(domain: str) -> str:
    """What the paper reports of a domain, in percent."""
    found = published.read(FOLDER / "reported.json")
    lines = [[model, *(f"{value:.2f}" for value in values)] for model, values in found["domains"][domain].items()]
    return markdown.table(["model", *found["metrics"]], lines)


def rationales(name: str) -> str:
    """The checks of the rationales of each writer."""
    writers = _read(name, QUALITY)["writers"]
    checks = list(dict.fromkeys(check for of in writers.values() for check in of))
    lines = [
        [check.replace("_", " "), *(markdown.interval(of.get(check)) for of in writers.values())] for check in checks
    ]
    return markdown.table(["mean of", *writers], lines)


def collaborative(name: str) -> str:
    """The card of the collaborative model."""
    card = published.read(FOLDER / name / CARD)
    lines = [
        [split, model, *(f"{value:.4f}" for value in of.values())]
        for split, by_model in card["metrics"].items()
        for model, of in by_model.items()
    ]
    about = (
        f"{card['users']:,} users, {card['items']:,} items, lists of {card['candidates']}, {card['epochs']} epochs. "
    )
    share = f"The item alone explains {card['item_share']:.0%} of the variance of the logits over the catalogue."
    return f"{about}{share}\n\n" + markdown.table(["split", "model", *card["metrics"]["test"]["SASRec"]], lines)


def rewards(name: str) -> str:
    """What each reward teaches, over seeds."""
    result = _read(name, COMPARISON)
    popular = {row["model"]: markdown.interval(row) for row in result["top"]}
    tables = [ranks(result["ranks"], popular)]
    if result["against_match"]:
        tables.append(ranks(result["against_match"], popular))
    return "\n\n".join(tables)


def _read(name: str, artifact: Artifact) -> dict:
    return published.read(FOLDER / name / Path(artifact.path).name)


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
