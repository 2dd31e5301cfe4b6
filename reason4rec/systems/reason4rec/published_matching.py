"""Which review a published summary is of: the texts of a title's summaries against those of its items' reviews.

By TF-IDF cosine, one review for one summary of a title, and only where no other review of the title comes near. Our
decision; `docs/data.md` says how often it is right.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from reason4rec.data.schema import KEYS
from reason4rec.errors import InputError
from reason4rec.run.progress import counted
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARY
from reason4rec.systems.reason4rec.prompts import SUMMARY_PARTS
from reason4rec.systems.reason4rec.published import LoggedPrompt, as_title

LEAST = 0.16  # cosine of a summary and its review
TIMES_SECOND = 1.35  # how much nearer it is than the second-best review
HEADING = re.compile(rf"^(?:{'|'.join(SUMMARY_PARTS)}):", re.MULTILINE)
COLUMNS = (*KEYS, "title", TEACHER_SUMMARY, "similarity", "second")


def summaries_in(prompts: Iterable[LoggedPrompt]) -> dict[str, list[str]]:
    """The distinct summaries in the histories of prompts by the titles of their items, in the order of the log."""
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for prompt in prompts:
        for title, summary in (*prompt.user, *prompt.item):
            found[title][summary] = None
    return {title: list(summaries) for title, summaries in found.items()}


def matched(summaries: Mapping[str, list[str]], reviews: pd.DataFrame) -> pd.DataFrame:
    """The summaries that have a review: its keys, `title`, `review_summary`, `similarity` to it and to the `second`.

    `summaries` are those of each title, `reviews` those that are looked among, of every split. Similarities are
    cosines, 0 to 1. InputError where no title is that of an item.
    """
    # By name, so that the other steps do not load them.
    from scipy.optimize import linear_sum_assignment
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows = reviews.groupby(reviews["title"].map(as_title)).indices
    known = [title for title in summaries if title in rows]
    if not known:
        first = next(iter(summaries), "")
        raise InputError(
            f"--tables: none of {len(summaries):,} titles in the logs, such as {first[:60]!r}, is that of an item of "
            f"this dataset; make it from the logs' reviews, with --metadata"
        )
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    of_reviews = vectorizer.fit_transform(reviews["reviews"])
    found = []
    for title in counted(known, "matching summaries", "title"):
        texts = vectorizer.transform([HEADING.sub("", summary) for summary in summaries[title]])
        alike = (texts @ of_reviews[rows[title]].T).toarray()
        for summary, review in zip(*linear_sum_assignment(alike, maximize=True)):
            best, second = alike[summary, review], np.delete(alike[summary], review).max(initial=0.0)
            if clear(best, second):
                keys = reviews.iloc[rows[title][review]][list(KEYS)]
                found.append((*keys, title, summaries[title][summary], round(best, 3), round(second, 3)))
    return pd.DataFrame(found, columns=list(COLUMNS))


def clear(similarity: float, second: float) -> bool:
    """Whether a match counts: near enough, and nearer than the second-best review."""
    return similarity >= LEAST and similarity >= TIMES_SECOND * second
