"""How much a run of GREAM would read and write: rows and tokens of its prompts, counted or assumed.

Where the reviews or the sequences are there, rows are those that the steps make of them, and a sample of the real
prompts is filled and counted; elsewhere rows are those of the released data, and lengths are assumed, with their
origin. A semantic id counts as one token a level.
"""

from collections.abc import Sequence
from functools import cached_property, partial
from statistics import mean

import numpy as np
import pandas as pd

from reason4rec.llm.prompt import Prompt
from reason4rec.run.cost import Survey
from reason4rec.systems.counting import CHAT_TOKENS
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import facts, prompts, reasoning, tasks, texts
from reason4rec.systems.gream.options import Ids, Models, Prompts, Questions, Reasonings, Restating, Rows, TextUsers
from reason4rec.systems.gream.pasts import LONGEST, Past, training_parts
from reason4rec.systems.gream.prompts import DIRECT, REASONED, SEQREC, TASKS
from reason4rec.systems.gream.semantic_ids import TOKEN
from reason4rec.systems.sequence_costs import SequenceCounting
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.options import Cases
from reason4rec.systems.twice_rec.workload import tables_of
from reason4rec.training.options import Training

SAMPLE = 32  # users, or items, whose prompts are filled and counted
KEPT_ITEMS = 7.0  # of a sequence's training part, where none is there
OF_GROCERY = "Grocery and Gourmet Food (Amazon 2023)"

# What is taken where nothing can be counted: a value and where it comes from.
ASSUMED = {
    "items of a training part": (KEPT_ITEMS, f"our guess for {OF_GROCERY}"),
    "tokens of a row": (90, "our guess: a question, six items of five tokens, an answer"),
    "tokens of a question": (80, "our guess: as a row, without its answer"),
    "tokens of a teacher's prompt": (700, "our guess"),
    "tokens of the thoughts": (160, "our guess: three sentences or four, and the history once more"),
    "tokens of a text on a user": (60, "our guess"),
    "tokens of an item's texts": (110, f"353 characters of a description and 80 of a title, of {OF_GROCERY}"),
    "share of reasonings that are kept": (0.8, "our guess"),
}


class Counts(SequenceCounting):
    """How many rows each step of a run would have; `assumed` and `notes` collect what a reader has to know."""

    def __init__(self, survey: Survey):
        step, training = survey.step("G/6"), survey.step("G/7")[Training]
        super().__init__(survey, step.adapters, training.base_model, ASSUMED)
        self.common, self.folder, self.dataset = step.common, step.folder, step.dataset
        self.max_length, self.max_new_tokens = training.max_length, survey.step("G/9")[Models].max_new_tokens
        known = [name for name, dataset in facts.KNOWN.items() if dataset.released]
        self.released = self.dataset.released
        self.source, tables = tables_of(survey, self.released, known)
        self.sequences, self.items = tables or (None, None)

    @cached_property
    def n_judged(self) -> int:
        """Cases of a split that are judged."""
        return min(self.n_cases, self.survey.step("G/9")[Cases].cases or self.n_cases)

    @cached_property
    def n_text_users(self) -> int:
        """Users who get texts."""
        return min(self.n_cases, self.survey.step("G/1")[TextUsers].text_users or self.n_cases)

    @cached_property
    def n_tokens(self) -> int:
        """Tokens that the base gets."""
        options = self.survey.step("G/3")[Ids]
        return (options.levels + 1) * options.codes

    @cached_property
    def pasts(self) -> list[Past]:
        """The training parts of the users; InputError without sequences, which the callers look for first."""
        return training_parts(self.sequences)[: self.common.limit]

    @cached_property
    def n_targets(self) -> int:
        """Training targets that can be reasoned towards."""
        if self.sequences is None:
            kept = self.assume("items of a training part")
            return round(self.n_cases * max(0.0, kept - reasoning.FIRST))
        return len(reasoning.targets(self.pasts))

    @cached_property
    def n_asked(self) -> int:
        """Targets that the teacher reasons towards."""
        return min(self.n_targets, self.survey.step("G/4")[Reasonings].reasonings or self.n_targets)

    @cached_property
    def n_reasoned(self) -> int:
        """Reasonings that are learned."""
        if not self.survey.step("G/6")[Rows].reasoned:
            return 0
        if self.survey.usable(a.REASONINGS):
            return len(self.survey.step("G/6").read(a.REASONINGS))
        return round(self.n_asked * self.assume("share of reasonings that are kept"))

    @cached_property
    def n_by_task(self) -> dict[str, int]:
        """Rows of each task in a pass."""
        options = self.survey.step("G/6")[Rows]
        if self.sequences is None:
            places = round(self.n_cases * (self.assume("items of a training part") - 1))
            of_items = tasks.AN_ITEM * self.n_items
            every = dict(zip(TASKS, (places, of_items, of_items, min(options.fusion_rows, places), 0, 0)))
        else:
            every = tasks.rows_a_pass(self.pasts, self.n_items, options.fusion_rows)
        every |= dict.fromkeys((prompts.SEARCH, prompts.PREFERENCE), self.n_text_users)
        return {task: every[task] for task in dict.fromkeys(options.tasks)}

    @cached_property
    def n_rows(self) -> int:
        """Rows that are learned in all."""
        return self.survey.step("G/6")[Rows].passes * (sum(self.n_by_task.values()) + self.n_reasoned)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items that can be recommended."""
        return Catalogue(self.items)

    @cached_property
    def n_described(self) -> int:
        """Items that the teacher describes: those with a review in a training part."""
        return self.n_items if self.sequences is None else len(texts.to_describe(self.catalogue, self.pasts))


class Work(Counts):
    """How many tokens the prompts of a run would have."""

    @cached_property
    def some(self) -> list[Past]:
        """Some users, drawn at random."""
        drawn = np.random.default_rng(42).permutation(len(self.pasts))[:SAMPLE]
        return [self.pasts[k] for k in drawn]

    @cached_property
    def _id(self) -> str:
        """What stands for a semantic id in a text that is counted: as many short words as it has tokens."""
        return " ".join("x" * self.survey.step("G/3")[Ids].levels)

    def lengths(self, asked: Sequence[str]) -> np.ndarray:
        """Tokens of questions in the chat format."""
        return np.array(self.count([TOKEN.sub(" x", text).strip() for text in asked]), dtype=float) + CHAT_TOKENS

    def asking(self, mode: str) -> np.ndarray:
        """Tokens of the questions for the next item."""
        if self.sequences is None:
            return np.array([self.assume("tokens of a question")])
        step = self.survey.step("G/9")
        ask = partial(
            prompts.next_item, mode=mode, folder=step[Questions].folder, restates=step[Restating].restate_history
        )
        shown = [[self._id] * min(len(past.events), LONGEST) for past in self.some]
        return self.lengths([ask(one).text for one in shown])

    @property
    def thoughts(self) -> float:
        """Tokens of the thoughts before an answer, at most those of the longest reply."""
        restates = self.survey.step("G/9")[Restating].restate_history
        if not self.survey.usable(a.REASONINGS):
            whole = self.assume("tokens of the thoughts")
            return min(whole if restates else whole / 2, self.max_new_tokens)
        written = self.survey.step("G/6").read(a.REASONINGS)["reasoning"]
        some = written.sample(n=min(len(written), 1_000), random_state=42).tolist()
        again = float(self.asking(DIRECT).mean()) / 2 if restates else 0.0  # the history once more
        return min(mean(self.count(some)) + again, self.max_new_tokens)

    def learned(self) -> np.ndarray:
        """Tokens of training rows with their answers, of each kind as large a share as it has of the rows."""
        if self.sequences is None:
            return np.array([self.assume("tokens of a row")])
        levels, shown = self.survey.step("G/3")[Ids].levels, self.survey.step("G/6")[Prompts]
        ids = {item.item_id: self._id for item in self.catalogue}
        material = tasks.Material(self.some, self.catalogue, ids, {}, shown.cut, shown.folder)
        of_tasks = {task: self._of(material, task) for task in self.n_by_task}
        of_tasks[REASONED] = self.asking(REASONED) + self.thoughts + levels
        counts = self.n_by_task | {REASONED: self.n_reasoned}
        whole = sum(counts.values())
        parts = [
            np.resize(of_tasks[task], max(1, round(200 * n / whole)))
            for task, n in counts.items()
            if len(of_tasks[task])
        ]
        return np.concatenate(parts) + 1

    def _of(self, material: tasks.Material, task: str) -> np.ndarray:
        """Tokens of some rows of a task with their answers; those of seqrec where the task needs a teacher's texts."""
        made = tasks.alignment(material, 1, SAMPLE, 42, [task])[0][: 4 * SAMPLE]
        made = made or tasks.alignment(material, 1, SAMPLE, 42, [SEQREC])[0][: 4 * SAMPLE]
        return self.lengths(["\n".join(message["content"] for message in row["messages"]) for row in made])

    def teaching(self, kind: str) -> np.ndarray:
        """Tokens of the teacher's prompts: for `item` texts, `reasoning`s, or texts on users of one of KINDS."""
        if self.sequences is None:
            return np.array([self.assume("tokens of a teacher's prompt")])
        shown, items = self.survey.step("G/4")[Prompts], self.catalogue
        if kind == "item":
            reviews = dict(list(texts.to_describe(items, self.pasts).items())[:SAMPLE])
            asked: Sequence[Prompt] = texts.item_prompts(items, reviews, 42, shown.cut, shown.folder)
        elif kind == "reasoning":
            asked = reasoning.prompts_of(reasoning.targets(self.some), items, shown.cut, shown.folder)
        else:
            asked = texts.user_prompts(kind, items, self.some, shown.cut, shown.folder)
        found = self.lengths([one.text for one in asked])
        return found if len(found) else np.array([self.assume("tokens of a teacher's prompt")])

    def of_items(self) -> float:
        """Tokens of the texts of an item."""
        if self.items is None:
            return self.assume("tokens of an item's texts")
        some: pd.DataFrame = self.items.sample(n=min(len(self.items), SAMPLE), random_state=42)
        return mean(self.count((some["title"] + " " + some["description"]).tolist()))
