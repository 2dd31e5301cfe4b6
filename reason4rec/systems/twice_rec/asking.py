"""Asking a finished run: what suits a user next, out of a list of candidates, with the rationale.

    python -m reason4rec.systems.twice_rec.asking --dataset Demo_sequences --user ID
    python -m reason4rec.systems.twice_rec.asking --dataset Demo_sequences --user ID --candidates ID ID ...

The history is all that the user chose. Without --candidates they are those of the user's test case, ranked as the
tables rank them; the target of that case is left out of the history then.
"""

import json
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Self

from reason4rec.data.sequences import Case, Event
from reason4rec.errors import InputError
from reason4rec.llm.options import Model
from reason4rec.run import records
from reason4rec.run.commands import guarded
from reason4rec.run.options import Options, Parser, Resolved, option, resolve, with_facts
from reason4rec.run.step import Place
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import ranking_runs, recommending, replies
from reason4rec.systems.twice_rec.options import Models, Prompts
from reason4rec.systems.twice_rec.prompts import RATIONALE_FIRST
from reason4rec.systems.twice_rec.step import RecommenderStep

if TYPE_CHECKING:
    from reason4rec.llm.likelihood import LikelihoodReader

SHOWN = 10  # candidates in a text


@dataclass(frozen=True)
class Question(Options):
    """the question"""

    user: str = option("", "a user of the dataset", metavar="ID")
    candidates: tuple[str, ...] = option((), "items to rank (default: those of the user's test case)", metavar="ID")
    model: str = option("", "which recommender (default: the last row of the tables that is trained)", metavar="NAME")
    json: bool = option(False, "answer in JSON")


@dataclass(frozen=True)
class Ranked:
    """A candidate: its id and title, its rank from 1, and the mean log-probability of its tokens."""

    rank: int
    item_id: str
    title: str
    log_likelihood: float


@dataclass(frozen=True)
class Answer:
    """What a recommender says: the rationale, the item that it names (empty: none in the list), and all candidates.

    `notes` are what a reader should know of the answer.
    """

    user_id: str
    rationale: str
    named: str
    ranked: tuple[Ranked, ...]
    history: tuple[str, ...]
    notes: tuple[str, ...]


class Recommender:
    """A trained recommender of a finished run, ready to be asked; safe to use from many threads.

    `load` makes one. Weights are loaded when the first question comes.
    """

    def __init__(self, step: RecommenderStep, model: recommending.Model):
        self.step, self.model = step, model
        self._lock = threading.Lock()
        self._loaded: LikelihoodReader | None = None
        self._cases = {case.user_id: case for case in step.cases("test")}
        self._lists = step.candidates("test")

    @classmethod
    def load(cls, dataset: str, model: str = "", **options: object) -> Self:
        """The recommender of a dataset's finished run, by the name of a row in the tables; the last one by default.

        `options` are those of `TWiCE_Rec/8_rank_candidates.py`, such as `device` or `data_root`. InputError names what
        is missing or unknown.
        """
        from reason4rec.systems.twice_rec.pipeline import PIPELINE

        spec = PIPELINE["T/8"]
        groups = PIPELINE.groups(spec)
        resolved = resolve(groups, {"dataset": dataset} | options, {})
        step = PIPELINE.step(PIPELINE, spec, with_facts(resolved, PIPELINE.facts(resolved)))
        there = {one.name: one for one in ranking_runs.trained(step)}
        if not there:
            raise InputError(
                f"{step.adapters}: no trained recommender there; run bash run_all.sh --system twice_rec --dataset "
                f"{dataset}"
            )
        if model and model not in there:
            raise InputError(f"--model {model}: not trained for {dataset}; there are {', '.join(there)}")
        chosen = there[model] if model else list(there.values())[-1]
        return cls(_as_ranked(step, chosen), chosen)

    def explain(self, user_id: str, candidates: Sequence[str] = ()) -> Answer:
        """The rationale for a user and the candidates in their order; InputError for an unknown user or item."""
        return self.explain_all([user_id], [candidates])[0]

    def explain_all(self, user_ids: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[Answer]:
        """The answers to several questions, which the model is asked together."""
        cases = [self._case(user, given) for user, given in zip(user_ids, candidates, strict=True)]
        # A user may be asked about twice, with other candidates.
        named = [Case(str(k), case.history, case.target) for k, case in enumerate(cases)]
        lists = {str(k): self._list(user, given) for k, (user, given) in enumerate(zip(user_ids, candidates))}
        with self._lock:
            if self._loaded is None:
                self._loaded = self.step.language_model(self.model.adapter)
            weighed, written = recommending.ranked(
                self.step, self._loaded, named, lists, self.model.task, self.step[Models]
            )
        return [
            self._answer(user, cases[k], weighed[weighed["user_id"] == str(k)], written["reply"].iloc[k], given)
            for k, (user, given) in enumerate(zip(user_ids, candidates))
        ]

    def _case(self, user_id: str, given: Sequence[str]) -> Case:
        if user_id not in self._cases:
            some = ", ".join(list(self._cases)[:3])
            raise InputError(f"--user {user_id[:40]!r}: not a user of this run, whose users are such as {some}")
        case = self._cases[user_id]
        # Candidates of one's own are asked about with all that the user chose.
        return Case(user_id, (*case.history, case.target), Event("", None, "")) if given else case

    def _list(self, user_id: str, given: Sequence[str]) -> tuple[str, ...]:
        if not given:
            return self._lists[user_id]
        if len(set(given)) < max(2, len(given)):
            raise InputError(f"--candidates {' '.join(given)[:80]}: name two or more different items")
        if unknown := [item for item in given if item not in self.step.catalogue]:
            raise InputError(f"--candidates: {unknown[0][:40]!r} is no item of this dataset")
        return tuple(given)

    def _answer(self, user: str, case: Case, weighed: object, reply: str, given: Sequence[str]) -> Answer:
        catalogue = self.step.catalogue
        scored = weighed.assign(mean=weighed["log_likelihood"] / weighed["tokens"]).sort_values("mean", ascending=False)
        ranked = tuple(
            Ranked(rank, row.item_id, catalogue[row.item_id].title, round(float(row.mean), 4))
            for rank, row in enumerate(scored.itertuples(index=False), start=1)
        )
        said = replies.read(reply, self.model.task == RATIONALE_FIRST)
        named = said.item_id if said.item_id in set(scored["item_id"]) else ""
        notes = [f"malformed: {', '.join(said.problems)}"] if not said.well_formed else []
        notes += [] if named else ["the reply names no candidate"]
        notes += [] if given else [f"the user's own choice was {case.target.item_id}"]
        history = tuple(catalogue[event.item_id].title for event in case.history)
        return Answer(user, said.think or "", named, ranked, history, tuple(notes))


def _as_ranked(step: RecommenderStep, model: recommending.Model) -> RecommenderStep:
    """The step with replies as long as those behind the tables; InputError where these have other prompts."""
    ranks = step.path(a.ranked(model.name, "test"))
    then = records.settings_of(ranks)
    for name, value in step[Prompts].recorded().items():
        if then.get(name, value) != value:
            shown = "" if name == "prompts" else f" ({then[name]})"
            raise InputError(f"{ranks} was made with other --{name}{shown}: give the same here, or run T/8 again")
    longest = then.get("max_new_tokens", step[Models].max_new_tokens)
    groups = {**step.options.groups, Models: replace(step[Models], max_new_tokens=longest)}
    return type(step)(step.pipeline, step.spec, Resolved(groups, step.options.origins))


def as_text(answer: Answer) -> str:
    """An answer for a terminal."""
    lines = [f"User {answer.user_id} took, oldest first: {'; '.join(answer.history)}", "", answer.rationale, ""]
    for one in answer.ranked[:SHOWN]:
        mark = "  <- named" if one.item_id == answer.named else ""
        lines.append(f"{one.rank:>3}  {one.log_likelihood:8.3f}  {one.item_id}  {one.title}{mark}")
    return "\n".join([*lines, *(f"note: {note}" for note in answer.notes)])


def ask(words: Sequence[str]) -> None:
    """Answers the question of a command line."""
    groups = (Question, Place, Prompts, Model)
    command = vars(Parser(__doc__, groups, command="python -m reason4rec.systems.twice_rec.asking").parse_args(words))
    question = resolve((Question,), command, {})[Question]
    dataset = str(command.get("dataset", ""))
    if not (dataset and question.user):
        raise InputError("--dataset NAME and --user ID say whose recommender is asked about whom")
    own = set(Question.__dataclass_fields__)
    more = {name: value for name, value in command.items() if name not in own | {"dataset"}}
    with redirect_stdout(sys.stderr):  # what is said meanwhile is no answer
        answer = Recommender.load(dataset, question.model, **more).explain(question.user, question.candidates)
    print(json.dumps(asdict(answer), ensure_ascii=False) if question.json else as_text(answer))


if __name__ == "__main__":
    guarded(lambda: ask(sys.argv[1:]))
