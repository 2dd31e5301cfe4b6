"""How good summaries are, against the reviews that they are of and the published texts on the same reviews.

Each score stands beside its chance level, the same score against the review or the published text of another title:
texts on one kind of product share many words. Which scores there are is our decision; the paper has none of summaries.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.schema import KEYS
from reason4rec.errors import InputError
from reason4rec.evaluation import statistics
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.base import resolve_device
from reason4rec.llm.options import Model, Servers
from reason4rec.llm.prompt import Prompt
from reason4rec.run.files import adapter, read_pickle
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARY
from reason4rec.systems.reason4rec.prompts import as_summary, is_summary
from reason4rec.systems.reason4rec.published_files import tables_of
from reason4rec.systems.reason4rec.published_matching import HEADING
from reason4rec.systems.reason4rec.reason_checks import aspects, stems
from reason4rec.systems.reason4rec.reason_scores import bertscore, rouge

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel
    from reason4rec.systems.reason4rec.step import ExpertStep

PUBLISHED, TRAINED, UNTRAINED = OURS = ("published", "Summarizer", "base model")
AGAINST = {"review": "reviews", "published text": TEACHER_SUMMARY}


def untrained(step: "ExpertStep", name: str) -> "LanguageModel | None":
    """The base model of an expert without its adapter, in this process; None where the expert is at servers."""
    if step[Servers].address:
        return None
    from reason4rec.llm.local import load

    settings, model = adapter_settings(step.path(adapter(name))), step[Model]
    device = resolve_device(model.device)
    at_once = model.prompts_at_once
    return step.counted(load(settings["base_model"], None, device, settings["max_length"], at_once, step.cache))


def named_texts(words: Sequence[str], rows: pd.DataFrame) -> dict[str, list[str]]:
    """The summaries of `--summaries NAME=FILE` for the same reviews, by name, in the order of the rows.

    A file is a table of reviews with `review_summary`, as the teacher's. InputError names what is wrong with one.
    """
    found: dict[str, list[str]] = {}
    for name, path in tables_of(words).items():
        if name in (*OURS, *rows):
            raise InputError(f"--summaries {name}={path}: {name} is the name of another text or column; choose another")
        columns = (*KEYS, TEACHER_SUMMARY)
        table = read_pickle(path, columns)
        if not isinstance(table, pd.DataFrame) or (missing := [one for one in columns if one not in table]):
            raise InputError(f"{path}: no table of reviews with {', '.join(columns)}")
        keyed = table.drop_duplicates(list(KEYS)).set_index(list(KEYS))[TEACHER_SUMMARY]
        texts = keyed.reindex(pd.MultiIndex.from_frame(rows[list(KEYS)]))
        if missing := int(texts.isna().sum()):
            raise InputError(f"{path}: has no summary of {missing:,} of the {len(rows):,} reviews set aside")
        found[name] = texts.tolist()
    return found


def check_set_aside(prompts: Sequence[Prompt], learned: Sequence[dict], path: Path) -> None:
    """InputError if the Summarizer's training rows, read from `path`, hold a review that is to be scored."""
    asked = {row["messages"][0]["content"] for row in learned}
    if both := sum(prompt.text in asked for prompt in prompts):
        raise InputError(
            f"{path}: holds {both:,} of the {len(prompts):,} reviews set aside, so the Summarizer learned them; run "
            f"steps 0/4, 1/2 and 1/3 again"
        )


def others(titles: Sequence[str], seed: int) -> np.ndarray:
    """For each row the number of another row with another title, drawn at random; InputError if all have one title."""
    titles, rng = np.asarray(titles, dtype=object), np.random.default_rng(seed)
    if len(set(titles)) < 2:
        raise InputError("the texts set aside are all of one title: import with a larger --set_aside")
    return np.array([rng.choice(np.flatnonzero(titles != title)) for title in titles])


def scores(
    texts: Sequence[str], rows: pd.DataFrame, other: np.ndarray, encoder: Path | None, device: str, batch: int
) -> pd.DataFrame:
    """The scores of summaries, a row for each: columns (score, against, `real` or `chance`).

    `three_parts` is 1 or 0. `aspects` is the share of a summary's keywords of which all words stand in the review, as
    stems, `aspect_words` the share of their words; both are NaN where a text names none. `rouge_1`, `rouge_l` and, with
    an `encoder`, `bertscore` are F1 against the review and the published text, without the headings of the parts.
    """
    summaries = list(map(as_summary, texts))
    found = {("three_parts", "", "real"): [float(is_summary(text)) for text in summaries]}
    # The headings are those of all summaries.
    said = [HEADING.sub("", text) for text in summaries]
    for against, column in AGAINST.items():
        references = [HEADING.sub("", text) for text in rows[column]]
        for level, compared in (("real", references), ("chance", [references[k] for k in other])):
            named = {}
            if against == "review":
                shares = [in_review(summary, review) for summary, review in zip(summaries, compared)]
                named["aspects"], named["aspect_words"] = map(list, zip(*shares))
            scored = rouge(said, compared)
            named |= {name: scored[name] for name in ("rouge_1", "rouge_l")}
            if encoder:
                named["bertscore"] = bertscore(said, compared, encoder, None, device, batch)["bertscore"]
            found |= {(name, against, level): values for name, values in named.items()}
    return pd.DataFrame(found)


def in_review(summary: str, review: str) -> tuple[float, float]:
    """The share of a summary's aspects that stand whole in a review, and that of their words; NaN without aspects."""
    named, there = [set(aspect) for aspect in aspects(summary)], stems(review)
    words = [word for aspect in named for word in aspect]
    if not words:
        return np.nan, np.nan
    return float(np.mean([aspect <= there for aspect in named])), float(np.mean([word in there for word in words]))


def table(found: dict[str, pd.DataFrame], titles: Sequence[str], seed: int) -> list[dict]:
    """A row for each text and score: `texts`, `score`, `against`, `value`, `low`, `high`, `n`, and `chance` with ends.

    Intervals of 95% draw titles with all their rows, since titles were set aside. n counts the rows with the score.
    """
    rows = []
    for name, scored in found.items():
        for score, against, _ in [column for column in scored if column[2] == "real"]:
            row = {"texts": name, "score": score, "against": against}
            row |= statistics.mean(scored[score, against, "real"].to_numpy(), titles, seed)
            if (score, against, "chance") in scored:
                chance = statistics.mean(scored[score, against, "chance"].to_numpy(), titles, seed)
                row |= {"chance": chance["value"], "chance_low": chance["low"], "chance_high": chance["high"]}
            rows.append(row)
    return rows


def as_text(rows: list[dict]) -> str:
    """The table for a terminal."""
    width = max(len(row["texts"]) for row in rows)
    lines = [f"{'texts':<{width}}  {'score':<12}  {'against':<14}  {'n':>5}  {'value':>6}  95% interval      chance"]
    for row in rows:
        value = "     -" if row["value"] is None else f"{row['value']:.4f}"
        interval = "-" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
        chance = "-" if row.get("chance") is None else f"{row['chance']:.4f}"
        name = f"{row['texts']:<{width}}  {row['score'].replace('_', ' '):<12}  {row['against']:<14}"
        lines.append(f"{name}  {row['n']:>5,}  {value}  {interval:<16}  {chance}")
    return "\n".join(lines)
