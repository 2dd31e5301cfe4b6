"""The commands that ask the experts: explain, rank, recommend.

    python -m reason4rec explain --dataset Demo_data --user ID --item ID
    python -m reason4rec rank --dataset Demo_data --user ID --items ID ID ...
    python -m reason4rec recommend --dataset Demo_data --user ID --k 10

A new user is given by a file of reviews (--user_reviews), a new item by its title and, if there are any, its reviews.
An id that begins with a dash is given as --user=-ID; several such items as --items=-ID --items=-ID.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.front.finished import dataset_or_the_only_one
from reason4rec.front.given import reviews_from
from reason4rec.llm.options import Model, Servers, Writing
from reason4rec.run import options
from reason4rec.run.options import Options, Parser, Positive, option
from reason4rec.run.step import Place
from reason4rec.systems.reason4rec.asking.shortlist import SHORTLIST
from reason4rec.systems.reason4rec.options import Histories, Prompts

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.asking.questions import Answer
    from reason4rec.systems.reason4rec.asking.recommender import Recommender

FORM = "JSON lines or CSV with title, rating (1 to 5), text, and time and item_id where known; - for standard input"


@dataclass(frozen=True)
class Run(Place):
    """the finished run"""

    dataset: str = option("", "whose experts are asked (default: the only finished run)", changes_output=False)


@dataclass(frozen=True)
class User(Options):
    """the user"""

    user: str | None = option(None, "a known user", metavar="ID")
    user_reviews: Path | None = option(None, f"reviews by a new user: {FORM}", metavar="FILE")


@dataclass(frozen=True)
class Item(Options):
    """the item"""

    item: str | None = option(None, "a known item", metavar="ID")
    title: str | None = option(None, "title of a new item", metavar="TEXT")
    item_reviews: Path | None = option(None, "reviews of a new item by others, in the same form", metavar="FILE")
    before: int | None = option(None, "look at reviews before this time alone, in unix seconds", metavar="SECONDS")


@dataclass(frozen=True)
class Items(Options):
    """the items"""

    items: tuple[str, ...] = option((), "known items", metavar="ID")


@dataclass(frozen=True)
class Most(Options):
    """the list"""

    k: Positive = option(10, "items to recommend")
    shortlist: Positive = option(SHORTLIST, "items that the experts are asked about")


@dataclass(frozen=True)
class Output(Options):
    """the output"""

    json: bool = option(False, "JSON for programs")


RUN = (Run, Model, Servers, Prompts, Histories, Writing)
"""The groups of options that say which run is asked, and how."""


def explain(words: Sequence[str]) -> None:
    """Prints the experts' rating of one item by one user, with the reason and both histories."""

    def ask(recommender: "Recommender", given: Mapping[str, object]) -> "Answer":
        return recommender.explain(
            given["user"],
            given["item"],
            user_reviews=_reviews(given["user_reviews"]),
            title=given["title"],
            item_reviews=_reviews(given["item_reviews"]) or (),
            before=given["before"],
        )

    _command(words, "explain", (User, Item), ask)


def rank(words: Sequence[str]) -> None:
    """Prints items in the order of the ratings that the experts foresee for one user."""

    def ask(recommender: "Recommender", given: Mapping[str, object]) -> "list[Answer]":
        if not given["items"]:
            raise InputError("--items: name at least one item")
        return recommender.rank(given["user"], given["items"], _reviews(given["user_reviews"]))

    _command(words, "rank", (User, Items), ask)


def recommend(words: Sequence[str]) -> None:
    """Prints the items that a user has not reviewed and would rate highest."""

    def ask(recommender: "Recommender", given: Mapping[str, object]) -> "list[Answer]":
        reviews = _reviews(given["user_reviews"])
        return recommender.recommend(given["user"], given["k"], reviews, given["shortlist"])

    _command(words, "recommend", (User, Most), ask)


def parsed(words: Sequence[str], name: str, groups: Sequence[type[Options]], doc: str | None) -> dict[str, object]:
    """The options of a command by name, those of the run among them; InputError where no dataset is meant."""
    parser = Parser(doc or "", groups, command=f"python -m reason4rec {name}")
    command = vars(parser.parse_args(list(words)))
    resolved = options.resolve(groups, command, {})
    values = {one.name: getattr(resolved[group], one.name) for group in groups for one in fields(group)}
    roots = values["data_root"], values["checkpoint_root"]
    return values | {"dataset": dataset_or_the_only_one(values["dataset"], *roots), "given": tuple(command)}


def loaded(values: Mapping[str, object]) -> "Recommender":
    """The experts that the options of a command name; of the run's options only those that were given."""
    from reason4rec.systems.reason4rec.asking.recommender import Recommender

    known = {one.name for group in RUN for one in fields(group)} - {"dataset"}
    return Recommender.load(values["dataset"], **{name: values[name] for name in values["given"] if name in known})


def _command(
    words: Sequence[str],
    name: str,
    groups: Sequence[type[Options]],
    ask: "Callable[[Recommender, Mapping[str, object]], Answer | list[Answer]]",
) -> None:
    values = parsed(words, name, (*groups, Output, *RUN), __doc__)
    answer = ask(loaded(values), values)
    from reason4rec.front.card import card, ranking
    from reason4rec.systems.reason4rec.asking.spoken_of import as_data

    several = isinstance(answer, list)
    if values["json"]:
        print(json.dumps(list(map(as_data, answer)) if several else as_data(answer), ensure_ascii=False, indent=1))
        return
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(ranking(answer) if several else card(answer, colours))


def _reviews(path: Path | None) -> list[dict] | None:
    return None if path is None else reviews_from(path)
