"""Reading raw dumps: every format in every packing gives its rows; a broken line is counted, numbered and kept out."""

import gzip
import io
import json
import math
import random
import re
import tarfile
import zipfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reason4rec.data import dumps, preprocess
from reason4rec.data.dumps import Dump
from reason4rec.errors import InputError

OF_2014 = {"reviewerID": "u1", "asin": "i1", "overall": 4.0, "reviewText": "Fine.", "unixReviewTime": 1_400_000_000}
OF_2018 = {"verified": True, "reviewTime": "05 13, 2014", **OF_2014, "vote": "2", "style": {"Format:": " Audio CD"}}
OF_2023 = {
    "rating": 4.0,
    "title": "the review's own title",
    "text": "Fine.",
    "images": [],
    "asin": "a variant",
    "parent_asin": "i1",
    "user_id": "u1",
    "timestamp": 1_400_000_000_123,
    "verified_purchase": True,
}
OF_YELP = {
    "review_id": "r1",
    "user_id": "u1",
    "business_id": "i1",
    "stars": 4.0,
    "useful": 0,
    "text": "Fine.",
    "date": "2014-05-13 16:53:20",
}
FOOD = {"Id": 1, "ProductId": "i1", "UserId": "u1", "Score": 4, "Time": 1_400_000_000, "Summary": "?", "Text": "Fine."}
FOOD_MAP = "user_id=UserId,item_id=ProductId,ratings=Score,unixReviewTime=Time,reviews=Text"
ROW = ("u1", "i1", 4.0, "Fine.", 1_400_000_000)  # what all of these are


def as_json(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def as_literals(records):
    return "".join(f"{record!r}\n" for record in records).encode()


def as_csv(records, delimiter=","):
    def cell(value):
        return '"' + str(value).replace('"', '""') + '"'

    rows = [list(records[0]), *(record.values() for record in records)]
    return "".join(delimiter.join(map(cell, row)) + "\r\n" for row in rows).encode()


def as_tsv(records):
    return as_csv(records, "\t")


def in_zip(content, *others, name="d/data.txt"):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("d/", b"")
        for member, inside in (*others, (name, content)):
            archive.writestr(zipfile.ZipInfo(member), inside, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def in_tar(content, *others, name="./data", form=tarfile.GNU_FORMAT):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        folder = tarfile.TarInfo("./d")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for member, inside in (*others, (name, content)):
            entry = tarfile.TarInfo(member)
            entry.size = len(inside)
            archive.addfile(entry, io.BytesIO(inside))
    return packed.getvalue()


PACKINGS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip in two parts": lambda content: gzip.compress(content[:50]) + gzip.compress(content[50:]),
    "zip": in_zip,
    "tar": in_tar,
    "tar of POSIX": lambda content: in_tar(content, form=tarfile.PAX_FORMAT),
    "tar.gz": lambda content: gzip.compress(in_tar(content)),
    "tar in zip": lambda content: in_zip(in_tar(content)),
    "gzip in tar": lambda content: in_tar(gzip.compress(content)),
    "zip in zip": lambda content: in_zip(in_zip(content)),
}
FORMATS = {
    "2014": (OF_2014, as_json, ""),
    "2014 as literals": (OF_2014, as_literals, ""),
    "2018": (OF_2018, as_json, ""),
    "2023": (OF_2023, as_json, ""),
    "Yelp": (OF_YELP, as_json, ""),
    "CSV": (FOOD, as_csv, FOOD_MAP),
    "TSV": (FOOD, as_tsv, FOOD_MAP),
    "CSV with semicolons": (FOOD, lambda records: as_csv(records, ";"), FOOD_MAP),
    "CSV with known names": (OF_2014, as_csv, ""),
}


def put(path, content):
    path.write_bytes(content)
    return path


def read(path, columns="", limit=None, titles=None):
    """What a dump held, and (user, item, rating, text, time, title) by line number of its unbroken reviews."""
    fields = preprocess.fields_of(columns)
    with preprocess.engine(path.parent / "scratch") as db:
        reading = preprocess.read_keys(db, path, fields, limit)
        preprocess.read_kept(db, reading.dump, fields, limit)
        if titles is not None:
            preprocess.read_titles(db, titles)
        columns = "number, user_id, item_id, ratings, reviews, unixReviewTime, title"
        rows = db.execute(f"SELECT {columns} FROM reviews ORDER BY number").fetchall()
    return reading, {number: row for number, *row in map(tuple, rows)}


def rows_of(path, *args):
    """The unbroken reviews without their titles."""
    return [tuple(row[:-1]) for row in read(path, *args)[1].values()]


def titles_of(folder, metadata, *items):
    """The titles that items get from metadata."""
    reviews = put(folder / "of_items", as_json([{**OF_2014, "asin": item} for item in items]))
    return {item: title for _, item, _, _, _, title in read(reviews, titles=metadata)[1].values()}


def refused(act, path, *args):
    with pytest.raises(InputError) as error:
        act(path, *args)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def lines_of(path, form="JSON lines", limit=None, delimiter=""):
    """The lines of a dump as they go to the engine, by number."""
    parts = dumps.batches(Dump(path, "", form, delimiter), limit)
    return [(row["number"], row["line"]) for part in parts for row in part.to_pylist()]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_in_every_packing_gives_its_rows_whatever_the_file_is_called(tmp_path, format_, packing):
    record, write, columns = FORMATS[format_]
    for name in ("meta.csv", "x.json.gz") if packing == "plain" else ("reviews.json",):
        path = put(tmp_path / name, PACKINGS[packing](write([record, record])))
        assert rows_of(path, columns) == [ROW, ROW]


@pytest.mark.parametrize("write", [as_json, as_literals, as_csv])
@pytest.mark.parametrize("change", ["mark", "CRLF", "no end", "blank lines"])
def test_marks_and_line_ends_of_other_systems_change_nothing_but_numbers(tmp_path, write, change):
    content = write([OF_2014, {**OF_2014, "asin": "i2"}])
    first = 2 if write is as_csv else 1
    expected = [first, first + 1]
    if change == "mark":
        content = b"\xef\xbb\xbf" + content
    elif change == "CRLF":
        content = content.replace(b"\r", b"").replace(b"\n", b"\r\n")
    elif change == "no end":
        content = content.rstrip()
    else:
        content = b"\n\r\n" + content.replace(b"\n", b"\n\n \n" if write is not as_csv else b"\n\n\n") + b"\n\n"
        expected = [2 + 3 * first - 2, 2 + 3 * first + 1]
    reading, rows = read(put(tmp_path / "dump", content))
    assert {number: row[1] for number, row in rows.items()} == dict(zip(expected, ["i1", "i2"]))
    assert (reading.lines, reading.broken, reading.faults) == (2, 0, {})


YELP_FILES = {
    "tip": {"user_id": "u9", "business_id": "i9", "text": "t", "date": "2014-01-01 00:00:00", "compliment_count": 0},
    "user": {"user_id": "u9", "name": "Ann", "review_count": 3, "average_stars": 4.0},
    "checkin": {"business_id": "i9", "date": "2014-01-01 00:00:00, 2014-01-02 00:00:00"},
    "business": {"business_id": "i1", "name": "The Diner", "stars": 3.5, "attributes": None, "hours": None},
    "review": OF_YELP,
}
JUNK = (
    ("._review.json", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00" + bytes(100)),
    ("agreement.pdf", b"%PDF-1.5\r%\xe2\xe3\xcf\xd3\r\n1 0 obj\r" + b"x" * 200_000 + b'\n"'),
    ("empty.json", b""),
    ("photos.zip", in_zip(b"\xff\xd8")),
    ("folder.json/README.txt", b'Who reads "this, reads\nno review.\n'),
)


def yelp(pack, order):
    files = [(f"yelp_academic_dataset_{name}.json", as_json([YELP_FILES[name]] * 3)) for name in order]
    return pack(b"the end", *JUNK, *files, name="Dataset_User_Agreement.txt")


@pytest.mark.parametrize("order", [list(YELP_FILES), list(YELP_FILES)[::-1]], ids=["tips first", "reviews first"])
@pytest.mark.parametrize(
    "pack", [in_tar, in_zip, lambda *files, **how: in_zip(in_tar(*files, **how), ("__MACOSX/._a.tar", JUNK[0][1]))]
)
def test_yelps_archive_is_read_as_it_is_for_reviews_and_for_metadata(tmp_path, pack, order):
    path = put(tmp_path / "yelp_dataset", yelp(pack, order))
    reading, rows = read(path, titles=path)
    assert list(rows.values()) == [[*ROW, "The Diner"]] * 3
    assert reading.dump.member.endswith("yelp_academic_dataset_review.json")
    assert str(path) in reading.dump.name and reading.dump.member in reading.dump.name


def test_a_file_of_one_endless_line_in_an_archive_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(dumps, "LONGEST", 1_000)
    path = put(tmp_path / "dump", in_zip(as_json([OF_2014]), ("a.mp4", b"{" * 5_000)))
    assert rows_of(path) == [ROW]


def test_a_file_without_a_name_in_a_zip_was_the_end(tmp_path):
    assert rows_of(put(tmp_path / "dump", in_zip(as_json([OF_2014]), ("", b"what is this?")))) == [ROW]


def test_an_archive_without_reviews_is_refused_with_the_fields_that_were_sought(tmp_path):
    path = put(tmp_path / "dump", yelp(in_tar, ["tip", "user"]))
    message = refused(read, path)
    assert "user_id: reviewerID or user_id" in message and "ratings: overall or rating or stars" in message


def test_a_review_of_mustard_was_taken_for_a_tar(tmp_path):
    line = as_json([{**OF_2014, "reviewText": "x" * 400}])
    line = line[:257] + b"ustar" + line[262:]
    assert len(rows_of(put(tmp_path / "dump", line))) == 1


def test_reviews_of_2023_were_named_after_variants_that_have_no_title(tmp_path):
    """Each variant of an item has an `asin`; metadata is only by `parent_asin`."""
    reviews = put(tmp_path / "reviews", as_json([OF_2023, {**OF_2023, "asin": "another"}]))
    metadata = put(tmp_path / "meta", as_json([{"parent_asin": "i1", "title": "Blue Hour", "main_category": "Music"}]))
    assert [row[5] for row in read(reviews, titles=metadata)[1].values()] == ["Blue Hour"] * 2


TIMES = {
    1_400_000_000: 1_400_000_000,
    1_400_000_000_999: 1_400_000_000,
    1.3e9: 1_300_000_000,
    "1400000000": 1_400_000_000,
    "1400000000123": 1_400_000_000,
    "2014-05-13 16:53:20": 1_400_000_000,
    "2014-05-13T16:53:20Z": 1_400_000_000,
    "2014-05-13T16:53:20.999": 1_400_000_000,
    "2014-05-13 18:53:20+02:00": 1_400_000_000,
    "2014-05-13T11:23:20-05:30": 1_400_000_000,
    "2014-05-13": 1_399_939_200,
    0: 0,
}
RATINGS = {1: 1.0, 5: 5.0, 4.0: 4.0, 4.5: 4.5, "3": 3.0, "3.0": 3.0, 2.0: 2.0}
NO_TIMES = [-1, "", "yesterday", "2014-13-45", True, None, [], {}, math.nan, math.inf, -math.inf, 10**40, 10**15, "now"]
NO_RATINGS = [
    0,
    6,
    -4,
    0.99,
    5.01,
    "",
    "good",
    "4,5",
    True,
    None,
    [4],
    {},
    math.nan,
    math.inf,
    -math.inf,
    -(10**40),
    1_000_000,
]
USERS = {"u": "u", " ": " ", 12: "12", "[deleted]": "[deleted]", "{3F25-04}": "{3F25-04}", "Ünï 😀": "Ünï 😀", '"': '"'}
NO_USERS = [None, "", [], ["u1"], {}, {"id": "u1"}]


@pytest.mark.parametrize(
    ("field", "column", "values"),
    [("unixReviewTime", 4, TIMES), ("overall", 2, RATINGS), ("reviewerID", 0, USERS), ("asin", 1, USERS)],
)
def test_values_are_read_as_they_were_meant(tmp_path, field, column, values):
    path = put(tmp_path / "dump", as_json([{**OF_2014, field: value} for value in values]))
    assert [row[column] for row in rows_of(path)] == list(values.values())


@pytest.mark.parametrize(
    ("field", "values", "fault"),
    [
        ("unixReviewTime", NO_TIMES, "no time as unixReviewTime or timestamp or date"),
        ("overall", NO_RATINGS, "no rating of 1 to 5 as overall or rating or stars or ratings"),
        ("reviewerID", NO_USERS, "no reviewerID or user_id"),
        ("asin", NO_USERS, "no parent_asin or asin or business_id or item_id"),
    ],
)
def test_a_value_that_cannot_be_is_a_fault_that_names_the_field(tmp_path, field, values, fault):
    records = [{**OF_2014, field: value} for value in values]
    records.append({name: value for name, value in OF_2014.items() if name != field})
    content = as_json([OF_2014, *records]).replace(b": 1000000", b": 1e400")
    with mock.patch.multiple(preprocess, PER_BROKEN=0, SHOWN=100):
        reading, rows = read(put(tmp_path / "dump", content))
    assert list(rows) == [1]
    assert reading.faults == dict.fromkeys(range(2, 2 + len(records)), fault)


@pytest.mark.parametrize("text", [None, "absent"])
def test_a_review_without_text_is_kept_as_an_empty_one(tmp_path, text):
    record = {**OF_2014, "reviewText": text}
    if text == "absent":
        del record["reviewText"]
    assert rows_of(put(tmp_path / "dump", as_json([record]))) == [(*ROW[:3], "", ROW[4])]


def test_a_limit_is_a_number_of_lines(tmp_path):
    path = put(tmp_path / "dump", b"\n".join(as_json([{**OF_2014, "asin": f"i{k}"}]) for k in range(4)))
    assert [row[1] for row in rows_of(path, "", 3)] == ["i0", "i1"]
    assert [row[1] for row in rows_of(path)] == ["i0", "i1", "i2", "i3"]
    for form in ("JSON lines", "Python literals"):
        for limit in range(1, 9):
            assert [number for number, _ in lines_of(path, form, limit)] == list(range(1, min(limit, 7) + 1))


BROKEN = {
    b"{half": "not a record",
    b"no record at all": "not a record",
    b'{"a": "\xff"}': "not a record",
    b"\x00": "not a record",
    json.dumps(OF_2014).encode() * 2: "not a record",
    b"[" * 100_000: "not a record",
    b"{'a': __import__('os')}": "not a record",
    b"[1, 2]": "no reviewerID or user_id",
    b'"text"': "no reviewerID or user_id",
    b"{}": "no reviewerID or user_id",
}


@pytest.mark.parametrize("line", BROKEN)
@pytest.mark.parametrize("at", [0, 500, 999])
def test_one_broken_line_in_a_thousand_is_numbered_and_kept_out_and_two_are_refused(tmp_path, line, at):
    good = as_json([OF_2014]).rstrip()
    lines = [good] * 999
    lines.insert(at, line)
    path = put(tmp_path / "dump", b"\n\n" + b"\n".join(lines))
    reading, rows = read(path)
    assert (reading.lines, reading.broken) == (1_000, 1)
    assert {number: fault for number, fault in reading.faults.items() if BROKEN[line] in fault} == reading.faults
    assert list(reading.faults) == [at + 3]
    assert sorted([*rows, at + 3]) == list(range(3, 1_003))
    put(path, path.read_bytes() + b"\n" + line)
    message = refused(read, path)
    assert "2 of 1,001 lines are broken" in message
    assert f"line {at + 3}: {BROKEN[line]}" in message and f"line 1003: {BROKEN[line]}" in message


@pytest.mark.parametrize("write", [as_literals, as_csv])
def test_broken_lines_of_other_forms_are_numbered_and_kept_out(tmp_path, write):
    lines = write([OF_2014] * 1_999).splitlines(keepends=True)
    lines[500] = b"u,i\xff,1,,\xff,,\xff\n"
    lines[1_000] = lines[1_000].replace(b"Fine.", b"F\xefne.")
    lines = lines[:1] + lines[1:500] * 2 + lines[500:]
    reading, rows = read(put(tmp_path / "dump", b"".join(lines)))
    assert list(reading.faults) == [1_000, 1_500]
    assert (reading.broken, len(rows)) == (2, reading.lines - 2)
    assert not {1_000, 1_500} & set(rows)


def test_many_broken_lines_are_counted_and_the_first_named(tmp_path):
    path = put(tmp_path / "dump", as_json([{**OF_2014, "overall": 9}] * 5_000))
    message = refused(read, path)
    assert "5,000 of 5,000 lines are broken (line 1: no rating of 1 to 5 as overall" in message and ", ...)" in message
    assert len(message) < 300
    with mock.patch.object(preprocess, "PER_BROKEN", 0):
        reading, _ = read(path)
    assert list(reading.faults) == list(range(1, preprocess.SHOWN + 1))
    assert set(reading.faults.values()) == {"no rating of 1 to 5 as overall or rating or stars or ratings"}


def test_nothing_to_read_is_named(tmp_path):
    assert "no such file; 0_Data/1_download.py" in refused(read, tmp_path / "absent.json.gz")
    assert "Is a directory" in refused(read, tmp_path)
    for content in (b"", b"\n \r\n", b"\xef\xbb\xbf"):
        for pack in (bytes, gzip.compress, in_zip):
            assert "no JSON lines" in refused(read, put(tmp_path / "dump", pack(content)))
    for content in (b"\x00\xff\xfe" * 99, b"<html>moved</html>", b'[{"asin": "i1"}]', b"[" * 99_999, b"{" * 99_999):
        assert "no JSON lines" in refused(read, put(tmp_path / "dump", content))


def test_a_file_of_literals_whose_first_record_is_also_json_is_still_one_of_literals(tmp_path):
    content = b'{"asin": "i1", "title": "It\'s"}\n' + as_literals([{"asin": "i2", "title": 'Don\'t "Go"'}] * 2)
    path = put(tmp_path / "meta", content)
    assert dumps.find(path, preprocess.TITLES).form == "Python literals"
    assert titles_of(tmp_path, path, "i1", "i2") == {"i1": "It's", "i2": 'Don\'t "Go"'}


@pytest.mark.parametrize("write", [as_json, as_literals])
def test_titles_are_read_on_one_line_and_the_first_in_the_file_counts(tmp_path, write):
    records = [
        {"asin": "i2"},
        {"asin": "i3", "title": " \t "},
        {"asin": "i4", "title": None},
        {"asin": "i1", "title": "Blue\n  Hour\u2028\x1f\u00a0"},
        {"asin": "i1", "title": "Another"},
        {"asin": "i4", "title": "Late"},
        {"parent_asin": "i5", "title": 'Don\'t "Go"'},
        {"business_id": "i6", "name": "Café 😀"},
        {"asin": "i7", "title": 1984},
        {"asin": "elsewhere", "title": "Nobody's"},
    ]
    metadata = put(tmp_path / "meta", gzip.compress(write(records)))
    assert titles_of(tmp_path, metadata, *(f"i{k}" for k in range(1, 9))) == {
        **{"i1": "Blue Hour", "i2": None, "i3": None, "i4": "Late"},
        **{"i5": 'Don\'t "Go"', "i6": "Café 😀", "i7": "1984", "i8": None},
    }


def test_metadata_with_broken_lines_is_judged_like_reviews(tmp_path):
    lines = as_literals([{"asin": "i1", "title": "One"}]) * 999
    good = put(tmp_path / "good", lines + b"{'title': 'of nothing'}\n")
    assert titles_of(tmp_path, good, "i1") == {"i1": "One"}
    bad = put(tmp_path / "bad", b"\n" + lines + b"{'title': 'of nothing'}\n{'asin': \n")
    with pytest.raises(InputError, match=r"bad: 2 of 1,001 .*line 1001: no parent_asin or asin .*line 1002: not a rec"):
        titles_of(tmp_path, bad, "i1")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_cells_hold_quotes_delimiters_and_line_ends(tmp_path, delimiter):
    text = 'He said "no, never;\tno"\nand\r\n\nleft,\r'
    content = as_csv([{**FOOD, "Text": text}, FOOD, {**FOOD, "Text": ""}], delimiter)
    _, rows = read(put(tmp_path / "dump", content), FOOD_MAP)
    assert {number: row[3] for number, row in rows.items()} == {5: text, 6: "Fine.", 7: ""}


@pytest.mark.parametrize("row", [b"u1,i1,4", b"u1,i1,4,1,Fine.,more", b'u1,i1,4,1,"Fi"ne."', b'u1,"i1,4,1,x\nu"1'])
def test_a_row_with_too_few_or_too_many_cells_or_wrong_quotes_is_broken(tmp_path, row):
    content = b"user_id,item_id,rating,timestamp,text\n" + b"u1,i1,4,1,Fine.\n" * 1_999 + row + b"\nu2,i2,5,2,\n"
    reading, rows = read(put(tmp_path / "dump", content))
    assert list(reading.faults) == [2_001 + k for k in range(row.count(b"\n") + 1)]
    assert len(rows) == 2_000 and rows[2_002 + row.count(b"\n")][:2] == ["u2", "i2"]


def test_a_quote_that_is_never_closed_had_swallowed_the_rest_of_the_file(tmp_path):
    content = b"user_id,item_id,rating,timestamp,text\n" + b"u1,i1,4,1,Fine.\n" * 1_999
    message = refused(read, put(tmp_path / "dump", content + b'u1,i1,4,1,"Fine.\n' + b"u2,i2,5,2,x\n" * 99))
    assert "100 of 2,099 lines are broken (line 2001: not a record" in message


def test_a_blank_line_before_the_header_was_taken_for_it(tmp_path):
    assert rows_of(put(tmp_path / "dump", b"\r\n\n" + as_csv([OF_2014]))) == [ROW]


def test_a_huge_cell_is_read(tmp_path):
    text = "x" * 3_000_000
    assert rows_of(put(tmp_path / "dump", as_csv([{**OF_2014, "reviewText": text}])))[0][3] == text


@pytest.mark.parametrize("write", [as_json, as_csv, as_literals])
@pytest.mark.parametrize(
    "mark", ["a/b", "a~b", "~1", 'a"b', "a'b", "a b ", "a=b", "$.x", "$", "*", "0", "[0]", "Ключ", "\\"]
)
def test_fields_of_any_name_are_found_by_the_map(tmp_path, write, mark):
    theirs = {ours: f"{mark}{ours}" for ours in preprocess.NAMES} | {"title": mark}
    record = {theirs[ours]: value for ours, value in zip(preprocess.NAMES, ROW)} | {theirs["title"]: " Blue\n Hour "}
    columns = ",".join(f"{ours}={name}" for ours, name in theirs.items())
    assert list(read(put(tmp_path / "dump", write([record])), columns)[1].values()) == [[*ROW, "Blue Hour"]]


@pytest.mark.parametrize("columns", ["user=UserId", "user_id", "user_id=", "=x", "user_id=a,", "user_id=a, item_id=b"])
def test_a_map_that_is_none_is_refused(columns):
    with pytest.raises(InputError, match="^--columns: .* is no NAME=THEIRS with NAME one of user_id, .*title$"):
        preprocess.fields_of(columns)


def test_a_map_to_a_field_that_is_not_there_is_refused_with_its_name(tmp_path):
    for write in (as_json, as_csv):
        assert "NoUser" in refused(read, put(tmp_path / "dump", write([OF_2014])), "user_id=NoUser")


@pytest.mark.parametrize("packing", ["gzip", "gzip in two parts", "zip", "tar.gz", "tar in zip"])
@pytest.mark.parametrize("write", [as_json, as_csv])
def test_an_archive_cut_off_or_damaged_at_any_byte_is_refused_or_reads_as_before(tmp_path, write, packing):
    whole = PACKINGS[packing](write([OF_2014, {**OF_2014, "asin": "i2"}]))
    path = put(tmp_path / "dump", whole)

    def read_lines(path):
        return [part.to_pylist() for part in dumps.batches(dumps.find(path, {"user_id": ["reviewerID"]}))]

    before, unharmed = read_lines(path), 0
    for k in range(len(whole)):
        # Where the first part of two ends, a cut is not to be seen in the packing, only in the lines.
        if not (packing == "gzip in two parts" and whole[k:].startswith(b"\x1f\x8b")):
            refused(read_lines, put(path, whole[:k]))
        for bit in (1, 0xFF):
            put(path, whole[:k] + bytes([whole[k] ^ bit]) + whole[k + 1 :])
            try:
                assert read_lines(path) == before
                unharmed += 1
            except InputError as error:
                assert str(path) in str(error)
    assert unharmed < len(whole)


def test_a_tar_cut_off_within_a_file_is_refused(tmp_path):
    path = put(tmp_path / "dump", in_tar(as_json([OF_2014]) * 9_999)[:1_000_000])
    assert "damaged or cut short" in refused(read, path)


@pytest.mark.parametrize(
    ("pack", "start", "end"),
    [
        (gzip.compress, -8, -7),
        (gzip.compress, -500_000, None),
        (gzip.compress, -9_000, -8_000),
        (in_zip, -9_000, -8_000),
    ],
)
def test_damage_far_behind_the_reviews_in_a_packed_tar_went_unseen(tmp_path, pack, start, end):
    """The checksum is at the end of what the tar is packed in, and the reading stopped at the end of the reviews."""
    content = pack(in_tar(random.Random(0).randbytes(3_000_000), ("reviews.json", as_json([OF_2014]))))
    path = put(tmp_path / "dump", content)
    assert rows_of(path) == [ROW]
    put(path, content[:start] + (bytes(end - start) + content[end:] if end else b""))
    assert "damaged or cut short" in refused(read, path)


@pytest.mark.parametrize("flag", [(6, 8, b"\x01"), (8, 10, b"\x09")], ids=["a password", "Deflate64"])
def test_a_zip_that_python_cannot_unpack_is_to_be_unpacked_first(tmp_path, flag):
    content = bytearray(in_zip(as_json([OF_2014])))
    for magic, at in ((b"PK\x03\x04", flag[0]), (b"PK\x01\x02", flag[1])):
        start = content.rindex(magic) + at
        content[start : start + 1] = flag[2]
    assert "; unpack it first" in refused(read, put(tmp_path / "dump", content))
    assert "; unpack it first" in refused(read, put(tmp_path / "dump", in_zip(content)))


@pytest.mark.parametrize(
    ("form", "write"), [("JSON lines", as_json), ("Python literals", as_literals), ("CSV", as_csv)]
)
@pytest.mark.parametrize("part", [10, 10_000])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_an_endless_line_is_named_and_not_read_to_its_end(tmp_path, monkeypatch, form, write, part, end):
    monkeypatch.setattr(dumps, "LONGEST", 500)
    monkeypatch.setattr(dumps, "PART", part)
    good = write([OF_2014] * 9)
    path = put(tmp_path / "dump", good.rstrip())
    assert len(lines_of(path, form, delimiter=",")) == 9
    put(path, good + b"{" + b"x" * 5_000 + end + good)
    message = refused(lambda path: lines_of(path, form, delimiter=","), path)
    assert f"line {len(good.splitlines()) + 1} is longer than 500 bytes" in message


def test_one_endless_line_is_no_dump(tmp_path, monkeypatch):
    monkeypatch.setattr(dumps, "LONGEST", 500)
    assert "no JSON lines" in refused(read, put(tmp_path / "dump", b'[{"a": "' + b"x" * 999 + b'"}]'))


fragments = st.sampled_from(
    [
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r",
        b" ",
        b"{}",
        b'{"a": "b"}\n',
        "é😀\u2028".encode(),
        b"\xff",
        b"\x85",
        b"\x00",
        b"x" * 70,
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(fragments, max_size=20).map(b"".join), st.integers(1, 90))
def test_lines_are_those_of_a_plain_file_wherever_a_block_ends(tmp_path_factory, content, part):
    path = put(tmp_path_factory.mktemp("raw") / "dump", content)
    expected = []
    for number, line in enumerate(io.BytesIO(content), start=1):
        try:
            expected.append((number, line.decode()))
        except UnicodeDecodeError:
            expected.append((number, None))
    with mock.patch.object(dumps, "PART", part):
        assert lines_of(path) == expected


def whole(text):
    """The text with pairs of halves joined and `?` for a half alone."""
    joined = re.sub(
        "[\ud800-\udbff][\udc00-\udfff]", lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text
    )
    return re.sub("[\ud800-\udfff]", "?", joined)


halves = st.text(st.sampled_from("\ud83d\ude00\udc00\\\\\\ud83e\n\"'/aé😀"), max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.lists(halves, min_size=1, max_size=4), st.integers(1, 60))
@example(["\\ud83d\ude00"], 60)
@example(["\\\ud83d\ude00", "\\ud83d\\ude00"], 60)
def test_half_a_character_becomes_a_question_mark_and_whole_ones_stay(tmp_path_factory, texts, part):
    folder = tmp_path_factory.mktemp("raw")
    records = [{"a": text} for text in texts]
    expected = [whole(text) for text in texts]
    with mock.patch.multiple(dumps, PART=part, ROWS=2):
        for form, content in (("JSON lines", as_json(records)), ("Python literals", as_literals(records))):
            lines = lines_of(put(folder / "dump", content), form)
            assert [json.loads(line)["a"] for _, line in lines] == expected


def plain_reading(content):
    """The same reading by a plain loop: rows by number, and the numbers of broken lines."""
    rows, broken = {}, []
    for number, line in enumerate(io.BytesIO(content), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode())
            user, item, rating, text, time = map(record.get, OF_2014)
            assert user not in ("", None) and not isinstance(user, list | dict)
            assert item not in ("", None) and not isinstance(item, list | dict)
            assert 1 <= RATINGS[rating] <= 5 and not isinstance(rating, bool)
            row = (whole(str(user)), whole(str(item)), RATINGS[rating], whole(text or ""), TIMES[time])
            assert not isinstance(time, bool)
        except (ValueError, AttributeError, AssertionError, KeyError, TypeError):
            broken.append(number)
        else:
            rows[number] = row
    return rows, broken


ids = st.one_of(st.sampled_from(list(USERS)), st.text(min_size=1, max_size=3), st.integers(), st.sampled_from(NO_USERS))
records = st.fixed_dictionaries(
    {},
    optional={
        "reviewerID": ids,
        "asin": ids,
        "overall": st.sampled_from([*RATINGS, *RATINGS, *NO_RATINGS]),
        "reviewText": st.none() | st.text(max_size=9),
        "unixReviewTime": st.sampled_from([*TIMES, *TIMES, *NO_TIMES]),
    },
).map(lambda record: {**record, "more": [record]})
complete = records.map(lambda record: OF_2014 | record)
noise = st.sampled_from([b"", b" ", b"\r", b"{", b"[]", b"[{}]", b"1", b"null", b'"x"', b"\xff", b"\x00", b"//"])
lines = st.one_of(
    complete.map(lambda record: json.dumps(record).encode()),
    complete.map(lambda record: json.dumps(record, ensure_ascii=False).encode("utf-8", "replace")),
    records.map(lambda record: json.dumps(record).encode()),
    st.tuples(records, noise, st.integers(0, 200)).map(
        lambda parts: (line := json.dumps(parts[0]).encode())[: parts[2]] + parts[1] + line[parts[2] :]
    ),
    noise,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(lines, max_size=30), st.integers(1, 300), st.booleans())
def test_whatever_the_lines_hold_they_are_read_or_broken_as_by_a_plain_loop(tmp_path_factory, lines, part, end):
    content = b"\n".join([as_json([OF_2014]).rstrip(), *lines]) + b"\n" * end
    rows, broken = plain_reading(content)
    with mock.patch.object(dumps, "PART", part), mock.patch.multiple(preprocess, PER_BROKEN=0, SHOWN=100):
        reading, found = read(put(tmp_path_factory.mktemp("raw") / "dump", content))
    assert {number: tuple(row[:-1]) for number, row in found.items()} == rows
    assert list(reading.faults) == broken
    assert (reading.lines, reading.broken) == (len(rows) + len(broken), len(broken))


cells = st.text(st.sampled_from("ab,;\t\"'\n\r é😀\\"), max_size=6)


@settings(max_examples=120, deadline=None)
@given(st.lists(cells, min_size=1, max_size=8), st.sampled_from(dumps.DELIMITERS), st.integers(1, 3))
def test_any_cell_is_read_as_it_was_written(tmp_path_factory, texts, delimiter, size):
    path = put(tmp_path_factory.mktemp("raw") / "dump", as_csv([{"a": text, "b": "x"} for text in texts], delimiter))
    with mock.patch.object(dumps, "ROWS", size):
        numbered = lines_of(path, "CSV", delimiter=delimiter)
    assert [json.loads(line)["a"] for _, line in numbered] == texts
    ends = [3 + k + sum(text.count("\n") for text in texts[: k + 1]) for k in range(len(texts))]
    assert [number for number, _ in numbered] == [end - 1 for end in ends]


def test_a_fault_in_the_second_reading_is_told_as_in_the_first(tmp_path):
    """The engine calls the reader from within, and would wrap what it says."""
    path = put(tmp_path / "dump", gzip.compress(as_json([OF_2014] * 200)))
    with preprocess.engine(Path(tmp_path / "scratch")) as db:
        reading = preprocess.read_keys(db, path, preprocess.NAMES)
        put(path, path.read_bytes()[:-4])
        assert "damaged or cut short" in refused(
            lambda _: preprocess.read_kept(db, reading.dump, preprocess.NAMES), path
        )
