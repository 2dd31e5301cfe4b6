"""Files of a run: read only where they are plain data, written whole or not at all, refused with a useful message."""

import contextlib
import copyreg
import datetime
import errno
import functools
import gzip
import hashlib
import importlib
import json
import operator
import os
import pickle
import resource
import struct
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import toy_step
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.data import schema
from reason4rec.data.schema import PREDICTION, REVIEW_COLUMNS, TRAIN
from reason4rec.errors import InputError
from reason4rec.run import files, locks, records, safe_pickle
from reason4rec.run.files import Artifact
from reason4rec.run.step import parse
from reason4rec.systems.reason4rec.artifacts import REASONER_ROWS, TEST_RATINGS
from reason4rec.systems.reason4rec.pipeline import PIPELINE

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
ARTIFACTS = [artifact for spec in PIPELINE for artifact in spec.writes]
TEXT_COLUMNS = ["user_id", "item_id", "title", "reviews"]
ROWS = [{"messages": [{"role": "user", "content": "Will it?"}, {"role": "assistant", "content": "Yes."}]}]
MADE_FROM = {"inputs": {}, "settings": {"seed": 0}}


def reviews(n=4):
    return pd.DataFrame(
        {
            "user_id": [f"u{k % 3}" for k in range(n)],
            "item_id": [f"i{k % 2}" for k in range(n)],
            "title": ["Blue Hour", "Nachtlied für zwei"] * (n // 2) + ["Blue Hour"] * (n % 2),
            "ratings": [float(1 + k % 5) for k in range(n)],
            "reviews": [f"Review {k}, “fine”" if k else "" for k in range(n)],
            "unixReviewTime": [1_000_000_000 + k for k in range(n)],
        }
    )


def stored(folder, frame, artifact=TRAIN):
    """A folder of a dataset that holds the frame, written without a check."""
    path = folder / artifact.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(frame))
    return folder


def message_of(folder, artifact=TRAIN):
    with pytest.raises(InputError) as error:
        schema.read(folder, artifact)
    return str(error.value)


def moments(frame):
    return pd.to_datetime(frame["unixReviewTime"], unit="s")


VARIANTS = {
    "as it is": lambda f: f,
    "object text": lambda f: f.astype(dict.fromkeys(TEXT_COLUMNS, object)),
    "nullable text": lambda f: f.astype(dict.fromkeys(TEXT_COLUMNS, "string")),
    "python text": lambda f: f.astype(dict.fromkeys(TEXT_COLUMNS, pd.StringDtype("python", na_value=np.nan))),
    "whole ratings": lambda f: f.astype({"ratings": int}),
    "small numbers": lambda f: f.astype({"ratings": "float32", "unixReviewTime": "int32"}),
    "times": lambda f: f.assign(at=moments(f)),
    "all objects": lambda f: f.astype(object),
    "numpy scalars": lambda f: f.assign(extra=pd.Series([np.float64(k) for k in range(len(f))], dtype=object)),
    "dates": lambda f: f.assign(extra=moments(f).dt.date, at=moments(f).astype(object)),
    "lists": lambda f: f.assign(extra=[["a", "b"]] * len(f)),
    "sorted": lambda f: f.sort_values("unixReviewTime", ascending=False),
    "sampled": lambda f: f.sample(n=3, random_state=0),
    "concatenated": lambda f: pd.concat([f, f]),
    "filtered": lambda f: f[f["ratings"] > 2],
    "indexed by text": lambda f: f.set_index("user_id", drop=False),
    "turned": lambda f: f.T,
    "numbers by rows": lambda f: pd.DataFrame(f[["ratings", "unixReviewTime"]].to_numpy(), columns=["a", "b"]),
    "objects by rows": lambda f: pd.DataFrame(f.to_numpy(), columns=f.columns),
    "all missing": lambda f: f.assign(a=None, b=pd.Series([None] * len(f), dtype="str"), c=float("nan")),
    "all empty": lambda f: f.assign(a="", b=pd.Series([""] * len(f), dtype=object)),
    "a column twice": lambda f: f.assign(a=f["ratings"], b=f["title"]).rename(columns={"b": "title"}),
    "no rows": lambda f: f.head(0),
    "named axes": lambda f: f.rename_axis("row").rename_axis(columns="column"),
}


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_frame_comes_back_as_it_was_pickled(tmp_path, variant, protocol):
    frame = VARIANTS[variant](reviews())
    path = tmp_path / "frame.pkl"
    path.write_bytes(pickle.dumps(frame, protocol=protocol))
    pd.testing.assert_frame_equal(files.read_pickle(path), frame)


def test_a_frame_written_by_pandas_itself_comes_back(tmp_path):
    reviews().to_pickle(tmp_path / "frame.pkl")
    pd.testing.assert_frame_equal(files.read_pickle(tmp_path / "frame.pkl"), reviews())


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(plain)
def test_plain_data_comes_back_as_it_was_written(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("plain") / "content.pkl"
    files.write_pickle(path, content)
    assert files.read_pickle(path) == content


def test_what_is_written_is_read_and_checked(tmp_path):
    files.write_pickle(tmp_path / TRAIN.path, reviews())
    files.write_pickle(tmp_path / REASONER_ROWS.path, ROWS)
    pd.testing.assert_frame_equal(schema.read(tmp_path, TRAIN), reviews())
    assert schema.read(tmp_path, REASONER_ROWS) == ROWS


@pytest.mark.parametrize("name", ["train_pandas_2_2_2.pkl", "train_to_pickle_pandas_2_2_2.pkl"])
def test_a_frame_of_the_pandas_of_the_papers_repository_can_be_read(name):
    """Written by pandas 2.2.2 on numpy 1.26.4: pickle.dump, and DataFrame.to_pickle after taking the rows apart."""
    frame = files.read_pickle(DATA / name)
    schema.check_frame(frame, REVIEW_COLUMNS, name)
    assert sorted(frame.index) == [0, 1, 2, 3, 4]
    frame = frame.sort_index()
    assert frame["title"].tolist() == ["Blue Hour"] * 2 + ["Nachtlied für zwei"] * 2 + ["{title}"]
    assert frame["ratings"].tolist() == [5.0, 4.0, 3.0, 1.0, 2.0]
    assert frame["reviews"].iloc[4] == "Not for me: “cold”."
    assert frame["unixReviewTime"].dtype == "int64" and frame["unixReviewTime"].iloc[4] == 1_200_000_000


@pytest.mark.parametrize("version", ["2_2_2", "2_3_3"])
def test_every_kind_of_column_of_an_older_pandas_can_be_read(version):
    """Written by pandas 2.2.2 on numpy 1.26.4 and by pandas 2.3.3 on numpy 2.2.6: texts with their types spelt out."""
    frame = files.read_pickle(DATA / f"kinds_pandas_{version}.pkl")
    assert list(frame.index) == [3, 1, 2]
    assert frame["text"].dtype == pd.StringDtype("python") and frame["arrow"].dtype == pd.StringDtype("pyarrow")
    assert frame["text"].tolist() == ["Blue Hour", pd.NA, "Nachtlied für zwei"]
    assert frame["arrow"].tolist() == ["a", pd.NA, "ü"]
    assert frame["number"].dtype == "float32" and frame["number"].tolist() == [1.5, 2.0, 3.0]
    assert frame["flag"].tolist() == [True, False, True]
    assert frame["time"].tolist() == [pd.Timestamp(1_000_000_000 + k, unit="s") for k in range(3)]
    moment = datetime.datetime(2001, 9, 9, 1, 46, 40)
    assert frame["object"].tolist() == [pd.Timestamp("2001-09-09"), moment.date(), moment]
    assert frame["scalar"].tolist() == [1.5, "ü", [1, 2]]
    for column in ("inferred", "python") if version == "2_3_3" else ():
        assert frame[column].isna().tolist() == [False, True, False] and frame[column].dtype.na_value is np.nan


def test_a_frame_that_was_read_can_be_changed(tmp_path):
    for protocol in (4, 5):
        (tmp_path / "frame.pkl").write_bytes(pickle.dumps(reviews().assign(at=moments), protocol=protocol))
        frame = files.read_pickle(tmp_path / "frame.pkl")
        for column in frame:
            frame.loc[0, column] = frame.loc[1, column]
        assert frame.loc[0].tolist() == frame.loc[1].tolist()


def test_a_list_of_rows_of_the_pandas_of_the_papers_repository_can_be_read():
    rows = files.read_pickle(DATA / "rows_pandas_2_2_2.pkl")
    schema.check_messages(rows, "rows")
    assert [row["messages"][1]["content"] for row in rows] == [f"Predicted Rating: {k}.0" for k in (5, 4, 3, 1, 2)]


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def touch(marker):
    return Calls(os.system, f"touch {marker}")


def pickled_beside(marker):
    path = marker.with_name("beside.pkl")
    path.write_bytes(pickle.dumps(touch(marker)))
    return path


def frame_with(value):
    frame = reviews().astype(object)
    frame.loc[0, "reviews"] = value
    return frame


SYSTEM = f"{os.system.__module__}.system"
EFFECTIVE = {  # each leaves the file `marker` behind where nothing stops it, and is refused for the name
    "os.system": (touch, SYSTEM),
    "eval": (lambda marker: Calls(eval, f"open({str(marker)!r}, 'w')"), "builtins.eval"),
    "exec": (lambda marker: Calls(exec, f"open({str(marker)!r}, 'w')"), "builtins.exec"),
    "open": (lambda marker: Calls(open, str(marker), "w"), f"{open.__module__}.open"),
    "subprocess.run": (lambda marker: Calls(subprocess.run, ["touch", str(marker)]), "subprocess.run"),
    "subprocess.call": (lambda marker: Calls(subprocess.call, ["touch", str(marker)]), "subprocess.call"),
    "os.mkdir": (lambda marker: Calls(os.mkdir, str(marker)), f"{os.mkdir.__module__}.mkdir"),
    "pickle.loads": (lambda marker: Calls(pickle.loads, pickle.dumps(touch(marker))), "pickle.loads"),
    "pandas.read_pickle": (
        lambda marker: Calls(pd.read_pickle, str(pickled_beside(marker))),
        f"{pd.read_pickle.__module__}.read_pickle",
    ),
    "in an argument": (lambda marker: Calls(list, [touch(marker)]), "builtins.list"),
    "in an argument of an allowed class": (lambda marker: Calls(bytearray, Calls(bytes, touch(marker))), "bytes"),
    "in a cell of a frame": (lambda marker: frame_with(touch(marker)), SYSTEM),
    "deep in a list": (lambda marker: [*ROWS, {"messages": [{"content": touch(marker)}]}], SYSTEM),
    "in a key": (lambda marker: {(1, touch(marker)): 2}, SYSTEM),
}


@pytest.mark.parametrize("name", EFFECTIVE)
def test_a_hostile_pickle_is_refused_by_name_and_leaves_no_effect(tmp_path, name):
    make, refused = EFFECTIVE[name]
    marker, path = tmp_path / "marker", tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps(make(marker)))
    with pytest.raises(InputError) as error:
        files.read_pickle(path)
    assert refused in str(error.value) and str(path) in str(error.value)
    assert not marker.exists()
    with path.open("rb") as file, contextlib.suppress(Exception):
        pickle.load(file)
    assert marker.exists(), "this pickle was harmless: the test proves nothing"


@pytest.mark.parametrize(
    "content, refused",
    [
        (pickle.dumps(importlib.import_module), "importlib.import_module"),
        (pickle.dumps(Calls(__import__, "antigravity")), "builtins.__import__"),
        (pickle.dumps(Calls(getattr, "text", "upper")), "builtins.getattr"),
        (pickle.dumps(operator.attrgetter("system")), "operator.attrgetter"),
        (pickle.dumps(functools.partial(print)), "functools.partial"),
        (pickle.dumps(pd.eval), "eval"),
        (pickle.dumps(np.load), "load"),
        (pickle.dumps(Path("x")), "pathlib."),
        (pickle.dumps({"a": Artifact}), "reason4rec.run.files.Artifact"),
        (b"\x80\x04\x8c\x06pandas\x8c\x13DataFrame.to_pickle\x93.", "pandas.DataFrame.to_pickle"),
        (b"\x80\x04\x8c\x08builtins\x8c\x0fslice.__class__\x93.", "builtins.slice.__class__"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
        (b"\x80\x04\x8c\x06pandas\x8c\x14core.frame.DataFrame\x93.", "pandas.core.frame.DataFrame"),
        (b"cpandas\nDataFrame.to_pickle\n.", "pandas.DataFrame.to_pickle"),
        (b"cpandas.DataFrame\nto_pickle\n.", "pandas.DataFrame.to_pickle"),
        (b"cpandas\ndataframe\n.", "pandas.dataframe"),
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"cpandas.io.pickle\npickle\n.", "pandas.io.pickle.pickle"),
        (b"cpandas\nread_pickle\n.", "pandas.read_pickle"),
        (b"cnumpy\nos\n.", "numpy.os"),
        (b"c__main__\n__builtins__\n.", "__main__.__builtins__"),
    ],
    ids=str,
)
def test_a_name_that_a_table_does_not_need_is_refused_before_it_is_loaded(tmp_path, content, refused):
    (tmp_path / "hostile.pkl").write_bytes(content)
    with pytest.raises(InputError) as error:
        files.read_pickle(tmp_path / "hostile.pkl")
    assert refused in str(error.value) and "does not need" in str(error.value)


def test_no_class_or_function_of_a_package_is_given_to_a_file():
    for meaning in safe_pickle._NAMES.values():
        own = isinstance(meaning, types.FunctionType) and meaning.__module__ == safe_pickle.__name__
        assert own or meaning is pd.NA or type(meaning) is object


# Pickles written by hand: each function gives the bytes of one value, honest or not.
def raw(value):
    return pickle.dumps(value, protocol=3)[2:-1]


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def together(*values):
    return b"(" + b"".join(values) + b"t"


def listed(*values):
    return b"](" + b"".join(values) + b"e"


def mapped(**values):
    return b"}(" + b"".join(raw(key) + value for key, value in values.items()) + b"u"


def call(function, *given):
    return function + together(*given) + b"R"


def new(kind, *given):
    return kind + together(*given) + b"\x81"


def filled(part, state):
    return part + state + b"b"


def kept(value, number):
    return value + b"q" + bytes([number])


def again(number):
    return b"h" + bytes([number])


def doubled(times):
    """A tuple of two tuples of two tuples...: a few bytes a level, and twice the values."""
    return b")" + b"q\xc8h\xc8\x86" * times


def doubled_lists(times):
    """The same of lists; those inside stay on the stack."""
    return b"]" + b"q\xc8](h\xc8h\xc8e" * times


NONE, MULTIARRAY, ARROW, GIGABYTE = b"N", "numpy._core.multiarray", "pyarrow.lib", 1 << 30
NDARRAY, DTYPE, SCALAR = named("numpy", "ndarray"), named("numpy", "dtype"), named(MULTIARRAY, "scalar")
FRAME, RANGE, STRING = named("pandas", "DataFrame"), named("pandas", "RangeIndex"), named("pandas", "StringDtype")
RECONSTRUCT, FROMBUFFER = named(MULTIARRAY, "_reconstruct"), named("numpy._core.numeric", "_frombuffer")
NEW_INDEX, BACKED = named("pandas.core.indexes.base", "_new_Index"), "__pyx_unpickle_NDArrayBacked"
TIMES, FLAGS = named("pandas.arrays", "DatetimeArray"), b"}" + raw("allows_duplicate_labels") + b"\x88s"


def dtype(name, flags=0, order="<", names=NONE, fields=NONE, size=-1, align=-1):
    state = together(raw(3), raw(order), NONE, names, fields, raw(size), raw(align), raw(flags))
    return filled(call(DTYPE, raw(name), raw(False), raw(True)), state)


INT, OBJECT, FALSE_OBJECT = dtype("i8"), dtype("O8", 63, "|"), dtype("O8", 0, "|")
POINTER = raw(b"A" * 8)


def array(shape, kind, data):
    state = together(raw(1), shape if isinstance(shape, bytes) else raw(shape), kind, raw(False), data)
    return filled(call(RECONSTRUCT, NDARRAY, raw((0,)), raw(b"b")), state)


def index(data, name=NONE):
    return call(NEW_INDEX, named("pandas", "Index"), mapped(data=data, name=name))


def numbered(stop):
    return call(NEW_INDEX, RANGE, mapped(start=raw(0), stop=raw(stop), step=raw(1), name=NONE))


def block(values, start, stop):
    places = call(named("builtins", "slice"), raw(start), raw(stop), raw(1))
    return call(named("pandas._libs.internals", "_unpickle_block"), values, places, raw(2))


def frame(names, rows, *blocks):
    manager = call(named("pandas.core.internals.managers", "BlockManager"), together(*blocks), listed(names, rows))
    return filled(new(FRAME), mapped(_mgr=manager, _typ=raw("dataframe"), _metadata=listed(), attrs=b"}", _flags=FLAGS))


def one_column(values, rows=1):
    return frame(index(array((1,), OBJECT, listed(raw("a")))), numbered(rows), block(values, 0, 1))


def buffer(data):
    return call(named(ARROW, "py_buffer"), raw(data))


def arrow(kind, length, *buffers):
    kind = call(named(ARROW, "type_for_alias"), raw(kind))
    return call(
        named(ARROW, "_restore_array"), together(kind, raw(length), raw(0), raw(0), listed(*buffers), b"]", NONE)
    )


def fields_of_void(offset, kind=OBJECT):
    return dtype("V8", 0, "|", together(raw("a")), mapped(a=together(kind, raw(offset))), 8, 1)


def category(labels, codes):
    kind = filled(new(named("pandas", "CategoricalDtype")), mapped(categories=labels, ordered=raw(False)))
    part = call(named("pandas._libs.arrays", BACKED), named("pandas", "Categorical"), raw(0x4F1061F), NONE)
    return filled(part, together(kind, codes))


def levels(labels, codes):
    return call(
        NEW_INDEX,
        named("pandas", "MultiIndex"),
        mapped(levels=listed(labels), codes=listed(codes), names=listed(NONE), sortorder=NONE),
    )


def nullable(numbers, missing):
    return filled(new(named("pandas.arrays", "IntegerArray")), mapped(_data=numbers, _mask=missing))


SMALL, FLAGGED = dtype("i1", order="|"), dtype("b1", order="|")
MILLION, LONG = 1_000_000, index(array((1,), OBJECT, listed(raw("x" * 1_000_000))))
ZEROS = array((MILLION,), SMALL, raw(bytes(MILLION)))
CHANGING = {  # a class or function of a package looks otherwise afterwards, where nothing stops it
    "an attribute of a class": filled(RANGE, together(NONE, mapped(__len__=STRING))),
    "an attribute of a class of labels": filled(named("pandas", "Index"), together(NONE, mapped(__eq__=STRING))),
    "the dict of a function": filled(NEW_INDEX, mapped(of=raw("a file"))),
    "the defaults of a function": filled(FROMBUFFER, together(NONE, mapped(__defaults__=raw(("F",))))),
    "a part, then a class": listed(raw("a"), filled(RANGE, together(NONE, mapped(__iter__=raw(1))))),
}
CRASHING = {  # most of these end the process or read its memory, where nothing stops them
    "a pickle in a number": call(SCALAR, OBJECT, raw(pickle.dumps(Calls(os.getcwd)))),
    "bytes as a pointer": call(SCALAR, FALSE_OBJECT, POINTER),
    "bytes as an array of pointers": array((1,), OBJECT, POINTER),
    "bytes as an array of pointers under a false flag": array((1,), FALSE_OBJECT, POINTER),
    "bytes as the pointers of a field": array((1,), fields_of_void(0), POINTER),
    "a field outside its array": array((1,), fields_of_void(1 << 30, INT), POINTER),
    "bytes as pointers in a new array": new(NDARRAY, raw((1,)), raw("O"), POINTER),
    "a buffer of pointers": call(FROMBUFFER, POINTER, OBJECT, raw((1,)), raw("C")),
    "a buffer of pointers under a false flag": call(FROMBUFFER, POINTER, FALSE_OBJECT, raw((1,)), raw("C")),
    "a record of pointers": call(DTYPE, raw("O,i8"), raw(False), raw(True)),
    "a record of pointers by its byte order": array((1,), dtype("i8", 0, "O,i8,"), raw(b"A" * 24)),
    "a changed type of all numbers": filled(call(DTYPE, raw("f8")), raw((3, ">", None, None, None, 9, 9, 63))),
    "a larger array than its bytes": array((1 << 40,), INT, POINTER),
    "a larger buffer than its bytes": call(FROMBUFFER, POINTER, INT, raw((1 << 40,)), raw("C")),
    "an array filled again under its labels": together(
        kept(array((1 << 17,), INT, raw(bytes(1 << 20))), 200),
        index(again(200)),
        filled(again(200), together(raw(1), raw((1,)), INT, raw(False), POINTER)),
    ),
    "an array never filled": call(RECONSTRUCT, NDARRAY, raw((1 << 30,)), raw("O")),
    "a new array never filled": new(NDARRAY, raw((1 << 30,)), raw("f8")),
    "times never filled": new(TIMES),
    "times that are texts": one_column(
        filled(call(named("pandas._libs.arrays", BACKED), TIMES, raw(0x4F1061F), NONE), together(OBJECT, POINTER))
    ),
    "a manager never filled": new(named("pandas.core.internals.managers", "BlockManager")),
    "a frame never filled": new(FRAME),
    "a frame of nothing": filled(new(FRAME), b"}"),
    "a frame of a text": filled(new(FRAME), mapped(_mgr=raw("a"), _metadata=raw(["_mgr"]))),
    "a frame of itself": filled(kept(new(FRAME), 200), mapped(_mgr=again(200))),
    "a column outside its frame": frame(
        numbered(1), numbered(2), block(array((1, 2), INT, raw(bytes(16))), 1 << 30, (1 << 30) + 1)
    ),
    "a column before its frame": frame(numbered(1), numbered(1), block(array((1, 1), INT, POINTER), -1, 0)),
    "a column with a negative place": frame(
        numbered(1),
        numbered(1),
        call(
            named("pandas._libs.internals", "_unpickle_block"),
            array((1, 1), INT, POINTER),
            array((1,), INT, raw(b"\xff" * 8)),
            raw(2),
        ),
    ),
    "a column twice": frame(numbered(1), numbered(1), *[block(array((1, 1), INT, POINTER), 0, 1)] * 2),
    "a column too few": frame(numbered(2), numbered(1), block(array((1, 1), INT, POINTER), 0, 1)),
    "a column too many": frame(numbered(1), numbered(1), block(array((2, 1), INT, raw(bytes(16))), 0, 2)),
    "a longer index than its column": one_column(array((1, 1), INT, POINTER), rows=2),
    "a longer column than its index": one_column(array((1, 2), INT, raw(bytes(16)))),
    "a column in three dimensions": one_column(array((1, 1, 1), INT, POINTER)),
    "a text outside its buffer": arrow("large_string", 1, NONE, buffer(b"\0" * 12 + b"\1\0\0\0"), buffer(b"abc")),
    "more texts than in the buffer": arrow("large_string", 1 << 30, NONE, buffer(bytes(16)), buffer(b"abc")),
    "marks of missing texts outside the buffer": arrow(
        "large_string", 1 << 30, buffer(b"a"), buffer(bytes(16)), buffer(b"")
    ),
    "fewer texts than none": arrow("large_string", -1, NONE, buffer(bytes(16)), buffer(b"abc")),
    "numbers outside their buffer": arrow("int64", 1 << 30, NONE, buffer(b"abc")),
    "texts without buffers": arrow("large_string", 1),
    "texts of nothing": arrow("large_string", 1, NONE, NONE, NONE),
    "texts that are no UTF-8": arrow(
        "large_string", 1, NONE, buffer(bytes(8) + b"\3" + bytes(7)), buffer(b"\xff\xfe\xfd")
    ),
    "a category outside those that there are": one_column(
        category(index(array((1,), OBJECT, listed(raw("a")))), array((1,), SMALL, raw(b"\x7f")))
    ),
    "a category below none": one_column(
        category(index(array((1,), OBJECT, listed(raw("a")))), array((1,), SMALL, raw(b"\x80")))
    ),
    "a label outside its level": frame(
        index(array((1,), OBJECT, listed(raw("a")))),
        levels(index(array((1,), OBJECT, listed(raw("a")))), array((1,), SMALL, raw(b"\x7f"))),
        block(array((1, 1), INT, POINTER), 0, 1),
    ),
    "more marks of missing numbers than numbers": one_column(
        nullable(array((1,), INT, POINTER), array((2,), FLAGGED, raw(b"\1\1")))
    ),
    "marks of missing numbers that are numbers": one_column(
        nullable(array((1,), INT, POINTER), array((1,), INT, POINTER))
    ),
    "numbers of objects": one_column(nullable(array((1,), OBJECT, listed(NONE)), array((1,), FLAGGED, raw(b"\1")))),
    "a manager of nothing": filled(new(named("pandas.core.internals.managers", "BlockManager")), b")"),
    "an instance of a word": call(named("copy_reg", "_reconstructor"), NDARRAY, named("__builtin__", "object"), NONE),
    "a very deep key": b"})" + b"\x85" * 1_000_000 + b"Ns",
    "very deep labels": index(array((1,), OBJECT, listed(b")" + b"\x85" * 1_000_000))),
    "a very deep tuple": b")" + b"\x85" * 1_000_000,
}
ENDLESS = {  # a few bytes that take for ever to hash, to compare or to print, where nothing stops them
    "a key of doubled tuples": b"}" + doubled(60) + NONE + b"s",
    "keys of doubled tuples": b"}(" + doubled(60) + NONE + b"u",
    "a set of doubled tuples": b"\x8f(" + doubled(60) + b"\x90",
    "a frozen set of doubled tuples": b"(" + doubled(60) + b"\x91",
    "a dict of doubled tuples": b"(" + doubled(60) + NONE + b"d",
    "doubled tuples": doubled(60),
    "tuples doubled by another code": b")" + b"2\x86" * 60,
    "a name of doubled tuples": index(array((1,), INT, POINTER), doubled(60)),
    "labels of doubled tuples": index(array((1,), OBJECT, listed(doubled(60)))),
    "cells of doubled tuples": one_column(array((1, 1), OBJECT, listed(doubled(60)))),
    "a setting of doubled tuples": call(STRING, doubled(60), named("pandas", "NA")),
    "a missing text of doubled tuples": call(STRING, raw("python"), doubled(60)),
    "a type of doubled tuples": call(DTYPE, doubled(60), raw(False), raw(True)),
    "a byte order of doubled tuples": filled(
        call(DTYPE, raw("i8"), raw(False), raw(True)), together(raw(3), doubled(60))
    ),
    "a shape of doubled tuples": array(doubled(60), INT, POINTER),
    "a function of doubled tuples": doubled(60) + b")R",
    "a state of doubled tuples": filled(new(FRAME), doubled(60)),
    "texts of doubled lists": filled(
        call(named("pandas._libs.arrays", BACKED), named("pandas.arrays", "StringArray"), raw(0x4F1061F), NONE),
        together(
            call(STRING, raw("python"), named("pandas", "NA")),
            array((61,), OBJECT, listed(doubled_lists(60))),
        ),
    ),
    "categories of doubled tuples": category(index(array((1,), OBJECT, listed(doubled(60)))), ZEROS),
    "a dict of doubled tuples as Python 2 wrote it": b"(" + doubled(60) + b"Nd",
    "a huge decimal": call(named("decimal", "Decimal"), raw("1E+999999999")),
    "a whole number of very many digits": b"L" + b"9" * 100_000 + b"L\n",
    "keys that all fall into one place": b"}(" + b"".join(raw((2**61 - 1) * k) + b"N" for k in range(1, 20_000)) + b"u",
    "a column for each of no rows": frame(
        numbered(10**12), numbered(0), block(array((10**12, 0), INT, raw(b"")), 0, 10**12)
    ),
}
LARGE = {  # a small file that asks for much memory
    "a bytearray of that length": call(named("builtins", "bytearray"), raw(GIGABYTE)),
    "announced bytes": b"\x8e" + struct.pack("<Q", GIGABYTE),
    "announced text": b"\x8d" + struct.pack("<Q", GIGABYTE),
    "an announced bytearray": b"\x96" + struct.pack("<Q", GIGABYTE),
    "short announced bytes": b"B" + struct.pack("<I", GIGABYTE),
    "an announced number": b"\x8b" + struct.pack("<i", GIGABYTE),
    "an announced part of the file": b"\x95" + struct.pack("<Q", GIGABYTE),
    "more announced bytes than there can be": b"\x8e" + b"\xff" * 8,
    "a remembered object of a high number": b"Nr" + struct.pack("<I", 1 << 27) + b"]\x85",
    "an array in a thousand columns": frame(
        numbered(1_000),
        numbered(100_000),
        block(kept(array((1, 100_000), INT, raw(bytes(800_000))), 200), 0, 1),
        *[block(again(200), k, k + 1) for k in range(1, 1_000)],
    ),
    "a list in a thousand arrays": listed(
        array((100_000,), OBJECT, kept(raw([None] * 100_000), 200)), *[array((100_000,), OBJECT, again(200))] * 1_000
    ),
    "an index of a billion": numbered(GIGABYTE),
    "a long text in a million categories": one_column(category(LONG, ZEROS), rows=MILLION),
    "a long label of a million rows": frame(
        index(array((1,), OBJECT, listed(raw("a")))), levels(LONG, ZEROS), block(b"N", 0, 1)
    ),
    "a value that is not understood in very many columns": frame(
        numbered(1_000), numbered(100_000), block(named("os", "system"), 0, 1_000_000_000)
    ),
    "a frame of a billion empty rows": frame(numbered(0), numbered(GIGABYTE)),
    "texts in a thousand arrays": listed(
        kept(arrow("large_string", 50_000, NONE, buffer(bytes(400_008)), buffer(b"")), 200),
        *[
            filled(
                new(named("pandas.arrays", "ArrowStringArray")),
                mapped(_pa_array=again(200), _dtype=call(STRING, raw("python"), named("pandas", "NA"))),
            )
        ]
        * 1_000,
    ),
}
FOREIGN = {  # codes and values that a table of reviews does not have
    "an object called by its name": b"(ios\nsystem\n.",
    "a class called by its name": b"(ibuiltins\nbytearray\n.",
    "an object called with its class": b"(" + named("builtins", "bytearray") + b"o",
    "keyword arguments": named("builtins", "bytearray") + b")}\x92",
    "a registered object": b"\x82\xf0",
    "a registered object of two bytes": b"\x83\xf0\x00",
    "a registered object of four bytes": b"\x84\xf0\x00\x00\x00",
    "an object kept elsewhere": b"Pelsewhere\n",
    "an object kept elsewhere by a value": raw("elsewhere") + b"Q",
    "a buffer kept elsewhere": b"\x97",
    "a buffer made read-only": raw(b"abc") + b"\x98",
    "a value twice": b"]22\x86",
    "a value taken back": b"]N0",
    "a mark taken back": b"](1",
    "a text as Python writes it": b"S'a'\n",
    "a value not remembered": b"h\x07",
    "nothing": b"",
    "a frame in a list": listed(one_column(array((1, 1), INT, POINTER))),
    "a frame in a cell": one_column(array((1, 1), OBJECT, listed(one_column(array((1, 1), INT, POINTER))))),
    "an array": array((1,), INT, POINTER),
    "an array in a dict": mapped(a=array((1,), INT, POINTER)),
    "a type": INT,
    "a word": NDARRAY,
    "a function": NEW_INDEX,
    "labels": numbered(3),
    "a tuple": raw((1, 2)),
    "a set": raw({1}),
    "a key that is a number with a point": b"}" + raw(1.5) + b"Ns",
    "a value put into a text": raw("a") + b"Na",
    "a value put into an array": array((1,), OBJECT, listed(NONE)) + raw(0) + raw("a") + b"s",
    "a value put into labels": numbered(3) + b"Na",
    "a value put into a frame": one_column(array((1, 1), INT, POINTER)) + raw("a") + raw(1) + b"s",
    "a state for a text": filled(raw("a"), b"}"),
    "a state for a list": filled(b"]", mapped(__class__=raw("a"))),
    "a state for a missing value": filled(named("pandas", "NA"), mapped(a=raw(1))),
    "a state for a type of texts": filled(call(STRING, raw("python"), named("pandas", "NA")), mapped(storage=raw(1))),
    "a second state for a frame": filled(one_column(array((1, 1), INT, POINTER)), mapped(_mgr=NONE)),
    "a call of a text": raw("a") + b")R",
    "a call with no tuple": named("builtins", "bytearray") + b"]R",
    "a call with a frame": named("builtins", "bytearray") + one_column(array((1, 1), INT, POINTER)) + b"R",
    "an odd number of entries": b"}(" + raw("a") + b"u",
    "a moment with a zone": call(
        named("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"), raw(1), NONE, raw("UTC"), raw(10)
    ),
    "a date of a number": call(named("datetime", "date"), raw(1), raw(1), raw(1)),
    "a missing text that is a number": call(STRING, raw("python"), raw(1.5)),
    "a storage of another kind": call(STRING, raw("cloud"), named("pandas", "NA")),
}
HOSTILE = {**CHANGING, **CRASHING, **ENDLESS, **LARGE, **FOREIGN}


def test_a_frame_written_by_hand_is_as_good_as_one_of_pandas(tmp_path):
    (tmp_path / "hand.pkl").write_bytes(b"\x80\x05" + one_column(array((1, 1), INT, POINTER)) + b".")
    hand = pd.DataFrame({"a": [int.from_bytes(b"A" * 8, "little")]})
    for read in (files.read_pickle, pd.read_pickle):
        pd.testing.assert_frame_equal(read(tmp_path / "hand.pkl"), hand, check_column_type=False)


READ_APART = """
import copyreg, importlib, json, os, pickle, resource, signal, sys
from pathlib import Path
import numpy as np, pandas as pd, pyarrow
from reason4rec.run import files, safe_pickle

def state():
    "What hangs on the classes and functions that pickles of frames name, and on the registries of pickle."
    found = {"extensions": repr(copyreg._inverted_registry), "f8": str(np.dtype("f8")), "O": np.dtype("O").flags}
    for name in NAMES:
        module, name = name.rsplit(".", 1)
        thing = getattr(importlib.import_module(module), name)
        for owner in thing.__mro__[:-1] if isinstance(thing, type) else [thing]:
            for key, value in getattr(owner, "__dict__", {}).items():
                found[f"{module}.{name} {owner} {key}"] = id(value)
        for key in ("__defaults__", "__kwdefaults__", "__code__"):
            found[f"{module}.{name} {key}"] = repr(getattr(thing, key, None))
    return found

def outcome(load, path):
    "What reading did, told by a process of its own: None if that one did not live to tell."
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (4 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before, memory = state(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            told = ["read", repr(type(load(path)))]
        except BaseException as error:
            told = [type(error).__name__, str(error)]
        after = state()
        changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) >> 10
        os.write(writing, json.dumps([*told, changed, grown]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None

def stock(path):
    return pickle.loads(path.read_bytes())

def left_out(path):
    return files.read_pickle(path, ("title",))

sys.stdout, told = sys.stderr, sys.stdout  # for the notes
NAMES = json.loads(sys.argv[2])
result = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    result[path.stem] = outcome(files.read_pickle, path)
    result["left out " + path.stem] = outcome(left_out, path)
    if path.suffix == ".changing":
        result["stock " + path.stem] = outcome(stock, path)
print(json.dumps(result), file=told)
"""
IN_PICKLES = """numpy.ndarray numpy.dtype numpy._core.multiarray._reconstruct numpy._core.numeric._frombuffer
    pandas.DataFrame pandas.Index pandas.RangeIndex pandas.StringDtype pandas.NA pandas.Timestamp
    pandas.arrays.StringArray pandas.arrays.ArrowStringArray pandas.arrays.DatetimeArray
    pandas.core.internals.managers.BlockManager pandas.core.indexes.base._new_Index
    pandas.CategoricalDtype pandas.Categorical pandas.CategoricalIndex pandas.MultiIndex pandas.DatetimeIndex
    pandas.arrays.IntegerArray pandas.arrays.BooleanArray decimal.Decimal datetime.timedelta datetime.timezone
    pyarrow.lib._restore_array pyarrow.lib.Array pyarrow.lib.Buffer datetime.date datetime.datetime""".split()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What reading each hostile file did, each in a process of its own: error, reason, what changed, MB."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, content in HOSTILE.items():
        suffix = "changing" if name in CHANGING else "pkl"
        (folder / f"{name}.{suffix}").write_bytes(b"\x80\x05" + content + b".")
    command = [sys.executable, "-c", READ_APART, str(folder), json.dumps(IN_PICKLES)]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_bad_input_and_has_no_effect(outcomes, name):
    assert outcomes[name] is not None, "it ended the process"
    error, reason, changed, megabytes = outcomes[name]
    assert (
        error == "InputError" and "not a whole pickle of plain data" in reason and "fetch or write it again" in reason
    )
    assert not changed
    assert megabytes < 150


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_has_no_effect_where_what_is_not_needed_may_be_left_out(outcomes, name):
    assert outcomes[f"left out {name}"] is not None, "it ended the process"
    error, reason, changed, megabytes = outcomes[f"left out {name}"]
    assert error == "InputError" or (error == "read" and "DataFrame" in reason)
    assert not changed
    assert megabytes < 150


@pytest.mark.parametrize("name", CHANGING)
def test_a_file_that_changes_a_class_does_so_where_nothing_stops_it(outcomes, name):
    assert outcomes[f"stock {name}"][2], "this pickle was harmless: the test proves nothing"


def test_an_object_that_a_package_has_registered_is_refused(tmp_path):
    (tmp_path / "registered.pkl").write_bytes(b"\x80\x02\x82\xf0.")
    copyreg.add_extension("os", "getcwd", 0xF0)
    try:
        # The cache of registered objects is filled by anybody's unpickler and asked before any allow-list.
        assert pickle.loads(b"\x80\x02\x82\xf0.") is os.getcwd
        with pytest.raises(InputError, match="code"):
            files.read_pickle(tmp_path / "registered.pkl")
    finally:
        copyreg.remove_extension("os", "getcwd", 0xF0)
        copyreg.clear_extension_cache()


def test_a_doubled_list_is_no_training_row(tmp_path):
    content = b"\x80\x05" + doubled_lists(60) + b"."
    path = tmp_path / REASONER_ROWS.path
    path.write_bytes(content)
    assert "row 0" in message_of(tmp_path, REASONER_ROWS)


@pytest.mark.parametrize("variant", ["as it is", "object text", "nullable text", "python text", "dates"])
def test_a_frame_with_a_changed_byte_is_read_or_bad_input_and_nothing_else(tmp_path, variant):
    path = tmp_path / "changed.pkl"
    content = pickle.dumps(VARIANTS[variant](reviews(2)), protocol=5)
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 + place % 255]) + content[place + 1 :])
        with contextlib.suppress(InputError):
            files.read_pickle(path)


@pytest.mark.parametrize("content", [reviews(1), reviews(1).astype(object), ROWS], ids=["frame", "objects", "rows"])
def test_a_pickle_cut_off_at_any_byte_is_bad_input(tmp_path, content):
    path = tmp_path / "cut.pkl"
    files.write_pickle(path, content)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.pkl: not a whole pickle"):
            files.read_pickle(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"user_id,item_id\n", gzip.compress(b"user_id,item_id\n", mtime=0), b"{}", b"PK\x03\x04", b"\x80\xff"],
)
def test_a_file_that_is_no_pickle_is_bad_input(tmp_path, content):
    (tmp_path / "text.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"text\.pkl"):
        files.read_pickle(tmp_path / "text.pkl")


def test_a_folder_or_nothing_in_place_of_a_pickle_is_bad_input(tmp_path):
    for path in (tmp_path, tmp_path / "absent.pkl"):
        with pytest.raises(InputError, match=path.name):
            files.read_pickle(path)


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact.path)
def test_a_missing_file_names_the_script_that_writes_it(tmp_path, artifact):
    roots = ("--data_root", str(tmp_path), "--checkpoint_root", str(tmp_path))
    step = PIPELINE.step(PIPELINE, PIPELINE["2/1"], parse(PIPELINE, PIPELINE["2/1"], roots))
    with pytest.raises(InputError) as error:
        step.read(artifact)
    writer = PIPELINE.producer(artifact).script
    assert str(error.value) == f"{step.path(artifact)} is missing: {writer} writes it"
    assert (ROOT / writer).is_file()


@pytest.mark.parametrize("column", REVIEW_COLUMNS)
def test_a_missing_column_is_named_with_the_file(tmp_path, column):
    message = message_of(stored(tmp_path, reviews().drop(columns=column)))
    assert "train.pkl" in message and f"no column {column};" in message


def test_an_empty_table_is_refused(tmp_path):
    message = message_of(stored(tmp_path, reviews().head(0)))
    assert "train.pkl" in message and "empty" in message


@pytest.mark.parametrize("column", REVIEW_COLUMNS)
def test_a_missing_value_is_named_with_its_file_column_and_row(tmp_path, column):
    frame = reviews()[::-1]
    frame[column] = frame[column].where(frame["unixReviewTime"] != frame["unixReviewTime"].iloc[2])
    message = message_of(stored(tmp_path, frame))
    assert "train.pkl" in message and f"column {column} " in message and "row 2" in message


@pytest.mark.parametrize("rating", [0.0, 5.5, -1.0, float("inf")])
def test_a_rating_outside_one_to_five_is_named_with_its_file_and_row(tmp_path, rating):
    frame = reviews()
    frame.loc[3, "ratings"] = rating
    message = message_of(stored(tmp_path, frame))
    assert "train.pkl" in message and str(rating) in message and "row 3" in message


@pytest.mark.parametrize("column", ["ratings", "unixReviewTime"])
def test_text_where_numbers_are_due_is_named_with_its_file_and_column(tmp_path, column):
    message = message_of(stored(tmp_path, reviews().assign(**{column: reviews()[column].map("about {}".format)})))
    assert "train.pkl" in message and f"column {column} " in message and "row 0" in message and "'about 1" in message


def test_a_repeated_review_among_predictions_is_named_with_its_file_and_row(tmp_path):
    frame = pd.concat([reviews(), reviews().iloc[[1]].assign(reviews="other words")])
    frame = frame.assign(reasoner_reply="A reason.", pred=[4.0, 3.0, 2.0, 1.0, 5.0])
    message = message_of(stored(tmp_path, frame, TEST_RATINGS), TEST_RATINGS)
    assert TEST_RATINGS.path in message and "row 4" in message and "repeats" in message


def test_the_same_user_and_item_at_another_time_is_no_repetition(tmp_path):
    frame = pd.concat([reviews(), reviews().assign(unixReviewTime=5)], ignore_index=True)
    frame = frame.drop_duplicates(["user_id", "item_id", "unixReviewTime"])
    assert len(schema.read(stored(tmp_path, frame), TRAIN)) == len(frame) > 4


def test_more_columns_than_needed_are_welcome(tmp_path):
    frame = reviews().assign(extra=float("nan"))
    assert list(schema.read(stored(tmp_path, frame), TRAIN)) == [*REVIEW_COLUMNS, "extra"]


def test_a_missing_prediction_is_left_to_the_evaluation(tmp_path):
    frame = reviews().assign(reasoner_reply="A reason.", pred=[4.0, float("nan"), 3.0, 2.0])
    read = schema.read(stored(tmp_path, frame, TEST_RATINGS), TEST_RATINGS)
    assert read[PREDICTION].isna().tolist() == [False, True, False, False]


def test_a_list_where_a_table_is_due_and_a_table_where_a_list_is_due_are_refused(tmp_path):
    assert "expected a table, found a list" in message_of(stored(tmp_path, ROWS))
    stored(tmp_path, reviews(), REASONER_ROWS)
    assert "expected a list of training rows, found a DataFrame" in message_of(tmp_path, REASONER_ROWS)


USER, ASSISTANT = ROWS[0]["messages"]


@pytest.mark.parametrize(
    "row",
    [
        "text",
        {},
        {"messages": "text"},
        {"messages": []},
        {"messages": [USER]},
        {"messages": [ASSISTANT, USER]},
        {"messages": [USER, ASSISTANT, USER]},
        {"messages": [USER, "text", ASSISTANT]},
        {"messages": [USER, {"role": "assistant"}]},
        {"messages": [USER, {"role": "assistant", "content": ""}]},
        {"messages": [USER, {"role": "assistant", "content": 4.0}]},
        {"messages": [{"role": "system", "content": "x"}, ASSISTANT]},
    ],
    ids=str,
)
def test_a_training_row_of_another_form_is_named_by_its_number(row):
    with pytest.raises(InputError, match=r"rows\.pkl: row 1 "):
        schema.check_messages([*ROWS, row], "rows.pkl")


def test_no_training_rows_are_refused():
    with pytest.raises(InputError, match=r"rows\.pkl: no training rows"):
        schema.check_messages([], "rows.pkl")


def writer(as_bytes):
    def write(path, content, provenance=None):
        if provenance is None:
            files.write_bytes(path, as_bytes(content))
        else:
            records.write_recorded(path, as_bytes(content), provenance)

    return write


WRITERS = {
    "pickle": (writer(files.pickled), ["old"], ["x" * 5_000]),
    "lines": (writer(files.json_lines), [{"a": "old"}], [{"a": os.urandom(5_000).hex()}]),
    "text": (writer(str.encode), "old", "x" * 5_000),
}


@contextlib.contextmanager
def files_of_at_most(size):
    """No file grows beyond the size: writing more fails with an OSError, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("existing", [True, False])
def test_a_write_that_fails_half_way_leaves_the_old_file_and_its_record(tmp_path, kind, existing):
    write, old, new = WRITERS[kind]
    path = tmp_path / "output"
    if existing:
        write(path, old, MADE_FROM)
    before = contents(tmp_path)
    with pytest.raises(OSError), files_of_at_most(1_000):
        write(path, new, MADE_FROM)
    assert contents(tmp_path) == before
    write(path, new, MADE_FROM)
    assert contents(tmp_path) != before


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_found_full_when_the_file_is_secured_leaves_the_old_file_and_its_record(tmp_path, monkeypatch, kind):
    write, old, new = WRITERS[kind]
    write(tmp_path / "output", old, MADE_FROM)
    before = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write(tmp_path / "output", new, MADE_FROM)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_block_that_ends_badly_leaves_the_old_file_and_no_draft(tmp_path, error):
    records.write_recorded(tmp_path / "output", "old", MADE_FROM)
    before = contents(tmp_path)
    with pytest.raises(error), records.recorded_write(tmp_path / "output", MADE_FROM) as draft:
        draft.write_text("half")
        raise error
    assert contents(tmp_path) == before


def test_content_that_cannot_be_pickled_leaves_the_old_file(tmp_path):
    records.write_recorded(tmp_path / "output", ROWS, MADE_FROM)
    before = contents(tmp_path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        records.write_recorded(tmp_path / "output", [*ROWS, lambda: None], MADE_FROM)
    assert contents(tmp_path) == before


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "output"
    files.write_text(path, "old")
    with files.atomic_write(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert contents(tmp_path) == {"output": b"new"}


def test_a_draft_that_a_killed_run_left_is_no_obstacle(tmp_path):
    path = tmp_path / "output"
    files.staged_path(path).write_text("half of a very long text")
    files.write_text(path, "new")
    assert contents(tmp_path) == {"output": b"new"}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_whole_file_that_a_killed_run_could_not_move_any_more_takes_its_place(tmp_path, monkeypatch, kind):
    write, old, new = WRITERS[kind]
    path = tmp_path / "output"
    write(path, new, MADE_FROM)
    expected = contents(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    write(path, old, MADE_FROM)
    # Cut off after the record and before the move.
    monkeypatch.setattr(Path, "replace", replace_but_not(path))
    with pytest.raises(KeyboardInterrupt):
        write(path, new, MADE_FROM)
    monkeypatch.undo()
    assert records.is_staged(path)
    records.recover(path)
    assert contents(tmp_path) == expected


def replace_but_not(path):
    move = Path.replace

    def replace(draft, target):
        if target == path:
            raise KeyboardInterrupt
        return move(draft, target)

    return replace


def test_a_run_that_is_stopped_as_its_record_is_written_keeps_the_file_that_the_record_speaks_of(tmp_path, monkeypatch):
    write_record = records.write_record

    def stopped(*given):
        write_record(*given)
        raise KeyboardInterrupt

    records.write_recorded(tmp_path / "output", "old", MADE_FROM)
    monkeypatch.setattr(records, "write_record", stopped)
    with pytest.raises(KeyboardInterrupt):
        records.write_recorded(tmp_path / "output", "new", MADE_FROM)
    monkeypatch.undo()
    records.recover(tmp_path / "output")
    assert (tmp_path / "output").read_text() == "new"
    assert records.read_record(tmp_path / "output")["sha256"] == files.sha256(tmp_path / "output")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_half_a_draft_is_removed_and_what_is_in_place_stays(tmp_path, kind):
    records.write_recorded(tmp_path / "output", "old", MADE_FROM)
    before = contents(tmp_path)
    draft = files.staged_path(tmp_path / "output")
    if kind == "folder":
        draft.mkdir()
        draft = draft / "weights"
    draft.write_text("half")
    files.staged_path(records.record_path(tmp_path / "output")).write_text("{")
    records.recover(tmp_path / "output")
    assert contents(tmp_path) == before


def test_a_folder_that_was_half_removed_for_a_whole_one_is_replaced_by_it(tmp_path):
    out = tmp_path / "Predictor"
    for folder, text in ((out, "old"), (files.staged_path(out), "new")):
        folder.mkdir()
        (folder / "weights").write_text(text)
    (out / "settings.json").write_text("old")
    records.write_record(out, MADE_FROM, files.sha256(files.staged_path(out)))
    (out / "settings.json").unlink()
    records.recover(out)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"weights": "new"}
    assert not files.staged_path(out).exists()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_write_that_fails_says_where(tmp_path, kind):
    write, _, new = WRITERS[kind]
    with pytest.raises(OSError) as error, files_of_at_most(1_000):
        write(tmp_path / "output", new)
    assert error.value.filename == str(tmp_path / "output")


def step_in(root, **given):
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return toy_step(root, [REASONER_ROWS], *words)


def made(root, **given):
    """A step that has written its output; the record."""
    step = step_in(root, **given)
    assert not step.done()
    step.write(REASONER_ROWS, ROWS)
    locks.unlock()
    return records.read_record(step.outputs[0])


def test_a_record_says_how_the_model_was_run_and_another_way_puts_nothing_out_of_date(tmp_path):
    record = made(tmp_path, device="cpu", prompts_at_once=8, base_url=None, served_model=None, api="chat")
    assert record["made_from"]["execution"] == {"device": "cpu", "prompts_at_once": 8}
    assert step_in(tmp_path, device="cuda", prompts_at_once=16, base_url="http://127.0.0.1:8000/v1", api="chat").done()


def test_a_record_of_an_older_version_which_does_not_say_how_the_model_was_run_still_fits(tmp_path):
    record = made(tmp_path, device="cpu", prompts_at_once=8)
    del record["made_from"]["execution"]
    path = records.record_path(tmp_path / "Demo_data" / REASONER_ROWS.path)
    path.write_text(json.dumps(record))
    assert step_in(tmp_path, device="cpu", prompts_at_once=8).done()
    assert json.loads(path.read_text()) == record


def test_the_folder_of_an_output_is_made(tmp_path):
    files.write_text(tmp_path / "a" / "b" / "output", "new")
    assert (tmp_path / "a" / "b" / "output").read_text() == "new"


@pytest.mark.parametrize("make", [reviews, lambda: reviews().astype(object), lambda: VARIANTS["times"](reviews())])
def test_the_same_frame_gives_the_same_bytes(tmp_path, make):
    for name in ("one", "two"):
        files.write_pickle(tmp_path / name, make())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        rows = [{"messages": [{"role": "user", "content": f"Row {k}"}], "optional": [[k, 9]]} for k in range(20)]
        files.write_pickle(tmp_path / f"{name}.pkl", rows)
        files.write_json_lines(tmp_path / f"{name}.json.gz", rows)
    assert (tmp_path / "one.pkl").read_bytes() == (tmp_path / "two.pkl").read_bytes()
    assert (tmp_path / "one.json.gz").read_bytes() == (tmp_path / "two.json.gz").read_bytes()


def test_lines_written_at_another_time_under_another_name_are_the_same_bytes(tmp_path, monkeypatch):
    files.write_json_lines(tmp_path / "one", [{"a": "ü"}])
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    files.write_json_lines(tmp_path / "two", [{"a": "ü"}])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert gzip.decompress((tmp_path / "one").read_bytes()).decode() == json.dumps({"a": "ü"}) + "\n"


def test_a_record_says_what_an_output_is_and_what_it_was_made_from(tmp_path):
    path = tmp_path / "output"
    records.write_recorded(path, "new", MADE_FROM)
    record = records.read_record(path)
    assert record["sha256"] == files.sha256(path) == hashlib.sha256(b"new").hexdigest()
    assert record["made_from"] == MADE_FROM
    assert record["versions"]["pandas"] == pd.__version__ and set(record["versions"]) == set(records.PACKAGES)


def test_a_file_that_a_person_put_there_has_no_record_and_a_broken_record_is_named(tmp_path):
    assert records.read_record(tmp_path / "output") is None
    records.record_path(tmp_path / "output").write_text("{half")
    with pytest.raises(InputError, match=r"output\.json"):
        records.read_record(tmp_path / "output")


def test_the_hash_of_a_folder_is_of_the_names_and_contents_of_its_files(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    first = files.sha256(tmp_path)
    (tmp_path / ".part").write_text("hidden")
    assert files.sha256(tmp_path) == first
    (tmp_path / "b").write_text("3")
    assert files.sha256(tmp_path) != first
    (tmp_path / "b").write_text("2")
    (tmp_path / "b").rename(tmp_path / "c")
    assert files.sha256(tmp_path) != first
