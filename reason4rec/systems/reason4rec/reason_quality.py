"""How good the Reasoner's reasons are: scores against the real reviews, a judge's score, and checks without reference.

Scores against a review tell how near the words or the meaning are; a review says much that no reason can know, so
compare models on the same rows and never read a score alone. A row whose review is empty has no reference: it is left
out of these scores and stays in the checks. Which scores and checks there are is our decision; the paper reports
BLEURT and GPTScore.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unicodedata import category

import numpy as np
import pandas as pd
from tqdm import tqdm

from reason4rec.data.history import History
from reason4rec.errors import InputError
from reason4rec.llm.base import resolve_device
from reason4rec.systems.reason4rec.artifacts import REASON, SUMMARY
from reason4rec.systems.reason4rec.options import Model, Quality
from reason4rec.systems.reason4rec.prompts import SUMMARY_PARTS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from reason4rec.systems.reason4rec.step import ExpertStep


NEEDS = {
    "bertscore": "an encoder in the form of Hugging Face, such as roberta-large (with --bertscore_layer 17)",
    "bleurt": "a BLEURT checkpoint in the form of Hugging Face with one output, such as Elron/bleurt-base-512",
}
RESAMPLES = 9_999
LONGEST_TEXT = 512  # tokens that an encoder reads of a text; BERT's limit
LISTED = 0.05  # of the reviews that name a keyword, the least share that must list it
COUNTED = 20_000  # reviews
LONGEST_ASPECT = 5  # words of a reason that are looked up together; longer keywords are clauses
NEAR = 0.8  # share of common word trigrams (Jaccard) from which on two reasons are nearly the same
# Words of the task and of "None mentioned", which no keyword is about.
TASK_WORDS = set("user users item items review reviews reviewer rating ratings mentioned stated specified".split())
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
JUDGED = re.compile(
    r"\bscore\b(?:\s*\([^)]*\))?[\s*_:=]*(\d++(?:\.\d++)?+)(?!\s*(?:-|–|to)\s*\d)(?:\s*(?:/|out of)\s*(\d+))?", re.I
)

_START = r"(?<![\w.,$/])"
_DIGITS = r"(?:10|\d)(?:\.\d+)?(?: 1/2|½)?"
_NAMED = r"(?:one|two|three|four|five|ten)(?:[ -]and[ -]a[ -]half)?"
_NUMBER = rf"{_START}(?:{_DIGITS}|{_NAMED})"
# What may follow a rating, so that "give it 5." is one and "give it 5 listens" and "rates the two singers" are none.
_RATED = (
    rf"{_START}(?:{_DIGITS}(?=\s*(?:$|[^\w\s'’-]|(?:out|stars?|for|because|and|since|as|to|but|or|given|overall)\b))"
    rf"|(?<!or )(?:a one|two|three|four|five|ten)(?=\s*(?:$|[.,;:!?)\"]|(?:out|stars?)\b)))"
)
_FEW_WORDS = r"(?:[^\w.!?\n]+\w+){0,4}?[^\w.!?\n]+"
RATING = re.compile(
    "|".join(
        (
            rf"{_NUMBER}[ -]*stars?\b(?!-)",
            r"[★⭐]",
            rf"{_NUMBER}\s*(?:out of|/)\s*(?:5|five|10|ten)\b(?!/|\s+(?:songs|tracks|records|times|people|users)\b)",
            rf"\brat(?:e[sd]?|ings?)\b{_FEW_WORDS}{_RATED}",
            rf"\b(?:giv(?:e[sn]?|ing)|gave|scor(?:e[sd]?|ing)|deserv(?:e[sd]?|ing))\b{_FEW_WORDS}{_RATED}",
            rf"{_START}{_DIGITS}[ -]rating\b",
            rf"{_START}[1-5]\.[05](?!\w|\.\d|[ -](?:minutes?|hours?|inch|inches|mm|cm|gb|years?|version)\b)",
            r"\bperfect (?:5|five|10|ten)\b",
            r"\b(?:top|highest|maximum|full|perfect|lowest)(?: possible)? (?:rating|marks)\b",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)


def words(text: str) -> list[str]:
    """The words of a text of any script in lower case; hyphens separate words, apostrophes do not."""
    return WORD.findall(text.lower())


def asked_scores(scores: Sequence[str], folders: dict[str, Path | None]) -> list[str]:
    """The scores to compute: those named, and BERTScore and BLEURT where a folder is given.

    InputError if one of these two is named without a folder of a model.
    """
    for score, what in NEEDS.items():
        folder = folders[score]
        if (score in scores and folder is None) or (folder and not (folder / "config.json").is_file()):
            raise InputError(
                f"{f'--{score} {folder}: no config.json there' if folder else f'--scores {score}: no --{score} FOLDER'}"
                f"; it needs a folder with {what}, fetched from huggingface.co to this machine; "
                f"{', '.join(NO_DOWNLOAD)} need no download"
            )
    return list(dict.fromkeys([*scores, *(score for score, folder in folders.items() if folder)]))


def scores_of(step: "ExpertStep") -> list[str]:
    """The scores against the reviews that a step computes."""
    options = step[Quality]
    scores = list(NO_DOWNLOAD) if options.scores is None else list(options.scores)
    known = (*NO_DOWNLOAD, *NEEDS)
    for score in scores:
        if score not in known:
            raise InputError(f"--scores {score}: no such score; there are {', '.join(known)}")
    return asked_scores(scores, {"bertscore": options.bertscore, "bleurt": options.bleurt})


def against_reviews(step: "ExpertStep", rows: pd.DataFrame) -> pd.DataFrame:
    """The scores of reasons against the reviews in the same rows, a column each."""
    options = step[Quality]
    pairs, scores = (rows[REASON].tolist(), rows["reviews"].tolist()), pd.DataFrame(index=rows.index)
    for name in scores_of(step):
        if name in NEEDS:
            where = resolve_device(step[Model].device), step[Model].prompts_at_once or 32
        if name == "bertscore":
            found = bertscore(*pairs, options.bertscore, options.bertscore_layer, *where)
        elif name == "bleurt":
            found = bleurt(*pairs, options.bleurt, *where)
        else:
            found = NO_DOWNLOAD[name](*pairs)
        scores = scores.assign(**found)
    return scores


def by_itself(
    rows: pd.DataFrame, histories: Sequence[History], summaries: pd.DataFrame, seed: int
) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """What reasons show without a reference, as scores by name, and the texts that explain them."""
    untitled = list(map(without_titles, rows[REASON], rows["title"], histories))
    by_aspects, texts = faithfulness(untitled, histories, vocabulary(summaries, seed), seed)
    texts["rating_words"] = list(map(rating_in_words, untitled))
    leaked = {"rating_in_words": [float(found != "") for found in texts["rating_words"]]}
    return {**by_aspects, **leaked, **checks(rows[REASON], rows["reviews"])}, texts


def rouge(reasons: Sequence[str], reviews: Sequence[str]) -> dict[str, list[float]]:
    """`rouge_1`, `rouge_2`, `rouge_l`: F1 of common words, word pairs and longest common subsequence, 0 to 1.

    By rouge_score without stemming, the default of the field's tools. It reads the letters a to z and digits only.
    """
    with _needed("rouge_score"):
        from rouge_score.rouge_scorer import RougeScorer
    kinds = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}
    scorer = RougeScorer(list(kinds))
    scored = [scorer.score(review, reason) for reason, review in _pairs("ROUGE", reasons, reviews)]
    return {name: [row[kind].fmeasure for row in scored] for kind, name in kinds.items()}


def meteor(reasons: Sequence[str], reviews: Sequence[str]) -> dict[str, list[float]]:
    """`meteor_exact_stem`: METEOR of nltk, 0 to 1, that matches equal words and equal stems.

    Synonyms need the WordNet data, which are a download: without them a score is a little lower than METEOR's.
    """
    with _needed("nltk"):
        from nltk.translate.meteor_score import single_meteor_score
    no_synonyms = SimpleNamespace(synsets=lambda word: [])
    pairs = _pairs("METEOR", reasons, reviews)
    return {
        "meteor_exact_stem": [
            single_meteor_score(words(review), words(reason), wordnet=no_synonyms) for reason, review in pairs
        ]
    }


def chrf(reasons: Sequence[str], reviews: Sequence[str]) -> dict[str, list[float]]:
    """`chrf`: chrF2 of sacrebleu for each row, F of common runs of 1 to 6 characters, here 0 to 1 and not 0 to 100."""
    with _needed("sacrebleu"):
        from sacrebleu.metrics import CHRF
    scorer = CHRF()
    pairs = _pairs("chrF", reasons, reviews)
    return {"chrf": [scorer.sentence_score(reason, [review]).score / 100 for reason, review in pairs]}


NO_DOWNLOAD = {"rouge": rouge, "meteor": meteor, "chrf": chrf}


def bertscore(
    reasons: Sequence[str], reviews: Sequence[str], folder: Path, layer: int | None, device: str, batch_size: int
) -> dict[str, list[float]]:
    """`bertscore_p`, `bertscore_r`, `bertscore`: precision, recall and F1 of greedily matched tokens, at most 1.

    `folder` holds any encoder in the form of Hugging Face; the tokens are compared by the cosines of a hidden `layer`
    (None: the last). No idf weights and no rescaling. A reason without tokens has 0. Same values as bert-score 0.3.13.
    InputError if there is no such encoder or layer. Source: Zhang et al., BERTScore, 2020.
    """
    import torch
    from transformers import AutoModel

    model, tokenizer = _local_model(AutoModel, folder, "--bertscore", device)
    layers = model.config.num_hidden_layers
    layer = layers if layer is None else layer
    if not 1 <= layer <= layers:
        raise InputError(f"--bertscore_layer {layer}: the encoder in {folder} has layers 1 to {layers}")

    @torch.inference_mode()
    def vectors(texts: list[str]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each text the unit vectors of its tokens, and which of them are no special tokens."""
        batch, special = _tokens(tokenizer, model, texts, None)
        hidden = model(**batch, output_hidden_states=True).hidden_states[layer].float()
        hidden = torch.nn.functional.normalize(hidden, dim=-1)
        masks = batch["attention_mask"].bool()
        return [(row[mask], ~marks[mask]) for row, mask, marks in zip(hidden, masks, special)]

    found = []
    for start in tqdm(range(0, len(reasons), batch_size), desc="BERTScore", unit="batch"):
        batch = slice(start, start + batch_size)
        for (reason, in_reason), (review, in_review) in zip(vectors(reasons[batch]), vectors(reviews[batch])):
            if not (in_reason.any() and in_review.any()):
                found.append((0.0, 0.0, 0.0))
                continue
            # A token may be matched to a special one, as in the authors' code; special ones do not count themselves.
            alike = reason @ review.T
            p, r = alike.max(1).values[in_reason].mean().item(), alike.max(0).values[in_review].mean().item()
            found.append((p, r, 2 * p * r / (p + r) if p + r else 0.0))
    return dict(zip(("bertscore_p", "bertscore_r", "bertscore"), map(list, zip(*found))))


def bleurt(
    reasons: Sequence[str], reviews: Sequence[str], folder: Path, device: str, batch_size: int
) -> dict[str, list[float]]:
    """`bleurt`: what a BLEURT checkpoint says of review and reason; about 0 to 1, and it may lie outside.

    `folder` holds a checkpoint in the form of Hugging Face with one output. InputError if it does not. Source:
    Sellam et al., BLEURT, 2020.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    model, tokenizer = _local_model(AutoModelForSequenceClassification, folder, "--bleurt", device)
    if model.config.num_labels != 1:
        raise InputError(f"--bleurt {folder}: a BLEURT checkpoint has one output, this one {model.config.num_labels}")
    found = []
    with torch.inference_mode():
        for start in tqdm(range(0, len(reasons), batch_size), desc="BLEURT", unit="batch"):
            batch = slice(start, start + batch_size)
            inputs, _ = _tokens(tokenizer, model, reviews[batch], reasons[batch])
            found += model(**inputs).logits[:, 0].float().tolist()
    return {"bleurt": found}


def judged_score(reply: str) -> float:
    """The score of 0 to 100 in a judge's reply, NaN where it has none or not one alone (another scale, a range)."""
    found = {(float(score), scale) for score, scale in JUDGED.findall(reply)}
    score, scale = found.pop() if len(found) == 1 else (np.nan, "")
    return score if 0 <= score <= 100 and scale in ("", "100") else np.nan


def aspects(summary: str) -> dict[tuple[str, ...], None]:
    """The keywords in the three lines of a summary, each as the stems of its words, in their order.

    Stop words, digits, single letters and words of the task are taken from both ends; what is empty then, as None is,
    is no aspect.
    """
    found = {}
    for part in SUMMARY_PARTS:
        for line in re.findall(rf"^{part}:(.*)$", summary, re.MULTILINE):
            for keyword in re.split("[,;]", line):
                named = words(keyword)
                telling = [k for k, word in enumerate(named) if _tells(word)]
                if telling:
                    found[tuple(map(_stem, named[telling[0] : telling[-1] + 1]))] = None
    return found


def named_aspects(text: str, known: Collection[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """The aspects of a vocabulary that a text names, each with the words that name it, in their order.

    A keyword is named where the stems of all its words stand side by side with no punctuation between, in any case;
    of two that overlap only the first and, from there, the longest is named.
    """
    found = {}
    for clause in re.split(r"[^\w\s'’-]+", text):
        named = words(clause)
        stems = tuple(map(_stem, named))
        start = 0
        while start < len(stems):
            sizes = range(min(LONGEST_ASPECT, len(stems) - start), 0, -1)
            size = next((n for n in sizes if stems[start : start + n] in known), 0)
            if size:
                found.setdefault(stems[start : start + size], " ".join(named[start : start + size]))
            start += size or 1
    return found


def vocabulary(train: pd.DataFrame, seed: int) -> set[tuple[str, ...]]:
    """The keywords of all training summaries that are aspects: of the reviews that name one, 5% or more list it.

    Without this rule words that stand in any reason, such as "average" or "look", pass for aspects because a few
    summaries list them: reasons that only copy aspects of their histories then had a faithfulness of 0.54 (0.99 with
    it, on real reviews with summaries and reasons by the stand-in's rules). Counted on at most 20,000 reviews, drawn
    with `seed`; a keyword that none of them names stays. Our decision.
    """
    keywords = {aspect for summary in train[SUMMARY].unique() for aspect in aspects(summary)}
    sample = train.sample(n=min(len(train), COUNTED), random_state=seed)
    listed = Counter(phrase for summary in sample[SUMMARY] for phrase in _phrases(summary))
    reviews = tqdm(sample["reviews"], desc="aspects in reviews", unit="review")
    named = Counter(aspect for review in reviews for aspect in named_aspects(review, keywords))
    return {aspect for aspect in keywords if listed[aspect] >= LISTED * named[aspect]}


def faithfulness(
    reasons: Sequence[str], histories: Sequence[History], known: Collection[tuple[str, ...]], seed: int
) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """Whether reasons speak of what they were shown: scores of each row, and the aspects themselves for a person.

    `aspects_named` counts the aspects of the vocabulary `known` that a reason names. `faithfulness` is the share of
    them, 0 to 1, that stand in a keyword of the row's own histories, NaN where none is named; it is by words, so a
    reason may be faithful and still turn praise into blame. `faithfulness_by_chance` is the same with the histories
    of another row, drawn with `seed`: only what lies above it says something. Take titles out of the reasons first.
    """
    shown = [_shown(history) for history in histories]
    order = np.random.default_rng(seed).permutation(len(reasons))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    named = [named_aspects(reason, known) for reason in reasons]
    by_chance = [_share(a in shown[other[k]] for a in row) if other[k] != k else np.nan for k, row in enumerate(named)]
    return {
        "aspects_named": [float(len(row)) for row in named],
        "faithfulness": [_share(aspect in shown[k] for aspect in row) for k, row in enumerate(named)],
        "faithfulness_by_chance": by_chance,
    }, {
        "named": [", ".join(row.values()) for row in named],
        "not_in_histories": [", ".join(row[a] for a in row if a not in shown[k]) for k, row in enumerate(named)],
    }


def without_titles(reason: str, title: str, history: History) -> str:
    """A reason without the titles of the item and of its histories, where they stand as written: they are given."""
    titles = {title, *(entry.title for entry in (*history.user, *history.item))}
    for known in sorted(titles, key=len, reverse=True):
        if known.strip():
            reason = re.sub(rf"(?<!\w){re.escape(known.strip())}(?!\w)", ";", reason)
    return reason


def rating_in_words(reason: str) -> str:
    """The words of a reason that tell a rating, such as "4.0", "five-star" or "rate it a 5"; empty if none do.

    Wider and narrower than the rule of the reward filter (reason4rec/distill.py), which is the released code's: that
    one misses "5 stars." and takes "a star performer" for a rating.
    """
    found = RATING.search(reason)
    return " ".join(found[0].split()) if found else ""


def checks(reasons: Sequence[str], reviews: Sequence[str]) -> dict[str, list[float]]:
    """What a reason shows by itself; shares are 0 or 1 in a row.

    `words`; `empty`; `unfinished`: it does not end as a sentence does, as where the limit of tokens cut it;
    `repetition`: share of its word trigrams that it had already, 0 to 1; `duplicate`, `near_duplicate`: an earlier row
    has the same words, or (also) at least 0.8 of the trigrams in common (Jaccard); `shared_with_review`: words in the
    longest run that stands in the review too, which the Reasoner has not seen; `unprintable`: share of characters that
    no text holds (control, private or lone surrogate code points, the replacement character).
    """
    said = [words(reason) for reason in reasons]
    seen: set[tuple[str, ...]] = set()
    duplicate = [tuple(row) in seen or seen.add(tuple(row)) is not None for row in said]
    near = _near_duplicates(said)
    return {
        "words": [float(len(row)) for row in said],
        "empty": [float(not reason.strip()) for reason in reasons],
        "unfinished": [float(_is_unfinished(reason)) for reason in reasons],
        "repetition": [_repetition(row) for row in said],
        "duplicate": [float(same) for same in duplicate],
        "near_duplicate": [float(same or alike) for same, alike in zip(duplicate, near)],
        "shared_with_review": [float(_longest_common_run(row, words(review))) for row, review in zip(said, reviews)],
        "unprintable": [_share(_is_garbage(character) for character in reason) for reason in reasons],
    }


def distinct(reasons: Sequence[str], n: int) -> float:
    """Distinct word n-grams over all word n-grams of all reasons, 0 to 1, NaN without any. Source: Li et al., 2016."""
    grams = [gram for reason in reasons for gram in _ngrams(words(reason), n)]
    return len(set(grams)) / len(grams) if grams else np.nan


def table(
    scores: pd.DataFrame, reasons: Sequence[str], users: Sequence[str], seed: int
) -> list[dict[str, str | int | float | None]]:
    """One row per column of `scores`: `score`, `value` (mean), `low`, `high` (its 95% interval) and `n`.

    n counts the rows that have the score. The interval is scipy's percentile bootstrap, which draws users with all
    their rows, None below two users; a share that no row has shows no doubt about its 0. `words_median`, `distinct_1`
    and `distinct_2` are of all reasons together and have none.
    """
    users = np.asarray(users)
    found = []
    for name in scores:
        there = scores[name].notna().to_numpy()
        values = scores[name].to_numpy(dtype=float)[there]
        low, high = _interval(values, users[there], seed)
        value = float(values.mean()) if len(values) else None
        found.append({"score": name, "value": value, "low": low, "high": high, "n": len(values)})
    together = {"words_median": float(scores["words"].median())}
    together |= {f"distinct_{n}": distinct(reasons, n) for n in (1, 2)}
    return found + [
        {"score": name, "value": None if np.isnan(value) else value, "low": None, "high": None, "n": len(reasons)}
        for name, value in together.items()
    ]


def as_text(rows: Sequence[dict]) -> str:
    """The table for a terminal."""
    width = max(len(row["score"]) for row in rows)
    lines = [f"{'score':<{width}}       n     value  95% interval"]
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:.4f}"
        interval = "-" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
        lines.append(f"{row['score'].replace('_', ' '):<{width}}  {row['n']:>6,}  {value:>8}  {interval}")
    return "\n".join(lines)


@contextmanager
def _needed(package: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"the package {package} is missing: python -m pip install -r requirements.txt") from error


def _pairs(what: str, reasons: Sequence[str], reviews: Sequence[str]) -> Iterable[tuple[str, str]]:
    return tqdm(zip(reasons, reviews), total=len(reasons), desc=what, unit="reason")


def _local_model(
    kind: type, folder: Path, flag: str, device: str
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """A model of a kind of transformers' and its tokenizer; InputError if the folder holds no whole one."""
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, info = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True, dtype="float32")
    except (OSError, ValueError) as error:
        raise InputError(f"{flag} {folder}: holds no model that transformers can load ({error})") from error
    # What is missing would be random numbers. Of an encoder the pooler is not used.
    missing = [key for key in info["missing_keys"] if kind is not AutoModel or "pooler" not in key]
    if missing:
        raise InputError(f"{flag} {folder}: its weights lack {sorted(missing)[0]}, so it is another kind of model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return model.to(device).eval(), tokenizer


def _tokens(
    tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel", texts: Sequence[str], seconds: Sequence[str] | None
) -> tuple[dict, "torch.Tensor"]:
    """A padded batch of texts or pairs, cut at what the model can read, and where its special tokens are."""
    limits = (LONGEST_TEXT, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", LONGEST_TEXT))
    batch = tokenizer(
        list(texts),
        None if seconds is None else list(seconds),
        truncation=True,
        max_length=min(limits),
        padding=True,
        return_special_tokens_mask=True,
        return_tensors="pt",
    ).to(model.device)
    return batch, batch.pop("special_tokens_mask").bool()


@cache
def _stem(word: str) -> str:
    with _needed("nltk"):
        from nltk.stem import PorterStemmer
    return PorterStemmer().stem(_without_s(word))


def _without_s(word: str) -> str:
    return word.removesuffix("'s").removesuffix("’s")


@cache
def _tells(word: str) -> bool:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    word = _without_s(word)
    return len(word) > 1 and not word.isdigit() and word not in TASK_WORDS and word not in ENGLISH_STOP_WORDS


def _shown(history: History) -> set[tuple[str, ...]]:
    """All phrases within the keywords of the summaries that a history shows."""
    return set().union(*(_phrases(entry.text) for entry in (*history.user, *history.item)))


@cache
def _phrases(summary: str) -> frozenset[tuple[str, ...]]:
    return frozenset(
        aspect[start:end]
        for aspect in aspects(summary)
        for start in range(len(aspect))
        for end in range(start + 1, min(len(aspect), start + LONGEST_ASPECT) + 1)
    )


def _share(marks: Iterable[bool]) -> float:
    marks = list(marks)
    return sum(marks) / len(marks) if marks else np.nan


def _ngrams(said: Sequence[str], n: int) -> list[str]:
    return [" ".join(said[k : k + n]) for k in range(len(said) - n + 1)]


def _repetition(said: Sequence[str]) -> float:
    grams = _ngrams(said, 3)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _is_unfinished(reason: str) -> bool:
    end = reason.rstrip("\"'”’)]* \n\t")
    return bool(end) and end[-1] not in ".!?…"


def _is_garbage(character: str) -> bool:
    return character == "\ufffd" or (category(character) in ("Cc", "Co", "Cs") and character not in "\n\r\t")


def _longest_common_run(said: Sequence[str], other: Sequence[str]) -> int:
    return SequenceMatcher(None, said, other, autojunk=False).find_longest_match().size


def _near_duplicates(said: Sequence[Sequence[str]]) -> np.ndarray:
    """(rows,) whether an earlier row has at least the share `NEAR` of the word trigrams in common."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        analyzer=lambda row: _ngrams(row, 3), binary=True, norm=None, alternate_sign=False, dtype=np.float32
    )
    grams = vectorizer.transform(said)
    sizes = np.asarray(grams.sum(axis=1)).ravel()
    near = np.zeros(len(said), dtype=bool)
    for start in range(0, len(said), 512):
        block = slice(start, min(start + 512, len(said)))
        common = (grams[block] @ grams.T).toarray()
        alike = common >= NEAR * np.maximum(sizes[block, None] + sizes - common, 1)
        near[block] = np.tril(alike, start - 1).any(axis=1)
    return near


def _interval(values: np.ndarray, users: np.ndarray, seed: int) -> tuple[float | None, float | None]:
    numbers, _ = pd.factorize(users)
    sums, rows = np.bincount(numbers, values), np.bincount(numbers)
    if len(rows) < 2:
        return None, None
    from scipy.stats import bootstrap

    def mean(drawn_sums: np.ndarray, drawn_rows: np.ndarray, axis: int) -> np.ndarray:
        return drawn_sums.sum(axis) / drawn_rows.sum(axis)

    found = bootstrap(
        (sums, rows), mean, n_resamples=RESAMPLES, batch=500, paired=True, method="percentile", rng=seed
    ).confidence_interval
    return float(found.low), float(found.high)
