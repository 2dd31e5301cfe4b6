"""How much a run of TWiCE-Rec would read and write: rows and tokens of its prompts, counted or assumed.

Where the reviews or the sequences are there, rows are those that the steps make of them, and a sample of the real
prompts is filled and counted; elsewhere rows are those of the released data, and lengths are assumed, with their
origin.
"""

import importlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import mean

import numpy as np
import pandas as pd

from reason4rec.data import candidates, sequences
from reason4rec.data.sequences import Case
from reason4rec.errors import InputError
from reason4rec.llm.prompt import Prompt
from reason4rec.run.cost import Survey
from reason4rec.systems.counting import CHAT_TOKENS
from reason4rec.systems.sequence_costs import SequenceCounting
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import facts, prompts, sequence_data
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.options import Candidates, Cases, Models, Prompts, RationaleTargets, Tasks
from reason4rec.systems.twice_rec.prompts import DESCRIBE, ITEM_ONLY, RATIONALE_FIRST
from reason4rec.training.options import Training

SAMPLE = 32  # cases, or items, whose prompts are filled and counted
DEMO_WORLD = "reason4rec.demo.world"  # by name: the demo stands above the systems
MEASURED = "characters, measured on Grocery and Gourmet Food (Amazon 2023) with 30 candidates, by 3.94 a token"

# What is taken where nothing can be counted: a value and where it comes from.
ASSUMED = {
    "tokens of a prompt with candidates, train": (5_010, f"19,740 {MEASURED}"),
    "tokens of a prompt with candidates, test": (5_290, f"20,830 {MEASURED}"),
    "tokens of a teacher's prompt": (1_270, f"5,010 {MEASURED}"),
    "tokens of an item's description": (200, f"353 and 428 {MEASURED}"),
    "tokens of an answer without a rationale": (39, f"154 {MEASURED}"),
    "tokens of a rationale": (250, "982 characters, the mean of the 100 that are published"),
    "tokens of a grade": (40, "our guess for a sentence and a number"),
    "share of rationales that are kept": (0.8, "our guess"),
}


class Rows(SequenceCounting):
    """How many rows each step of a run would have; `assumed` and `notes` collect what a reader has to know."""

    def __init__(self, survey: Survey):
        step, training = survey.step("T/1"), survey.step("T/6")[Training]
        super().__init__(survey, step.adapters, training.base_model, ASSUMED)
        self.common, self.folder, self.dataset = survey.step("T/5").common, step.folder, step.dataset
        self.max_length, self.max_new_tokens = training.max_length, survey.step("T/8")[Models].max_new_tokens
        self.shown = survey.step("T/5")[Prompts]
        known = [name for name, dataset in facts.KNOWN.items() if dataset.released]
        self.released = self.dataset.released
        self.source, tables = tables_of(survey, self.released, known)
        self.sequences, self.items = tables or (None, None)

    @cached_property
    def n_judged(self) -> int:
        """Cases of a split that are judged."""
        return min(self.n_cases, self.survey.step("T/8")[Cases].cases or self.n_cases)

    @cached_property
    def n_described(self) -> int:
        """Rows of the first task: one an item, fewer in a trial."""
        return min(self.n_items, self.common.limit or self.n_items)

    @cached_property
    def n_targets(self) -> int:
        """Cases that the teacher writes on."""
        return min(self.n_cases, self.survey.step("T/4")[RationaleTargets].rationale_targets or self.n_cases)

    @cached_property
    def n_rationales(self) -> int:
        """Rationales that are learned."""
        if self.survey.usable(a.RATIONALES):
            return len(self.survey.step("T/5").read(a.RATIONALES))
        return round(self.n_targets * self.assume("share of rationales that are kept"))

    @cached_property
    def n_by_task(self) -> dict[str, int]:
        """Instruct rows of each task that is learned."""
        options = self.survey.step("T/5")[Tasks]
        of_cases = min(self.n_cases, options.train_cases or self.n_cases)
        every = {DESCRIBE: self.n_described, ITEM_ONLY: of_cases, RATIONALE_FIRST: self.n_rationales}
        return {task: every[task] for task in dict.fromkeys(options.tasks)}

    @property
    def n_candidates(self) -> int:
        """Items in a list."""
        return self.survey.step("T/2")[Candidates].n_candidates


class Texts(Rows):
    """How many tokens the prompts of a run would have."""

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items that can be recommended."""
        return Catalogue(self.items)

    @cached_property
    def users(self) -> list[str]:
        """Some users of the cases, drawn at random."""
        every = self.sequences["user_id"].unique()[: self.common.limit]
        return sorted(np.random.default_rng(42).permutation(every)[:SAMPLE].tolist())

    def cases(self, split: str) -> list[Case]:
        """The cases of these users."""
        return sequences.cases(self._of_some, split)

    @cached_property
    def _of_some(self) -> pd.DataFrame:
        return self.sequences[self.sequences["user_id"].isin(self.users)].reset_index(drop=True)

    @cached_property
    def _lists(self) -> pd.DataFrame:
        """Lists of these users: what each holds does not depend on the others, but for how often items are chosen."""
        items, options = self.items["item_id"].tolist(), self.survey.step("T/2")[Candidates]
        return candidates.draw(self._of_some, items, options.n_candidates, options.sampling, self.common.seed)

    def lengths(self, asked: Sequence[Prompt]) -> np.ndarray:
        """Tokens of prompts in the chat format."""
        return np.array(self.count([one.text.strip() for one in asked]), dtype=float) + CHAT_TOKENS

    def recommending(self, split: str, task: str) -> np.ndarray:
        """Tokens of the prompts of a task with candidates."""
        if self.sequences is None:
            return np.array(
                [self.assume(f"tokens of a prompt with candidates, {split if split == 'train' else 'test'}")]
            )
        lists, shown = candidates.lists(self._lists, split), self.shown
        return self.lengths(
            [
                prompts.recommend(
                    self.catalogue, one.history, lists[one.user_id], task, shown.fields, shown.cut, shown.folder
                )
                for one in self.cases(split)
            ]
        )

    def teaching(self) -> np.ndarray:
        """Tokens of the teacher's prompts."""
        if self.sequences is None:
            return np.array([self.assume("tokens of a teacher's prompt")])
        shown = self.shown
        return self.lengths(
            [
                prompts.teacher(self.catalogue, one.history, one.target.item_id, shown.fields, shown.cut, shown.folder)
                for one in self.cases("train")
            ]
        )

    @cached_property
    def some_items(self) -> list:
        """Some items, drawn at random."""
        every = list(self.catalogue)
        return [every[k] for k in np.random.default_rng(42).permutation(len(every))[:SAMPLE]]

    def describing(self) -> np.ndarray:
        """Tokens of the rows of the first task, with their answers."""
        if self.items is None:
            return np.array([self.assume("tokens of an item's description")])
        asked = self.lengths([prompts.describe(item.title, self.shown.folder) for item in self.some_items])
        return asked + self.count([prompts.description(item, self.shown.cut) for item in self.some_items])

    @cached_property
    def answer(self) -> float:
        """Tokens of an answer that names an item, without a rationale."""
        if self.items is None:
            return self.assume("tokens of an answer without a rationale")
        return mean(self.count([prompts.answer(item) for item in self.some_items]))

    @cached_property
    def rationale(self) -> float:
        """Tokens of a rationale."""
        if not self.survey.usable(a.RATIONALES):
            return self.assume("tokens of a rationale")
        written = self.survey.step("T/5").read(a.RATIONALES)["rationale"]
        return mean(self.count(written.sample(n=min(len(written), 1_000), random_state=42).tolist()))

    def reply(self, task: str) -> float:
        """Tokens of a reply to a task, at most those of the longest."""
        return min(self.answer + (self.rationale if task == RATIONALE_FIRST else 0), self.max_new_tokens)

    def learned(self) -> np.ndarray:
        """Tokens of training rows of all tasks with their answers, of each as large a share as it has of the rows."""
        of_task = {
            DESCRIBE: self.describing,
            ITEM_ONLY: lambda: self.recommending("train", ITEM_ONLY) + self.answer,
            RATIONALE_FIRST: lambda: self.recommending("train", RATIONALE_FIRST) + self.answer + self.rationale,
        }
        whole = sum(self.n_by_task.values())
        # Each task as often as in a hundred rows; drawn again and again where the sample is smaller.
        return (
            np.concatenate([np.resize(of_task[t](), max(1, round(100 * n / whole))) for t, n in self.n_by_task.items()])
            + 1
        )


def tables_of(
    survey: Survey, released: Mapping[str, int], known: Sequence[str]
) -> tuple[str, tuple[pd.DataFrame, pd.DataFrame] | None]:
    """The sequences and items that there are or that step T/1 would make, after a sentence that says which.

    None where only the counts of `released` data are known. InputError where nothing is; it names the datasets of which
    counts are `known`.
    """
    step = survey.step("T/1")
    if survey.usable(a.SEQUENCES) and survey.usable(a.ITEMS):
        return f"Rows are counted in {step.folder / a.FOLDER}.", (step.read(a.SEQUENCES), step.read(a.ITEMS))
    absent = next((one for one in sequence_data.reads(step) if not step.path(one).exists()), None)
    if absent is None:
        return f"Rows are those that {step.spec.script} would make.", sequence_data.read(step)
    if step.common.dataset == facts.DEMO_SEQUENCES:
        return "Rows are those of the made-up world, which is not written yet.", _demo_tables(step.common.seed)
    if released:
        return f"Rows are those of the released data of {step.common.dataset}: no sequences are there.", None
    raise InputError(
        f"{step.path(absent)} is missing, of which {step.spec.script} makes the sequences; pass --sequences and "
        f"--items or prepare the reviews; only {', '.join(known)} can be told without"
    )


def _demo_tables(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sequences and items of the demo's world, as step T/1 makes them of what step T/0 writes."""
    world = importlib.import_module(DEMO_WORLD)
    chosen, items = world.chosen_records(world.CHOOSING_USERS, world.ITEMS, seed)
    name = {item["item_id"]: item["asin"] for item in items}
    rows = [
        (one["user"], name[item], position, float(rating), review)
        for one in chosen
        for position, (item, rating, review) in enumerate(zip(one["items"], one["ratings"], one["reviews"]))
    ]
    catalogue = pd.DataFrame(items).drop(columns="item_id").rename(columns={"asin": "item_id"})
    return pd.DataFrame(rows, columns=list(sequences.SEQUENCE_COLUMNS)), catalogue
