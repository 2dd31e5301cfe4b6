"""How good written rationales are: checks without a reference, and a judge's grade of 0 to 3.

The checks compare words by their stems and know no meaning. Which there are is our decision; the scale of the grade is
the paper's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd

from reason4rec.data.sequences import Case
from reason4rec.evaluation.tables import aligned
from reason4rec.systems.reason4rec.reason_checks import other_rows
from reason4rec.systems.reason4rec.reason_scores import words
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.content import content_stems, content_words, stem
from reason4rec.systems.twice_rec.hindsight import hindsight, weak_link
from reason4rec.systems.twice_rec.prompts import CUT, FIELDS, short

OF_ITEM = ("description", "details")  # the fields that are the item's own, and not of a user's review
NAMED_BY = 2  # words of a title by which a rationale names an item; all of them where a title has fewer
MOST_GRADE = 3
GRADE = re.compile(
    r"\bscore\b[\s*_:=]*(\d++(?:\.\d++)?+)(?!\s*(?:-|–|to|or|,)\s*\d)(?:\s*(?:/|out of)\s*(\d+))?", re.IGNORECASE
)

Texts = Callable[[str], frozenset[str]]
"""The stems of the words of content of all that prompts show of an item, by its id."""


def grade(reply: str) -> float:
    """The grade of 0, 1, 2 or 3 in any reply of a judge; NaN where it has none or several, or another scale."""
    found = set(GRADE.findall(reply))
    if len(found) != 1:
        return np.nan
    ((given, scale),) = found
    usable = float(given) in range(MOST_GRADE + 1) and scale in ("", str(MOST_GRADE))
    return float(given) if usable else np.nan


def checks(
    rationales: Sequence[str],
    cases: Sequence[Case],
    candidates: Sequence[Sequence[str]],
    recommended: Sequence[str | None],
    catalogue: Catalogue,
    seed: int,
    fields: Sequence[str] = FIELDS,
    cut: int = CUT,
) -> pd.DataFrame:
    """(rationales, checks) what each rationale shows; shares are 0 to 1, of a single row often 0 or 1.

    `fields` and `cut` say what the prompts showed of an item. `candidates` has the ids of each case, and `recommended`
    the id that each rationale is for, None where there is no such item. `words`; `empty`; `names_history`: it has two
    words of content of the title of an item in the history that the recommended title lacks; `shared_with_history`:
    different words of content that stand in the history's texts too; `faithfulness`: share of its words of content that
    stand in the texts of history or candidates, NaN where it has none; the two `_by_chance` are the same with the
    history and candidates of another row, drawn with the seed, and only what lies above them says something.
    `hindsight`, `weak_link`: it has such a phrase; `duplicate`: an earlier one has the same words.
    """
    texts = _texts_of(catalogue, fields, cut)
    other = other_rows(len(rationales), seed)
    said = [content_words(one) for one in rationales]
    past = [_stems_of_history(case, texts, cut if "review" in fields else 0) for case in cases]
    shown = [past[k].union(*(texts(one) for one in listed)) for k, listed in enumerate(candidates)]
    titles = [[content_stems(catalogue[event.item_id].title) for event in case.history] for case in cases]
    own = [content_stems(catalogue[one].title) if one in catalogue else set() for one in recommended]
    stems = [{stem(word) for word in row} for row in said]
    rows = range(len(rationales))
    seen: set[tuple[str, ...]] = set()
    keys = [tuple(words(one)) for one in rationales]
    return pd.DataFrame(
        {
            "words": [float(len(one.split())) for one in rationales],
            "empty": [float(not one.strip()) for one in rationales],
            "names_history": [_names(stems[k], titles[k], own[k]) for k in rows],
            "names_history_by_chance": [_names(stems[k], titles[other[k]], own[k]) for k in rows],
            "shared_with_history": [float(len(stems[k] & past[k])) for k in rows],
            "faithfulness": [_share(said[k], shown[k]) for k in rows],
            "faithfulness_by_chance": [_share(said[k], shown[other[k]]) for k in rows],
            "hindsight": [float(bool(hindsight(one))) for one in rationales],
            "weak_link": [float(bool(weak_link(one))) for one in rationales],
            "duplicate": [float(key in seen or seen.add(key) is not None) for key in keys],
        }
    )


def as_table(found: Mapping[str, pd.DataFrame]) -> str:
    """The means of checks as text: a row for each check, a column for each writer of rationales."""
    names = list(next(iter(found.values())))
    rows = [["check", "", *found], ["rationales", "", *(f"{len(one):,}" for one in found.values())]]
    rows += [[name, "", *(f"{one[name].mean():.3f}" for one in found.values())] for name in names]
    return aligned(rows)


def _texts_of(catalogue: Catalogue, fields: Sequence[str], cut: int) -> Texts:
    @cache
    def texts(item_id: str) -> frozenset[str]:
        item = catalogue[item_id]
        about = [short(getattr(item, name), cut) for name in OF_ITEM if name in fields]
        return frozenset(content_stems("\n".join([item.title, *about])))

    return texts


def _stems_of_history(case: Case, texts: Texts, cut: int) -> set[str]:
    """The stems of all that prompts show of a history; no reviews where `cut` is 0."""
    reviews = (content_stems(short(event.review, cut)) for event in case.history if cut)
    return set().union(*(texts(event.item_id) for event in case.history), *reviews)


def _names(stems: set[str], titles: Sequence[set[str]], own: set[str]) -> float:
    """1 where words name an item by its title and not only by what it shares with the recommended one, else 0."""
    telling = (title - own for title in titles)
    return float(any(title and len(title & stems) >= min(NAMED_BY, len(title)) for title in telling))


def _share(said: Sequence[str], shown: set[str]) -> float:
    return float(np.mean([stem(word) in shown for word in said])) if said else np.nan
