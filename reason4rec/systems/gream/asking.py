"""Asking a finished run: what suits a user next, out of the whole catalogue, with the thoughts that led there.

    python -m reason4rec.systems.gream.asking --dataset Demo_sequences --user ID

The list is that of the user's test case, as the tables have it: the target of that case is left out of the history.
"""

import json
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from reason4rec.errors import InputError
from reason4rec.llm.options import Model
from reason4rec.run import records
from reason4rec.run.commands import guarded
from reason4rec.run.options import Options, Parser, option, resolve, with_facts
from reason4rec.run.step import Place
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import recommending, recommending_runs, replies, staleness
from reason4rec.systems.gream.options import Models, Questions, Restating
from reason4rec.systems.gream.prompts import REASONED
from reason4rec.systems.gream.step import GeneratorStep

if TYPE_CHECKING:
    import pandas as pd

    from reason4rec.data.sequences import Case
    from reason4rec.llm.beams import BeamSearcher

PREFERRED = ("srpo_reasoned", "generator_reasoned")  # others are what these are compared with
OF_A_LIST = ("beams", "length_penalty", "max_new_tokens")  # the options that a list follows from


@dataclass(frozen=True)
class Question(Options):
    """the question"""

    user: str = option("", "a user of the dataset", metavar="ID")
    model: str = option(
        "", f"which row of the tables (default: {', '.join(PREFERRED)}, the first that is trained)", metavar="NAME"
    )
    json: bool = option(False, "answer in JSON")


@dataclass(frozen=True)
class Listed:
    """An item of a list: its id and title, its rank from 1, and the log-probability of its tokens.

    That is their sum, or with a `length_penalty` of 1 their mean.
    """

    rank: int
    item_id: str
    title: str
    score: float


@dataclass(frozen=True)
class Answer:
    """What a generator says: its thoughts (empty in the direct mode) and the items that it lists.

    `notes` are what a reader should know of the answer.
    """

    user_id: str
    reasoning: str
    ranked: tuple[Listed, ...]
    history: tuple[str, ...]
    notes: tuple[str, ...]


class Generator:
    """A trained generator of a finished run, ready to be asked; safe to use from many threads.

    `load` makes one. Weights are loaded when the first question comes. `notes` stand with every answer.
    """

    def __init__(self, step: GeneratorStep, model: recommending.Model, notes: Sequence[str] = ()):
        self.step, self.model, self.notes = step, model, tuple(notes)
        self._lock = threading.Lock()
        self._loaded: BeamSearcher | None = None
        self._cases = {case.user_id: case for case in step.cases("test")}

    @classmethod
    def load(cls, dataset: str, model: str = "", **options: object) -> Self:
        """The generator of a dataset's finished run, by the name of a row in the tables; by default one of PREFERRED.

        `options` are those of `GREAM/9_recommend.py`, such as `device` or `data_root`. InputError names what is
        missing, unknown, or another than when the tables were made.
        """
        from reason4rec.systems.gream.pipeline import PIPELINE

        spec = PIPELINE["G/9"]
        resolved = resolve(PIPELINE.groups(spec), {"dataset": dataset} | options, {})
        step = PIPELINE.step(PIPELINE, spec, with_facts(resolved, PIPELINE.facts(resolved)))
        there = {one.name: one for one in recommending.trained(step)}
        if not there:
            raise InputError(
                f"{step.adapters}: no trained generator there; run bash run_all.sh --system gream --dataset {dataset}"
            )
        if model and model not in there:
            raise InputError(f"--model {model}: not trained for {dataset}; there are {', '.join(there)}")
        step.check_prompts()
        chosen = there[model or next((name for name in PREFERRED if name in there), next(iter(there)))]
        return cls(step, chosen, _compared(step, chosen))

    def explain(self, user_id: str) -> Answer:
        """The thoughts on a user and the list of items; InputError for an unknown user."""
        return self.explain_all([user_id])[0]

    def explain_all(self, user_ids: Sequence[str]) -> list[Answer]:
        """The answers to several questions, which the model is asked together."""
        cases = {user: self._case(user) for user in user_ids}
        with self._lock:
            if self._loaded is None:
                self._loaded = self.step.language_model(self.model.adapter)
            asked = list(cases.values())  # each once, however often it is asked about
            lists, written = recommending.recommended(self.step, self._loaded, asked, self.model, self.step[Models])
        by_user = dict(tuple(lists.groupby("user_id")))
        said = dict(written.loc[written["draw"] == 0, ["user_id", "reply"]].itertuples(index=False))
        return [self._answer(cases[user], by_user[user], said[user]) for user in user_ids]

    def _case(self, user_id: str) -> "Case":
        if user_id not in self._cases:
            some = ", ".join(list(self._cases)[:3])
            raise InputError(f"--user {user_id[:40]!r}: not a user of this run, whose users are such as {some}")
        return self._cases[user_id]

    def _answer(self, case: "Case", listed: "pd.DataFrame", reply: str) -> Answer:
        catalogue, taken = self.step.catalogue, {event.item_id for event in case.history}
        ranked = tuple(
            Listed(row.place, row.item_id, catalogue[row.item_id].title, round(float(row.score), 4))
            for row in listed.itertuples(index=False)
            if isinstance(row.item_id, str) and row.item_id not in taken
        )
        think = replies.read(reply).think
        chosen = case.target.item_id
        notes = [f"the user's own choice was {catalogue[chosen].title} ({chosen})", *self.notes]
        if self.model.mode == REASONED and think is None:
            notes.append("malformed: the thoughts are not closed")
        history = tuple(catalogue[event.item_id].title for event in case.history)
        return Answer(case.user_id, reply.strip() if think is None else think, ranked, history, tuple(notes))


def _compared(step: GeneratorStep, model: recommending.Model) -> list[str]:
    """What a reader should know where a question is put in another way than those of the tables; there may be none.

    InputError where the tables have other prompts, or were made with other files.
    """
    listed = a.ranked(model.name, "test")
    path, part = step.path(listed), recommending_runs.part_of(step, model)
    if (record := records.read_record(path)) is None:
        return []
    if why := staleness.of_list(step, listed, model.adapter):
        raise InputError(f"{path}: {why}")
    then, now = record["made_from"]["settings"], part.provenance["settings"]
    for name in ("prompts", "restate_history"):
        if then.get(name) != now.get(name):
            raise InputError(f"{path} was made with other --{name}: give the same here, or run G/9 again")
    other = [name for name in OF_A_LIST if name in then and name in now and then[name] != now[name]]
    return [f"not the list of the tables: --{name} was {then[name]} there, is {now[name]} here" for name in other]


def as_text(answer: Answer) -> str:
    """An answer for a terminal."""
    lines = [f"User {answer.user_id} took, oldest first: {'; '.join(answer.history)}", ""]
    lines += [answer.reasoning, ""] if answer.reasoning else []
    lines += [f"{one.rank:>3}  {one.score:8.3f}  {one.item_id}  {one.title}" for one in answer.ranked]
    return "\n".join([*lines, *(f"note: {note}" for note in answer.notes)])


def ask(words: Sequence[str]) -> None:
    """Answers the question of a command line."""
    groups = (Question, Place, Questions, Restating, Models, Model)
    command = vars(Parser(__doc__, groups, command="python -m reason4rec.systems.gream.asking").parse_args(words))
    question = resolve((Question,), command, {})[Question]
    dataset = str(command.get("dataset", ""))
    if not (dataset and question.user):
        raise InputError("--dataset NAME and --user ID say whose generator is asked about whom")
    own = set(Question.__dataclass_fields__)
    more = {name: value for name, value in command.items() if name not in own | {"dataset"}}
    with redirect_stdout(sys.stderr):  # what is said meanwhile is no answer
        answer = Generator.load(dataset, question.model, **more).explain(question.user)
    print(json.dumps(asdict(answer), ensure_ascii=False) if question.json else as_text(answer))


if __name__ == "__main__":
    guarded(lambda: ask(sys.argv[1:]))
