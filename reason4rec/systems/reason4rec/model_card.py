"""Write the model card of a trained adapter, in the form of the Hugging Face hub, and upload both if asked to.

    python -m reason4rec card --dataset Music_data
    python -m reason4rec card --dataset Music_data --adapter Predictor --push OWNER/NAME

Reads  checkpoints/DATASET/ADAPTER with its record, and results/metrics.json of the dataset where it is of that adapter
Writes checkpoints/DATASET/ADAPTER.README.md

The card says what the adapter was trained on and how, what was measured, and what it must not be used for. No path of
this machine stands in it. It lies beside the adapter: its record knows every file in its folder. --push sends the
adapter, and the card as its README.md, to a repository that is made if need be, and is private then.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reason4rec.data import catalog
from reason4rec.errors import InputError
from reason4rec.evaluation import ratings
from reason4rec.evaluation.tables import MEDIAN
from reason4rec.llm.adapters import ADAPTER_WEIGHTS
from reason4rec.llm.known_bases import IN_PACKAGES
from reason4rec.llm.options import RULES
from reason4rec.run import files, markdown, records
from reason4rec.run.commands import guarded
from reason4rec.run.files import Artifact
from reason4rec.run.options import Parser, option, resolve
from reason4rec.run.project import find
from reason4rec.run.step import Place
from reason4rec.systems.reason4rec import artifacts, facts
from reason4rec.systems.reason4rec.experts import EXPERTS
from reason4rec.systems.reason4rec.pipeline import PIPELINE

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

PAPER = "https://arxiv.org/abs/2502.02061"
WHAT = {
    "Summarizer": "turns a review into positive aspects, negative aspects and user preference elements",
    "reason_reward_model": "predicts a rating from a reason, by which the teacher's reasons are accepted or dropped",
    "Reasoner": "writes from the summaries of a user's and an item's reviews whether the user will like the item",
    "Predictor": "predicts a rating of 1 to 5 from the Reasoner's reason, the rated histories and both averages",
}
APACHE, LLAMA_3, LLAMA_3_2, QWEN = "apache-2.0", "llama3", "llama3.2", "qwen-research"
LICENCES = {
    facts.DEMO_BASE: APACHE,
    "smollm2-135m": APACHE,
    facts.LLAMA_3_8B: LLAMA_3,
    "meta-llama/Llama-3.2-1B-Instruct": LLAMA_3_2,
    "meta-llama/Llama-3.2-3B-Instruct": LLAMA_3_2,
    "Qwen/Qwen2.5-0.5B-Instruct": APACHE,
    "Qwen/Qwen2.5-1.5B-Instruct": APACHE,
    "Qwen/Qwen2.5-3B-Instruct": QWEN,
    "Qwen/Qwen3-0.6B": APACHE,
    "Qwen/Qwen3-1.7B": APACHE,
    "Qwen/Qwen3-4B": APACHE,
    "HuggingFaceTB/SmolLM2-360M-Instruct": APACHE,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": APACHE,
}
"""What the pages of the known bases say, by the names in the records."""
ASKS = {
    LLAMA_3: "Who shares what is made with it writes 'Built with Meta Llama 3' and begins its name with Llama 3.",
    LLAMA_3_2: "Who shares what is made with it writes 'Built with Llama' and begins its name with Llama.",
    QWEN: "It allows research and no commercial use.",
}
ON_THE_HUB = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}  # of which the package holds the 4-bit weights
TERMS = {
    facts.DEMO: "The reviews are made up by this project and are under the licence of its code.",
    "Music_data": "The reviews are Amazon's as the McAuley lab published them for research, under its terms.",
    "Book_data": "The reviews are Amazon's as the McAuley lab published them for research, under its terms.",
    "Yelp_data": "The reviews are those of the Yelp Open Dataset, under its terms, which allow academic use alone.",
}
BY_RULE = {RULES: "a set of rules", "stand-in": "the demo's stand-in, which answers by rule"}
IN_WORDS = ("base_model", "base_sha256", "adapter", "started_from")  # settings of which the card tells elsewhere


@dataclass(frozen=True)
class Card(Place):
    """the card"""

    adapter: tuple[Literal["Summarizer", "reason_reward_model", "Reasoner", "Predictor"], ...] = option(
        (), "which adapters (default: all that are there)"
    )
    push: str | None = option(
        None, "upload the one adapter that is named, with its card, to this repository of the hub", metavar="OWNER/NAME"
    )


@dataclass(frozen=True)
class Trained:
    """A complete adapter: where it lies, its record, the loss of each step, and the folder of its dataset."""

    path: Path
    record: Mapping
    curve: Sequence[Mapping]
    data: Path

    @property
    def name(self) -> str:
        """The name of the expert."""
        return self.path.name

    @property
    def dataset(self) -> str:
        """The name of the dataset."""
        return self.path.parent.name

    @property
    def settings(self) -> Mapping:
        """All that decided its weights."""
        return self.record["made_from"]["settings"]

    @property
    def base(self) -> str:
        """The name of its base model: the hub's, that of a package, or that of a folder without its path."""
        name, sha256 = self.settings["base_model"], self.settings.get("base_sha256")
        if sha256 is None or name in IN_PACKAGES:
            return name
        return facts.DEMO_BASE if sha256 == files.sha256(find(facts.DEMO_BASE)) else Path(name).name or "a folder"


def read(path: Path, data: Path) -> Trained:
    """An adapter that is as its training left it; InputError for one that is missing, incomplete or changed."""
    if not path.is_dir():
        raise PIPELINE.missing(path, Artifact(path.name, adapter=True))
    record = records.read_record(path)
    if record is None:
        raise InputError(f"{path}: has no record ({records.record_path(path)}), so its card would be a guess; train it")
    if record["sha256"] != files.sha256(path):
        raise InputError(f"{path}: is not as its training left it (sha256); train it again")
    try:
        curve = json.loads((path / "loss_curve.json").read_text(encoding="utf-8"))
        if not curve or not (path / ADAPTER_WEIGHTS).is_file() or not record["made_from"]["settings"]["base_model"]:
            raise ValueError("it is empty")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: is no adapter that was trained here ({error}); train it again") from error
    return Trained(path, record, curve, data)


def card(words: Sequence[str]) -> None:
    """Does the command: writes the cards that are asked for, and uploads an adapter with its card."""
    guarded(lambda: _card(words))


def _card(words: Sequence[str]) -> None:
    parser = Parser(__doc__, (Card,), command="python -m reason4rec card")
    options = resolve((Card,), vars(parser.parse_args(list(words))), {})[Card]
    there = [name for name in EXPERTS if (options.adapters / name).is_dir()]
    names = list(dict.fromkeys(options.adapter)) or there
    if not names:
        raise InputError(f"{options.adapters}: no trained adapter is there; bash run_all.sh trains them")
    if options.push is not None and len(options.adapter) != 1:
        raise InputError(
            f"--push {options.push}: is for one adapter, named with --adapter; there are {', '.join(there)}"
        )
    found = [read(options.adapters / name, options.folder) for name in names]
    for one in found:
        place = card_path(one.path)
        files.write_text(place, text_of(one))
        print(f"[card] {place}")
    if options.push is not None:
        from reason4rec.systems.reason4rec.sharing import push

        print(f"[card] {push(found[0], card_path(found[0].path), options.push)}")


def card_path(adapter: Path) -> Path:
    """Where an adapter's card lies: beside it."""
    return adapter.with_name(f"{adapter.name}.README.md")


def text_of(trained: Trained) -> str:
    """The card of an adapter, with its metadata at the top."""
    from huggingface_hub import ModelCard

    rows = measured(trained)
    parts = [
        f"# {trained.name} of Reason4Rec on {trained.dataset}",
        f"This adapter {WHAT[trained.name]}. It is one of the four of [Reason4Rec]({PAPER}), and of a reproduction of "
        f"it, not of the authors. It is of use only with the others and with the prompts of that code.",
        "## What it was trained on",
        "\n".join(f"- {line}" for line in origins(trained)),
        "## How it was trained",
        recipe(trained),
        "## What was measured",
        results(rows),
        "## Limits",
        "\n".join(f"- {line}" for line in limits(trained, rows)),
        "## Licences",
        "\n".join(f"- {line}" for line in licences(trained)),
    ]
    body = "\n\n".join(parts)
    return str(ModelCard(f"---\n{metadata(trained, rows).to_yaml()}\n---\n\n{body}\n"))


def metadata(trained: Trained, rows: Sequence[Mapping]) -> "ModelCardData":
    """What the hub reads of a card."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            task_name="rating prediction",
            dataset_type=trained.dataset,
            dataset_name=f"{trained.dataset}, {row['rows']} test rows",
            metric_type=name,
            metric_name=f"{name.upper()} ({row['unit']}) of the whole system"
            f"{', median' if row['model'].endswith(MEDIAN) else ''}",
            metric_value=round(row[name], 4),
        )
        for row in rows
        for name in ("mae", "rmse")
    ]
    name = ON_THE_HUB.get(trained.base, trained.base)
    on_hub = {"base_model": name, "base_model_relation": "adapter"} if _is_on_hub(trained) else {}
    licence = LICENCES.get(trained.base)
    known = {"license": licence} if licence != QWEN else {"license": "other", "license_name": licence}
    return ModelCardData(
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["reason4rec", "recommendation", "rating-prediction", "lora", "trl", "sft"],
        model_name=f"{trained.name} of Reason4Rec on {trained.dataset}" if results else None,
        eval_results=results or None,
        **on_hub,
        **known,
    )


def _is_on_hub(trained: Trained) -> bool:
    return trained.settings.get("base_sha256") is None or trained.base in ON_THE_HUB


def origins(trained: Trained) -> list[str]:
    """The base model, the dataset, the teacher and the rows, a line each."""
    lines = [f"Base model: `{trained.base}`{_where(trained)}", f"Dataset: {trained.dataset}"]
    lines.append(f"Teacher: {'; '.join(teachers(trained)) or 'not known from the records'}")
    lines.append(f"Training rows: {n_rows(trained)}")
    if "started_from" in trained.settings:
        lines.append(f"Begun from the weights of another adapter (sha256 `{trained.settings['started_from']}`)")
    return lines


def _where(trained: Trained) -> str:
    """Where a base is that is not on the hub, and which it is."""
    sha256 = trained.settings.get("base_sha256")
    if sha256 is None:
        return ""
    what = "a folder on the machine of the training"
    if trained.base == facts.DEMO_BASE:
        what = "the tiny model that comes with the code"
    elif trained.base in ON_THE_HUB:
        what = f"the 4-bit weights of {ON_THE_HUB[trained.base]} in a Python package"
    return f", {what} (sha256 `{sha256}`)"


def teachers(trained: Trained) -> list[str]:
    """Who wrote the texts that the experts learned from, as the records of the texts say."""
    found = []
    for what, artifact in (("summaries", artifacts.TEACHER_SUMMARIES), ("reasons", artifacts.TEACHER_REASONS)):
        record = records.read_record(trained.data / artifact.path)
        if record is None:
            continue
        model = record["made_from"]["settings"].get("teacher_model")
        if model is None:
            found.append(f"{what} that others published")
        else:
            found.append(f"{what} by {BY_RULE.get(model, f'`{model}`')}")
    return found


def n_rows(trained: Trained) -> str:
    """How many rows an adapter learned from: those of their file if it is still the same, or else from the steps."""
    artifact = EXPERTS[trained.name].rows
    path, limit = trained.data / artifact.path, trained.settings.get("limit")
    if path.is_file() and files.sha256(path) == trained.record["made_from"]["inputs"].get(artifact.path):
        return f"{len(PIPELINE.read(trained.data, artifact)[:limit]):,}"
    last = trained.curve[-1]
    return f"about {round(last['step'] * trained.settings['batch_size'] / last['epoch']):,} (from the number of steps)"


def recipe(trained: Trained) -> str:
    """The settings of the training as its record has them, versions, and the loss."""
    made_from, first, last = trained.record["made_from"], trained.curve[0], trained.curve[-1]
    execution = made_from.get("execution", {})
    shown = {name: value for name, value in sorted(trained.settings.items()) if name not in IN_WORDS}
    shown |= {name: execution[name] for name in ("engine", "device", "dtype", "warmup_steps") if name in execution}
    rows = [[name, f"`{_plain(value)}`"] for name, value in shown.items()]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(trained.record["versions"].items()))
    return (
        f"QLoRA on the base in 4 bits, with the loss on the answer alone, which went from {first['loss']:.4f} at step "
        f"{first['step']:,} to {last['loss']:.4f} at step {last['step']:,}.\n\n"
        f"{markdown.table(['setting', 'value'], rows)}\n\nVersions: {versions}."
    )


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value).strip('"')


def measured(trained: Trained) -> list[Mapping]:
    """The rows of our system in the dataset's table of errors; none unless they came from this very adapter."""
    path, predicted = trained.data / artifacts.METRICS.path, artifacts.TEST_RATINGS.path
    record, ours = (records.read_record(one) for one in (path, trained.data / predicted))
    if record is None or ours is None or not path.is_file() or record["sha256"] != files.sha256(path):
        return []
    if record["made_from"]["inputs"].get(predicted) != ours["sha256"] or not _came_from(ours, trained):
        return []
    result = ratings.read(path)
    unit = result["settings"].get("unit", "stars")
    ours = [row for row in result["table"] if row["model"].startswith("Reason4Rec") and row["n"]]
    return [row | {"unit": unit} for row in ours]


def _came_from(record: Mapping, trained: Trained) -> bool:
    """Whether what a record speaks of was made with an adapter, directly or by way of other files and adapters."""
    for name, sha256 in record["made_from"]["inputs"].items():
        if name == trained.name:
            if sha256 == trained.record["sha256"]:
                return True
            continue
        folder = trained.path.parent if name in EXPERTS else trained.data
        before = records.read_record(folder / name)
        if before is not None and before["sha256"] == sha256 and _came_from(before, trained):
            return True
    return False


def results(rows: Sequence[Mapping]) -> str:
    """The errors of the whole system with their intervals."""
    if not rows:
        return "No evaluation of a system with this adapter is recorded."
    lines = [
        [
            row["model"],
            row["rows"],
            f"{row['n']:,}",
            f"{row['unusable']:,}",
            _interval(row, "mae"),
            _interval(row, "rmse"),
        ]
        for row in rows
    ]
    return (
        f"Errors of the whole system in {rows[0]['unit']}, of which this adapter is one part; brackets are 95% "
        "intervals of a bootstrap over users. `all` is every test row, `warm` a row whose user and item have earlier "
        "reviews in train.\n\n" + markdown.table(["model", "rows", "n", "unusable", "MAE", "RMSE"], lines)
    )


def _interval(row: Mapping, name: str) -> str:
    return f"{row[name]:.4f}{markdown.brackets(row[f'{name}_low'], row[f'{name}_high'], '.4f')}"


def limits(trained: Trained, rows: Sequence[Mapping]) -> list[str]:
    """What the adapter cannot do and must not be used for, a line each."""
    lines = []
    if trained.dataset == catalog.DEMO:
        lines.append("The reviews are made up, from a small world with fixed rules: nothing is learned of real people.")
    if trained.base == facts.DEMO_BASE:
        lines.append("The base has 1.1 million parameters and knows that made-up world alone: no other text is meant.")
    if any(BY_RULE[RULES] in one for one in teachers(trained)):
        lines.append("The teacher is a set of rules, not a language model: its texts are monotonous and too kind.")
    if trained.settings.get("limit"):
        lines.append(f"It is a trial with `--limit {trained.settings['limit']}`: its quality means nothing.")
    if rows:
        lines.append(
            f"What is known of its quality is from {max(row['n'] for row in rows):,} test rows of one dataset and from "
            f"one training; other items, languages and years were not looked at."
        )
    else:
        lines.append("Nothing but the loss is known of its quality.")
    lines += [
        "Reviews hold opinions and what people tell of themselves, and texts that it writes may repeat them.",
        "A reason that is written tells what a model predicts from, not why a person acts. Do not use it for decisions "
        "on people, to guess at their traits, or to write reviews.",
    ]
    return lines


def licences(trained: Trained) -> list[str]:
    """The licences of the code, the base and the data, a line each."""
    licence = LICENCES.get(trained.base)
    if trained.base == facts.DEMO_BASE:
        base = f"`{licence}`, as the code that it comes with."
    elif licence:
        base = f"`{licence}`, as its page says. {ASKS.get(licence, '')}".strip()
    else:
        base = "see its page; it is not known here."
    data = TERMS.get(
        trained.dataset, "The reviews have terms of their own: whoever shares the adapter has to know them."
    )
    return ["Code: `apache-2.0`.", f"Base model: {base}", f"Data: {data}"]


if __name__ == "__main__":
    card(sys.argv[1:])
