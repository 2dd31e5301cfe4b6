"""What a completion says: the item that is recommended with its rationale, read strictly from three tags.

The names of the tags are those of the paper's released code; what counts as well-formed is our decision.
"""

import re
from dataclasses import dataclass

THINK, TITLE, ITEM_ID, INFO = "think", "item_nm", "item_id", "item_info"
ANY_TAG = re.compile(r"</?[A-Za-z0-9_]+>")  # released code


@dataclass(frozen=True)
class Recommendation:
    """What a completion recommends; a part that it lacks is None.

    `well_formed` says whether it is an answer in the form that is asked for, and `problems` what is wrong with it.
    """

    think: str | None
    title: str | None
    item_id: str | None
    well_formed: bool
    problems: tuple[str, ...]


def inner(text: str, tag: str) -> str | None:
    """What stands between the first opening of a tag and its first closing after that, stripped; None without them."""
    start = text.find(f"<{tag}>")
    end = text.find(f"</{tag}>", start + 1)
    return text[start + len(tag) + 2 : end].strip() if 0 <= start < end else None


def read(text: str, rationale: bool = True) -> Recommendation:
    """What a completion recommends, read from any text.

    It is well-formed where each of its tags stands once, in their order, is not empty, and nothing but white space and
    no other tag stands beside them. With `rationale` the tag of the rationale comes first; without, it is one too many.
    """
    asked = (THINK, TITLE, ITEM_ID) if rationale else (TITLE, ITEM_ID)
    parts = {tag: inner(text, tag) for tag in (THINK, TITLE, ITEM_ID)}
    wanted = [mark for tag in asked for mark in (f"<{tag}>", f"</{tag}>")]
    found = ANY_TAG.findall(text)
    problems = [f"no <{tag}>" for tag in asked if parts[tag] is None]
    problems += [f"<{tag}> is empty" for tag in asked if parts[tag] == ""]
    problems += [f"{mark} more than once" for mark in wanted if found.count(mark) > 1]
    problems += [f"{mark} is not asked for" for mark in dict.fromkeys(found) if mark not in wanted]
    if not problems and found != wanted:
        problems.append("the tags are not in their order")
    if not problems and _beside(text, asked).strip():
        problems.append("text beside the tags")
    return Recommendation(parts[THINK], parts[TITLE], parts[ITEM_ID], not problems, tuple(problems))


def _beside(text: str, tags: tuple[str, ...]) -> str:
    """What is left of a text without its tags, which all stand once and in their order."""
    kept, place = [], 0
    for tag in tags:
        kept.append(text[place : text.index(f"<{tag}>")])
        place = text.index(f"</{tag}>") + len(tag) + 3
    return "".join([*kept, text[place:]])
