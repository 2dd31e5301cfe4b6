"""What our columns are called in dumps, and their values out of lines of JSON, as SQL."""

import math
from collections.abc import Iterable, Mapping, Sequence

from reason4rec.data.columns import MICROSECONDS, MILLISECONDS, NANOSECONDS
from reason4rec.data.forms import Dump
from reason4rec.errors import InputError

Fields = Mapping[str, Sequence[str]]
Scale = tuple[float, float]

NAMES = {  # our column: the names that it has in Amazon's dumps of 2014 and 2018, of 2023, in Yelp's, and our own
    "user_id": ("reviewerID", "user_id"),
    "item_id": ("parent_asin", "asin", "business_id", "item_id"),  # 2023: titles are by parent, an asin is one variant
    "ratings": ("overall", "rating", "stars", "ratings"),
    "reviews": ("reviewText", "text", "reviews"),
    "unixReviewTime": ("unixReviewTime", "timestamp", "date"),
}
TITLES = {"item_id": NAMES["item_id"], "title": ("title", "name")}
# Those of MovieLens, Goodreads and Google Local, and Amazon's time as a date: for files that have none of the above.
OTHERS = {
    "user_id": ("userId",),
    "item_id": ("movieId", "book_id", "gmap_id"),
    "reviews": ("review_text",),
    "unixReviewTime": ("time", "date_added", "reviewTime"),
    "title": ("book_title",),
}
KEYS = ("user_id", "item_id", "ratings", "unixReviewTime")
LATEST = 4_102_444_800  # the year 2100 in unix seconds; a later time is none
LONGEST_TITLE = 200  # characters; our decision: a title stands in every prompt of its item
BLANK = r"[\s\x0b\x1c-\x1f\x85\p{Z}]"
DATES = (  # beside those of ISO 8601, which the engine knows: of Amazon's reviewTime, of Goodreads, of mails and pages
    "%m %d, %Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Z %Y",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %Z",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %b %Y",
    "%d %B %Y",
)


def fields_of(columns: str) -> Fields:
    """The names of our columns in a dump: the known ones, and those given as `user_id=UserId,item_id=ProductId`.

    `title` may be given too; the reviews of the known dumps carry no title of their item. One given twice, for two
    files, has both names.
    """
    ours = (*NAMES, "title")
    given: dict[str, tuple[str, ...]] = {}
    for name, theirs in (pair.partition("=")[::2] for pair in columns.split(",")) if columns else ():
        if name not in ours or not theirs:
            raise InputError(
                f"--columns: {name[:60]}={theirs[:60]} is no NAME=THEIRS with NAME one of {', '.join(ours)}"
            )
        given[name] = (*given.get(name, ()), theirs)
    return NAMES | given


def scale_of(text: str) -> Scale:
    """The lowest and the highest rating in `0.5:5`; InputError if there are none."""
    low, colon, high = text.partition(":")
    try:
        scale = float(low), float(high)
    except ValueError:
        scale = math.nan, math.nan
    if not (colon and all(map(math.isfinite, scale)) and scale[0] < scale[1]):
        raise InputError(f"--scale: {text[:60]!r} is no LOWEST:HIGHEST, such as 0.5:5 or 1:10")
    return scale


def wanted(fields: Fields, *names: str) -> Fields:
    """All names by which columns may be found in a file: those given, or else all that are known."""
    known = NAMES | TITLES
    return {
        name: (*fields[name], *OTHERS.get(name, ())) if fields[name] == known[name] else fields[name] for name in names
    }


def resolved(fields: Fields, dump: Dump) -> Fields:
    """The names of our columns in this very file, judged by its first records."""
    there, found = set().union(*dump.first), {}
    for name, names in fields.items():
        others = [other for other in wanted(fields, name)[name] if other in there] if name in NAMES | TITLES else ()
        found[name] = names if there & set(names) or not others else tuple(others)
    return found


def divisor(dump: Dump, names: Sequence[str]) -> int:
    """By what to divide very large times of a file, 10**6 or 10**9; 0 where most of its first times are none such."""
    counts = {0: 0, 10**6: 0, 10**9: 0}
    for record in dump.first:
        value = next((record[name] for name in names if record.get(name) is not None), None)
        try:
            time = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            continue
        for unit, least in ((10**9, NANOSECONDS), (10**6, MICROSECONDS), (0, 0)):
            if time > least:
                counts[unit] += time / (unit or (1000 if time > MILLISECONDS else 1)) <= LATEST
                break
    return max(counts, key=counts.__getitem__)


def columns(fields: Fields, dump: Dump, *wanted: str) -> list[str]:
    """SQL of our columns from a line of JSON, in which `found` are the values of all their names.

    Beside each column stands its `raw_` value, as text.
    """
    found, pointers = [], []
    for name in wanted:
        names = fields.get(name, ())
        values = [f"found[{len(pointers) + k}]" for k in range(1, len(names) + 1)]
        of_names = [quoted("/" + name.replace("~", "~0").replace("/", "~1")) for name in names]
        pointers += of_names
        value = f"coalesce({', '.join(values)})" if values else "NULL"
        kinds = [f"nullif(TRY(json_type(line, {pointer})), 'NULL')" for pointer in of_names]
        kind = "'VARCHAR'" if not kinds or dump.form == "CSV" else f"coalesce({', '.join(kinds)})"
        unit = divisor(dump, names) if name == "unixReviewTime" else 0
        found.append(f"{_as(name, value, kind, unit, dump) if names else 'NULL::VARCHAR'} AS {name}")
        found.append(f"{value} AS raw_{name}")
    return [f"TRY(json_extract_string(line, [{', '.join(pointers)}])) AS found", *found]


def extracted(columns: Sequence[str], only: str = "") -> str:
    """SQL of columns of all lines that are not blank; `only` is a join that leaves some of the lines out."""
    found, *others = columns
    return f"""
        SELECT number, line, found, {", ".join(others)} FROM (
            SELECT number, line, {found} FROM lines {only} WHERE line IS NULL OR NOT regexp_full_match(line, '\\s*')
        )
    """


def short_title(title: str) -> str:
    """SQL of a title that is cut at the end of a word where it is too long."""
    most = LONGEST_TITLE
    words = rf"nullif(regexp_extract({title}[:{most}], '^(.{{{most // 2},{most - 2}}}\S) ', 1), '')"
    return f"CASE WHEN length({title}) <= {most} THEN {title} ELSE coalesce({words}, {title}[:{most - 1}]) || '…' END"


def quoted(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def number(value: float) -> str:
    """A number as people write it."""
    return repr(float(value)).removesuffix(".0")


def said(names: Iterable[str]) -> str:
    """Names as a message has them."""
    return " or ".join(names)


def _as(name: str, value: str, kind: str, unit: int, dump: Dump) -> str:
    """SQL of a column from its value as text, and the kind that it has in JSON."""
    if name in ("user_id", "item_id"):
        listed = f"{value}[1] IN ('[', '{{') AND json_valid({value})"  # an id may be in brackets
        # A column of whole numbers with gaps is often written as one of floats.
        typed = "" if dump.form == "CSV" else f" AND {kind} = 'DOUBLE'"
        whole = f"regexp_full_match({value}, '-?[0-9]+\\.0+'){typed}"
        text = f"CASE WHEN {whole} THEN regexp_replace({value}, '\\.0+$', '') ELSE {value} END"
        return f"CASE WHEN {value} != '' AND NOT ({listed}) THEN {text} END"
    if name == "ratings":
        return f"TRY_CAST({value} AS DOUBLE)"
    if name == "reviews":
        return f"coalesce({value}, '')"
    if name == "title":
        filled = rf"json_type(x) = 'VARCHAR' and not regexp_full_match(x->>'$', '{BLANK}*')"
        texts = f"[x->>'$' for x in json_extract({value}, '$[*]') if {filled}]"
        title = f"""CASE WHEN {value}[1] NOT IN ('[', '{{') THEN {value} WHEN {kind} = 'OBJECT' THEN NULL
            WHEN {kind} = 'ARRAY' THEN {texts}[1] ELSE {value} END"""
        return f"nullif(trim(regexp_replace({title}, '{BLANK}+', ' ', 'g')), '')"
    # A date without marks would pass for seconds, and the engine takes words such as "epoch" for times.
    date = rf"regexp_full_match({value}, '(19|20)\d\d[01]\d[0-3]\d|[a-zA-Z]+')"
    written = f"TRY_CAST({value} AS TIMESTAMPTZ), try_strptime({value}, [{', '.join(map(quoted, DATES))}])"
    time = f"CASE WHEN NOT {date} THEN coalesce(TRY_CAST({value} AS DOUBLE), epoch(coalesce({written}))) END"
    least = NANOSECONDS if unit == 10**9 else MICROSECONDS
    large = f"WHEN {time} > {least} THEN {time} / {unit}" if unit else ""
    seconds = f"CASE {large} WHEN {time} > {MILLISECONDS} THEN {time} / 1000 ELSE {time} END"
    return f"TRY_CAST(floor({seconds}) AS BIGINT)"
