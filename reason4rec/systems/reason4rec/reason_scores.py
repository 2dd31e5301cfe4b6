"""Scores of reasons against the real reviews: how near the words or the meaning are, and a judge's score."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import regex

from reason4rec.errors import InputError
from reason4rec.run.progress import counted

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


NEEDS = {
    "bertscore": "an encoder in the form of Hugging Face, such as roberta-large (with --bertscore_layer 17)",
    "bleurt": "a BLEURT checkpoint in the form of Hugging Face with one output, such as Elron/bleurt-base-512",
}
LONGEST_TEXT = 512  # tokens that an encoder reads of a text; BERT's limit
JUDGED = re.compile(
    r"\bscore\b(?:\s*\([^)]*\))?[\s*_:=]*(\d++(?:\.\d++)?+)(?!\s*(?:-|–|to)\s*\d)(?:\s*(?:/|out of)\s*(\d+))?", re.I
)
WORD = regex.compile(r"[\p{L}\p{N}\p{M}]+(?:['’][\p{L}\p{N}\p{M}]+)*")
# Of scripts that put no space between words, each character counts as one where words are compared.
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
PART = regex.compile(rf"(?={UNSPACED})[\p{{L}}\p{{N}}]\p{{M}}*|(?:(?!{UNSPACED}).)+|.")
FOREIGN = 0.2  # share of letters beyond a to z from which a score that reads only those says little


class AnyScript:
    """A tokenizer for rouge_score."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text of any script."""
        return compared_words(text)


def words(text: str) -> list[str]:
    """The words of a text of any script in lower case; hyphens separate words, apostrophes do not."""
    return WORD.findall(text.lower())


def compared_words(text: str) -> list[str]:
    """The words of a text as `words`, of a script without spaces its characters."""
    return [part for word in words(text) for part in PART.findall(word)]


def is_foreign(texts: Sequence[str]) -> bool:
    """Whether many letters of texts are other than a to z."""
    letters = sum(len(regex.findall(r"\p{L}", text)) for text in texts)
    latin = sum(len(regex.findall(r"[A-Za-z]", text)) for text in texts)
    return letters - latin > FOREIGN * letters


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


def rouge(reasons: Sequence[str], reviews: Sequence[str]) -> dict[str, list[float]]:
    """`rouge_1`, `rouge_2`, `rouge_l`: F1 of common words, word pairs and longest common subsequence, 0 to 1.

    By rouge_score without stemming, the default of the field's tools. That reads the letters a to z and digits only;
    where many letters are others, the words are those of `compared_words`, which is said.
    """
    with _needed("rouge_score"):
        from rouge_score.rouge_scorer import RougeScorer
    kinds = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}
    foreign = is_foreign(reviews)
    if foreign:
        print("note: ROUGE compares words of any script here, not only the letters a to z as usual")
    scorer = RougeScorer(list(kinds), tokenizer=AnyScript() if foreign else None)
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
            single_meteor_score(compared_words(review), compared_words(reason), wordnet=no_synonyms)
            for reason, review in pairs
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
    for start in counted(range(0, len(reasons), batch_size), "BERTScore", "batch"):
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
        for start in counted(range(0, len(reasons), batch_size), "BLEURT", "batch"):
            batch = slice(start, start + batch_size)
            inputs, _ = _tokens(tokenizer, model, reviews[batch], reasons[batch])
            found += model(**inputs).logits[:, 0].float().tolist()
    return {"bleurt": found}


def judged_score(reply: str) -> float:
    """The score of 0 to 100 in a judge's reply, NaN where it has none or not one alone (another scale, a range)."""
    found = {(float(score), scale) for score, scale in JUDGED.findall(reply)}
    score, scale = found.pop() if len(found) == 1 else (np.nan, "")
    return score if 0 <= score <= 100 and scale in ("", "100") else np.nan


@contextmanager
def _needed(package: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"the package {package} is missing: python -m pip install -r requirements.txt") from error


def _pairs(what: str, reasons: Sequence[str], reviews: Sequence[str]) -> Iterable[tuple[str, str]]:
    return counted(zip(reasons, reviews), what, "reason", len(reasons))


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
