"""What a chat completion says: the text, without the thoughts that some models write before it, or why there is none.

Servers differ in the form of their answers; those that are understood are named in `read_reply`.
"""

import json
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from reason4rec.llm.usage import REPLY_TOKENS

UNFINISHED = ("abort", "error", "repetition")  # how vLLM says that it broke off
CUT = re.compile(r"cut at (\d+) tokens")
# How models mark their thoughts: DeepSeek, Qwen and others; Magistral; Kimi; Seed; gpt-oss, whose answer has a mark.
_NAMES = r"think|thinking|thought|thoughts|reasoning|seed:think"
OPENED = re.compile(rf"\s*(?:<(?:{_NAMES})>|\[THINK\]|◁think▷|<\|channel\|>analysis)", re.IGNORECASE)
CLOSED = re.compile(
    rf"</(?:{_NAMES})>|\[/THINK\]|◁/think▷|<\|channel\|>final(?:<\|[\w-]+\|>[^<]*)?<\|message\|>", re.IGNORECASE
)
ENDS = re.compile(r"<\|(?:return|end|im_end|eot_id)\|>\s*$")
FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n?```", re.DOTALL)


class Reply(NamedTuple):
    """What a teacher answered: a text, or why there is none (`empty` may be mended by asking again), and tokens."""

    text: str
    refused: str
    tokens_in: int
    tokens_out: int
    model: str

    @property
    def empty(self) -> bool:
        """Whether there is neither a text nor a refusal."""
        return not (self.text or self.refused)


class AnswerError(ValueError):
    """An answer of state 200 that holds an error: `content` is it, as `client.error_in` reads it."""

    def __init__(self, content: object):
        super().__init__("an error")
        self.content = content


def answer_of(text: str) -> str:
    """What a model answers, without the thoughts before it and without a code fence around all of it.

    Empty where there are only thoughts. A text without any of that stays as it is.
    """
    if closed := list(CLOSED.finditer(text)):
        text = ENDS.sub("", text[closed[-1].end() :])
    elif OPENED.match(text):
        return ""
    fenced = FENCED.fullmatch(text.strip())
    text = fenced[1] if fenced and "```" not in fenced[1] else text
    return text.replace("\r\n", "\n").strip()


def answers_of(texts: Iterable[str], thoughts: bool = False) -> list[str]:
    """What a model answers in each of its texts; with its thoughts where they belong to the answer."""
    return [text.strip() for text in texts] if thoughts else list(map(answer_of, texts))


def refused_for_length(limit: int) -> str:
    """What is kept of a reply that was cut at a number of tokens."""
    return f"cut at {limit} tokens"


def outgrown(value: object, limit: int) -> bool:
    """Whether what is kept is the refusal of a reply that was cut, and a reply may be longer now."""
    found = CUT.fullmatch(value["refused"]) if isinstance(value, dict) else None
    return found is not None and int(found[1]) < limit


def read_reply(answer: object, limit: int = REPLY_TOKENS) -> Reply:
    """What a chat completion says; ValueError if it has no known form, `AnswerError` if it holds an error.

    Understood are a text, a list of parts of which those of type `text` count, and thoughts in a field of their own.
    A reply of thoughts alone is an empty one.
    """
    if not isinstance(answer, dict):
        raise ValueError("no chat completion")
    if answer.get("error") or answer.get("object") == "error":
        raise AnswerError(answer)
    if "choices" not in answer:
        raise ValueError("no chat completion")
    usage, model = answer.get("usage"), answer.get("model")
    usage = usage if isinstance(usage, dict) else {}
    tokens = [usage.get(f"{side}_tokens") for side in ("prompt", "completion")]
    tokens = [n if isinstance(n, int) and 0 <= n < 2**31 else 0 for n in tokens]
    named = model if isinstance(model, str) and re.fullmatch(r"[\w.:/@-]{1,80}", model) else ""
    if (key := os.environ.get("OPENAI_API_KEY")) and key in named:
        named = ""
    text = refused = ""
    if answer["choices"]:
        choice = answer["choices"][0] if isinstance(answer["choices"], list) else None
        message = choice.get("message") if isinstance(choice, dict) else None
        text = _text_in(message.get("content") if isinstance(message, dict) else 0).strip()
        if message.get("refusal"):
            refused = "a refusal by the model"
        elif choice.get("finish_reason") == "content_filter":
            refused = "content_filter"
        elif choice.get("finish_reason") == "length":
            refused = refused_for_length(limit)
        elif choice.get("finish_reason") in UNFINISHED or not answer_of(text):
            text = ""
    return Reply("" if refused else text, refused, *tokens, named)


def _text_in(content: object) -> str:
    """The text of a message's content; ValueError if it has none of the known forms."""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        content = "".join(
            part["text"] for part in content if part.get("type") == "text" and isinstance(part.get("text"), str)
        )
    if not isinstance(content, str | None):
        raise ValueError("no message with a text")
    # Half a character cannot be written as UTF-8 later.
    return (content or "").encode(errors="replace").decode()


def parsed(answer: bytes) -> object:
    """The object in an answer, which may be sent as JSON or, unasked, as events; ValueError for anything else."""
    if answer.lstrip()[:5] not in (b"data:", b"event"):
        return json.loads(answer)
    try:
        return _from_events(answer.decode(errors="replace"))
    except (TypeError, AttributeError) as error:
        raise ValueError("events of no known form") from error


def _from_events(text: str) -> dict:
    """One chat completion put together from the pieces that a server sent as events."""
    said, last, whole = [], {}, {}
    # Not splitlines, which also cuts at characters that JSON may hold as they are.
    for line in re.split(r"\r?\n", text):
        content = line.removeprefix("data:").strip()
        if line.startswith("data:") and content != "[DONE]":
            event = json.loads(content)
            whole = whole | {name: value for name, value in event.items() if value is not None}
            for choice in event.get("choices") or []:
                piece = choice.get("delta") or choice.get("message") or {}
                said.append(_text_in(piece.get("content")))
                last = last | {name: value for name, value in choice.items() if value is not None}
    message = {"role": "assistant", "content": "".join(said)}
    return whole | {"choices": [last | {"message": message}] if said else []}
