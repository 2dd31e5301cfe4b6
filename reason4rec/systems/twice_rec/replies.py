"""What is read from replies: a recommendation from three tags, and a teacher's rationale and verdict from two labels.

The names of the tags are those of the released code; what counts as well-formed, and what is refused of a teacher's
rationales, is our decision.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from reason4rec.llm.answers import answer_of
from reason4rec.systems.twice_rec.hindsight import hindsight, weak_link

THINK, TITLE, ITEM_ID, INFO = "think", "item_nm", "item_id", "item_info"
NOT_IN_FORM = "not in the form"  # why a teacher's reply is refused that has another
ANY_TAG = re.compile(r"</?[A-Za-z0-9_]+>")  # released code
FEWEST_WORDS, MOST_WORDS = 10, 200  # of a rationale; those of the released data have 120 to 186

_LABEL = r"[ \t#>*_]*{label}[ \t*_]*:[ \t*_]*"
_RATIONALE = re.compile(_LABEL.format(label="Rationale"), re.IGNORECASE)
_VERDICT = re.compile(_LABEL.format(label="Connection") + r"(yes|no)[ \t.*_]*", re.IGNORECASE)


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


@dataclass(frozen=True)
class Rationale:
    """What a teacher wrote for a case: the rationale on one line, and whether it finds a connection to the history.

    `refused` says in a few words why the rationale cannot be learned from; it is empty where it can, and where there is
    no connection, so that nobody will.
    """

    text: str
    relevant: bool
    refused: str


def rationale_of(reply: str) -> Rationale:
    """The rationale and the verdict in any reply of a teacher.

    A reply has the form where it begins with `Rationale:` and its last line is `Connection: yes` or `Connection: no`;
    thoughts before it, a fence around it, and labels in bold or in other case are let pass. A rationale is refused
    that is in another form, has tags in it, more than 200 or fewer than 10 words, a phrase of hindsight, or one that
    admits a weak link.
    """
    text = answer_of(reply)
    said, _, last = text.rpartition("\n")
    label, verdict = _RATIONALE.match(text), _VERDICT.fullmatch(last)
    if not label or not verdict:
        return Rationale("", False, NOT_IN_FORM)
    rationale = " ".join(said[label.end() :].split())
    if verdict[1].lower() == "no":
        return Rationale(rationale, False, "")
    return Rationale(rationale, True, why_refused(rationale))


def why_refused(rationale: str) -> str:
    """Why a rationale cannot be learned from, in a few words; empty where it can."""
    words = len(rationale.split())
    if ANY_TAG.search(rationale):
        return "has tags"
    if words < FEWEST_WORDS:
        return f"fewer than {FEWEST_WORDS} words"
    if words > MOST_WORDS:
        return f"more than {MOST_WORDS} words"
    if found := hindsight(rationale):
        return f"hindsight: {found[0]}"
    if found := weak_link(rationale):
        return f"weak link: {found[0]}"
    return ""


def outcomes(rationales: Iterable[Rationale]) -> Counter:
    """How many rationales were kept, found without a connection, or refused, by the reason."""
    return Counter(
        f"refused, {one.refused}" if one.refused else "kept" if one.relevant else "no connection" for one in rationales
    )
