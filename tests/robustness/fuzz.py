"""Fuzzes whatever reads what others wrote, by hand: `python tests/fuzz.py --minutes 10 [--seed N]`.

Every target is a rule that holds for any input, not only that nothing crashes. Inputs are drawn by hypothesis, which
shrinks what it finds, or are valid files that were mutated with a seed. A target is left alone once it has a finding.
Prints cases, cases per second and findings of each target, and ends with code 1 if there are any.
"""

import argparse
import contextlib
import gzip
import io
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
for name, value in {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}.items():
    os.environ.setdefault(name, value)

import numpy as np
import pandas as pd
import test_dumps as written
import test_files as honest
import test_forms as other_forms
import test_harmless_pickles as harmless
import test_injection as injection
from hypothesis import HealthCheck, Verbosity, given, seed, settings
from hypothesis import strategies as st

from reason4rec.data import dumps, preprocess, schema
from reason4rec.errors import InputError
from reason4rec.llm import tokens
from reason4rec.llm.prompt import training_row
from reason4rec.run import files as files_module
from reason4rec.systems.reason4rec import baseline_runs, prompts, reason_checks, reason_scores
from reason4rec.training import trainer

SLOW = 1  # seconds of processor time that inputs of these sizes may take on average
HANGS = 300  # seconds after which a round is given up
MEMORY = 1500  # MB that reading such inputs may take; the engine of the dumps may have most of it
SCRATCH = tempfile.TemporaryDirectory(prefix="fuzz-")
FOLDER = Path(SCRATCH.name)
TOKENIZER = tokens.load_tokenizer(ROOT / "reason4rec" / "demo" / "base")
SPECIAL = set(TOKENIZER.added_tokens_decoder)
FIELDS = {name: preprocess.NAMES[name] for name in preprocess.KEYS}


class Hang(BaseException):
    """A round that does not end; no `except Exception` may take it for an error of its own."""


def put(content: bytes) -> Path:
    """A file with this content."""
    path = FOLDER / "file"
    path.write_bytes(content)
    return path


def told(read: Callable, *given: object) -> object:
    """What a reader gives, or its complaint, which must be one line of text."""
    try:
        return read(*given)
    except InputError as error:
        message = str(error)
        assert message and "\n" not in message, message
        return InputError, message


# Mutated files


def mutations(draw: random.Random) -> list[tuple]:
    """A few changes of a file: places as shares of its length, so that one can be left out without moving others."""
    kinds = ("bit", "byte", "set", "cut", "double", "insert", "end", "swap")
    return [
        (draw.choice(kinds), draw.random(), draw.choice((1, 1, 2, 4, 8, 64)), draw.randbytes(8))
        for _ in range(draw.choice((1, 1, 1, 2, 3, 6)))
    ]


def mutated(content: bytes, changes: list[tuple]) -> bytes:
    """The file with the changes made."""
    edges = (b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\x40", b"\x7f", b"\x80")
    for kind, place, size, noise in changes:
        at = int(place * len(content))
        part, rest = content[at : at + size], content[at + size :]
        part = {
            "bit": bytes(b ^ (1 << noise[0] % 8) for b in part[:1]) + part[1:],
            "byte": noise[:1] + part[1:],
            "set": edges[noise[0] % len(edges)][:size],
            "cut": b"",
            "double": part * 2,
            "insert": noise[:size] + part,
            "end": part,
            "swap": part[::-1],
        }[kind]
        content = content[:at] + part + (b"" if kind == "end" else rest)
    return content


def havoc(files: Callable[[], list[bytes]], check: Callable[[bytes], None]) -> Callable:
    """A target that checks valid files with seeded changes; of a failure, the fewest of its changes are told."""
    valid = files()

    def fails(content: bytes, changes: list[tuple]) -> Exception | None:
        try:
            check(mutated(content, changes))
        except Exception as error:
            return error
        return None

    def run(number: int, count: list[int]) -> None:
        draw = random.Random(number)
        for _ in range(100):
            content, changes = draw.choice(valid), mutations(draw)
            count[0] += 1
            error = fails(content, changes)
            if error is None:
                continue
            for change in list(changes):
                fewer = [other for other in changes if other is not change]
                if fewer and fails(content, fewer):
                    changes = fewer
            error.add_note(f"file: {mutated(content, changes)!r}\nchanges: {changes}")
            raise error

    return run


def drawn(*strategies: st.SearchStrategy, n: int = 100) -> Callable:
    """A target that hypothesis draws the input of."""

    def of(check: Callable) -> Callable:
        def run(number: int, count: list[int]) -> None:
            def counted(values: tuple) -> None:
                count[0] += 1
                try:
                    check(*values)
                except Exception as error:
                    error.add_note(f"input: {values!r}")
                    raise

            quiet = {"deadline": None, "database": None, "verbosity": Verbosity.quiet, "print_blob": False}
            limits = settings(max_examples=n, suppress_health_check=list(HealthCheck), **quiet)
            seed(number)(limits(given(st.tuples(*strategies))(counted)))()

        return run

    return of


def pickles() -> list[bytes]:
    """Honest pickles, and the parts that hostile ones are made of."""
    frames = [honest.VARIANTS[name](honest.reviews(3)) for name in honest.VARIANTS]
    others = [harmless.frame_of(column) for column in (*harmless.WHOLE.values(), *harmless.ARRAYS.values())]
    others += [harmless.frame_of(harmless.cells(value)) for value, _ in harmless.FOREIGN.values()]
    others += [honest.reviews(len(index)).set_axis(index) for index in harmless.INDEXES.values()]
    old = [pickle.dumps(frame, protocol=protocol) for frame in (*frames[:4], *others) for protocol in (0, 2, 5)]
    old += [pack(pickle.dumps(honest.reviews(3))) for pack in harmless.PACKED.values()]
    plain = [honest.ROWS, {"a": [1, 2.5, None, "é", b"b", 2**40]}, ["x" * 300, list(range(300))]]
    found = [pickle.dumps(content, protocol=protocol) for content in (*frames, *plain) for protocol in (4, 5)]
    return [*found, *old, *(path.read_bytes() for path in honest.DATA.glob("*.pkl"))] + [
        b"\x80\x05" + content + b"." for content in honest.HOSTILE.values() if len(content) < 5_000
    ]


def check_pickle(content: bytes) -> None:
    """Plain data or bad input, the same both times; where columns are needed the others are left out or the same."""
    path = put(content)
    found, again = told(files_module.read_pickle, path), told(files_module.read_pickle, path)
    # Not by comparing or printing them: a list of lists that are there twice takes for ever.
    assert pickle.dumps(found) == pickle.dumps(again)
    with contextlib.redirect_stdout(io.StringIO()):  # the notes
        needed = told(files_module.read_pickle, path, schema.REVIEW_COLUMNS)
    if isinstance(found, pd.DataFrame):
        assert pickle.dumps(needed) == pickle.dumps(found)
        told(schema.check_frame, found, schema.REVIEW_COLUMNS, "file")
    else:
        told(schema.check_messages, found, "file")


CODES = [bytes([code]) for code in range(256)]
NAMES = [f"c{module}\n{name}\n".encode() for module, name in files_module.SafeUnpickler.__init__.__globals__["_NAMES"]]
values = st.one_of(
    st.sampled_from(
        [b")", b"]", b"}", b"(", b"N", b"\x88", b"\x89", b"t", b"R", b"b", b"\x81", b"u", b"s", b"e", b"a"]
    ),
    st.sampled_from([b"\x85", b"\x86", b"\x87", b"\x94", b"h\x00", b"h\x01", b"q\x00", b"q\x01", b"\x93", b"0", b"2"]),
    st.sampled_from(NAMES + [b"cos\nsystem\n", b"cbuiltins\neval\n"]),
    st.sampled_from(CODES),
    st.integers(-(2**40), 2**40).map(lambda n: pickle.dumps(n, protocol=3)[2:-1]),
    st.text(max_size=4).map(lambda text: pickle.dumps(text, protocol=3)[2:-1].replace(b"q\x00", b"")),
    st.binary(max_size=9).map(lambda data: pickle.dumps(data, protocol=3)[2:-1].replace(b"q\x00", b"")),
    st.sampled_from([value for group in (honest.CRASHING, honest.FOREIGN, honest.LARGE) for value in group.values()]),
    st.sampled_from([honest.INT, honest.OBJECT, honest.numbered(3), honest.array((1,), honest.INT, honest.POINTER)]),
)


@drawn(st.lists(values, max_size=12).map(b"".join))
def pickle_programs(program: bytes) -> None:
    if len(program) < 20_000:
        check_pickle(b"\x80\x05" + program + b".")


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5) | st.integers(),
    st.floats(),
    st.text(max_size=3) | st.sampled_from(["5", "17", "2014-05-01 12:00:00", "1400000000", "nan"]),
    st.binary(max_size=3),
    st.decimals(),
    st.datetimes() | st.dates(),
    st.sampled_from([pd.NA, pd.NaT, pd.Timestamp("2014", tz="UTC"), np.int64(3), np.float32(2.5), (1,), {1}, [1], {}]),
)
DTYPES = (object, None, "category", "Int64", "Float64", "boolean", "string", "datetime64[ns]", "float32")


@drawn(
    st.lists(st.tuples(st.sampled_from(schema.REVIEW_COLUMNS), st.lists(cells, min_size=4, max_size=4)), max_size=2),
    st.sampled_from(DTYPES),
    st.sampled_from([(), ("user_id",), ("user_id", "unixReviewTime"), ("title",)]),
    st.integers(0, 5),
)
def tables(columns: list[tuple[str, list]], dtype: object, labels: tuple[str, ...], protocol: int) -> None:
    """A table of reviews with ids of texts and times of seconds, which is read again as it is, or bad input."""
    frame = honest.reviews(4)
    for name, column in columns:
        with contextlib.suppress(Exception):  # pandas does not make a column of every type of everything
            frame[name] = pd.Series(column, dtype=dtype)
    with contextlib.suppress(Exception):
        frame = frame.set_index(list(labels)) if labels else frame
    path = FOLDER / schema.TEST.path
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(frame, protocol=protocol))
    with contextlib.redirect_stdout(io.StringIO()):  # the notes
        found = told(schema.read, FOLDER, schema.TEST)
        if isinstance(found, tuple):
            assert str(path) in found[1]
            return
        schema.check_frame(found, schema.REVIEW_COLUMNS, "table")
        assert all(type(one) is str for name in ("user_id", "item_id") for one in found[name])
        assert found["unixReviewTime"].dtype.kind in "iu" and found["ratings"].dtype.kind in "iuf"
        files_module.write_pickle(path, found)
        pd.testing.assert_frame_equal(schema.read(FOLDER, schema.TEST), found)


def dump_files() -> list[bytes]:
    """Every format of a dump in every packing."""
    found = []
    for record, write, _ in written.FORMATS.values():
        content = write([record, {**record, "asin": "i2"}, record])
        found += [pack(content) for pack in written.PACKINGS.values()]
    found += [one(other(content)) for one in written.PACKINGS.values() for other in (gzip.compress, written.in_tar)]
    reviews = [written.OF_2014, {**written.OF_2014, "asin": "i2", "reviewText": 'Café "😀"'}]
    arrays = [write(reviews) for write in other_forms.ARRAYS.values()]
    found += [*arrays, *(pack(one) for pack in other_forms.PACKINGS.values() for one in (arrays[1], content))]
    found += [written.as_csv(reviews, delimiter).decode().encode("utf-16") for delimiter in dumps.DELIMITERS]
    found.append(written.as_csv(reviews).replace(b'""', b'\\"').replace(b",", b" , "))
    return [*found, written.yelp(written.in_tar, list(written.YELP_FILES))]


def lines_of(dump: dumps.Dump) -> list[dict]:
    """All lines of a dump."""
    return [row for part in dumps.batches(dump) for row in part.to_pylist()]


def lines_found(path: Path) -> list[dict]:
    """All lines of what is found in a file."""
    return lines_of(dumps.find(path, FIELDS))


def check_dump(content: bytes) -> None:
    """Numbered lines or bad input, and the same both times."""
    path = put(content)
    found = told(lines_found, path)
    assert found == told(lines_found, path)
    if isinstance(found, list):
        numbers = [row["number"] for row in found]
        assert numbers == sorted(set(numbers)) and min(numbers, default=1) > 0
        assert all(row["line"] is None or "\n" not in row["line"].rstrip("\n") for row in found)


@drawn(st.lists(written.lines, max_size=30), st.integers(1, 300), n=20)
def review_lines(lines: list[bytes], part: int) -> None:
    """Read or broken exactly as a plain loop over the lines finds them."""
    content = b"\n".join([written.as_json([written.OF_2014]).rstrip(), *lines])
    rows, broken = written.plain_reading(content)
    with mock.patch.object(dumps, "PART", part), mock.patch.multiple(preprocess, PER_BROKEN=0, SHOWN=100):
        reading, found = written.read(put(content))
    assert {number: tuple(row[:-1]) for number, row in found.items()} == rows
    assert list(reading.faults) == broken


@drawn(
    st.lists(st.dictionaries(other_forms.texts, st.none() | st.integers() | other_forms.texts, max_size=3), max_size=6),
    st.integers(1, 60),
    st.binary(max_size=3),
    st.integers(0, 99),
)
def json_arrays(records: list[dict], part: int, noise: bytes, place: int) -> None:
    """Each record of an array is one, wherever a block ends; with noise in it there are records or bad input."""
    content = written.json.dumps(records, indent=part % 3 or None).encode()
    at = len(content) * place // 100
    for text in (content, content[:at] + noise + content[at:]):
        with mock.patch.object(dumps, "PART", part):
            found = told(lines_of, dumps.Dump(put(text), "", "JSON array"))
        if text is content:
            lines = [row["line"] for row in found if row["line"].strip()]
            plain = [written.as_json([record]) for record in records]
            rows = lines_of(dumps.Dump(put(b"".join(plain)), "", "JSON lines"))
            assert list(map(written.json.loads, lines)) == [written.json.loads(row["line"]) for row in rows]


literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@drawn(st.lists(st.dictionaries(st.text(max_size=4), literals, max_size=3), min_size=1, max_size=5), st.integers(0, 99))
def literal_lines(records: list[dict], place: int) -> None:
    """Any literal is JSON of one line or broken, and a line with a piece missing is no error."""
    content = written.as_literals(records)
    at = len(content) * place // 100
    for text in (content, content[:at] + content[at + 1 :]):
        lines = told(lines_of, dumps.Dump(put(text), "", "Python literals"))
        assert isinstance(lines, list) and len(lines) == text.count(b"\n") + (not text.endswith(b"\n") and text != b"")


@drawn(
    st.lists(written.cells, min_size=1, max_size=8),
    st.sampled_from(dumps.DELIMITERS),
    st.binary(max_size=3),
    st.integers(0, 99),
)
def csv_rows(texts: list[str], delimiter: str, noise: bytes, place: int) -> None:
    """Any cell is read as it was written; with noise in the file there are rows or broken lines and no error."""
    content = written.as_csv([{"a": text, "b": "x"} for text in texts], delimiter)
    at = len(content) * place // 100
    for text in (content, content[:at] + noise + content[at:]):
        found = told(lines_of, dumps.Dump(put(text), "", "CSV", delimiter))
        assert isinstance(found, list)
        if text is content:
            assert [written.json.loads(row["line"])["a"] for row in found] == texts


def toy(k: int, user: int, item: int, rating: float, time_: int, text: str) -> dict:
    return {
        **written.OF_2014,
        "reviewerID": f"u{user}",
        "asin": f"i{item}",
        "overall": rating,
        "unixReviewTime": time_,
        "reviewText": f"{text}{k}",
    }


reviews = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(0, 4), st.integers(1, 5), st.integers(0, 2_000_000_000), st.text(max_size=5)
    ),
    max_size=40,
)


@drawn(reviews, st.integers(1, 3), st.none() | st.integers(1, 300), st.booleans(), n=10)
def splits(drafts: list[tuple], core: int, months: int | None, window_first: bool) -> None:
    """Splits that are tables of reviews, later than one another and dense enough, or bad input; the same both times."""
    path = put(written.as_json([toy(k, *draft) for k, draft in enumerate(drafts)]))
    options = {"core": core, "months": months, "window_first": window_first}

    def read() -> list[pd.DataFrame]:
        made = preprocess.preprocess(path, None, FOLDER / "scratch", **options)
        return [made.train, made.valid, made.test]

    found, again = told(read), told(read)
    assert not (FOLDER / "scratch").exists()
    if isinstance(found, tuple):
        assert found == again
        return
    for part, other in zip(found, again, strict=True):
        pd.testing.assert_frame_equal(part, other)
        schema.check_frame(part, schema.REVIEW_COLUMNS, "split")
    train, valid, test = (part["unixReviewTime"] for part in found)
    assert train.max() < valid.min() and valid.max() < test.min()
    everything = pd.concat(found)
    assert not everything.duplicated(["user_id", "item_id"]).any()
    if months is None:
        assert min(everything["user_id"].value_counts().min(), everything["item_id"].value_counts().min()) >= core


# Words

FORMS = (
    prompts.RATING_PREFIX,
    "Score: ",
    "score",
    "Predicted Rating:",
    *(f"{part}: " for part in prompts.SUMMARY_PARTS),
)
NUMBERS = (
    "5",
    "0",
    "6",
    "0.5",
    "4.5",
    "5.01",
    "45",
    "4,5",
    "100",
    "101",
    "1e9",
    "5/5",
    "3 out of 5",
    "٣",
    "½",
    "-1",
    "",
)
words = st.lists(
    st.one_of(
        st.sampled_from(list(injection.HOSTILE.values())),
        st.sampled_from([":", ": ", "\n", " ", "\t", "-", "*", ",", ".", "/", "out of", "(0-100)"]),
        st.tuples(st.sampled_from(["", "\n"]), st.sampled_from(FORMS), st.sampled_from(NUMBERS)).map("".join),
        st.text(max_size=5),
    ),
    max_size=10,
).map("".join)


@drawn(words, n=500)
def summaries(text: str) -> None:
    """A summary is one by a plain reading of its lines, and stays one whatever lines are put around it."""

    def filled(part: str) -> bool:
        rests = [line[len(part) + 1 :].lstrip(" \t") for line in text.split("\n") if line.startswith(f"{part}:")]
        return any(rest and not rest[0].isspace() for rest in rests)

    assert prompts.is_summary(text) == all(map(filled, prompts.SUMMARY_PARTS))
    whole = "".join(f"{part}: x\n" for part in prompts.SUMMARY_PARTS)
    assert prompts.is_summary(f"{text}\n{whole}{text}")


@drawn(words, st.integers(1, 5), st.integers(0, 100), n=500)
def ratings_and_scores(text: str, rating: int, score: int) -> None:
    """A rating is of 1 to 5 or missing, a score of 0 to 100; the last rating counts, and a score alone is found."""
    found, judged = baseline_runs.rating_in(text), reason_scores.judged_score(text)
    assert np.isnan(found) or 1 <= found <= 5
    assert np.isnan(judged) or 0 <= judged <= 100
    assert baseline_runs.rating_in(f"{text}\n{prompts.rating_answer(rating)}") == rating
    if "score" not in text.lower():
        assert reason_scores.judged_score(f"Why: {text}\nScore: {score}") == score
    reason_checks.rating_in_words(text), reason_checks.aspects(text)
    reason_checks.named_aspects(text, {("x",)}), reason_checks.checks([text, text], [text, "x"])


@drawn(words, n=30)
def filled_prompts(text: str) -> None:
    """Every prompt is its template around the text, in words and in tokens."""
    injection.check_prompts(TOKENIZER, text)


@drawn(words, st.integers(1, 40), st.integers(0, 1200), n=60)
def shortened_prompts(text: str, times: int, longest: int) -> None:
    """What is shortened fits, keeps all that may not be cut, and is cut no more than it must; or is bad input."""
    for prompt, _ in injection.told(f"{text} word " * times).values():
        spans = sorted(prompt.optional)
        assert all(0 <= a < b <= c for (a, b), (c, _) in zip(spans, [*spans[1:], (len(prompt.text), 0)]))
        found = told(tokens.encode, TOKENIZER, prompt, longest)
        least = prompt.without(len(spans))
        if found[0] is InputError:
            assert len(tokens.chat_ids(TOKENIZER, least)) > longest
            continue
        ids, cut = found
        assert len(ids) <= longest and ids == tokens.chat_ids(TOKENIZER, prompt.without(cut))
        assert least.startswith(prompt.text[: spans[0][0]] if spans else prompt.text)
        head = tokens.head_length(TOKENIZER, prompt, ids)
        assert 0 <= head < len(ids)
        rows, n = trainer.fit_rows([training_row(prompt, "Yes.")], TOKENIZER, longest + 10, quiet=True)
        assert n in (0, 1) and len(rows[0]["input_ids"]) <= longest + 10


@drawn(words | st.text(max_size=50) | st.text(st.characters(exclude_categories=()), max_size=20), n=300)
def any_text(text: str) -> None:
    """Text comes back from its tokens, none of which is special; half a character is named."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        assert told(tokens.chat_ids, TOKENIZER, text)[0] is InputError
        return
    ids = tokens.plain_ids(TOKENIZER, text)
    assert not SPECIAL & set(ids) and TOKENIZER.decode(ids) == text
    told_ids = tokens.chat_ids(TOKENIZER, text)
    assert [i for i in told_ids if i in SPECIAL] == [i for i in tokens.chat_ids(TOKENIZER, "x") if i in SPECIAL]
    assert tokens.answer_ids(TOKENIZER, text) == [*tokens.plain_ids(TOKENIZER, text.strip()), TOKENIZER.eos_token_id]


@drawn(
    st.text(st.characters(exclude_categories=()), max_size=8), st.text(st.sampled_from("\ud83d\ude00a\\"), max_size=6)
)
def pickled_text(one: str, other: str) -> None:
    """Texts come back from a pickle as they were, with whole characters where there were halves."""
    content = [one, {other: other}, f"{one}{other}"]
    found = files_module.read_pickle(put(pickle.dumps(content, protocol=5)))
    assert found == [written.whole(one), {written.whole(other): written.whole(other)}, written.whole(content[2])]


TARGETS = {
    "pickles, mutated": havoc(pickles, check_pickle),
    "pickles, programs": pickle_programs,
    "pickles, text": pickled_text,
    "pickles, tables": tables,
    "dumps, mutated": havoc(dump_files, check_dump),
    "dumps, JSON lines": review_lines,
    "dumps, JSON arrays": json_arrays,
    "dumps, literals": literal_lines,
    "dumps, CSV": csv_rows,
    "splits": splits,
    "summaries": summaries,
    "ratings and scores": ratings_and_scores,
    "prompts, filled": filled_prompts,
    "prompts, shortened": shortened_prompts,
    "tokens": any_text,
}


@dataclass
class Tally:
    """What became of a target."""

    cases: list[int] = field(default_factory=lambda: [0])
    seconds: float = 0.0
    rounds: int = 0
    finding: str = ""


def rounds(minutes: float) -> Iterator[str]:
    """The targets in turn until the time is up; each gets as much time as the others."""
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        open_ = [name for name in TARGETS if not TALLIES[name].finding]
        if not open_:
            return
        yield min(open_, key=lambda name: TALLIES[name].seconds)


TALLIES = {name: Tally() for name in TARGETS}


def hang(*_: object) -> None:
    raise Hang(f"no end after {HANGS} s")


def one_round(name: str, number: int) -> str:
    """Runs a target once with a seed; what was found, or nothing."""
    tally = TALLIES[name]
    before, cases = time.process_time(), tally.cases[0]
    signal.alarm(HANGS)
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):  # the bars of the readers
            TARGETS[name](number, tally.cases)
    except (Exception, Hang) as error:
        return "".join(traceback.format_exception(error))[-6_000:]
    finally:
        signal.alarm(0)
    spent, done = time.process_time() - before, tally.cases[0] - cases
    if spent > SLOW * max(10, done):
        return f"{done} cases took {spent:.0f} s"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10 > MEMORY:
        return f"the process has grown to {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="how long, for all targets together")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first round; later rounds count on from it")
    parser.add_argument("--target", choices=TARGETS, help="only this one")
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, hang)
    for name in [name for name in TARGETS if args.target and name != args.target]:
        del TARGETS[name]
    for name in rounds(args.minutes):
        tally, started = TALLIES[name], time.perf_counter()
        number = args.seed + tally.rounds
        tally.rounds += 1
        found = one_round(name, number)
        tally.seconds += time.perf_counter() - started
        if found:
            tally.finding = f"--target {name!r} --seed {number}\n{found}"
            print(f"FOUND {tally.finding}", flush=True)
    print(f"{'target':<22} {'cases':>10} {'cases/s':>9}  findings")
    for name in TARGETS:
        tally = TALLIES[name]
        rate = tally.cases[0] / max(tally.seconds, 1e-9)
        print(f"{name:<22} {tally.cases[0]:>10,} {rate:>9,.0f}  {1 if tally.finding else 0}")
    return 1 if any(TALLIES[name].finding for name in TARGETS) else 0


if __name__ == "__main__":
    sys.exit(main())
