"""Items as vectors of their texts, which semantic ids are made of, and the file that keeps the vectors.

Source: released code of GREAM. The base model itself reads the title and the description, each by itself, and an item
is the mean of the two means over tokens, neither normalised nor reduced. Two decisions are ours: an item without a
description is its title alone, and a small encoder may stand in for the base model.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from reason4rec.errors import InputError
from reason4rec.llm.encoders import folder_of
from reason4rec.llm.known_bases import located
from reason4rec.run.progress import progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from reason4rec.systems.twice_rec.catalogue import Item

ENCODERS = ("base", "minilm")
LONGEST = 2048  # tokens of a text, in the released code
AT_ONCE = {"cpu": 1024, "cuda": 32768}  # tokens of a batch with its padding; caches of a CPU hold no more
VECTORS = "vectors"  # the name of the tensor in the file


def embed(
    titles: Sequence[str], descriptions: Sequence[str], encoder: str, base_model: str | Path, device: str
) -> np.ndarray:
    """(n, d) float32 vectors of items, from their titles and descriptions in the same order.

    `encoder` is "base", for `base_model`, or "minilm", for which `base_model` is not read; `device` is "cpu", "cuda"
    or "cuda:N". A text of more than LONGEST tokens, or of more than the model reads, is cut at its end. InputError for
    another encoder, a title that is blank, a text that is no Unicode, or a model that cannot be loaded.
    """
    if encoder not in ENCODERS:
        raise InputError(f"--encoder {encoder}: there is no such encoder; pass one of {', '.join(ENCODERS)}")
    if not len(titles) == len(descriptions) > 0:
        raise InputError(f"{len(titles)} titles and {len(descriptions)} descriptions: pass one of each for every item")
    for what, texts in (("title", titles), ("description", descriptions)):
        _check_texts(texts, what)
    if blank := [row for row, title in enumerate(titles) if not title.strip()]:
        raise InputError(f"items: the title in row {blank[0]} is blank; fill it, if need be with the item's id")
    # A title in place of the description leaves the mean at the title. Shops repeat texts, and each is read once.
    both = [(title.strip(), text.strip() or title.strip()) for title, text in zip(titles, descriptions)]
    place = {text: row for row, text in enumerate(dict.fromkeys(chain.from_iterable(both)))}
    read = _read(list(place), *_loaded(encoder, base_model, device))
    return read[[[place[text] for text in texts] for texts in both]].mean(axis=1)


def texts_of(items: Sequence["Item"], read: Sequence[str]) -> tuple[list[str], list[str]]:
    """Titles and descriptions of items as `embed` takes them, if the texts in `read` alone are to be looked at.

    An item without a description is its title in any case. Our decision: titles may be names that mean nothing.
    """
    titles, descriptions = [item.title for item in items], [item.description for item in items]
    if "description" not in read:
        return titles, [""] * len(items)
    if "title" not in read:
        return [text if text.strip() else title for title, text in zip(titles, descriptions)], [""] * len(items)
    return titles, descriptions


def without_description(descriptions: Sequence[str]) -> int:
    """How many items have a blank description, so that their vectors are those of their titles alone."""
    return sum(not text.strip() for text in descriptions)


def as_bytes(vectors: np.ndarray, encoder: str, item_ids: Sequence[str]) -> bytes:
    """(n, d) vectors of items as safetensors; the same vectors give the same bytes.

    The metadata name the encoder, and hold the sha256 of the ids, in the order of the rows.
    """
    about = {"encoder": encoder, "item_ids": _sha256(item_ids)}
    return safetensors.save({VECTORS: np.ascontiguousarray(vectors, dtype=np.float32)}, about)


def read(path: Path, item_ids: Sequence[str]) -> tuple[np.ndarray, str]:
    """The (n, d) float32 vectors of items and their encoder; InputError where the file is not of these items."""
    try:
        with safe_open(path, framework="numpy") as file:
            vectors, about = file.get_tensor(VECTORS), file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; embed the items first") from None
    except (OSError, SafetensorError, TypeError) as error:
        raise InputError(f"{path}: no vectors of items can be read ({error}); embed the items again") from error
    if vectors.ndim != 2 or len(vectors) != len(item_ids) or about.get("item_ids") != _sha256(item_ids):
        raise InputError(f"{path}: has vectors of other items ({len(vectors)}, not {len(item_ids)}); embed them again")
    if not np.isfinite(vectors).all():
        row = int((~np.isfinite(vectors)).any(axis=1).argmax())
        raise InputError(f"{path}: the vector in row {row} holds what is no number; embed the items again")
    return vectors, about.get("encoder", "")


def _sha256(item_ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(item_ids).encode()).hexdigest()


def _check_texts(texts: Sequence[str], what: str) -> None:
    for row, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"items: the {what} in row {row} holds half a character (a lone surrogate); remove or replace it"
            ) from None


def _loaded(encoder: str, base_model: str | Path, device: str) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """A model without its head, and its tokenizer."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from reason4rec.llm.base_files import DAMAGED, read_config

    if encoder == "base":
        from reason4rec.llm.bases import dtype_on  # imports what trains adapters, which a small encoder can spare

        folder, dtype = located(base_model), dtype_on(device, read_config(base_model))
    else:
        folder, dtype = folder_of(Path(encoder)), torch.float32
    name = str(base_model) if encoder == "base" else encoder
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        model, loading = AutoModel.from_pretrained(
            str(folder),
            dtype=dtype,
            device_map={"": 0 if device == "cuda" else device},
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise
    except (*DAMAGED, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise InputError(f"encoder {name}: cannot be loaded ({reason[:160]})") from error
    # Missing weights would be random numbers. The pooler of an encoder is not used.
    if lacking := sorted(key for key in loading["missing_keys"] if "pooler" not in key):
        raise InputError(f"encoder {name}: {len(lacking)} weights are missing, such as {lacking[0]}; fetch it again")
    return model.eval(), tokenizer


def _read(texts: Sequence[str], model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> np.ndarray:
    """(n, d) means of the last hidden states of texts, over all of their tokens."""
    import torch

    from reason4rec.llm.base_files import length_that_fits

    found = np.zeros((len(texts), model.config.get_text_config().hidden_size), dtype=np.float32)
    longest = length_that_fits(LONGEST, model.config, tokenizer, tokenizer.name_or_path)
    # What a shop writes is text: `[SEP]` or `<|im_end|>` in it is no token of that meaning.
    encoded = tokenizer(list(texts), truncation=True, max_length=longest, split_special_tokens=True)["input_ids"]
    with torch.inference_mode(), progress("texts of items", sum(map(len, encoded)), "token") as bar:
        for batch in _batches(list(map(len, encoded)), AT_ONCE[model.device.type]):
            ids, mask = (one.to(model.device) for one in _padded([encoded[k] for k in batch]))
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            means = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            found[batch] = means.cpu().numpy()
            bar.update(int(mask.sum()))
    return found


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """The places of texts, the longest first, in batches of at most `most` tokens or of one text."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _padded(rows: Sequence[Sequence[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Token ids of a batch, padded on the right, and a mask that is 1 where they are."""
    import torch

    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()
