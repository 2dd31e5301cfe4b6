"""How dumps are packed and written beside the forms of Amazon and Yelp: the same rows, or one line that helps."""

import bz2
import gzip
import io
import json
import lzma
import tracemalloc
import zipfile
from unittest import mock

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dumps import FOOD, FOOD_MAP, OF_2014, ROW, as_csv, as_json, in_tar, in_zip, put, read, refused, rows_of

from reason4rec.data import dumps, parquet, preprocess
from reason4rec.data.dumps import Dump
from reason4rec.errors import InputError

REVIEWS = [{**OF_2014, "asin": f"i{k}", "reviewText": f"Fine, {k}."} for k in range(30)]
ROWS = [("u1", f"i{k}", 4.0, f"Fine, {k}.", ROW[4]) for k in range(30)]


def read_in(path, encoding, metadata=""):
    """The rows of a dump in another encoding."""
    how = preprocess.How(encodings=preprocess.encodings_of(encoding))
    with preprocess.engine(path.parent / "scratch") as db:
        dump = preprocess.read_keys(db, path, preprocess.NAMES, how=how).dump
        preprocess.read_kept(db, dump, preprocess.NAMES)
        return [text for (text,) in db.execute("SELECT reviews FROM reviews ORDER BY number").fetchall()]


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


def per_line(records):
    return ("[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n").encode()


PACKINGS = {
    "bzip2": bz2.compress,
    "bzip2 in two parts": lambda content: bz2.compress(content[:99]) + bz2.compress(content[99:]),
    "xz": lzma.compress,
    "xz in two parts": lambda content: lzma.compress(content[:99]) + bytes(8) + lzma.compress(content[99:]),
    "zstd": zstd,
    "zstd in two parts": lambda content: zstd(content[:99]) + zstd(content[99:]),
    "tar.xz": lambda content: lzma.compress(in_tar(content)),
    "tar.zst": lambda content: zstd(in_tar(content)),
    "bzip2 in zip": lambda content: in_zip(bz2.compress(content)),
}
ARRAYS = {
    "on one line": lambda records: json.dumps(records).encode(),
    "a record a line": per_line,
    "commas first": lambda records: ("[" + "\n,".join(map(json.dumps, records)) + "]").encode(),
    "over many lines": lambda records: json.dumps(records, indent=2).encode(),
    "with a mark": lambda records: b"\xef\xbb\xbf \r\n" + json.dumps(records, indent=1).encode(),
    "a comma too many": lambda records: json.dumps(records).encode()[:-1] + b",]",
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_bzip2_xz_and_zstd_were_refused_for_their_fields(tmp_path, packing):
    whole = PACKINGS[packing](as_json(REVIEWS))
    path = put(tmp_path / "dump", whole)
    assert rows_of(path) == ROWS
    for k in (len(whole) // 3, len(whole) // 2, len(whole) - 5):
        if "two parts" not in packing:
            refused(read, put(path, whole[:k]))
        put(path, whole[:k] + bytes([whole[k] ^ 0x55]) + whole[k + 1 :])
        try:
            assert len(rows_of(path)) <= 30
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and len(str(error)) < 300


def test_a_small_file_of_xz_that_asks_for_much_memory_is_to_be_unpacked_first(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**28}]
    path = put(tmp_path / "dump", lzma.compress(as_json(REVIEWS), lzma.FORMAT_XZ, filters=filters))
    assert "takes more than 128 MB to unpack); unpack it first" in refused(read, path)


@pytest.mark.parametrize(("start", "name"), [(b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07\x01", "rar")])
def test_a_packing_that_cannot_be_read_is_named(tmp_path, start, name):
    assert f"packed in {name}); unpack it first" in refused(read, put(tmp_path / "dump", start + bytes(99)))


@pytest.mark.parametrize("packing", [bytes, gzip.compress, in_zip, zstd])
@pytest.mark.parametrize("form", ARRAYS)
def test_a_json_array_was_no_dump(tmp_path, form, packing):
    path = put(tmp_path / "dump", packing(ARRAYS[form](REVIEWS)))
    reading, rows = read(path)
    assert [tuple(row[:-1]) for row in rows.values()] == ROWS
    assert reading.dump.form == "JSON array" and list(rows) == list(range(1, 31))


def test_broken_records_of_an_array_are_numbered_and_kept_out(tmp_path):
    records = ["x, ]", None, 3, [OF_2014], {**OF_2014, "overall": 9}, {}]
    path = put(tmp_path / "dump", json.dumps([OF_2014, *records, *REVIEWS]).encode() + b" more")
    with mock.patch.object(preprocess, "PER_BROKEN", 0):
        reading, rows = read(path)
    assert (reading.broken, len(rows)) == (7, 31)
    assert list(reading.faults) == [2, 3, 4, 5, 6, 7, 38]
    assert "record 2: " in refused(read, path)


def test_an_array_without_its_end_is_cut_short(tmp_path):
    for content in (per_line(REVIEWS)[:-3], json.dumps(REVIEWS).encode()[:-1], json.dumps(REVIEWS).encode()[:-30]):
        assert "damaged or cut short" in refused(read, put(tmp_path / "dump", content))


def test_lines_of_json_of_which_the_first_is_an_array_stay_lines(tmp_path):
    path = put(tmp_path / "dump", b"[{}]\n" + as_json(REVIEWS * 50))
    reading, rows = read(path)
    assert reading.dump.form == "JSON lines" and list(reading.faults) == [1] and len(rows) == 1_500


texts = st.text(st.sampled_from('[]{},:"\\\n é\ud83d\ude00'), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(texts, texts | st.lists(texts), max_size=3), min_size=1, max_size=6), st.integers(1, 40)
)
def test_the_records_of_an_array_are_those_of_json_wherever_a_block_ends(tmp_path_factory, records, part):
    path = put(tmp_path_factory.mktemp("raw") / "dump", json.dumps(records, indent=part % 3 or None).encode())
    lines = [json.dumps(record).encode() for record in records]
    other = put(path.with_name("lines"), b"\n".join(lines))
    with mock.patch.object(dumps, "PART", part):
        found = [row for batch in dumps.batches(Dump(path, "", "JSON array")) for row in batch.to_pylist()]
        expected = [row for batch in dumps.batches(Dump(other, "", "JSON lines")) for row in batch.to_pylist()]
    assert [(row["number"], json.loads(row["line"])) for row in found] == [
        (row["number"], json.loads(row["line"])) for row in expected
    ]


BOMBS = {  # small files that unpack to much, and what is said of them (none: they are read)
    "an array in xz": (lambda: lzma.compress(b"[" + b'{"a": 1}, ' * 100_000 + b"{}]", preset=0), None),
    "an endless record in bzip2": (lambda: bz2.compress(b'[{"a": 1}, {"a": "' + b"x" * 2**24), "record 2 is longer"),
    "an endless array in zstd": (lambda: zstd(b'[{"a": 1}, ' + b"[" * 2**24), "record 2 is longer"),
    "an endless line in zstd": (lambda: zstd(b'{"a": 1}\n' + b"{" * 2**24), "line 2 is longer"),
    "UTF-16 without an end": (lambda: gzip.compress('{"a": 1}\n'.encode("utf-16") + bytes(2**24)), "line 2 is longer"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_of_another_form_that_unpacks_to_much_takes_no_more_memory_than_its_parts(
    tmp_path, monkeypatch, name
):
    make, said = BOMBS[name]
    for limit, value in {"PART": 2**16, "LONGEST": 2**17, "HEAD_BYTES": 2**16}.items():
        monkeypatch.setattr(dumps, limit, value)
    path = put(tmp_path / "dump", make())
    tracemalloc.start()
    try:
        if said is None:
            assert sum(part.num_rows for part in dumps.batches(dumps.find(path, {"user_id": ["a"]}))) == 100_001
        else:
            message = refused(lambda path: list(dumps.batches(dumps.find(path, {"user_id": ["a"]}))), path)
            assert said in message
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_parquet_is_read_with_its_types(tmp_path):
    path = tmp_path / "dump"
    frame = pd.DataFrame(REVIEWS).assign(
        unixReviewTime=pd.to_datetime(ROW[4], unit="s"), asin=[float(k) for k in range(30)], reviewerID=17
    )
    frame.loc[3, "reviewText"] = None
    frame.to_parquet(path)
    reading, rows = read(path)
    expected = [("17", str(k), 4.0, "" if k == 3 else f"Fine, {k}.", ROW[4]) for k in range(30)]
    assert [tuple(row[:-1]) for row in rows.values()] == expected
    assert (reading.dump.form, list(rows)) == ("Parquet", list(range(1, 31)))
    packed = put(tmp_path / "packed", gzip.compress(path.read_bytes()))
    assert "a Parquet file is in it); unpack it first" in refused(read, packed)
    frame[["asin", "reviewText"]].to_parquet(path)
    assert "it has asin, reviewText" in refused(read, path)


def test_a_damaged_parquet_is_one_line(tmp_path):
    pd.DataFrame(REVIEWS * 50).to_parquet(tmp_path / "dump")
    content = (tmp_path / "dump").read_bytes()
    for damaged in (content[:-9], content[:99] + bytes(900) + content[999:], content[:4] + b"x" * 99):
        assert "damaged or cut short" in refused(read, put(tmp_path / "dump", damaged))


@pytest.mark.slow
def test_a_small_parquet_that_unpacks_to_much_ends_its_reader_and_no_more(tmp_path, monkeypatch):
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 9_000, pa.int32()), pa.array(["x" * 60_000_000]))
    pq.write_table(pa.table({"reviewerID": text}), tmp_path / "dump", compression="zstd")
    assert (tmp_path / "dump").stat().st_size < 10_000
    assert "damaged or cut short (it takes too much memory)" in refused(read, tmp_path / "dump")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("write", [as_json, as_csv])
def test_text_of_two_bytes_a_character_is_told_by_its_mark(tmp_path, encoding, write):
    records = [{**OF_2014, "reviewText": "Café 😀\nÐ"}]
    content = write(records).decode().encode(encoding)
    mark = {"utf-16-be": b"\xfe\xff", "utf-16-le": b"\xff\xfe"}.get(encoding, b"")
    path = put(tmp_path / "dump", gzip.compress(mark + content))
    assert rows_of(path)[0][3] == "Café 😀\nÐ"
    if not mark:
        assert "damaged or cut short" in refused(read, put(path, content[:-1]))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "iso8859-15", "utf-16-le", "cp500"])
def test_text_in_another_encoding_is_read_with_the_flag(tmp_path, encoding):
    records = [{**OF_2014, "reviewText": f"Café £{k}"} for k in range(50)]
    path = put(tmp_path / "dump", as_csv(records).decode().encode(encoding))
    assert read_in(path, encoding) == [f"Café £{k}" for k in range(50)]


def test_latin_1_was_refused_for_lines_that_are_no_records(tmp_path):
    path = put(tmp_path / "dump", as_csv(REVIEWS + [{**OF_2014, "reviewText": "Café"}] * 2).decode().encode("latin-1"))
    message = refused(read, path)
    assert "line 32 is not UTF-8" in message and "Caf\\xe9" in message and "--encoding" in message
    assert len(message) < 300


def test_a_file_of_utf_8_beside_one_of_latin_1_is_read_as_what_it_is(tmp_path):
    path = put(
        tmp_path / "dump", as_json([OF_2014]) + json.dumps(OF_2014 | {"reviewText": "ö"}, ensure_ascii=False).encode()
    )
    assert read_in(path, "latin-1") == ["Fine.", "ö"]
    assert read_in(path, "latin-1,utf-8") == ["Fine.", "ö"]
    assert preprocess.encodings_of("latin-1,utf-8") == ("iso8859-1", "")


def test_bytes_that_are_none_in_the_encoding_make_a_broken_line(tmp_path):
    lines = as_csv(REVIEWS * 50)
    path = put(tmp_path / "dump", lines + b"u1,i1,4,caf\x81,1400000000\n" + b"u1,i1,4,caf\xe9,1400000000\n")
    assert read_in(path, "cp1252")[1_500:] == ["café"]
    with pytest.raises(InputError, match="line 2 is not cp1252 .*--encoding"):
        read_in(put(path, lines.splitlines(keepends=True)[0] + b"u1,i1,4,caf\x81,1400000000\n"), "cp1252")


def test_a_file_that_is_in_no_encoding_of_that_name_is_told_with_the_flag(tmp_path):
    with pytest.raises(InputError, match="dump: no text in utf-16 .*give another --encoding"):
        read_in(put(tmp_path / "dump", as_csv(REVIEWS)), "utf-16")


@pytest.mark.parametrize(
    "name", ["nope", "base64", "rot13", "", "idna", "unicode_escape", "latin-1,", "a\nb", "x" * 999]
)
def test_a_name_that_is_no_encoding_is_refused_with_the_flag(name):
    if name:
        with pytest.raises(InputError, match="^--encoding: ") as error:
            preprocess.encodings_of(name)
        assert "\n" not in str(error.value) and len(str(error.value)) < 300
    else:
        assert preprocess.encodings_of(name) == ("", "")


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_csv_is_read_with_any_of_the_usual_delimiters(tmp_path, delimiter):
    text = f"a{delimiter} b, c; d\te | f"
    path = put(tmp_path / "dump", as_csv([{**FOOD, "Text": text}] * 3, delimiter))
    assert [row[3] for row in rows_of(path, FOOD_MAP)] == [text] * 3


def test_the_colons_of_movielens_divide_columns_where_a_first_line_names_them(tmp_path):
    lines = b"UserID::MovieID::rating::timestamp::text\n1::2::5::978300760::So: good\n\n"
    path = put(tmp_path / "dump", lines)
    assert rows_of(path, "user_id=UserID,item_id=MovieID") == [("1", "2", 5.0, "So: good", 978300760)]
    message = refused(read, put(path, lines.split(b"\n")[1]))
    assert "add a first line that names its columns" in message and len(message) < 300


@pytest.mark.parametrize("quote", ['\\"', '""'])
def test_quotes_behind_a_backslash_broke_the_lines_of_csv(tmp_path, quote):
    texts = ['he said "wow" there', '"wow"', 'ends in "wow"', "C:\\new", "no quote, a comma", '12" disc\nand "more"']
    rows = [f'u1,i{k},4,"{text.replace(chr(34), quote)}",{ROW[4]}' for k, text in enumerate(texts)]
    path = put(tmp_path / "dump", "\n".join(["user_id,item_id,rating,text,timestamp", *rows]).encode())
    reading, found = read(path)
    assert [row[3] for row in found.values()] == texts and not reading.broken
    assert reading.dump.escaped == (quote == '\\"')


@pytest.mark.parametrize(
    "header",
    [
        '"reviewerID" , "asin" , "overall" ,"reviewText", "unixReviewTime"',
        "reviewerID, asin, overall , reviewText, unixReviewTime",
    ],
)
@pytest.mark.parametrize(
    "row", ["u1,i1,4,Fine.,1400000000", 'u1, i1, 4, "Fine.", 1400000000', '"u1" , "i1" , 4, Fine. ,1400000000']
)
def test_spaces_round_the_names_of_a_header_made_them_others(tmp_path, header, row):
    path = put(tmp_path / "dump", f"{header}\r\n{row}\r\n{row}\r\n".encode())
    assert rows_of(path) == [ROW, ROW]


def test_a_column_is_found_by_its_very_name_before_its_spaces_are_taken_away(tmp_path):
    path = put(tmp_path / "dump", as_csv([{**FOOD, " Text ": "other"}]))
    assert rows_of(path, FOOD_MAP.replace("reviews=Text", "reviews= Text ")) == [(*ROW[:3], "other", ROW[4])]


def test_a_zip_of_parquet_or_pictures_is_no_dump_and_harms_none_beside_it(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99))
        archive.writestr("b.parquet", parquet.START + bytes(99))
        archive.writestr("reviews.json", as_json(REVIEWS))
        archive.writestr("c.parquet", parquet.START + bytes(99))
    assert rows_of(put(tmp_path / "dump", packed.getvalue())) == ROWS


def test_the_engine_still_reads_what_numbers_mean():
    """The kinds of JSON that the reading of ids and titles relies on."""
    kinds = """SELECT json_type('{"a": 17.0}', '/a'), json_type('{"a": ["x"]}', '/a'), json_type('{"a": {}}', '/a')"""
    assert duckdb.sql(kinds).fetchall() == [("DOUBLE", "ARRAY", "OBJECT")]
