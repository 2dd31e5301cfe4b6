"""The tokens of a prompt: the one place where text becomes token ids, for training, asking and servers alike.

What a user wrote is text and nothing else: a review that holds `<|eot_id|>` is encoded letter by letter, so it can
neither end the turn nor begin another. A prompt begins with exactly one beginning-of-text token.
"""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from reason4rec.errors import InputError
from reason4rec.llm.prompt import Prompt, shorten
from reason4rec.run.project import find

TEMPLATE_TOKENS = 256  # more than a chat template has beside the message
PLACE = "\ue000"  # a character of private use marks where the message stands in the chat template


def load_tokenizer(base_model: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model or of an adapter's folder, padding on the left; InputError if it cannot serve.

    It must know a chat template that writes one beginning-of-text token, and gets a padding token where it has none.
    """
    try:
        # The side is not saved with a tokenizer; batches padded on the right are scored wrong.
        tokenizer = AutoTokenizer.from_pretrained(str(find(base_model)), trust_remote_code=False, padding_side="left")
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"tokenizer of {base_model}: cannot be loaded ({reason})") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        raise InputError(f"{base_model}: its tokenizer has no chat template; use an instruct model")
    try:
        ids = chat_ids(tokenizer, "text")
    except (InputError, TemplateError) as error:
        raise InputError(f"{base_model}: its chat template cannot be used ({error})") from error
    if ids.count(tokenizer.bos_token_id) != 1:
        raise InputError(f"{base_model}: its chat template does not write exactly one beginning-of-text token")
    return tokenizer


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text in which nothing is special; InputError if it holds half a character."""
    _utf8(text)
    pieces = _inside(tokenizer).split(text) if _inside(tokenizer) else [text]
    encoded = tokenizer(pieces, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [i for ids in encoded for i in ids]


def chat_ids(tokenizer: PreTrainedTokenizerBase, message: str) -> list[int]:
    """Token ids of a user's message and the header of the reply; only the template's own special tokens are special."""
    before, text, after = _template(tokenizer.chat_template, tokenizer)
    return [*before, *plain_ids(tokenizer, text.replace(PLACE, message.strip())), *after]


def answer_ids(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """Token ids of a reply and the end of its turn, as they follow those of `chat_ids`."""
    return [*plain_ids(tokenizer, answer.strip()), tokenizer.eos_token_id]


def head_length(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, ids: Sequence[int]) -> int:
    """How many of a prompt's first token ids are sure to be those of every prompt with the same head; 0 without one.

    The last token of the head is left out: what follows it may merge with it.
    """
    if not prompt.head:
        return 0
    return common(_head_ids(tokenizer, prompt.text[: prompt.head]), ids)


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many token ids two prompts have in common at their beginning."""
    return next((k for k, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def encode(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, longest: int) -> tuple[list[int], int]:
    """Token ids of a prompt in the chat format, at most `longest` of them, and how many optional spans were cut."""
    ids = chat_ids(tokenizer, prompt.text)
    if len(ids) <= longest:
        return ids, 0
    text, cut = shorten(prompt, lambda text: len(chat_ids(tokenizer, text)) <= longest)
    return chat_ids(tokenizer, text), cut


def check(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, longest: int, begun: str = "") -> None:
    """InputError if a prompt and what its reply begins with cannot be encoded in at most `longest` tokens.

    Hardly any prompt has to be encoded for that: a token is at least a byte, and what is never cut is short.
    """
    shortest = _utf8(prompt.without(len(prompt.optional)))
    _utf8(prompt.text)
    if len(shortest) + len(_utf8(begun)) + TEMPLATE_TOKENS > longest:
        encode(tokenizer, prompt, longest - len(plain_ids(tokenizer, begun)))


def choice_ids(tokenizer: PreTrainedTokenizerBase, choices: Sequence[str], prefix: str) -> list[int]:
    """The token id of each choice after a reply's `prefix`; InputError unless each is one token there."""
    tail = plain_ids(tokenizer, prefix)
    tokens = [plain_ids(tokenizer, prefix + choice) for choice in choices]
    if any(len(ids) != len(tail) + 1 or ids[:-1] != tail for ids in tokens):
        raise InputError(f"the tokenizer does not write each of {', '.join(choices)} as one token after {prefix!r}")
    return [ids[-1] for ids in tokens]


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        near = ascii(text[max(0, error.start - 20) : error.end + 20])
        raise InputError(f"half a character (a lone surrogate) in a text, at {near}: remove or replace it") from error


@functools.lru_cache(maxsize=8)
def _inside(tokenizer: PreTrainedTokenizerBase) -> re.Pattern | None:
    """Where to cut a text so that no token is found in it that was added but is not special, such as `<think>`."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if not token.special]
    places = [f"(?<={re.escape(text[0])})(?={re.escape(text[1:])})" for text in added if len(text) > 1]
    return re.compile("|".join(places)) if places else None


@functools.lru_cache(maxsize=1024)
def _head_ids(tokenizer: PreTrainedTokenizerBase, head: str) -> list[int]:
    before, text, _ = _template(tokenizer.chat_template, tokenizer)
    return [*before, *plain_ids(tokenizer, text.partition(PLACE)[0] + head.strip())[:-1]]


@functools.lru_cache(maxsize=8)
def _template(template: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], str, list[int]]:
    """The chat template around a message: ids before, the text in which `PLACE` stands for the message, ids after.

    That text reaches from one special token to the next, because what stands beside a message may merge with it.
    """
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": PLACE}], add_generation_prompt=True, tokenize=False
    )
    special = sorted((token.content for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, special))})", rendered)
    if rendered.count(PLACE) != 1:
        raise InputError("it does not write the message once")
    place = next(k for k, piece in enumerate(pieces) if PLACE in piece)

    def ids(pieces: list[str]) -> list[int]:
        known = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
        return [i for piece in pieces for i in ([known[piece]] if piece in known else plain_ids(tokenizer, piece))]

    return ids(pieces[:place]), pieces[place], ids(pieces[place + 1 :])
