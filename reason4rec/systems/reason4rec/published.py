"""Texts that the authors' 8B experts wrote and a third party published: what a dataset can learn from them.

A log of a Reasoner's training holds its prompts, with the titles and summaries of both histories, and the reasons that
were drawn for them, with rewards. Neither names a user or a review: `published_matching` finds the review of a summary.
What is learned from which text is our decision; the paper has nothing of the kind.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reason4rec.data.history import Entry, History
from reason4rec.data.schema import KEYS
from reason4rec.llm.stops import SENTENCE_END
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARY
from reason4rec.systems.reason4rec.prompts import as_summary
from reason4rec.systems.reason4rec.reason_checks import rating_in_words

ORIGIN = "published outputs of the 8B experts, third party"
WORST_REWARD = -1.0  # minus the error of a Predictor in stars: beyond it a reason argues for the wrong verdict
FEWEST_WORDS, MOST_WORDS = 20, 250  # of a reason
# Where a model that does not stop goes on with something else: a paragraph, markup, a reference, a table.
RUN_ON = re.compile(r"\n|\s{2,}|</?\w+|```|[|{}#]|\[\d+\]|https?:|\((?:source|reference)", re.IGNORECASE)

OPENING = re.compile(r"^(?:[\s>#*-]|\d+[.)]\s|(?:rationale|analysis|answer|reason)\s*:)+", re.IGNORECASE)
# What no reason can know before the user tries the item: a rating, or the user's review of it.
FORESEEN = re.compile(
    r"\brat(?:ed?|ings?)\b|\b(?:perfect|high|higher|low|lower) scores?\b|"
    r"\busers?(?:['’]s?)? (?:\w+ ){0,2}(?:reviews?|comments?|feedback|response|reception)\b(?! history)",
    re.IGNORECASE,
)

Said = tuple[str, str]
"""An entry of a history: the item's title, as `as_title` has it, and the summary of a review."""


@dataclass(frozen=True)
class LoggedPrompt:
    """A Reasoner's prompt in a log: the target's title, both histories oldest first, and the reasons, best first."""

    title: str
    user: tuple[Said, ...]
    item: tuple[Said, ...]
    reasons: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Splits:
    """Which reviews may be learned from: (user, item) pairs of valid and test, and the items of each title."""

    held_out: frozenset[tuple[str, str]]
    items: Mapping[str, tuple[str, ...]]


def as_title(text: str) -> str:
    """A title on one line, as titles are compared."""
    return " ".join(text.split())


def is_set_aside(title: str, share: float, seed: int) -> bool:
    """Whether the items of a title are set aside: decided by the title and the seed alone, so more logs change none."""
    digest = hashlib.sha256(f"{seed}:{as_title(title)}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def paragraph(text: str) -> str:
    """The reason at the beginning of a drawn text, up to its last whole sentence; empty where there is none.

    The draws were cut at a number of tokens, and many run on after the paragraph that was asked for.
    """
    text = OPENING.sub("", text.replace("**", ""))
    if run_on := RUN_ON.search(text):
        text = text[: run_on.start()]
    if text.startswith('"') and text.count('"') % 2:
        text = text[1:]
    ends = [found.end() for found in SENTENCE_END.finditer(text)]
    return text[: ends[-1]].strip() if ends else ""


def fault(reason: str) -> str:
    """Why a paragraph is not learned from: `short`, `endless`, or `rating` for one that speaks of it; else empty."""
    size = len(reason.split())
    if size < FEWEST_WORDS:
        return "short"
    sentences = [one.strip() for one in SENTENCE_END.split(reason) if one.strip()]
    if size > MOST_WORDS or len(set(sentences)) < len(sentences):
        return "endless"
    return "rating" if FORESEEN.search(reason) or rating_in_words(reason) else ""


def chosen_reason(reasons: Sequence[tuple[str, float]]) -> tuple[str, str]:
    """The reason with the highest reward that can be learned from, and the fault of the best where there is none.

    The rewards were computed with the true rating, as those of the reward filter are; the text itself was written from
    the prompt alone.
    """
    first = ""
    for text, reward in reasons:
        reason = paragraph(text)
        why = "wrong_verdict" if reward < WORST_REWARD else fault(reason)
        if not why:
            return reason, ""
        first = first or why
    return "", first or "short"


def rows_of_summaries(summaries: pd.DataFrame, reviews: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The reviews that have a summary, with it in `review_summary`, in the order of `reviews`; how many others had one.

    `summaries` has the key columns and `review_summary`; of a review that has several the first counts.
    """
    keyed = summaries.drop_duplicates(list(KEYS)).set_index(list(KEYS))[TEACHER_SUMMARY].map(as_summary)
    joined = reviews.join(keyed, on=list(KEYS))
    found = joined[joined[TEACHER_SUMMARY].notna()].reset_index(drop=True)
    return found, len(keyed) - len(found)


def reviews_by_entry(summaries: pd.DataFrame) -> dict[Said, tuple[str, str]]:
    """The (user, item) of each matched summary, by the entry of a history that shows it: title and text."""
    columns = (summaries[name] for name in ("title", TEACHER_SUMMARY, "user_id", "item_id"))
    return {(title, text): (user, item) for title, text, user, item in zip(*columns)}


def splits_of(train: pd.DataFrame, held_out: pd.DataFrame) -> Splits:
    """The held-out pairs of a dataset's splits, and its items by their titles."""
    titles = pd.concat([train, held_out]).drop_duplicates("item_id")
    items = titles.groupby(titles["title"].map(as_title))["item_id"].agg(tuple)
    return Splits(frozenset(zip(held_out["user_id"], held_out["item_id"])), items.to_dict())


def users_of(prompt: LoggedPrompt, reviews_of: Mapping[Said, tuple[str, str]]) -> set[str]:
    """The users who wrote the matched reviews of a prompt's user history; where a match is wrong, more than one."""
    return {found[0] for entry in prompt.user if (found := reviews_of.get(entry))}


def leak(prompt: LoggedPrompt, reviews_of: Mapping[Said, tuple[str, str]], splits: Splits) -> str:
    """Why a prompt may not be learned from: it shows a review of valid or test, or is about one; empty where it may.

    `reviews_of` gives the (user, item) of matched entries.
    """
    if any(reviews_of.get(entry) in splits.held_out for entry in (*prompt.user, *prompt.item)):
        return "shows_held_out"
    targets = splits.items.get(prompt.title, ())
    pairs = {(user, item) for user in users_of(prompt, reviews_of) for item in targets}
    return "target_held_out" if pairs & splits.held_out else ""


def as_history(prompt: LoggedPrompt, length: int) -> History:
    """The histories of a logged prompt as the experts' prompts show them, without ratings or averages."""
    user, item = (
        tuple(Entry(title, float("nan"), as_summary(text)) for title, text in side[-length:])
        for side in (prompt.user, prompt.item)
    )
    return History(user, item, None, None, len(user), len(item))


def reasoner_targets(
    prompts: Iterable[LoggedPrompt], summaries: pd.DataFrame, splits: Splits
) -> tuple[list[tuple[LoggedPrompt, str]], Counter]:
    """The prompts that may be learned from, each with its reason, and how many were left out for what.

    The matched `summaries` tell of whom a prompt is.
    `user_unknown` counts those that stay although the target may be any user's review of its item: no entry of the
    user's history was matched, and an item of the dataset has the title.
    """
    kept, counts, reviews_of = [], Counter(), reviews_by_entry(summaries)
    for prompt in prompts:
        reason, why = chosen_reason(prompt.reasons)
        why = leak(prompt, reviews_of, splits) or why
        if why:
            counts[why] += 1
            continue
        kept.append((prompt, reason))
        if prompt.title in splits.items and not users_of(prompt, reviews_of):
            counts["user_unknown"] += 1
    return kept, counts
