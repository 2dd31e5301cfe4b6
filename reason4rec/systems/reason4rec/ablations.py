"""Variants of the method that differ in one thing from a finished run, each in a folder of its own.

A variant is a dataset like any other: `ablations/NAME` in the folder of the full run, with links to what it shares
with it (reviews, summaries, targets, adapters, replies) and its own facts. The numbered scripts make the rest, so that
a variant is resumed and recorded as any run is. Adapters are trained with the settings of the full run's.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from reason4rec.data import catalog, schema
from reason4rec.data.catalog import Dataset
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import TEST, TRAIN
from reason4rec.errors import InputError
from reason4rec.evaluation import ratings
from reason4rec.llm.adapters import adapter_settings
from reason4rec.run import files
from reason4rec.systems.reason4rec.artifacts import (
    REASON_TARGETS,
    REWARD_TARGETS,
    SUMMARIES,
    SUMMARY,
    TEACHER_REASONS,
    TEST_RATINGS,
)

FOLDER, FULL = "ablations", "full"
ROOT = Path(__file__).resolve().parents[3]
ACCEPTS_ALL = 9.0  # a tau above every score: two ratings of 1 to 5 differ by 4 at most
REWARD = ("2/2", "2/3")
REASONS = ("2/4", "2/5", "2/6", "2/7")
PREDICTIONS = ("3/1", "3/2", "3/3")
SCRIPTS = {
    "2/2": "2_Reasoner/2_construct_reward_train_data.py",
    "2/3": "2_Reasoner/3_reward_model_train.sh",
    "2/4": "2_Reasoner/4_distilling_possible_reason.py",
    "2/5": "2_Reasoner/5_construct_reasoner_train_data.py",
    "2/6": "2_Reasoner/6_reasoner_train.sh",
    "2/7": "2_Reasoner/7_generate_reason_for_test.py",
    "3/1": "3_Predictor/1_construct_predictor_train_data.py",
    "3/2": "3_Predictor/2_predictor_train.sh",
    "3/3": "3_Predictor/3_generate_predict_for_test.py",
}
TRAINS = {"2/3": "reason_reward_model", "2/6": "Reasoner", "3/2": "Predictor"}
WRITES = ("2/7", "3/1", "3/3")  # steps in which a local model writes
FROM_SETTINGS = ("base_model", "max_length", "lr", "epochs", "batch_size", "gradient_accumulation")


@dataclass(frozen=True)
class Variant:
    """A variant: what it changes in words, the steps it runs, facts of the dataset and flags of its own.

    `flags` are by step; `raw_histories` shows reviews where summaries stood; `trained_as` names the adapter whose
    settings its Predictor is trained with.
    """

    name: str
    changes: str
    steps: tuple[str, ...]
    facts: dict = field(default_factory=dict)
    flags: dict[str, list[str]] = field(default_factory=dict)
    raw_histories: bool = False
    trained_as: str = "Predictor"


def _form(form: str) -> dict[str, list[str]]:
    return {"3/1": ["--form", form], "3/3": ["--form", form]}


LEARNED = REASONS + PREDICTIONS
FIXED = {
    variant.name: variant
    for variant in (
        Variant("without_summarizer", "reviews in place of summaries", REWARD + LEARNED, raw_histories=True),
        Variant("without_reasoner", "the Predictor reads no reason", PREDICTIONS, flags=_form("direct")),
        Variant("without_rewards", "the teacher's first reason as it is", LEARNED, facts={"tau": ACCEPTS_ALL}),
        Variant("one_step", "one adapter: reason, then rating", PREDICTIONS, {}, _form("one_step"), False, "Reasoner"),
        Variant(
            "rating_first",
            "one adapter: rating, then reason",
            PREDICTIONS,
            {},
            _form("rating_first"),
            False,
            "Reasoner",
        ),
    )
}


def variant(name: str) -> Variant:
    """The variant of a name: a fixed one, or `tau_X`, `history_N` or `draws_N`; InputError for any other."""
    if name in FIXED:
        return FIXED[name]
    kind, _, value = name.partition("_")
    try:
        if kind == "tau":
            return Variant(name, f"tau {float(value):g}", LEARNED, {"tau": float(value)})
        if kind == "history" and int(value) >= 0:
            return Variant(name, f"{value} entries a side", REWARD + LEARNED, {"history_length": int(value)})
        if kind == "draws" and int(value) >= 0:
            return Variant(name, f"at most {value} hinted reasons", LEARNED, flags={"2/4": ["--draws", value]})
    except ValueError:
        pass
    raise InputError(f"--variants: no {name}; there are {', '.join(FIXED)}, tau_X, history_N and draws_N")


def place(variant: Variant, dataset: Dataset, folder: Path, checkpoints: Path) -> None:
    """Makes the folder of a variant with its facts and its links; InputError names what the full run lacks."""
    own, adapters = folder / FOLDER / variant.name, checkpoints / FOLDER / variant.name
    shared = [TRAIN, TEST]
    if variant.steps[0] == "2/2":
        shared += [REWARD_TARGETS, REASON_TARGETS]
    if variant.steps[0] == "2/4":
        shared += [REASON_TARGETS]
        _link(
            checkpoints / "reason_reward_model", adapters / "reason_reward_model", "2_Reasoner/3_reward_model_train.sh"
        )
    if variant.steps[0] == "3/1":
        shared += [TEACHER_REASONS]
    for artifact in shared:
        _link(folder / artifact.path, own / artifact.path, artifact.written_by)
    if variant.raw_histories:
        summaries = schema.read(folder, SUMMARIES)
        files.write_pickle(own / SUMMARIES.path, summaries.assign(**{SUMMARY: summaries["reviews"]}))
    else:
        _link(folder / SUMMARIES.path, own / SUMMARIES.path, SUMMARIES.written_by)
    (folder / "cache").mkdir(exist_ok=True)
    _link(folder / "cache", own / "cache", "")
    facts = replace(dataset, name=variant.name, paper={}, **variant.facts)
    catalog.write_facts(facts, folder / FOLDER)


def run_steps(variant: Variant, folder: Path, checkpoints: Path, flags: dict[str, list[str]]) -> None:
    """Runs the steps of a variant, each as a command; `flags` are those for `teacher`, `model`, `writer`, `all`.

    InputError names the step that failed; what it did before that is kept.
    """
    roots = ["--data_root", folder / FOLDER, "--checkpoint_root", checkpoints / FOLDER, "--dataset", variant.name]
    for step in variant.steps:
        script = SCRIPTS[step]
        command = ["bash" if script.endswith(".sh") else sys.executable, script, *roots, *flags["all"]]
        command += variant.flags.get(step, [])
        if step == "2/4":
            command += flags["teacher"]
        if step in TRAINS:
            used = variant.trained_as if step == "3/2" else TRAINS[step]
            command += ["--device", flags["model"][1], *_training(adapter_settings(checkpoints / used))]
        elif step not in ("2/2", "2/5"):
            command += flags["model"]
        if step in WRITES:
            command += flags["writer"]
        if step not in TRAINS:
            command += flags["prompts"]
        print(f"== {variant.name} {step} {script}", flush=True)
        # A server that the environment names holds the adapters of the full run, not those of a variant.
        variables = {**os.environ, "PYTHON": sys.executable, "REASON4REC_BASE_URL": ""}
        done = subprocess.run(list(map(str, command)), cwd=ROOT, env=variables, check=False)
        if done.returncode:
            raise InputError(f"{variant.name}: {script} failed, as said above; mend it and run this again")


def _training(settings: dict) -> list[str]:
    flags = [word for name in FROM_SETTINGS for word in (f"--{name}", settings[name])]
    return [*flags, "--lm_head" if settings["lm_head"] else "--no-lm_head"]


def _link(source: Path, place: Path, written_by: str) -> None:
    if not source.exists():
        raise InputError(f"{source} is missing: {written_by} writes it; ablations start from a finished run")
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink():
        place.symlink_to(os.path.relpath(source, place.parent), target_is_directory=source.is_dir())


def finished(folder: Path) -> list[Variant]:
    """All variants in the folder of a run that have their predictions, by name."""
    return [variant(path.parent.name) for path in sorted((folder / FOLDER).glob(f"*/{TEST_RATINGS.path}"))]


def compared(folder: Path, chosen: list[Variant], seed: int) -> list[dict]:
    """A row for the full run and each variant: what it changes, the reasons that it accepted, its errors.

    `all` and `warm` are rows of the evaluation's table; `paired` its tests against the full run on all rows. Rows of
    the tau sweep have a `tau` and the errors on all rows beside it.
    """
    full = Variant(FULL, "the finished run", ())
    folders = {full.name: folder} | {one.name: folder / FOLDER / one.name for one in chosen}
    predicted = {name: schema.read(place, TEST_RATINGS) for name, place in folders.items()}
    targets = predicted[full.name]
    frames = {
        name: ratings.aligned(frame, targets, str(folders[name] / TEST_RATINGS.path))
        for name, frame in predicted.items()
    }
    histories = HistoryIndex(schema.read(folder, TRAIN), None).of_rows(targets)
    found = ratings.evaluate(ratings.by_model(frames, {}, full.name), targets, histories, full.name, seed)
    rows = []
    for one in (full, *chosen):
        errors = {row["rows"]: row for row in found["table"] if row["model"] == one.name}
        row = {"variant": one.name, "changes": one.changes} | _accepted(folders[one.name])
        if one is full or one.name.startswith("tau_"):
            row |= {"tau": one.facts.get("tau", _tau(folder))} | errors["all"]
        paired = [row for row in found["paired"] if row["model"] == one.name and row["rows"] == "all"]
        rows.append(row | errors | {"paired": paired[0] if paired else None})
    return rows


def as_text(rows: list[dict]) -> str:
    """The comparison for a terminal: errors on all and on warm rows, and the difference to the full run with its p."""
    width = max(len(row["variant"]) for row in rows)
    lines = [f"{'variant':<{width}}  accepted  MAE all  MAE warm  less full          p (Holm)  changes"]
    for row in rows:
        accepted = f"{row['accepted']:,}" if "accepted" in row else "-"
        errors = [row[rows]["mae"] if row.get(rows) else None for rows in ("all", "warm")]
        maes = [f"{'-' if mae is None else f'{mae:.4f}':>8}" for mae in errors]
        paired = row["paired"]
        difference = f"{paired['mae_difference']:+.4f}" if paired else "-"
        p = f"{paired['p_corrected']:.4f}" if paired else "-"
        lines.append(
            f"{row['variant']:<{width}}  {accepted:>8} {maes[0]}  {maes[1]}  {difference:>9}  {p:>16}  {row['changes']}"
        )
    return "\n".join(lines)


def _accepted(folder: Path) -> dict[str, int]:
    if not ((folder / TEACHER_REASONS.path).exists() and (folder / REASON_TARGETS.path).exists()):
        return {}
    reasons = schema.read(folder, TEACHER_REASONS)
    unhinted = {"unhinted": int((reasons["accepted_draw"] == 0).sum())} if "accepted_draw" in reasons else {}
    return {"targets": len(schema.read(folder, REASON_TARGETS)), "accepted": len(reasons)} | unhinted


def _tau(folder: Path) -> float | None:
    record = files.read_record(folder / TEACHER_REASONS.path)
    return record["made_from"]["settings"]["tau"] if record else None
