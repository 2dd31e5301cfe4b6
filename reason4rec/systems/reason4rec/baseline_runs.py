"""Baselines at work: which are run, each in a process of its own, and what their search and fit took."""

import importlib
import importlib.util
import json
import multiprocessing
import re
import signal
import time
import traceback
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd

from reason4rec.data.history import History, HistoryIndex
from reason4rec.data.schema import KEYS, PREDICTION, PROBABILITIES, TEST, TRAIN, VALID
from reason4rec.errors import InputError
from reason4rec.evaluation import metrics
from reason4rec.llm.base import resolve_device
from reason4rec.llm.known_bases import sha256_of
from reason4rec.llm.options import Model, Teacher, Writing
from reason4rec.llm.prompt import OnDemand, texts_of
from reason4rec.run import files, locks
from reason4rec.systems.reason4rec import predictor_modes, prompts
from reason4rec.systems.reason4rec.artifacts import SUMMARIES, predictions_of
from reason4rec.systems.reason4rec.baselines import LEARNED, TUNED, as_ratings, choose, without_valid
from reason4rec.systems.reason4rec.options import Baselines, Histories, Prompts
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX
from reason4rec.systems.reason4rec.step import ExpertStep
from reason4rec.training.recipe import MAX_LENGTH

TEACHER_TEMPERATURE = 0.0  # our decision
RATING = re.compile(rf"{RATING_PREFIX.strip()}[\s*]*(\d(?:\.\d++)?+)(?!,?\d)")


def rating_in(reply: str) -> float:
    """The last rating of 1 to 5 that a reply gives in the form asked for; NaN where there is none."""
    found = RATING.findall(reply)
    rating = float(found[-1]) if found else np.nan
    return rating if 1 <= rating <= 5 else np.nan


def _histories(step: ExpertStep, targets: pd.DataFrame) -> list[History]:
    if SUMMARIES in step.reads:
        return step.histories(targets)
    return HistoryIndex(step.read(TRAIN), "reviews", step[Histories].history_length).of_rows(targets)


def _zero_shot(step: ExpertStep, targets: pd.DataFrame, reasoned: bool = False) -> tuple[np.ndarray, dict]:
    from reason4rec.llm.local import load

    settings, histories = step.provenance["settings"], _histories(step, targets)
    device = resolve_device(step[Model].device)
    at_once = step[Model].prompts_at_once
    model = load(settings["base_model"], None, device, settings["max_length"], at_once, step.cache)
    reasons: Sequence[str | None] = [None] * len(targets)
    if reasoned:
        reasons = model.generate(step.reason_prompts(targets, histories), step[Writing].max_new_tokens)
    prompt = partial(prompts.predictor, step.product_class, folder=step.templates)
    asked = OnDemand(prompt, targets["title"], histories, reasons)
    probabilities = predictor_modes.rating_probabilities(model, asked)
    found = np.column_stack([metrics.expected_rating(probabilities), probabilities])
    about = {"base_model": settings["base_model"], "device": device, "prompts_shortened": model.shortened}
    return found, about | ({"stopped": dict(model.stopped)} if model.stopped else {})


def _zero_shot_teacher(step: ExpertStep, targets: pd.DataFrame) -> tuple[np.ndarray, dict]:
    teacher = step.teacher()
    prompt = partial(prompts.predictor, step.product_class, folder=step.templates)
    asked = texts_of(OnDemand(prompt, targets["title"], _histories(step, targets)))
    replies = teacher.ask(asked, TEACHER_TEMPERATURE, is_usable=lambda reply: not np.isnan(rating_in(reply)))
    found = np.array([[rating_in(reply or "")] for reply in replies])
    about = {"teacher_model": teacher.model, "temperature": TEACHER_TEMPERATURE}
    return found, about | teacher.usage() | {"unusable": int(np.isnan(found).sum())}


ASKED = {
    "zero_shot": _zero_shot,
    "zero_shot_reasoned": partial(_zero_shot, reasoned=True),
    "zero_shot_teacher": _zero_shot_teacher,
}
OF_THE_BASE = ("zero_shot", "zero_shot_reasoned")


def names(step: ExpertStep) -> list[str]:
    """The baselines that --model names; of `all`, those that can be run here. InputError for an unknown one.

    Those that lack a library, or the validation rows to be tuned on, are named in a line and left out.
    """
    model = step[Baselines].model
    known = ("all", *LEARNED, *ASKED)
    if model not in known:
        raise InputError(f"--model {model}: no such baseline; there are {', '.join(known)}")
    if model != "all":
        return [model]
    if step.path(VALID).exists():
        return installed(list(LEARNED))
    print(f"left out: {without_valid(step.path(VALID))}")
    return installed([name for name in LEARNED if name not in TUNED])


def runs(name: str, step: ExpertStep) -> list[tuple[str, int]]:
    """The runs of a baseline, each with its seed: `NAME`, or `NAME@SEED` for each seed of one that depends on it."""
    if name in LEARNED and LEARNED[name].seeded:
        return [(f"{name}@{seed}", seed) for seed in dict.fromkeys(step[Baselines].seeds)]
    return [(name, step.common.seed)]


def installed(names: list[str]) -> list[str]:
    """Those of the baselines whose libraries are there; the others are named in a line."""
    found = [name for name in names if not _absent(name)]
    for name in names:
        if name not in found:
            print(f"left out: {_advice(name)}")
    return found


def part_of(step: ExpertStep, name: str, run: str, seed: int) -> ExpertStep:
    """The part of the step that makes one run of a baseline; InputError if a library is absent.

    Only what the baseline learns from or is asked with can put its predictions out of date.
    """
    if name in LEARNED:
        if _absent(name):
            raise InputError(_advice(name))
        reads, settings = [TRAIN, VALID, TEST] if LEARNED[name].grid else [TRAIN, TEST], {"grid": _listed(name)}
        used = ()
    else:
        summaries = step.path(SUMMARIES).exists()
        reads, settings = [SUMMARIES if summaries else TRAIN, TEST], {"temperature": TEACHER_TEMPERATURE}
        used = (Prompts, Histories, Model, Teacher)
    if name in OF_THE_BASE:
        base = step[Baselines].base_model or step.dataset.base_model
        of_base = sha256_of(base)
        settings = {"base_model": base, "base_sha256": of_base, "max_length": MAX_LENGTH}
        used = (Prompts, Histories, Model, *((Writing,) if name == "zero_shot_reasoned" else ()))
    return step.part(reads, [predictions_of(run)], settings | {"baseline": name, "seed": seed}, used)


def make(name: str, step: ExpertStep, seed: int) -> tuple[pd.DataFrame, dict]:
    """The predictions of a baseline for the test rows, as in `predictions_of`, and its row of `results/efforts.json`.

    The row: `model`, `seed` (None where it changes nothing), the `settings` chosen and the `grid` they are from,
    `valid_mae` on the scale of the splits, 1 to 5, and on `valid_rows` rows, `seconds` of wall time for the search and
    the predictions, `peak_gb` of this process with its libraries and tables (not of a GPU), and `source`.
    """
    test = step.rows(TEST)
    result = test[[*KEYS, "ratings"]].copy()
    started, grid, lowest, tuned_on = time.perf_counter(), {}, None, None
    if name in LEARNED:
        baseline = LEARNED[name]
        train, valid = step.read(TRAIN), step.read(VALID) if baseline.grid else None
        grid, tuned_on = _listed(name), None if valid is None else len(valid)
        chosen, settings, lowest = choose(name, train, valid, test, seed)
        result[PREDICTION] = as_ratings(chosen)
        if chosen.ndim > 1:
            result[list(PROBABILITIES)] = chosen
        libraries, seeded = baseline.libraries, baseline.seeded
    else:
        found, settings = ASKED[name](step, test.drop(columns=["ratings", "reviews"]))
        settings["histories"] = "summaries" if SUMMARIES in step.reads else "reviews"
        result[[PREDICTION, *PROBABILITIES][: found.shape[1]]] = found
        libraries, seeded = ("transformers",) if name in OF_THE_BASE else ("openai",), False
    effort = {
        "model": name,
        "seed": seed if seeded else None,
        "settings": settings,
        "grid": grid,
        "valid_mae": lowest,
        "valid_rows": tuned_on,
        "seconds": round(time.perf_counter() - started, 2),
        "peak_gb": round(_peak_gb(), 3),
        "source": " + ".join(f"{one} {importlib.import_module(one).__version__}" for one in libraries) or "ours",
    }
    return result, effort


def put_effort(path: Path, effort: dict) -> None:
    """Puts a row into `results/efforts.json`, in the place of that of the same model and seed.

    Several processes may do so at once.
    """
    while locks.lock(path):
        time.sleep(0.05)
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        rows = [row for row in rows if (row["model"], row["seed"]) != (effort["model"], effort["seed"])]
        files.write_text(path, json.dumps([*rows, effort], indent=1) + "\n")
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not the efforts of baselines ({error}); remove it and run again") from error
    finally:
        locks.unlock(path)


def in_own_process(name: str, step: ExpertStep, seed: int) -> tuple[pd.DataFrame, dict]:
    """What `make` returns, made in a new process, whose peak of memory is then the baseline's own.

    InputError if it is killed; what it raises is raised here.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_make_and_send, args=(sender, name, step, seed), daemon=True)
    child.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        child.join()
        if child.exitcode >= 0:
            raise RuntimeError(f"the process of {name} failed, as the lines above say") from None
        raise InputError(
            f"the process of {name} was killed (signal {-child.exitcode}), as happens where the memory is full: free "
            f"some and run again"
        ) from None
    child.join()
    if isinstance(result, Exception):
        raise result
    return result


def _make_and_send(sender: Connection, name: str, step: ExpertStep, seed: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told too, and ends this process
    try:
        result = make(name, step, seed)
    except Exception as error:
        error.add_note(traceback.format_exc())
        result = error
    sender.send(result)


def _peak_gb() -> float:
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20


def _listed(name: str) -> dict[str, list]:
    return {setting: list(values) for setting, values in LEARNED[name].grid.items()}


def _absent(name: str) -> list[str]:
    return [one for one in LEARNED[name].libraries if importlib.util.find_spec(one) is None]


def _advice(name: str) -> str:
    absent = " and ".join(_absent(name))
    return f"{name} needs {absent}, which is not installed: python -m pip install -r requirements-baselines.txt"
