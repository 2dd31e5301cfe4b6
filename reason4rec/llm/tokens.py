"""The tokens of a prompt: the one place where text becomes token ids, for training, asking and servers alike.

What a user wrote is text and nothing else: a review that holds `<|eot_id|>` is encoded letter by letter, so it can
neither end the turn nor begin another. What stands around it is the chat template's: whether a prompt begins with a
beginning-of-text token, what is said in a system's name, and which token ends an answer. A template that can let the
model think is told not to, and one that writes the day always writes the same. Words that `vocabulary.extend` gave a
base are found in every text, since they are what such a base reads and writes.
"""

import datetime
import functools
import re
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from reason4rec.errors import InputError
from reason4rec.llm.base_files import DAMAGED
from reason4rec.llm.known_bases import located
from reason4rec.llm.prompt import Prompt, shorten

TEMPLATE_TOKENS = 256  # more than a chat template has beside the message
PLACE = "\ue000"  # a character of private use marks where the message stands in the chat template
NEW = "new_tokens"  # in a tokenizer's settings: the words that the house added to its vocabulary
DAY = datetime.date(2024, 7, 26)  # that which Llama 3 writes where no day is told
WITHOUT_THINKING = {"enable_thinking": False, "thinking": False}  # as Qwen and DeepSeek call it


def load_tokenizer(base_model: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model or of an adapter's folder, padding on the left; InputError if it cannot serve.

    It must know a chat template that ends an answer with a token, or have an end-of-text token. Where it has no
    end-of-text or padding token, the end of an answer stands in: padding is masked.
    """
    try:
        # The side is not saved with a tokenizer; batches padded on the right are scored wrong.
        tokenizer = AutoTokenizer.from_pretrained(
            str(located(base_model)), trust_remote_code=False, padding_side="left"
        )
    except (*DAMAGED, ImportError) as error:
        reason = str(error).strip().split("\n")[0][:120]
        raise InputError(
            f"tokenizer of {base_model}: cannot be loaded ({reason}); tokenizer.json and tokenizer_config.json must be "
            f"there"
        ) from error
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = _default_of(tokenizer.chat_template, base_model)
    if tokenizer.chat_template is None:
        raise InputError(f"{base_model}: its tokenizer has no chat template; use an instruct model")
    try:
        ids, end = chat_ids(tokenizer, "text"), end_of_turn(tokenizer)
    except InputError as error:
        raise InputError(f"{base_model}: its chat template cannot be used ({error}); use another base") from error
    bos = tokenizer.bos_token_id
    # A template of turns may have none, or begin each turn with it.
    if bos is not None and ((bos, bos) in zip(ids, ids[1:]) or not set(ids) & set(tokenizer.added_tokens_decoder)):
        raise InputError(f"{base_model}: its chat template does not write exactly one beginning-of-text token")
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _default_of(templates: dict[str, str], base_model: str | Path) -> str:
    if "default" not in templates:
        names = ", ".join(sorted(templates))
        raise InputError(f"{base_model}: its chat templates are for {names}, none is the default; name one of them so")
    return templates["default"]


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text in which nothing is special; InputError if it holds half a character."""
    _utf8(text)
    pieces = _inside(tokenizer).split(text) if _inside(tokenizer) else [text]
    encoded = tokenizer(pieces, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return [i for ids in encoded for i in ids]


@functools.lru_cache(maxsize=8)
def new_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The ids of the words that `vocabulary.extend` added to a base, in the order in which they were added.

    InputError where the tokenizer names what it has not.
    """
    words, known = tokenizer.init_kwargs.get(NEW, []), tokenizer.get_added_vocab()
    if not isinstance(words, list) or not all(isinstance(word, str) and word in known for word in words):
        raise InputError(
            f"{tokenizer.name_or_path}: {NEW} in tokenizer_config.json names no added tokens; extend again"
        )
    return {word: known[word] for word in words}


def chat_ids(tokenizer: PreTrainedTokenizerBase, message: str) -> list[int]:
    """Token ids of a user's message and the header of the reply; only the template's own special tokens are special."""
    before, text, after = _template(tokenizer.chat_template, tokenizer)
    return [*before, *plain_ids(tokenizer, text.replace(PLACE, message.strip())), *after]


def answer_ids(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """Token ids of a reply and the end of its turn, as they follow those of `chat_ids`."""
    before, end = _end(tokenizer.chat_template, tokenizer)
    return [*plain_ids(tokenizer, answer.strip() + before), end]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer: that which the chat template writes after one, or else the end of text.

    InputError where there is neither.
    """
    return _end(tokenizer.chat_template, tokenizer)[1]


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
    tail, tokens = choices_after(tokenizer, choices, prefix)
    if tail != plain_ids(tokenizer, prefix):
        raise _no_single_tokens(tokenizer, choices, prefix)
    return tokens


def choices_after(
    tokenizer: PreTrainedTokenizerBase, choices: Sequence[str], prefix: str
) -> tuple[list[int], list[int]]:
    """The token ids before the choices that follow a reply's `prefix`, and that of each choice, which is the last.

    A space at the prefix's end may belong to the choice's token. InputError unless each choice is one token there.
    """
    rows = [plain_ids(tokenizer, prefix + choice) for choice in choices]
    if any(ids[:-1] != rows[0][:-1] for ids in rows) or len({ids[-1] for ids in rows}) < len(rows):
        raise _no_single_tokens(tokenizer, choices, prefix)
    return rows[0][:-1], [ids[-1] for ids in rows]


def _no_single_tokens(tokenizer: PreTrainedTokenizerBase, choices: Sequence[str], prefix: str) -> InputError:
    return InputError(
        f"{tokenizer.name_or_path}: the tokenizer does not write each of {', '.join(choices)} as one token after "
        f"{prefix!r}; use another base"
    )


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        near = ascii(text[max(0, error.start - 20) : error.end + 20])
        raise InputError(f"half a character (a lone surrogate) in a text, at {near}: remove or replace it") from error


@functools.lru_cache(maxsize=8)
def _inside(tokenizer: PreTrainedTokenizerBase) -> re.Pattern | None:
    """Where to cut a text so that no token is found in it that was added but is not special, such as `<think>`.

    New tokens are found.
    """
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if not token.special]
    added = [text for text in added if text not in new_tokens(tokenizer)]
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
    pieces = _pieces(tokenizer, _written(tokenizer, [("user", PLACE)], reply=True))
    place = next(k for k, piece in enumerate(pieces) if PLACE in piece)

    def ids(pieces: list[str]) -> list[int]:
        # Each second piece is a token.
        parts = [
            [tokenizer.convert_tokens_to_ids(piece)] if k % 2 else plain_ids(tokenizer, piece)
            for k, piece in enumerate(pieces)
        ]
        return [i for part in parts for i in part]

    return ids(pieces[:place]), pieces[place], ids(["", *pieces[place + 1 :]])


@functools.lru_cache(maxsize=8)
def _end(template: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, int]:
    """What the chat template writes between an answer and the token that ends it, and that token."""
    rendered = _written(tokenizer, [("user", "text"), ("assistant", PLACE)], reply=False)
    before, *ends = _pieces(tokenizer, rendered.partition(PLACE)[2])
    if ends:
        return before, tokenizer.convert_tokens_to_ids(ends[0])
    if tokenizer.eos_token_id is None:
        raise InputError("it ends no answer with a token, and the tokenizer has no end-of-text token")
    return "", tokenizer.eos_token_id


def _pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """A text cut at its special tokens, which are every second piece."""
    special = sorted((token.content for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
    return re.split(f"({'|'.join(map(re.escape, special))})", text) if special else [text]


def _written(tokenizer: PreTrainedTokenizerBase, turns: Sequence[tuple[str, str]], reply: bool) -> str:
    """What the chat template makes of turns, in which `PLACE` comes once; with the header of a `reply` or without."""
    failure = "it does not write the message once"
    for as_parts in (False, True):
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}] if as_parts else text} for role, text in turns
        ]
        try:
            rendered = tokenizer.apply_chat_template(
                messages, add_generation_prompt=reply, tokenize=False, strftime_now=DAY.strftime, **WITHOUT_THINKING
            )
        except Exception as error:
            # A template is a program of others', which can fail with any exception.
            failure = failure if as_parts else str(error).strip().split("\n")[0][:120]
            continue
        if rendered.count(PLACE) == 1 and "{'type'" not in rendered:  # as a template that expects text writes parts
            return rendered
    raise InputError(failure)
