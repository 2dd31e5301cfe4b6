"""What is said of a file whose columns have none of the names that were sought: what it has, and what may be meant."""

import re
import shlex
from collections.abc import Sequence

from reason4rec.data import packing
from reason4rec.data.fields import NAMES, TITLES, Fields, wanted
from reason4rec.errors import LONGEST

LIKE = {  # words in names that tell what a column holds, best first
    "user_id": ("user", "userid", "uid", "reviewer", "customer", "author", "member", "profile", "username"),
    "item_id": ("item", "itemid", "product", "productid", "asin", "movie", "book", "business", "place", "sku", "isbn"),
    "ratings": ("rating", "score", "stars", "star", "overall", "rate", "grade", "points"),
    "reviews": ("text", "review", "body", "content", "comment", "comments", "description"),
    "unixReviewTime": ("time", "timestamp", "date", "unix", "created", "when", "day"),
    "title": ("title", "name", "headline"),
}
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
DATE = re.compile(r".*\b(19|20)\d\d\b.*")


def mapping(records: Sequence[dict], names: Sequence[str]) -> dict[str, str]:
    """Which columns of records may be ours, by their names and by their values; those that nothing speaks for lack."""
    there = list(dict.fromkeys(name for record in records for name in record))
    values = {theirs: [str(v) for r in records if (v := r.get(theirs)) not in (None, "")] for theirs in there}
    points = {(ours, theirs): _named(ours, theirs) + _held(ours, values[theirs]) for ours in names for theirs in there}
    found: dict[str, str] = {}
    for ours, theirs in sorted(points, key=lambda pair: -points[pair]):
        if points[ours, theirs] >= 3 and ours not in found and theirs not in found.values():
            found[ours] = theirs
    # What is left and looks like ids: there are fewer users than items in few lines.
    left = [theirs for theirs in there if theirs not in found.values() and _held("item_id", values[theirs]) > 0]
    if len(left) > 1 and len(set(values[left[1]])) < 0.8 * len(set(values[left[0]])):
        left[:2] = left[1::-1]
    for ours in ("user_id", "item_id"):
        if ours in names and ours not in found and left:
            found[ours] = left.pop(0)
    return found


def answer(where: str, records: Sequence[dict], needed: Fields, unlike: Sequence[str] = ()) -> str:
    """One line on a file that lacks one of the `needed` columns: which, what it has, and the flag that may mend it."""
    there = list(dict.fromkeys(name for record in records for name in record))
    sought = f"{where}: no JSON lines, Python literals or CSV with these fields"
    if like := [name for name in unlike if name in there]:
        return f"{sought}: it has {packing.shown(like[0])}, so it holds reviews and no items; give the metadata"[
            :LONGEST
        ]
    if len(there) < 2:
        names = "; ".join(f"{ours}: {' or '.join(names)}" for ours, names in sorted(needed.items(), key=_long))
        return _fitting(f"{sought} (--columns gives other names): ", names)
    lacking = [ours for ours, names in needed.items() if not set(names) & set(there)]
    flag, guessed = _flag(records, there, needed)
    told = [ours + (f" as {needed[ours][0]}" if len(needed[ours]) == 1 else "") for ours in lacking]
    if set(lacking) <= set(guessed) and not any(" as " in one for one in told):
        told = []  # the flag names them
    start = f"{sought}: {packing.shown(', '.join(told), 80)}{'; ' if told else ''}{flag}; it has "
    if len(start) > LONGEST - 20:
        start = start.replace(where, f"...{where[-40:]}", 1)
    return _fitting(start, ", ".join(packing.shown(name, 30) for name in there))


def no_items(where: str, there: Sequence[str], alike: Sequence[str]) -> str:
    """One line on metadata of which no column, or no single one, holds the items of the reviews."""
    why = f"{' and '.join(alike[:3])} hold them alike" if alike else "none of its columns does"
    start = f"{where}: which column holds the items of the reviews ({packing.shown(why, 80)})? "
    return _fitting(
        f"{start}say --columns item_id=NAME or give their metadata; it has ",
        ", ".join(packing.shown(name, 30) for name in there),
    )


def _flag(records: Sequence[dict], there: Sequence[str], needed: Fields) -> tuple[str, Sequence[str]]:
    """The flag with what is given and with what may be meant by what lacks, and which of our columns it has."""
    if any(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", name) for name in there):
        return "add a first line that names its columns", ()
    of_reviews = "user_id" in needed
    names = (*NAMES,) if of_reviews else ("title",)  # an item of metadata is told from those of the reviews
    all_names = wanted(NAMES | TITLES, *names) | {ours: needed[ours] for ours in names if ours in needed}
    chosen = [ours for ours in names if ours in needed and of_reviews and needed[ours] != wanted(NAMES, ours)[ours]]
    given = {ours: theirs for ours in chosen for theirs in needed[ours] if theirs in there}
    known = {ours for ours in names if set(all_names[ours]) & set(there)}
    taken = {name for ours in known for name in all_names[ours]}
    open_ = [{name: value for name, value in record.items() if name not in taken} for record in records]
    found = given | mapping(open_, [ours for ours in names if ours not in known])
    if not found:
        return "name its columns with --columns", ()
    text = ",".join(f"{ours}={found[ours]}" for ours in names if ours in found)
    text = shlex.quote(packing.shown(text, 200))
    return (f"try --columns {text}" if of_reviews else f"try {text} in --columns"), list(found)


def _named(ours: str, theirs: str) -> int:
    words = {word.lower() for word in WORDS.findall(theirs)} | {theirs.lower()}
    place = next((place for place, word in enumerate(LIKE[ours]) if word in words), None)
    if place is None:
        return 0
    # `user_name` and `product_title` are no ids.
    named = ours.endswith("_id") and words & {"name", "title", "text", "url"} and not words & {"id", "username"}
    return 1 if named else 4 - (place > 3)


def _held(ours: str, values: Sequence[str]) -> int:
    """How well values fit: 2 well, 0 neither, less where they cannot be meant."""
    if not values:
        return 0
    numbers = [float(value) for value in values if re.fullmatch(r"-?\d{1,30}(\.\d+)?", value)]
    numeric = len(numbers) > 0.9 * len(values)
    length = sum(map(len, values)) / len(values)
    spaced = sum(" " in value.strip() for value in values) / len(values)
    dated = sum(bool(DATE.fullmatch(value)) and len(value) < 40 for value in values) / len(values)
    timed = (numeric and min(numbers) > 10**8) or (dated > 0.9 and not numeric)
    if ours == "ratings":
        small = numeric and min(numbers) >= 0 and max(numbers) <= 100
        return (3 if max(numbers) <= 10 and len(set(numbers)) <= 11 else -1) if small else -9
    if ours == "unixReviewTime":
        return 3 if timed else -9
    if ours == "reviews":
        return -9 if numeric or timed else 3 if length > 15 and spaced > 0.7 else -1
    if ours == "title":
        return -9 if numeric or timed or length > 300 else 1
    small = numeric and max(numbers) <= 10 and len(set(numbers)) <= 10 and len(values) > 20
    return -9 if spaced > 0.5 or length > 60 or timed or small or (numeric and any(n % 1 for n in numbers)) else 1


def _long(needed: tuple[str, Sequence[str]]) -> int:
    # The longest lists last, where a message is cut.
    return {"user_id": 0, "ratings": 1}.get(needed[0], 2)


def _fitting(start: str, rest: str) -> str:
    room = LONGEST - len(start)
    return (start + (rest if len(rest) <= room else rest[: max(0, room - 4)].rstrip(", ") + " ..."))[:LONGEST]
