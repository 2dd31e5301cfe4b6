"""Files that somebody damaged or made to do harm, beyond those of test_artifacts.py and test_dumps.py.

Such a file is read as what it plainly is, or is bad input in one line: it runs nothing, and takes no more memory than
honest files do, whatever it announces or unpacks to.
"""

import gzip
import io
import itertools
import json
import pickle
import re
import resource
import struct
import tarfile
import tracemalloc
import zipfile

import pandas as pd
import pytest

from reason4rec.data import dumps, preprocess, schema
from reason4rec.data.dumps import Dump
from reason4rec.errors import InputError
from reason4rec.evaluation import ratings
from reason4rec.llm import adapters
from reason4rec.llm.cache import ResponseCache
from reason4rec.run import commands, files, records
from reason4rec.systems.gream import artifacts as of_gream
from reason4rec.systems.gream import semantic_ids, tables
from reason4rec.systems.reason4rec import facts
from reason4rec.systems.reason4rec.artifacts import REASONER_ROWS

ROWS = [{"messages": [{"role": "user", "content": "Will it?"}, {"role": "assistant", "content": "Yes."}]}]
MEGABYTE = 2**20


def read_or_refused(read, *given):
    """What reading gave, or None where it was refused in one line."""
    try:
        return read(*given)
    except InputError as error:
        assert "\n" not in str(error)
        return None


def with_a_bit_flipped(content):
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


CONTENTS = {
    "rows": ROWS,
    "nested": {"a": [1, 2.5, None, True, {"é": ["x"] * 3}], "b": b"bytes", "c": 2**40},
    "a frame": pd.DataFrame({"a": ["x"], "b": [2.0]}),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_pickle_with_any_bit_flipped_is_plain_data_or_bad_input(tmp_path, name):
    path, read = tmp_path / "flipped.pkl", 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in with_a_bit_flipped(pickle.dumps(CONTENTS[name], protocol=5)):
        path.write_bytes(content)
        found = read_or_refused(files.read_pickle, path)
        if found is not None:
            read += 1
            assert isinstance(found, pd.DataFrame | list | dict | str | int | float | bytes)
    assert read > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_rows_with_any_bit_flipped_are_rows_to_train_on_or_bad_input(tmp_path):
    (tmp_path / REASONER_ROWS.path).touch()
    for content in with_a_bit_flipped(pickle.dumps(ROWS, protocol=5)):
        (tmp_path / REASONER_ROWS.path).write_bytes(content)
        rows = read_or_refused(schema.read, tmp_path, REASONER_ROWS)
        assert rows is None or all(isinstance(m["content"], str) for row in rows for m in row["messages"])


TABLES = {
    of_gream.REASONINGS: [("U", "A", 4, "Step 1: tea.")],
    of_gream.ranked("generator_direct", "test"): [("U", 1, "A", -0.5)],
    of_gream.written("generator_reasoned", "test"): [("U", 0, "<think>")],
}


@pytest.mark.parametrize("artifact", TABLES, ids=lambda artifact: artifact.path)
def test_a_table_with_a_bit_flipped_has_its_columns_or_is_bad_input(tmp_path, artifact):
    frame, path = pd.DataFrame(TABLES[artifact], columns=list(artifact.columns)), tmp_path / artifact.path
    path.parent.mkdir(parents=True)
    files.write_pickle(path, frame)
    # Each is read by pandas, so that all bits would take minutes; 53 comes round to all eight of a byte.
    for content in itertools.islice(with_a_bit_flipped(path.read_bytes()), 0, None, 53):
        path.write_bytes(content)
        found = read_or_refused(tables.read, tmp_path, artifact)
        assert found is None or set(artifact.columns) <= set(found.columns)


@pytest.mark.parametrize("name", ["os\nsystem", "\x1b[2J\x1b]0;title\x07", "\u202e", "x" * 10**6])
def test_a_name_in_a_file_wrote_line_ends_and_control_characters_into_the_complaint(tmp_path, name):
    text = name.encode()
    (tmp_path / "pickle").write_bytes(b"\x80\x05\x8c\x02os\x8d" + struct.pack("<Q", len(text)) + text + b"\x93.")
    (tmp_path / "zip").write_bytes(zipped(b"{}\n", name=name[:60_000]))
    with pytest.raises(InputError, match="does not need") as error:
        files.read_pickle(tmp_path / "pickle")
    assert str(error.value).isprintable() and len(str(error.value)) < 1_000
    assert (said := Dump(tmp_path / "zip", name, "CSV").name).isprintable() and len(said) < 1_000
    with pytest.raises(InputError, match="no JSON lines") as error:
        dumps.find(tmp_path / "zip", {"user_id": ["a"]})
    assert str(error.value).isprintable()


LINE = b'{"a": 1}\n'


def gzipped(*parts, times=1):
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        for _ in range(times):
            for part in parts:
                file.write(part)
    return packed.getvalue()


def zipped(content, how=zipfile.ZIP_DEFLATED, name="a"):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", how) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def over_and_over(pack, times):
    content = LINE
    for _ in range(times):
        content = pack(content)
    return content


def entry(kind=tarfile.REGTYPE, size=0, form=tarfile.GNU_FORMAT, **notes):
    header = tarfile.TarInfo("a")
    header.type, header.size, header.pax_headers = kind, size, notes
    return header.tobuf(form)


def in_tar(content, **notes):
    return entry(size=len(content), form=tarfile.PAX_FORMAT, **notes) + content + bytes(-len(content) % 512 + 1024)


def zip_with_a_long_directory(size):
    end = b"PK\x05\x06" + bytes(4) + b"\xff\x7f\xff\x7f" + size.to_bytes(4, "little") + bytes(4) + bytes(2)
    return b"PK\x03\x04" + bytes(size - 4) + end


HOLES = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": "9"}
BOMBS = {  # what unpacks to 16 MB or more, or takes as much memory to read; and what is said of it (none: it is read)
    "a long name in a tar": (
        lambda: gzipped(entry(b"L", 16 * MEGABYTE), bytes(16 * MEGABYTE)),
        "a name or note of 16,",
    ),
    "a long note in a tar": (
        lambda: gzipped(entry(b"x", 16 * MEGABYTE), bytes(16 * MEGABYTE)),
        "a name or note of 16,",
    ),
    "a long note on all in a tar": (
        lambda: gzipped(entry(b"g", 16 * MEGABYTE), bytes(16 * MEGABYTE)),
        "a name or note",
    ),
    "holes in a tar": (lambda: gzipped(entry(b"S", 0), bytes(MEGABYTE)), "a file with holes"),
    "a long map of holes in a tar": (
        lambda: gzipped(in_tar(b"8000000\n" + b"0\n" * 8 * MEGABYTE, **HOLES)),
        "a file with holes",
    ),
    "very many files in a tar": (lambda: gzipped(entry(), times=15_000), "no JSON lines"),
    "LZMA in a zip": (lambda: zipped(LINE * 2 * MEGABYTE, zipfile.ZIP_LZMA), "neither stored nor deflated"),
    "bzip2 in a zip": (lambda: zipped(LINE * MEGABYTE, zipfile.ZIP_BZIP2), "neither stored nor deflated"),
    "a long directory of a zip": (lambda: gzipped(zip_with_a_long_directory(16 * MEGABYTE)), "a part of 16,777,216 b"),
    "gzip over and over": (lambda: over_and_over(gzip.compress, 3_000), "more than 4 deep"),
    "zip over and over": (lambda: over_and_over(zipped, 100), "more than 4 deep"),
    "long lines at the head": (lambda: gzipped(b'{"a": "' + b"x" * 60_000 + b'"}\n', times=300), None),
    "blank lines": (lambda: gzipped(LINE, b"\n" * 4 * MEGABYTE), None),
    "blank lines at the head": (lambda: gzipped(b"\n" * 4 * MEGABYTE, LINE), "no JSON lines"),
    "an endless line": (lambda: gzipped(LINE, b"{" * 16 * MEGABYTE), "line 2 is longer than"),
    "an endless line of zeros in a zip": (lambda: zipped(LINE + bytes(16 * MEGABYTE)), "line 2 is longer than"),
    "an endless row of CSV": (lambda: gzipped(b"a,b\n", b'"xy\n",' * 250_000), None),
    "long cells of CSV": (lambda: gzipped(b"a,b\n", (b'"' + b"x" * 60_000 + b'",1\n') * 300), None),
    "long literals": (lambda: gzipped(b"{'a': 1}\n", (b"{'a': '" + b"x" * 4_000 + b"'}\n") * 5_000), None),
    "a literal of very many values": (lambda: gzipped(b"{'a': 1}\n", b"{'a': [" + b"1," * 60_000 + b"]}\n"), None),
    "a literal of very many sums": (lambda: gzipped(b"{'a': 1}\n", b"{'a': " + b"1+" * 60_000 + b"1}\n"), None),
    "a literal of very many formats": (lambda: gzipped(b"{'a': 1}\n", b"{'a': f'" + b"{1}" * 40_000 + b"'}\n"), None),
}
SMALL = {"PART": 2**16, "LONGEST": 2**17, "HEAD_BYTES": 2**16, "LITERAL": 2**13, "NOTE": 2**12, "DIRECTORY": 2**16}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_dump_that_unpacks_to_much_takes_no_more_memory_than_its_parts(tmp_path, monkeypatch, name):
    """With all limits a few hundred times smaller than they are, so that a small bomb is large enough."""
    make, said = BOMBS[name]
    for limit, value in SMALL.items():
        assert getattr(dumps, limit) > value
        monkeypatch.setattr(dumps, limit, value)
    path = tmp_path / "dump"
    path.write_bytes(make())

    def read():
        return sum(part.num_rows for part in dumps.batches(dumps.find(path, {"user_id": ["a"]})))

    tracemalloc.start()
    try:
        if said is None:
            assert read() > 0
        else:
            with pytest.raises(InputError) as error:
                read()
            message = str(error.value)
            assert message.startswith(f"{path}: ") and "\n" not in message and said in message
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MEGABYTE


def test_a_dump_that_was_gzipped_twice_ended_in_an_attribute_error(tmp_path):
    path = tmp_path / "dump"
    for times in range(1, dumps.DEEPEST + 1):
        path.write_bytes(over_and_over(gzip.compress, times))
        assert dumps.find(path, {"user_id": ["a"]}) == Dump(path, "", "JSON lines")


def test_a_row_of_csv_that_goes_on_and_on_is_broken_and_those_after_it_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(dumps, "LONGEST", 1_000)
    path = tmp_path / "dump"
    path.write_bytes(b"a,b\n1,2\n" + b'"\n",' * 300 + b"x\n" + b"3,4\n" * 500)
    found = [row for part in dumps.batches(Dump(path, "", "CSV", ",")) for row in part.to_pylist()]
    assert found[0] == {"number": 2, "line": '{"a": "1", "b": "2"}'}
    assert found[-1] == {"number": 803, "line": '{"a": "3", "b": "4"}'}
    assert [row["number"] for row in found] == list(range(2, 804))
    assert sum(row["line"] is None for row in found) >= 300


def test_a_part_of_csv_with_long_cells_is_no_longer_than_others(tmp_path, monkeypatch):
    monkeypatch.setattr(dumps, "PART", 1_000)
    path = tmp_path / "dump"
    path.write_bytes(b"a,b\n" + (b"x" * 600 + b",y\n") * 9)
    sizes = [part.num_rows for part in dumps.batches(Dump(path, "", "CSV", ","))]
    assert sizes == [2, 2, 2, 2, 1]


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"5", b"6", b"V", b"Z"])
def test_links_devices_and_unknown_entries_of_a_tar_are_passed_over(tmp_path, kind):
    record = {"reviewerID": "u", "asin": "i", "overall": 4, "unixReviewTime": 1, "reviewText": "x"}
    path = tmp_path / "dump"
    path.write_bytes(entry(kind) + in_tar(json.dumps(record).encode()))
    with preprocess.engine(tmp_path / "scratch") as db:
        assert preprocess.read_keys(db, path, preprocess.NAMES).lines == 1


def test_an_archive_names_files_outside_its_folder_and_nothing_is_written_there(tmp_path):
    """Files are read in place and never unpacked to the disk."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../outside", LINE)
        archive.writestr("/outside", LINE)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "dump").write_bytes(packed.getvalue())
    dump = dumps.find(folder / "dump", {"user_id": ["a"]})
    assert re.fullmatch(r"[./]*outside", dump.member) and sum(part.num_rows for part in dumps.batches(dump)) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["dump"]


RECORD = {"sha256": "0", "made_from": {"inputs": {}, "settings": {}}}
FACTS = {"name": "New", "product_class": "Album", "tau": 0.1}
SETTINGS = {"base_model": "base", "max_length": 4096}
METRICS = {name: [] for name in ratings.SECTIONS} | {"settings": {}}
IDS = {"levels": 1, "codes": 2, "items": {"A": "<|a_1|>", "B": "<|a_2|>"}}
READERS = {  # how a file of JSON is read, what is in it, and where it lies
    "a record": (lambda folder: records.read_record(folder / "train.pkl"), RECORD, "train.pkl.json"),
    "facts of a dataset": (lambda folder: facts.get("New", folder), FACTS, "New/dataset.json"),
    "settings of an adapter": (adapters.adapter_settings, SETTINGS, "settings.json"),
    "semantic ids": (lambda folder: semantic_ids.read(folder / "ids.json"), IDS, "ids.json"),
    "metrics": (lambda folder: ratings.read(folder / "metrics.json"), METRICS, "metrics.json"),
}
OTHERS = [None, 3, "text", [], {}, [[]], ["sha256", "made_from"], {"name": 1}]


def others_than(content):
    """Contents of another kind, in the whole and in each of its entries."""
    yield from (json.dumps(other).encode() for other in OTHERS)
    for key, value in content.items():
        yield json.dumps({name: inside for name, inside in content.items() if name != key}).encode()
        for other in OTHERS:
            if type(other) is not type(value) and (type(value), type(other)) != (float, int):
                yield json.dumps(content | {key: other}).encode()


@pytest.mark.parametrize("name", READERS)
def test_json_of_another_kind_cut_off_damaged_or_too_deep_is_one_line_that_names_the_file(tmp_path, name):
    read, content, place = READERS[name]
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    whole = json.dumps(content).encode()
    path.write_bytes(whole)
    assert read(tmp_path) is not None
    cut = [whole[:k] for k in range(len(whole))]
    for text in (*cut, *others_than(content), b"\xff\xfe", b"[" * 100_000, b"1" * 10_000, b"\x00" * 9, whole + b"}"):
        path.write_bytes(text)
        with pytest.raises(InputError) as error:
            read(tmp_path)
        assert str(path) in str(error.value), text


@pytest.mark.parametrize(
    "spans", [3, "text", {}, [3], [[1]], [["a", 2]], [[1.0, 2]], [[9, 3]], [[0, 5], [2, 9]], [[-4, 1]], [[0, 99]]]
)
def test_spans_that_a_file_got_wrong_were_cut_or_ended_a_training_in_a_type_error(spans):
    row = ROWS[0] | {"optional": spans}
    with pytest.raises(InputError, match=r"rows\.pkl: `optional` of row 1 "):
        schema.check_messages([ROWS[0] | {"optional": [[4, 7], [0, 2], [2, 3]]}, row], "rows.pkl")


@pytest.mark.parametrize("value", ["{half", "", b"\xff", "[" * 100_000])
def test_a_kept_reply_with_a_flipped_byte_ended_in_an_error_of_json(tmp_path, value):
    """The database has no checksums: it hands out what it finds."""
    store = ResponseCache(tmp_path / "replies.sqlite")
    store.put({"key": "reply", "other": "reply"})
    with store.connection:
        store.connection.execute("update replies set value = ? where key = 'key'", (value,))
    with pytest.raises(InputError, match=r"replies\.sqlite: .*; move the file away and run again"):
        store.get("key")
    assert store.get("other") == "reply"
    store.close()


def test_control_characters_of_a_file_do_not_reach_the_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["step"])

    def run():
        raise InputError("a\x1b[2J\x07b\n\u202ec: é")

    with pytest.raises(SystemExit) as end:
        commands.guarded(run)
    assert end.value.code == 2
    assert capsys.readouterr().err.strip() == "error: a\\x1b[2J\\x07b \\u202ec: é"


@pytest.mark.parametrize("columns", [["a", "ti\x1b[2J\ntle"], ["t\x07", "t\x07"]])
def test_a_column_with_control_characters_wrote_them_into_the_complaint(columns):
    with pytest.raises(InputError) as error:
        schema.check_frame(pd.DataFrame([[1, 2]], columns=columns), schema.REVIEW_COLUMNS, "file")
    assert str(error.value).isprintable()
