"""What the stand-in teacher answers: rules that summarise a review, argue from summaries to a verdict, and judge that.

The rules know the words of the demo's world and a small general vocabulary of opinion, so that they say something
about any English review; they are no substitute for ChatGPT on real data. Our decision: the paper uses ChatGPT.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from reason4rec.demo.world import ASPECTS, BAD_WORDS, CLOSINGS, GOOD_WORDS
from reason4rec.systems.reason4rec.prompts import SUMMARY_PARTS

GOOD = set(GOOD_WORDS) | set(
    "loved love shines good great best amazing awesome fantastic perfect fun enjoy enjoyed favorite favourite nice "
    "solid classic impressive fresh catchy powerful pleasant comfortable delicious friendly sturdy".split()
)
BAD = set(BAD_WORDS) | set(
    "flat suffers wrong stand bad worst terrible horrible disappointing disappointed hate hated lame mediocre annoying "
    "bland repetitive overrated waste cheap broken slow lacking filler generic uninspired noisy rude tasteless".split()
)
WANT = re.compile(
    r"\b(for me|i always|i want|what i want|to me than|i care|i buy|my taste|i look for|i prefer|i am a fan|i'm a fan"
    r"|i listen|i need|a fan of)\b",
    re.IGNORECASE,
)
OPINION = GOOD | BAD
STOP = set(
    "the a an and or but of to in on at is are was were be been it its this that these those i my me you your he she "
    "they we his her their them our not no very really so too as for with from by all more most much many some any one "
    "two if than then there here just only also even still about into over out up down who which what when how like "
    "have has had do does did will would can could should may might get got make makes made thing things way lot bit "
    "time stuff job such well every each other both because while after before never ever again".split()
)
CLAUSES = re.compile(r"[.!?;\n]+|\bbut\b|\bwhile\b|\balthough\b|\bhowever\b|,(?=\s+the\b)", re.IGNORECASE)
WORD = re.compile(r"[a-z][a-z'-]+")

VERDICTS = {
    2: "The user will love it.",
    1: "The user will probably like it.",
    0: "The user will find it average.",
    -1: "The user will probably be disappointed.",
    -2: "The user will dislike it.",
}
OPENINGS = (
    "This user looks for {wanted}.",
    "What matters to this user is {wanted}.",
    "The user keeps coming back to {wanted}.",
)
ITEM_SENTENCES = (
    "Other users praise {title} for {strong} and criticise its {weak}.",
    "In {title}, others like the {strong} and complain about the {weak}.",
)
FOUND = "So {found}."
PRAISED, CRITICISED, UNMENTIONED = "the {a} is praised", "the {a} is criticised", "the {a} goes unmentioned"
KNOWN_FOR = ("{title} is known for {strong}.", "Of {title}, others praise the {strong}.")
FITS = "So it has what this user looks for: {met}."
NOTHING = "nothing in particular"
SIGNS = ("a bad", "no clear", "a good")


def summarize(review: str) -> str:
    """Three lines: positive aspects, negative aspects and user preference elements of any review text."""
    good, bad, wanted = [], [], []
    for clause in CLAUSES.split(review):
        words = WORD.findall(clause.lower())
        polarity = sum(w in GOOD for w in words) - sum(w in BAD for w in words)
        if WANT.search(clause):
            wanted += _aspects(words)
        elif polarity > 0:
            good += _aspects(words)
        elif polarity < 0:
            bad += _aspects(words)
    good = [word for word in good if word not in bad]
    return (
        f"Positive Aspects: {_keywords(good)}\n"
        f"Negative Aspects: {_keywords(bad)}\n"
        f"User Preference Elements: {_keywords(wanted or (good if not _is_of_demo(good + bad) else []))}"
    )


def reason(
    title: str,
    user_history: str,
    item_history: str,
    rng: np.random.Generator,
    rating: float | None = None,
    slip: float = 0.0,
) -> str:
    """One paragraph from the two histories (texts with summary lines) to a verdict on `title`.

    With a `rating` (1 to 5) the verdict follows it. With probability `slip` an unhinted verdict is one step off, as
    a teacher that does not know the outcome errs. `rng` chooses among the wordings.
    """
    wanted = _top(_listed("User Preference Elements", user_history))
    praised, criticised = (_listed(part, item_history) for part in ("Positive Aspects", "Negative Aspects"))
    strong = _top(Counter({a: n for a, n in praised.items() if n > criticised[a]}))
    weak = _top(Counter({a: n for a, n in criticised.items() if n >= praised[a]}))
    met, missed = [a for a in wanted if a in strong], [a for a in wanted if a in weak]
    if rating is not None:
        verdict = round(rating) - 3
    else:
        verdict = len(met) - len(missed)
        if rng.random() < slip:
            verdict += int(rng.choice([-1, 1]))
    found = [(PRAISED if a in met else CRITICISED if a in missed else UNMENTIONED).format(a=a) for a in wanted]
    opening, item_sentence = rng.choice(OPENINGS), rng.choice(ITEM_SENTENCES)
    sentences = [
        opening.format(wanted=_enumerate(wanted)),
        item_sentence.format(title=title, strong=_enumerate(strong), weak=_enumerate(weak)),
        *([FOUND.format(found=_enumerate(found))] if found else []),
        VERDICTS[max(-2, min(2, verdict))],
    ]
    return " ".join(sentences)


def rationale(
    history: Sequence[Mapping[str, str]], item: Mapping[str, str], rng: np.random.Generator
) -> tuple[str, bool]:
    """Why an item suits a user by the user's earlier ones, and whether anything speaks for it; both by their fields.

    What the user looks for is what the reviews say that it is, and after that what the items are known for.
    """
    told, known = Counter(), Counter()
    for one in history:
        told.update(_listed("User Preference Elements", summarize(one.get("review", ""))))
        known.update(_known_for(one))
    wanted = _top(told + Counter({a: 1 for a, n in known.items() if n > 1}), most=3) or _top(known, most=3)
    strong = _known_for(item)
    met = [a for a in wanted if a in strong]
    sentences = [
        str(rng.choice(OPENINGS)).format(wanted=_enumerate(wanted)),
        str(rng.choice(KNOWN_FOR)).format(title=item["title"], strong=_enumerate(strong)),
        FITS.format(met=_enumerate(met)),
    ]
    return " ".join(sentences), bool(met)


def judge(review: str, reason: str) -> str:
    """Two lines on how well a reason foresaw a review: why, and a score of 0 to 100.

    Half of the score is the share of the review's aspects that the reason names (all, where the review names none),
    half how near the two verdicts are.
    """
    aspects = set().union(*(_listed(part, summarize(review)) for part in SUMMARY_PARTS))
    named = aspects & set(WORD.findall(reason.lower()))
    told = next((step for step, words in VERDICTS.items() if reason.endswith(words)), _polarity(reason))
    expected = int(np.sign(told))
    shown = next((int(np.sign(r - 3)) for r, ends in CLOSINGS.items() if review.endswith(ends)), _polarity(review))
    score = 50 * (len(named) / len(aspects) if aspects else 1) + 50 * (1 - abs(expected - shown) / 2)
    verdicts = f"it expects {SIGNS[expected + 1]} verdict where the review shows {SIGNS[shown + 1]} one"
    return f"Why: The reason names {len(named)} of {len(aspects)} aspects, and {verdicts}.\nScore: {round(score)}"


def grade(history: Sequence[Mapping[str, str]], item: Mapping[str, str], reasons: str) -> str:
    """Two lines on how good the reasons for an item are: why, and a score of 0 to 3.

    A point each where they name the item by its title, an aspect that it is known for, and one that an item of the
    history is known for.
    """
    named = set(WORD.findall(reasons.lower()))
    points = {
        "the item": item["title"].lower() in reasons.lower(),
        "what it is known for": bool(named.intersection(_known_for(item))),
        "what the user's items are known for": bool(named.intersection(a for one in history for a in _known_for(one))),
    }
    there = [name for name, has in points.items() if has]
    return f"Why: The reasons name {_enumerate(there)}.\nScore: {len(there)}"


def _known_for(item: Mapping[str, str]) -> list[str]:
    """The aspects in the description of an item."""
    return [word for word in WORD.findall(item.get("description", "").lower()) if word in ASPECTS]


def _polarity(text: str) -> int:
    """1, 0 or -1: whether a text has more good or more bad words."""
    words = WORD.findall(text.lower())
    return int(np.sign(sum(w in GOOD for w in words) - sum(w in BAD for w in words)))


def _aspects(words: list[str]) -> list[str]:
    """The aspects that a clause names: the world's own where it has any, else the nouns beside its opinion words."""
    known = [w for w in words if w in ASPECTS]
    if known:
        return known
    beside = []
    for k, word in enumerate(words):
        if word in OPINION:
            after = [w for w in words[k + 1 : k + 3] if w not in STOP and w not in OPINION]
            before = [w for w in words[max(0, k - 3) : k] if w not in STOP and w not in OPINION]
            beside += after[:1] or before[-1:]
    return beside


def _is_of_demo(aspects: list[str]) -> bool:
    return all(a in ASPECTS for a in aspects)


def _in_order(aspects: Iterable[str]) -> list[str]:
    """Distinct aspects, the world's own in its order, others as they came."""
    distinct = list(dict.fromkeys(aspects))
    return [a for a in ASPECTS if a in distinct] + [a for a in distinct if a not in ASPECTS]


def _keywords(aspects: list[str]) -> str:
    return ", ".join(_in_order(aspects)[:6]) or "None"


def _listed(part: str, text: str) -> Counter:
    """How many summaries of a history list each keyword under a part."""
    counts: Counter = Counter()
    for line in re.findall(rf"^{part}:(.*)$", text, re.MULTILINE):
        counts.update({k.strip().lower() for k in line.split(",")} - {"none", ""})
    return counts


def _top(counts: Counter, most: int = 4) -> list[str]:
    ranked = sorted(counts, key=lambda a: (-counts[a], a))[:most]
    return _in_order(ranked)


def _enumerate(aspects: list[str]) -> str:
    if not aspects:
        return NOTHING
    return aspects[0] if len(aspects) == 1 else f"{', '.join(aspects[:-1])} and {aspects[-1]}"
