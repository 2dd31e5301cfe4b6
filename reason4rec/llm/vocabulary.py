"""New words for a base model: tokens of its vocabulary that the house adds, each with weights of its own.

They are not special: transformers and trl leave special tokens out of the text that a model writes, so that an answer
of special tokens alone reads as no answer. The released code of semantic ids adds special ones. What is written is a
base like any other, which every loader takes, and its tokenizer says which of its tokens are new (`tokens.new_tokens`).
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AddedToken, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from reason4rec.errors import InputError
from reason4rec.llm.base_files import DAMAGED, read_config, refused
from reason4rec.llm.known_bases import located
from reason4rec.llm.tokens import NEW, load_tokenizer, plain_ids
from reason4rec.run import files

OF_TEXTS = 0.8  # of the variance of a token with texts, the rest is drawn; our decision


def extend(
    base_model: str | Path,
    tokens: Sequence[str],
    out: Path,
    seed: int = 0,
    record: Callable[[Path], None] = lambda staged: None,
    texts: Sequence[tuple[str, Sequence[str]]] = (),
) -> None:
    """Writes a base with new tokens to the folder `out`, whole or not at all: safetensors, configuration, tokenizer.

    The weights are those of the base, in its own type; a new token's are drawn by `seed` with the mean and the spread
    of those that are there, in the embedding and in an output head of its own (our decision: no new word is then
    likelier than the others, and they differ from the first step of a training on). `texts` are pairs of a text and the
    new tokens that have to do with it; such a token's weights are drawn near those of the words in its texts (see
    `near_texts`). `record` is called with the staged folder just before it takes its place. InputError for a token that
    cannot be added, that the tokenizer does not read and write as it is, or a base that was published in 4 bits.
    """
    config = read_config(base_model)
    if getattr(config, "quantization_config", None):
        raise InputError(
            f"base model {base_model}: was published in 4 bits, which get no new tokens; use 16-bit weights"
        )
    tokenizer = load_tokenizer(base_model)
    known = len(tokenizer)
    read = [plain_ids(tokenizer, text) for text, _ in texts]  # a text may hold a new token, which has no weights yet
    add(tokenizer, tokens, base_model)
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            str(located(base_model)),
            dtype="auto",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except DAMAGED as error:
        raise refused(base_model, error) from error
    if lacking := sorted(loading["missing_keys"]):
        raise InputError(f"base model {base_model}: weights are missing, such as {lacking[0]}; fetch it again")
    ids_of = tokenizer.get_vocab()
    pairs = [(ids, [ids_of[one] for one in of]) for ids, (_, of) in zip(read, texts) if ids]
    give_rows(model, known, len(tokenizer), seed, pairs)
    files.make_folder(out.parent)
    staged = files.staged_path(out)
    shutil.rmtree(staged, ignore_errors=True)
    try:
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        check(load_tokenizer(staged), tokens)
        record(staged)
        files.take_place(out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def add(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], base_model: str | Path) -> None:
    """Adds tokens to a tokenizer, which names them as new ones; InputError for one that it has, or that is no word."""
    taken = tokenizer.get_vocab()
    for token in tokens:
        if token != token.strip() or not token:
            raise InputError(f"new token {token!r}: must be a word without a space around it")
        if token in taken:
            raise InputError(f"new token {token!r}: base model {base_model} has it already; name one without it")
    if len(set(tokens)) < len(tokens):
        twice = next(token for k, token in enumerate(tokens) if token in tokens[:k])
        raise InputError(f"new token {twice!r}: is named twice")
    plain = {"special": False, "normalized": False, "lstrip": False, "rstrip": False}
    tokenizer.add_tokens([AddedToken(token, **plain) for token in tokens])
    tokenizer.init_kwargs[NEW] = [*tokenizer.init_kwargs.get(NEW, ()), *tokens]


def check(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> None:
    """InputError unless each token is one id, alone and among others, and is not left out of what a model writes."""
    ids = [plain_ids(tokenizer, token) for token in tokens]
    for token, found in zip(tokens, ids, strict=True):
        if len(found) != 1 or tokenizer.decode(found, skip_special_tokens=True) != token:
            raise InputError(
                f"new token {token!r}: this tokenizer does not read and write it as it is; use another base"
            )
    joined = "".join(tokens)
    if plain_ids(tokenizer, joined) != [one for (one,) in ids] or joined != tokenizer.decode(
        [one for (one,) in ids], skip_special_tokens=True
    ):
        raise InputError("new tokens: this tokenizer does not read and write them side by side; use another base")


def give_rows(
    model: PreTrainedModel, known: int, total: int, seed: int, texts: Sequence[tuple[list[int], list[int]]] = ()
) -> None:
    """Gives a model weights for the tokens `known` to `total` - 1; those that are there stay as they are, bit by bit.

    `texts` are token ids of texts, each with those of the new tokens that have to do with it.
    A model can have more rows than its tokenizer has tokens; those that are not needed stay too.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if total > rows:
        model.resize_token_embeddings(total, mean_resizing=False)
    rng = np.random.default_rng(seed)
    parts = [model.get_input_embeddings()]
    head = model.get_output_embeddings()
    if head is not None and head.weight is not parts[0].weight:
        parts.append(head)
    for part in parts:
        old = part.weight.data[:known].float()
        drawn = torch.from_numpy(rng.standard_normal((total - known, old.shape[1]))).float()
        rows = old.std(0) * drawn
        for token, direction in near_texts(old, texts).items():
            rows[token - known] = OF_TEXTS**0.5 * old.std() * direction + (1 - OF_TEXTS) ** 0.5 * rows[token - known]
        part.weight.data[known:total] = (old.mean(0) + rows).to(part.weight.dtype)


def near_texts(old: torch.Tensor, texts: Sequence[tuple[list[int], list[int]]]) -> dict[int, torch.Tensor]:
    """For each token of `texts` where the words of its texts lie among (tokens, d) weights, as d of mean square 1.

    That is the mean over its texts of the mean over their tokens, less the mean over all texts, so that what they all
    say does not count. A token that is no different from the mean has none.
    """
    found: dict[int, list[torch.Tensor]] = {}
    means = [old[torch.tensor(ids)].mean(0) for ids, _ in texts]
    for mean, (_, tokens) in zip(means, texts, strict=True):
        for token in tokens:
            found.setdefault(token, []).append(mean)
    common = torch.stack(means).mean(0) if means else None
    apart = {token: torch.stack(of).mean(0) - common for token, of in found.items()}
    sizes = {token: float(one.pow(2).mean().sqrt()) for token, one in apart.items()}
    least = 1e-6 * float(old.std())
    return {token: one / sizes[token] for token, one in apart.items() if sizes[token] > least}
