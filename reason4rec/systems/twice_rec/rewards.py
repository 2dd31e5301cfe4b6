"""Rewards of a recommendation: the released one, one with its faults mended, and one without collaborative filtering.

Each is a list of parts, plain functions of rollouts whose row has the `number` of their case. The released reward pays
any title for its popularity: it never compares title and id, never looks whether the item is a candidate, and pays an
empty text. `probes` shows what that comes to. Source: released code for `faithful`; the others are our decision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from reason4rec.data.sequences import Case
from reason4rec.errors import InputError
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.replies import ANY_TAG, ITEM_ID, THINK, TITLE, inner, read
from reason4rec.training.rollouts import Part, Rollout

FAITHFUL, MENDED, MATCH = "faithful", "mended", "match"
LIST_SOFTMAX, DEBIASED = "list_softmax", "debiased"
LAMBDA, TAU = 3.0, 0.3  # released code; the paper's best lambda
GUIDED_WEIGHT = 4.0  # released code; all other parts weigh 1
OLD_TAG = "sales"  # allowed by the released code, written by nobody
COUNTED_TAGS = (TITLE, ITEM_ID, THINK)
NAMES_TARGET = "names_target"

Scores = Callable[[Sequence[Rollout]], np.ndarray]
Logits = Callable[[Sequence[int], Sequence[str]], Sequence[float]]
"""(pairs,) logits of a collaborative filter for the cases with these numbers and the items with these ids."""


@dataclass(frozen=True)
class Evidence:
    """What rewards are computed from: the cases by number, the ids of each one's candidates, and a filter's logits.

    `logits` scores any items; `candidate_logits` is (cases, candidates), and `item_means` the mean logit of each item
    over users. InputError where they do not fit together, or a case has its target not once among its candidates.
    """

    catalogue: Catalogue
    cases: Sequence[Case]
    candidates: Sequence[Sequence[str]]
    logits: Logits
    candidate_logits: np.ndarray
    item_means: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.cases:
            raise InputError("rewards: there are no cases to compute them from")
        shape = (len(self.cases), len(self.candidates[0]) if self.candidates else 0)
        if len(self.candidates) != len(self.cases) or np.shape(self.candidate_logits) != shape:
            raise InputError(
                f"rewards: {len(self.cases)} cases, {len(self.candidates)} lists of candidates and logits of the shape "
                f"{np.shape(self.candidate_logits)} do not fit together; make them from the same cases"
            )
        for number, (case, listed) in enumerate(zip(self.cases, self.candidates)):
            if len(listed) != shape[1] or len(set(listed)) != len(listed) or case.target.item_id not in listed:
                raise InputError(
                    f"rewards: case {number} needs {shape[1]} different candidates and its target "
                    f"{case.target.item_id} among them; make the lists anew"
                )
            if missing := [one for one in listed if one not in self.catalogue or one not in self.item_means]:
                raise InputError(f"rewards: candidate {missing[0]} of case {number} is unknown; make the lists anew")

    @cached_property
    def places(self) -> list[dict[str, int]]:
        """Of each case the place of each of its candidates in the list."""
        return [{item_id: place for place, item_id in enumerate(listed)} for listed in self.candidates]

    def confidence(self, kind: str) -> np.ndarray:
        """(cases, candidates) how much the filter prefers a candidate, 0 to 1, by kind of `mended`."""
        logits = np.asarray(self.candidate_logits, dtype=float)
        if kind == LIST_SOFTMAX:
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        means = np.array([[self.item_means[one] for one in listed] for listed in self.candidates], dtype=float)
        return sigmoid(logits - means.reshape(logits.shape))


def weights_of(reward: str) -> dict[str, float]:
    """The weight of each part of a reward, by its name; parts that weigh 0 are watched. InputError for no such reward.

    Source of those of `faithful`: released code.
    """
    weights = {
        FAITHFUL: {
            "tag_presence": 1.0,
            "tag_count": 1.0,
            "only_expected_tags": 1.0,
            "item_match": 0.0,
            "confidence": 0.0,
        },
        MENDED: {"well_formed": 1.0, "candidate": 1.0, "item_match": 0.0, "confidence": 0.0},
        MATCH: {"item_match": GUIDED_WEIGHT, "well_formed": 1.0, "candidate": 1.0},
    }
    if reward not in weights:
        raise InputError(f"reward {reward}: there are {', '.join(weights)}")
    guided = {} if reward == MATCH else {"collaborative_guided": GUIDED_WEIGHT}
    return guided | weights[reward] | dict.fromkeys(WATCHED, 0.0)


def parts_of(
    reward: str,
    evidence: Evidence,
    confidence: str = LIST_SOFTMAX,
    lambda_: float = LAMBDA,
    tau: float | None = None,
) -> list[Part]:
    """The parts of a reward: `faithful`, `mended` with a kind of confidence, or `match`.

    `tau` is the least confidence that counts: if None 0.3 in `faithful` as in the released code, and in `mended` what
    chance or popularity alone give, 1 over the number of candidates or 0.5. InputError for another reward or
    confidence.
    """
    weights = weights_of(reward)
    if confidence not in (LIST_SOFTMAX, DEBIASED):
        raise InputError(f"confidence {confidence}: there are {LIST_SOFTMAX}, {DEBIASED}")
    if reward == FAITHFUL:
        scores = _faithful(evidence, lambda_, TAU if tau is None else tau)
    else:
        scores = _mended(evidence, confidence, lambda_, tau)
    scores |= {name: partial(score, evidence) for name, score in WATCHED.items()}
    return [Part(name, weight, scores[name]) for name, weight in weights.items()]


def guided(match: np.ndarray, confidence: np.ndarray, lambda_: float = LAMBDA, tau: float = TAU) -> np.ndarray:
    """1 + lambda x confidence for a match, the confidence else; below tau 1 and 0. Source: paper and released code."""
    counts = np.asarray(confidence) >= tau
    return np.where(match, 1.0 + lambda_ * np.where(counts, confidence, 0.0), np.where(counts, confidence, 0.0))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-logits)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, dtype=float)))


def tag_presence(text: str) -> float:
    """1 where each of the three tags opens and closes somewhere, in any order, else 0. Source: released code."""
    return float(all(inner(text, tag) is not None for tag in COUNTED_TAGS))


def tag_count(text: str) -> float:
    """0.25 for each of the six opening and closing tags that stands exactly once, to 1.5. Source: released code."""
    marks = [mark for tag in COUNTED_TAGS for mark in (f"<{tag}>", f"</{tag}>")]
    return 0.25 * sum(text.count(mark) == 1 for mark in marks)


def only_expected_tags(text: str) -> float:
    """1 where no other tag stands in a text; an empty one has 1. Source: released code."""
    expected = {mark for tag in (*COUNTED_TAGS, OLD_TAG) for mark in (f"<{tag}>", f"</{tag}>")}
    return float(expected.issuperset(ANY_TAG.findall(text)))


def _names_target(evidence: Evidence, rollouts: Sequence[Rollout]) -> np.ndarray:
    """1 where the id that a rollout names is the target, under any title."""
    targets = (evidence.cases[one.row["number"]].target.item_id for one in rollouts)
    return np.array([read(one.text).item_id == target for one, target in zip(rollouts, targets)], dtype=float)


def _outside(evidence: Evidence, rollouts: Sequence[Rollout]) -> np.ndarray:
    """1 where the id that a rollout names is none of the candidates, or it names none."""
    return np.array([read(one.text).item_id not in evidence.places[one.row["number"]] for one in rollouts], dtype=float)


def _of_another(evidence: Evidence, rollouts: Sequence[Rollout]) -> np.ndarray:
    """1 where the title that a rollout names is not that of the id it names, or it names none."""
    said = [read(one.text) for one in rollouts]
    return np.array(
        [not evidence.catalogue.is_title_of(one.title or "", one.item_id or "") for one in said], dtype=float
    )


WATCHED = {NAMES_TARGET: _names_target, "outside_the_list": _outside, "title_of_another": _of_another}
"""Parts that weigh nothing and mean the same under each reward: what a recommendation names."""


def _faithful(evidence: Evidence, lambda_: float, tau: float) -> dict[str, Scores]:
    """The released reward: matched by the id, and guided by the title, whether they agree or not.

    A title counts where it is that of an item character by character; of several items the last.
    """

    def confidence(rollouts: Sequence[Rollout]) -> np.ndarray:
        titles = [inner(one.text, TITLE) for one in rollouts]
        ids = [None if title is None else evidence.catalogue.id_of_exact(title) for title in titles]
        asked = [place for place, item_id in enumerate(ids) if item_id is not None]
        numbers = [rollouts[place].row["number"] for place in asked]
        found = np.zeros(len(rollouts))
        if asked:
            found[asked] = sigmoid(np.asarray(evidence.logits(numbers, [ids[place] for place in asked])))
        return found

    def match(rollouts: Sequence[Rollout]) -> np.ndarray:
        targets = (evidence.cases[one.row["number"]].target.item_id for one in rollouts)
        return np.array([inner(one.text, ITEM_ID) == target for one, target in zip(rollouts, targets)], dtype=float)

    confidence = _once(confidence)
    return {
        "collaborative_guided": lambda some: guided(match(some), confidence(some), lambda_, tau),
        "item_match": match,
        "confidence": confidence,
        "tag_presence": _each(tag_presence),
        "tag_count": _each(tag_count),
        "only_expected_tags": _each(only_expected_tags),
    }


def _mended(evidence: Evidence, kind: str, lambda_: float, tau: float | None) -> dict[str, Scores]:
    """The parts of `mended` and of `match`: an item counts by its id, as a candidate, and under its own title.

    `confidence` is that of a candidate and 0 else; `candidate` is 1 for one; `well_formed` is 1 for an answer in the
    form that is asked for, which an empty text is not.
    """
    known = evidence.confidence(kind)
    least = tau if tau is not None else 1.0 / known.shape[1] if kind == LIST_SOFTMAX else 0.5

    def named(rollouts: Sequence[Rollout]) -> list[int | None]:
        return [_named(evidence, one) for one in rollouts]

    def candidate(rollouts: Sequence[Rollout]) -> np.ndarray:
        return np.array([place is not None for place in named(rollouts)], dtype=float)

    def match(rollouts: Sequence[Rollout]) -> np.ndarray:
        numbers = [one.row["number"] for one in rollouts]
        targets = (evidence.places[number][evidence.cases[number].target.item_id] for number in numbers)
        return np.array([place == target for place, target in zip(named(rollouts), targets)], dtype=float)

    def confidence(rollouts: Sequence[Rollout]) -> np.ndarray:
        pairs = zip(rollouts, named(rollouts))
        return np.array([0.0 if place is None else known[one.row["number"], place] for one, place in pairs])

    named = _once(named)
    return {
        "collaborative_guided": lambda some: guided(match(some), confidence(some), lambda_, least),
        "item_match": match,
        "confidence": confidence,
        "candidate": candidate,
        "well_formed": _each(lambda text: float(read(text).well_formed)),
    }


def _named(evidence: Evidence, rollout: Rollout) -> int | None:
    """The place in its list of the candidate that a rollout recommends under its own title, None where it does not."""
    said = read(rollout.text)
    if said.title is None or not evidence.catalogue.is_title_of(said.title, said.item_id or ""):
        return None
    return evidence.places[rollout.row["number"]].get(said.item_id)


def _each(score: Callable[[str], float]) -> Scores:
    return lambda rollouts: np.array([score(one.text) for one in rollouts], dtype=float)


def _once(scores: Callable) -> Callable:
    """A function of rollouts that several parts ask for, computed once for the same ones in a row."""
    last: list = []

    def remembered(rollouts: Sequence[Rollout]) -> object:
        same = last and len(last[0]) == len(rollouts) and all(a is b for a, b in zip(last[0], rollouts))
        if not same:
            last[:] = [list(rollouts), scores(rollouts)]
        return last[1]

    return remembered
