"""Pickles of other pandas, other protocols and other kinds of values, which are harmless and were refused whole."""

import bz2
import collections
import datetime
import decimal
import gzip
import lzma
import pickle
import tracemalloc
import uuid
import zlib
import zoneinfo
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_files as hand

from reason4rec.errors import InputError
from reason4rec.run import files, packed

TRIALS = [folder / "shared" / "trials" for folder in Path(__file__).parents[3:]]
MOMENTS = pd.to_datetime([1, 2, 3], unit="s")
WHOLE = {  # columns that come back as they were
    "category": pd.Series(["x", "y", None]).astype("category"),
    "category of numbers": pd.Series([3, 1, 3]).astype("category"),
    "nullable whole numbers": pd.Series([1, None, 3], dtype="Int64"),
    "nullable numbers": pd.Series([1.5, None, 3], dtype="Float64"),
    "nullable truth values": pd.Series([True, None, False], dtype="boolean"),
    "bytes": pd.Series([b"", b"a", b"\xff"]),
    "texts of numpy": pd.Series([np.str_("a"), np.str_("ü"), ""], dtype=object),
    "mixed": pd.Series(["a", 1.5, None], dtype=object),
    "lists and dicts": pd.Series([["a", ["b"]], {"a": {"b": 1}}, None]),
    "empty texts": pd.Series(["", "", ""]),
}
FOREIGN = {  # cells that no step understands
    "tuple": ((1, "a"), "tuple"),
    "set": ({1, 2}, "set"),
    "frozen set": (frozenset("a"), "frozenset"),
    "array": (np.array([1]), "ndarray"),
    "series": (pd.Series([1]), "Series"),
    "frame": (pd.DataFrame({"a": [1]}), "table"),
    "uuid": (uuid.UUID(int=3), "uuid.UUID"),
    "path": (Path("a"), "pathlib."),
    "ordered dict": (collections.OrderedDict(a=1), "OrderedDict"),
    "default dict": (collections.defaultdict(list, a=[1]), "defaultdict"),
    "deque": (collections.deque([1]), "deque"),
    "complex": (1 + 2j, "complex"),
    "interval of time": (pd.Timedelta(1), "timedelta"),
    "zone": (datetime.UTC, "timezone"),
    "a key that is a number with a point": ({1.5: 1}, "keys"),
    "a key that is a tuple": ({(1, 2): 1}, "keys"),
    "a key of very many digits": ({1 << 90: 1}, "keys"),
    "in a list": ([["a", (1, 2)]], "tuple"),
    "in a dict": ({"a": [uuid.UUID(int=3)]}, "uuid.UUID"),
    "a huge decimal": (decimal.Decimal("1E+999999999"), "Decimal"),
}
ARRAYS = {
    "periods": pd.period_range("2001", "2003", freq="Y"),
    "intervals": pd.interval_range(0, 3),
    "spans of time": pd.to_timedelta([1, 2, 3], unit="s"),
    "sparse": pd.arrays.SparseArray([0, 0, 1]),
    "complex numbers": np.array([1j, 2j, 3j]),
}


def frame_of(column):
    return pd.DataFrame({"title": ["x", "y", "z"], "extra": column})


def cells(value):
    column = np.empty(3, object)
    for row in range(3):
        column[row] = value
    return pd.Series(list(column), dtype=object)


def read(folder, frame, needed=None, protocol=5):
    path = folder / "frame.pkl"
    path.write_bytes(pickle.dumps(frame, protocol=protocol))
    return files.read_pickle(path, needed)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", WHOLE)
def test_a_harmless_column_was_refused_with_its_whole_file(tmp_path, name, protocol):
    frame = frame_of(WHOLE[name])
    pd.testing.assert_frame_equal(read(tmp_path, frame, protocol=protocol), frame)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", hand.VARIANTS)
def test_a_frame_of_an_old_protocol_was_refused(tmp_path, name, protocol):
    frame = hand.VARIANTS[name](hand.reviews())
    pd.testing.assert_frame_equal(read(tmp_path, frame, protocol=protocol), frame)


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_value_that_nobody_needs_is_left_out_with_its_column_and_said(tmp_path, capsys, name, protocol):
    value, kind = FOREIGN[name]
    frame = frame_of(cells(value))
    assert read(tmp_path, frame, ("title",), protocol).equals(frame[["title"]])
    note = capsys.readouterr().out
    assert note.startswith("note: ") and "frame.pkl" in note and "extra" in note and kind in note
    assert note.count("\n") == 1


@pytest.mark.parametrize("name", ARRAYS)
def test_a_column_of_a_type_that_nobody_needs_is_left_out(tmp_path, name):
    frame = frame_of(ARRAYS[name])
    assert read(tmp_path, frame, ("title",)).equals(frame[["title"]])
    with pytest.raises(InputError, match=r"frame\.pkl: column extra holds .*convert the column"):
        read(tmp_path, frame, ("title", "extra"))


@pytest.mark.parametrize("name", FOREIGN)
def test_a_needed_column_of_such_a_value_is_named_with_its_kind_and_row(tmp_path, name):
    value, kind = FOREIGN[name]
    column = cells(value)
    column[0] = "plain"
    with pytest.raises(InputError) as error:
        read(tmp_path, frame_of(column), ("extra",))
    message = str(error.value)
    assert "frame.pkl: column extra holds" in message and kind in message and "row 1" in message
    assert "convert the column" in message and "\n" not in message


def test_where_it_is_not_known_what_is_needed_such_a_value_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"uuid\.UUID"):
        read(tmp_path, frame_of(cells(uuid.UUID(int=3))))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_function_in_a_column_that_nobody_needs_is_not_called(tmp_path, protocol):
    marker = tmp_path / "marker"
    frame = hand.frame_with(hand.touch(marker))
    assert list(read(tmp_path, frame, ("title",), protocol)) == [name for name in frame if name != "reviews"]
    with pytest.raises(InputError, match="column reviews holds .*system"):
        read(tmp_path, frame, ("title", "reviews"), protocol)
    assert not marker.exists()


def test_a_list_that_two_columns_share_is_not_clean_in_the_second(tmp_path):
    shared = ["a", ("b",)]
    frame = frame_of(cells(shared)).assign(second=cells([shared]), third=cells(["a"]))
    assert list(read(tmp_path, frame, ("title",))) == ["title", "third"]


ZONES = [datetime.UTC, "UTC", "Europe/Berlin", datetime.timezone(datetime.timedelta(hours=-3))]


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_times_with_a_zone_are_read_as_those_of_utc(tmp_path, zone, protocol):
    times = pd.Series(MOMENTS.tz_localize("UTC").tz_convert(zone))
    for column in (times, times.astype(object)):
        found = read(tmp_path, frame_of(column), protocol=protocol)["extra"]
        assert pd.to_datetime(found).tolist() == MOMENTS.tolist()


def test_a_moment_of_python_with_an_offset_is_read_as_that_of_utc(tmp_path):
    moment = datetime.datetime(2001, 9, 9, 4, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    found = read(tmp_path, {"a": [moment, moment.astimezone(datetime.UTC)]})
    assert found == {"a": [datetime.datetime(2001, 9, 9, 2)] * 2}
    with pytest.raises(InputError, match="getattr|ZoneInfo"):
        read(tmp_path, {"a": moment.astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))})


def test_a_decimal_is_read_as_a_number(tmp_path):
    numbers = [decimal.Decimal(text) for text in ("4.5", "17", "-3", "0.1")]
    assert read(tmp_path, numbers) == [4.5, 17, -3, 0.1]


@pytest.mark.parametrize("dtype", ["int64[pyarrow]", "double[pyarrow]", "bool[pyarrow]", "string[pyarrow]"])
def test_a_column_of_a_type_of_pyarrow_is_read(tmp_path, dtype):
    column = pd.Series([1, 0, 1]).astype("string" if "string" in dtype else "int64").astype(dtype)
    assert read(tmp_path, frame_of(column))["extra"].tolist() == column.tolist()


INDEXES = {
    "texts": pd.Index(["c", "a", "b"], name="row"),
    "numbers": pd.Index([7, 5, 5]),
    "numbers with a point": pd.Index([0.5, 1.5, 2.5]),
    "times": pd.DatetimeIndex(MOMENTS, name="time"),
    "categories": pd.CategoricalIndex(["a", "b", "a"]),
    "levels": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["user_id", None]),
    "no rows": pd.Index([], dtype=str),
}


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", INDEXES)
def test_rows_with_labels_of_any_plain_kind_come_back(tmp_path, name, protocol):
    index = INDEXES[name]
    frame = frame_of([1, 2, 3]).head(len(index)).set_axis(index)
    pd.testing.assert_frame_equal(read(tmp_path, frame, protocol=protocol), frame, check_freq=False)
    across = pd.DataFrame([list(range(len(index)))], columns=index)
    if index.nlevels > 1:
        pd.testing.assert_frame_equal(read(tmp_path, across, protocol=protocol), across)


@pytest.mark.parametrize("index", [ARRAYS["periods"], ARRAYS["intervals"]], ids=["periods", "intervals"])
def test_rows_with_other_labels_are_numbered(tmp_path, capsys, index):
    found = read(tmp_path, frame_of([1, 2, 3]).set_axis(index), ("title",))
    assert found.index.tolist() == [0, 1, 2] and found["extra"].tolist() == [1, 2, 3]
    assert "its index" in capsys.readouterr().out


def test_a_frame_of_pandas_1_5_is_read():
    paths = [folder / "pandas_1.5.3_sampled.pkl" for folder in TRIALS]
    found = [path for path in paths if path.is_file()]
    if not found:
        pytest.skip("no trials here")
    frame = files.read_pickle(found[0])
    assert frame.shape == (40, 6) and frame.index.is_unique and frame["reviews"].map(type).eq(str).all()


def of_pandas_1_2(values, rows):
    """A frame as pandas before 1.3 wrote it: the manager is filled, and arrays are named first and filled later."""
    names = hand.index(hand.array((1,), hand.OBJECT, hand.listed(hand.raw("a"))))
    numbers = hand.array((rows,), hand.INT, hand.raw(np.arange(rows)[::-1].tobytes()))
    numbered = hand.call(
        hand.NEW_INDEX, hand.named("pandas.core.indexes.numeric", "Int64Index"), hand.mapped(data=numbers, name=b"N")
    )
    axes = hand.listed(names, numbered)
    places = hand.call(hand.named("builtins", "slice"), hand.raw(0), hand.raw(1), hand.raw(1))
    state = hand.mapped(axes=axes, blocks=hand.listed(hand.mapped(values=values, mgr_locs=places)))
    manager = hand.filled(
        hand.new(hand.named("pandas.core.internals.managers", "BlockManager")),
        hand.together(axes, hand.listed(), hand.listed(), b"}" + hand.raw("0.14.1") + state + b"s"),
    )
    return (
        b"\x80\x03" + hand.filled(hand.new(hand.FRAME), hand.mapped(_data=manager, _typ=hand.raw("dataframe"))) + b"."
    )


def filled_later(module, name, **state):
    return hand.filled(hand.new(hand.named(module, name)), hand.mapped(**state))


def test_a_frame_of_an_older_pandas_is_read(tmp_path):
    objects = hand.array((1, 3), hand.OBJECT, hand.raw(["x", 1, None]))
    texts = filled_later(
        "pandas.core.arrays.string_",
        "StringArray",
        _dtype=hand.filled(hand.new(hand.STRING), hand.mapped(storage=hand.raw("python"))),
        _ndarray=hand.array((3,), hand.OBJECT, hand.raw(["x", "y", "ü"])),
    )
    names = hand.index(hand.array((2,), hand.OBJECT, hand.raw(["x", "y"])))
    categories = filled_later(
        "pandas.core.arrays.categorical",
        "Categorical",
        _dtype=filled_later("pandas.core.dtypes.dtypes", "CategoricalDtype", categories=names, ordered=b"\x89"),
        _codes=hand.array((3,), hand.dtype("i1", order="|"), hand.raw(b"\x00\x01\xff")),
    )
    for values, expected in ((objects, ["x", 1, None]), (texts, ["x", "y", "ü"]), (categories, ["x", "y", np.nan])):
        (tmp_path / "old.pkl").write_bytes(of_pandas_1_2(values, 3))
        found = files.read_pickle(tmp_path / "old.pkl")
        assert found["a"].astype(object).where(found["a"].notna(), None).tolist() == [
            None if value is np.nan else value for value in expected
        ]
        assert found.index.tolist() == [2, 1, 0]


PACKED = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("how", PACKED)
def test_a_packed_pickle_is_known_by_its_content(tmp_path, how):
    path = tmp_path / "frame.pkl"
    path.write_bytes(PACKED[how](pickle.dumps(hand.reviews())))
    pd.testing.assert_frame_equal(files.read_pickle(path), hand.reviews())
    whole = path.read_bytes()
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"frame\.pkl: not a whole pickle"):
            files.read_pickle(path)


@pytest.mark.parametrize("how", PACKED)
def test_a_small_packed_file_that_unpacks_to_much_is_refused_in_bounded_memory(tmp_path, how):
    path = tmp_path / "bomb.pkl"
    path.write_bytes(PACKED[how](b"\x80\x05\x8e" + (1 << 27).to_bytes(8, "little") + bytes(1 << 27) + b"."))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"bomb\.pkl: .*unpacks to more than"):
            files.read_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 5 * packed.LEAST
    finally:
        tracemalloc.stop()


def test_the_announced_memory_of_an_xz_file_is_not_taken(tmp_path):
    huge = [{"id": lzma.FILTER_LZMA2, "dict_size": 3 << 29}]
    (tmp_path / "huge.pkl").write_bytes(packed_with(huge))
    with pytest.raises(InputError, match=r"huge\.pkl: .*[Mm]emory"):
        files.read_pickle(tmp_path / "huge.pkl")


def packed_with(filters):
    """An xz file of a small dictionary whose header announces another one."""
    small = lzma.compress(pickle.dumps(hand.ROWS), filters=[{**filters[0], "dict_size": 1 << 16}])
    # The block's header: its size, flags, filter, and the dictionary's size as a byte, then padding and a checksum.
    header = bytearray(small[12 : 12 + 4 * (small[12] + 1)])
    header[4] = 36
    header[-4:] = zlib.crc32(bytes(header[:-4])).to_bytes(4, "little")
    return small[:12] + bytes(header) + small[12 + len(header) :]


def test_nothing_is_unpacked_beside_a_file(tmp_path):
    (tmp_path / "frame.pkl").write_bytes(gzip.compress(pickle.dumps(hand.ROWS)))
    files.read_pickle(tmp_path / "frame.pkl")
    assert [path.name for path in tmp_path.iterdir()] == ["frame.pkl"]
