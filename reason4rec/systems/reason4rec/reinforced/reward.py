"""The reward of a reason: what it is worth to the frozen Predictor, less penalties for the ways of cheating.

Each part is a plain function of rollouts, with a name and a weight. Source: our decision; the paper imitates accepted
reasons, and its reward filter's score is the gain here.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from reason4rec.data.history import History
from reason4rec.errors import InputError
from reason4rec.evaluation.metrics import expected_rating
from reason4rec.llm.answers import answer_of
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.stops import Reply, kept
from reason4rec.systems.reason4rec.predictor_modes import rating_probabilities
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX
from reason4rec.systems.reason4rec.reason_checks import RATING, faithfulness, without_titles
from reason4rec.systems.reason4rec.reason_scores import words
from reason4rec.systems.reason4rec.reinforced.options import Reward
from reason4rec.systems.reason4rec.reward_filter import rating_gain
from reason4rec.training.rollouts import Part, Rollout

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel

FEWEST_WORDS = 3
COPIED_WORDS = 6  # side by side: keywords that a reason names are shorter
SIGNS = re.compile(r"[★☆⭐✩✮]|\*{3,}|\brat(?:e[sd]?|ings?)\W*[1-5]", re.IGNORECASE)
LATER = "faithful"  # a part that earlier versions did not have
# What else can be read as a rating. "One" is a word of any text, and "I" too.
NUMBERS = re.compile(r"(?<![\w.,])(?:\d+\s*%|(?:[1-5](?:\.\d)?|two|three|four|five|i{2,3}|iv)(?!\w|[.,]\d))")
TOKENS = re.compile(r"\w+|%")

Question = Callable[[int, str | None], Prompt]
"""The Predictor's prompt for a target, by its number, with a reason or without one."""


def weights_of(options: Reward) -> dict[str, float]:
    """The weight of each part of the reward, by its name; InputError for one below 0.

    A penalty below 0 would be a bonus, and a gain below 0 would be paid for what is not true.
    """
    for name, what in {
        "weight_stated": "loses",
        "weight_empty": "loses",
        "weight_endless": "loses",
        "weight_copied": "loses",
        "weight_faithful": "gains",
    }.items():
        if getattr(options, name) < 0:
            raise InputError(f"--{name} {getattr(options, name)}: must be 0 or more, it is what a reason {what}")
    return {
        options.reward: 1.0,
        "stated": -options.weight_stated,
        "empty": -options.weight_empty,
        "endless": -options.weight_endless,
        "copied": -options.weight_copied,
        LATER: options.weight_faithful,
    }


def recorded_weights(options: Reward) -> dict[str, float]:
    """The weights as they stand in a record: a part that came later only where it decides something."""
    return {name: weight for name, weight in weights_of(options).items() if weight or name != LATER}


def parts_of(
    options: Reward,
    predictor: "LanguageModel",
    question: Question,
    ratings: np.ndarray,
    histories: Sequence[History],
    titles: Sequence[str],
    faithful: Callable[[Sequence[Rollout]], Sequence[float]],
) -> list[Part]:
    """The parts of the reward for targets with these true ratings, histories and titles.

    `faithful` is that of `faithful_to`.

    A rollout's row has the `number` of its target.
    """
    first = gain(predictor, question, ratings) if options.reward == "gain" else error(predictor, question, ratings)
    scores: Mapping[str, Callable] = {
        options.reward: first,
        "stated": lambda rollouts: [
            float(states_a_rating(reason_in(one), titles[one.row["number"]], histories[one.row["number"]]))
            for one in rollouts
        ],
        "empty": lambda rollouts: [float(len(words(reason_in(one))) < FEWEST_WORDS) for one in rollouts],
        "endless": lambda rollouts: [float(is_endless(one)) for one in rollouts],
        "copied": lambda rollouts: [copied(reason_in(one), histories[one.row["number"]]) for one in rollouts],
        LATER: faithful,
    }
    return [Part(name, weight, scores[name]) for name, weight in weights_of(options).items()]


def reason_in(rollout: Rollout) -> str:
    """The reason in what was written, cut and cleaned as the steps take it from a reply."""
    (text,) = kept([rollout.text], None, Counter())
    return answer_of(text)


def states_a_rating(reason: str, title: str, history: History) -> bool:
    """Whether a reason states a rating: in words that ratings are given in, or by a number of its own.

    A number counts as shown where it stands in the histories beside a word that it stands beside in the reason. Titles
    are given, and may hold numbers.
    """
    text = without_titles(unicodedata.normalize("NFKC", reason), title, history).lower()
    if RATING.search(text) or RATING_PREFIX.strip(" :").lower() in text or SIGNS.search(text):
        return True
    shown = [TOKENS.findall(entry.text.lower()) for entry in (*history.user, *history.item)]
    beside = {pair for words_of in shown for pair in pairwise(words_of)}
    return any(not _is_shown(text, found, beside) for found in NUMBERS.finditer(text))


def _is_shown(text: str, number: re.Match[str], beside: Collection[tuple[str, str]]) -> bool:
    """Whether one of the pairs of a number and the word before or after it, or of its own parts, is among others."""
    own = TOKENS.findall(number[0])
    before, after = TOKENS.findall(text[: number.start()])[-1:], TOKENS.findall(text[number.end() :])[:1]
    inside = all(pair in beside for pair in pairwise(own))
    return inside and any(pair in beside for pair in (*zip(before, own[:1]), *zip(own[-1:], after)))


def error(predictor: "LanguageModel", question: Question, ratings: np.ndarray) -> Callable[[Sequence[Rollout]], list]:
    """A function that gives minus the Predictor's error in stars, -4 to 0, with each rollout's reason."""

    def scores(rollouts: Sequence[Rollout]) -> list[float]:
        numbers = [one.row["number"] for one in rollouts]
        predicted = predicted_with(predictor, question, numbers, [reason_in(one) for one in rollouts])
        return (-np.abs(ratings[numbers] - predicted)).tolist()

    return scores


def gain(predictor: "LanguageModel", question: Question, ratings: np.ndarray) -> Callable[[Sequence[Rollout]], list]:
    """A function that gives the stars by which each rollout's reason brings the Predictor nearer to the true rating.

    It is compared with the Predictor's rating without a reason, which is asked once for each target.
    """
    without: dict[int, float] = {}

    def scores(rollouts: Sequence[Rollout]) -> np.ndarray:
        numbers = [one.row["number"] for one in rollouts]
        if new := [number for number in dict.fromkeys(numbers) if number not in without]:
            without.update(zip(new, predicted_with(predictor, question, new, [None] * len(new))))
        predicted = predicted_with(predictor, question, numbers, [reason_in(one) for one in rollouts])
        return rating_gain(ratings[numbers], predicted, np.array([without[number] for number in numbers]))

    return scores


def predicted_with(
    predictor: "LanguageModel", question: Question, numbers: Sequence[int], reasons: Sequence[str | None]
) -> np.ndarray:
    """(numbers,) expected ratings of targets with reasons."""
    asked = [question(number, reason) for number, reason in zip(numbers, reasons)]
    return expected_rating(rating_probabilities(predictor, asked, what=""))


def is_endless(rollout: Rollout) -> bool:
    """Whether a rollout was cut off before its end, repeats itself, or holds special tokens."""
    return not rollout.ended or rollout.special or Reply().end(rollout.text) is not None


def copied(reason: str, history: History) -> float:
    """The share, 0 to 1, of a reason's runs of words that stand in the same order in one entry of its histories."""
    own = _runs(reason)
    if not own:
        return 0.0
    known = {run for entry in (*history.user, *history.item) for run in _runs(entry.text)}
    return sum(run in known for run in own) / len(own)


def faithful_to(
    histories: Sequence[History], titles: Sequence[str], known: Collection[tuple[str, ...]]
) -> Callable[[Sequence[Rollout]], list[float]]:
    """A function that gives how true each rollout's reason is to its target's histories, 0 to 1.

    It is the `faithfulness` of step 3/7: the share of the aspects of the vocabulary `known` that a reason names which
    its histories hold. A reason that names none has 0 here, so that silence earns nothing; 3/7 leaves it out.
    """

    def scores(rollouts: Sequence[Rollout]) -> list[float]:
        numbers = [one.row["number"] for one in rollouts]
        own = [histories[number] for number in numbers]
        reasons = [
            without_titles(reason_in(one), titles[k], history) for one, k, history in zip(rollouts, numbers, own)
        ]
        found, _ = faithfulness(reasons, own, known, seed=0)
        return np.nan_to_num(found["faithfulness"], nan=0.0).tolist()

    return scores


def _runs(text: str) -> list[tuple[str, ...]]:
    named = words(text)
    return [tuple(named[k : k + COPIED_WORDS]) for k in range(len(named) - COPIED_WORDS + 1)]
