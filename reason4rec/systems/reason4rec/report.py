"""Publish the results of a dataset in `results/`, and write the tables of README and docs from what is published there.

    python -m reason4rec.systems.reason4rec.report
    python -m reason4rec.systems.reason4rec.report --publish --dataset Music_data --minutes 480

Reads  results/reported.json, results/DATASET/*.json, and for --publish the results of the dataset
Writes README.md and docs/*.md between their marks `<!-- table NAME -->` and `<!-- /table -->`, and the table of steps
       between `<!-- steps -->` and `<!-- /steps -->`; --publish also results/DATASET
No number is typed into those tables: what nobody has run says so. `NAME` is `reported`, or a published dataset.
"""

import argparse
import re
from functools import partial
from pathlib import Path

from reason4rec.evaluation import ratings
from reason4rec.run import markdown, published
from reason4rec.run.commands import guarded
from reason4rec.run.files import Artifact, folder_in, write_text
from reason4rec.run.project import ROOT, check_clone, own
from reason4rec.systems.reason4rec import diagnosis
from reason4rec.systems.reason4rec.artifacts import (
    ABLATIONS,
    DIAGNOSIS,
    EFFORTS,
    METRICS,
    REASON_QUALITY,
    REASONER_RL,
    SUMMARY_QUALITY,
)
from reason4rec.systems.reason4rec.pipeline import PIPELINE
from reason4rec.systems.reason4rec.reinforced import shown
from reason4rec.systems.reason4rec.variant_table import by_rule

FOLDER = ROOT / "results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MARKS = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)
STEPS = re.compile(r"(<!-- steps -->\n).*?(<!-- /steps -->)", re.DOTALL)
OTHERS = (EFFORTS, REASON_QUALITY, DIAGNOSIS)
NOT_RUN, OURS = "not run", "Reason4Rec"


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--dataset", default="Music_data", help="folder of the dataset in the data root")
    parser.add_argument("--data_root", type=Path, default=own("0_Data"), help="folder of all datasets")
    parser.add_argument("--checkpoint_root", type=Path, default=own("checkpoints"), help="folder of all adapters")
    parser.add_argument("--publish", action="store_true", help="first copy the results of --dataset to results/")
    parser.add_argument("--minutes", type=float, help="minutes that the whole run took")


def run(args: argparse.Namespace) -> None:
    """Publishes if asked to, and writes README's tables."""
    check_clone("README and the published results")
    if args.publish:
        folders = [folder_in(root, args.dataset, "--dataset") for root in (args.data_root, args.checkpoint_root)]
        publish(*folders, args.dataset, args.minutes)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if MARKS.search(text) or STEPS.search(text):
            write_text(page, with_tables(text))
            print(f"tables written to {page.name}: {', '.join(name for _, name, _ in MARKS.findall(text)) or 'steps'}")


def publish(folder: Path, adapters: Path, name: str, minutes: float | None) -> None:
    """Copies the result files of a dataset to `results/NAME`, with a word on what they were run on.

    InputError where there is neither an evaluation, nor variants of one, nor a scoring of summaries, or where one of
    the files is out of date.
    """
    found = [one for one in (METRICS, SUMMARY_QUALITY, ABLATIONS, *OTHERS) if (folder / one.path).exists()]
    if not {METRICS, SUMMARY_QUALITY, ABLATIONS} & set(found):
        raise PIPELINE.missing(folder / METRICS.path, METRICS)
    if METRICS in found:
        ratings.read(folder / METRICS.path)
    trained = shown.of_training(adapters)
    published.check(PIPELINE, folder, adapters, [*found, REASONER_RL] if trained else found)
    derived = {shown.FILE: trained} if trained else {}
    published.publish([folder / one.path for one in found], FOLDER / name, minutes, derived)


def with_tables(text: str) -> str:
    """A page with the content of every table between its marks; InputError where a dataset is not published."""
    text = STEPS.sub(lambda mark: f"{mark[1]}{steps()}\n{mark[2]}", text)
    return MARKS.sub(lambda mark: f"{mark[1]}{table(mark[2])}\n{mark[3]}", text)


def table(name: str) -> str:
    """A table: `reported`, the models of a published `DATASET`, or what its ending names.

    The endings are `_ablations`, `_diagnosis` and `_summaries`; of step 2/8 `_probes` and `_watched`.
    """
    if name == "reported":
        return reported()
    for ending, write in (
        ("_ablations", ablations),
        ("_diagnosis", diagnosed),
        ("_summaries", summaries),
        ("_probes", partial(trained, "probes")),
        ("_watched", partial(trained, "watched")),
    ):
        if name.endswith(ending):
            return write(name.removesuffix(ending))
    return models(name)


def steps() -> str:
    """The steps in the order in which they run: what each does, its command, and what it reads and writes."""
    rows = []
    for spec in PIPELINE:
        dataset = spec.defaults.get("dataset", "Music_data")
        command = f"`{'bash' if spec.is_shell else 'python'} {spec.script} --dataset {dataset}`"
        reads, writes = (
            ", ".join(map(_place, part)) or "-" for part in (spec.reads, (*spec.writes, *spec.also_writes))
        )
        rows.append([spec.name, spec.what, command, reads, writes])
    return markdown.table(["step", "what", "command", "reads", "writes"], rows)


def _place(artifact: Artifact) -> str:
    return f"`checkpoints/DATASET/{artifact.path}`" if artifact.adapter else f"`{artifact.path}`"


def reported() -> str:
    """What others report, beside what we measured on the warm test rows, which are as many as the paper's."""
    rows = []
    for row in published.read(FOLDER / "reported.json"):
        ours = _measured(row["dataset"]) if row["model"].startswith(OURS) else None
        known = [row["model"], row["dataset"], _number(row["mae"]), _number(row["rmse"]), row["source"]]
        rows.append([*known, *(ours or [NOT_RUN, *["-"] * 6])])
        if ours and row["mae"] is not None:
            rows[-1][7] = f"{float(ours[0].split()[0]) - row['mae']:+.4f}"
    header = ["model", "dataset", "MAE reported", "RMSE reported", "source", "MAE ours", "RMSE ours", "difference"]
    return markdown.table([*header, "seeds", "GPU", "minutes", "commit"], rows)


def models(dataset: str) -> str:
    """The models of a published dataset: errors with 95% intervals on all and on warm rows, seeds, seconds, memory."""
    folder = FOLDER / dataset
    rows = {(row["model"], row["rows"]): row for row in ratings.read(folder / METRICS.path.split("/")[1])["table"]}
    efforts = published.read(folder / "efforts.json") if (folder / "efforts.json").exists() else []
    lines = []
    for model in dict.fromkeys(model for model, _ in rows):
        errors = [_interval(rows.get((model, group)), name) for group in ("all", "warm") for name in ("mae", "rmse")]
        first, n = (
            rows[model, "all"],
            [f"{rows[model, group]['n']:,}" for group in ("all", "warm") if (model, group) in rows],
        )
        spent = [effort for effort in efforts if effort["model"].replace("_", " ") == model.replace(" + ", " ")]
        seconds = f"{sum(e['seconds'] for e in spent) / len(spent):.1f}" if spent else "-"
        memory = f"{max(e['peak_gb'] for e in spent):.2f}" if spent else "-"
        lines.append([model, " / ".join(n), first["unusable"], *errors, first["seeds"], seconds, memory])
    header = [
        "model",
        "n all / warm",
        "unusable",
        "MAE all",
        "RMSE all",
        "MAE warm",
        "RMSE warm",
        "seeds",
        "seconds",
        "GB",
    ]
    return markdown.table(header, lines)


def ablations(dataset: str) -> str:
    """The variants of a published run: accepted reasons, errors, and the difference to the full run on all rows."""
    lines = []
    for row in by_rule(published.read(FOLDER / dataset / Path(ABLATIONS.path).name)):
        paired = row["paired"]
        difference = ["-", "-"]
        if paired:
            interval = markdown.brackets(paired["low"], paired["high"], "+.4f")
            difference = [f"{paired['mae_difference']:+.4f}{interval}", f"{paired['p_corrected']:.4f}"]
        accepted = f"{row['accepted']:,} of {row['targets']:,}" if "accepted" in row else "-"
        errors = [_interval(row["all"], name) for name in ("mae", "rmse")]
        lines.append([row["variant"], row["changes"], accepted, *errors, *difference])
    return markdown.table(
        ["variant", "what changes", "accepted reasons", "MAE", "RMSE", "MAE less the full run", "p (Holm)"], lines
    )


def diagnosed(dataset: str) -> str:
    """The diagnosis of a published run: what each step makes of its own text, against what the comparison makes."""
    header, *rows = diagnosis.cells(diagnosis.verdicts(published.read(FOLDER / dataset / Path(DIAGNOSIS.path).name)))
    return markdown.table(header, rows)


def summaries(dataset: str) -> str:
    """The scores of summaries of a published run, each beside its chance level."""
    lines = []
    for row in published.read(FOLDER / dataset / Path(SUMMARY_QUALITY.path).name)["table"]:
        value, chance = (
            "-" if row.get(name) is None else f"{row[name]:.3f}{markdown.brackets(row[low], row[high], '.3f')}"
            for name, low, high in (("value", "low", "high"), ("chance", "chance_low", "chance_high"))
        )
        lines.append(
            [row["texts"], row["score"].replace("_", " "), row["against"] or "-", f"{row['n']:,}", value, chance]
        )
    return markdown.table(["summaries", "score", "against", "n", "value", "by chance"], lines)


def trained(of: str, dataset: str) -> str:
    """A table of the training of step 2/8 of a published run."""
    return shown.as_table(published.read(FOLDER / dataset / shown.FILE), of)


def _measured(dataset: str) -> list | None:
    path = FOLDER / dataset / Path(METRICS.path).name
    if not path.exists():
        return None
    rows = [row for row in ratings.read(path)["table"] if row["model"] == OURS and row["rows"] == "warm"]
    if not rows:
        return None
    about = published.read(path.with_name(published.RUN))
    errors = [_interval(rows[0], name) for name in ("mae", "rmse")]
    return [*errors, "-", rows[0]["seeds"], about["gpu"], about["minutes"] or "-", about["commit"]]


def _interval(row: dict | None, name: str) -> str:
    if row is None or row[name] is None:
        return "-"
    spread = f" ± {row[f'{name}_std']:.4f}" if row[f"{name}_std"] else ""
    return f"{row[name]:.4f}{spread}{markdown.brackets(row[f'{name}_low'], row[f'{name}_high'], '.4f')}"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    flags(parser)
    args = parser.parse_args()
    guarded(lambda: run(args))


if __name__ == "__main__":
    main()
