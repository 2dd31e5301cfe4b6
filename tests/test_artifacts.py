"""Files of a run: read only where they are plain data, written whole or not at all, refused with a useful message."""

import contextlib
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
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec import artifacts
from reason4rec.artifacts import PREDICTION, REASONER_ROWS, REVIEW_COLUMNS, TEST_RATINGS, TRAIN, Artifact
from reason4rec.errors import InputError

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / "data"
ARTIFACTS = [value for value in vars(artifacts).values() if isinstance(value, Artifact)]
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
        artifacts.read(folder, artifact)
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
}


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_frame_comes_back_as_it_was_pickled(tmp_path, variant, protocol):
    frame = VARIANTS[variant](reviews())
    path = tmp_path / "frame.pkl"
    path.write_bytes(pickle.dumps(frame, protocol=protocol))
    pd.testing.assert_frame_equal(artifacts.read_pickle(path), frame)


def test_a_frame_written_by_pandas_itself_comes_back(tmp_path):
    reviews().to_pickle(tmp_path / "frame.pkl")
    pd.testing.assert_frame_equal(artifacts.read_pickle(tmp_path / "frame.pkl"), reviews())


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(plain)
def test_plain_data_comes_back_as_it_was_written(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("plain") / "content.pkl"
    artifacts.write_pickle(path, content)
    assert artifacts.read_pickle(path) == content


def test_what_is_written_is_read_and_checked(tmp_path):
    artifacts.write_pickle(tmp_path / TRAIN.path, reviews())
    artifacts.write_pickle(tmp_path / REASONER_ROWS.path, ROWS)
    pd.testing.assert_frame_equal(artifacts.read(tmp_path, TRAIN), reviews())
    assert artifacts.read(tmp_path, REASONER_ROWS) == ROWS


@pytest.mark.parametrize("name", ["train_pandas_2_2_2.pkl", "train_to_pickle_pandas_2_2_2.pkl"])
def test_a_frame_of_the_pandas_of_the_papers_repository_can_be_read(name):
    """Written by pandas 2.2.2 on numpy 1.26.4: pickle.dump, and DataFrame.to_pickle after taking the rows apart."""
    frame = artifacts.read_pickle(DATA / name)
    artifacts.check_frame(frame, REVIEW_COLUMNS, name)
    assert sorted(frame.index) == [0, 1, 2, 3, 4]
    frame = frame.sort_index()
    assert frame["title"].tolist() == ["Blue Hour"] * 2 + ["Nachtlied für zwei"] * 2 + ["{title}"]
    assert frame["ratings"].tolist() == [5.0, 4.0, 3.0, 1.0, 2.0]
    assert frame["reviews"].iloc[4] == "Not for me: “cold”."
    assert frame["unixReviewTime"].dtype == "int64" and frame["unixReviewTime"].iloc[4] == 1_200_000_000


def test_a_list_of_rows_of_the_pandas_of_the_papers_repository_can_be_read():
    rows = artifacts.read_pickle(DATA / "rows_pandas_2_2_2.pkl")
    artifacts.check_messages(rows, "rows")
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
        artifacts.read_pickle(path)
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
        (pickle.dumps({"a": Artifact}), "reason4rec.artifacts.Artifact"),
        (b"\x80\x04\x8c\x06pandas\x8c\x13DataFrame.to_pickle\x93.", "pandas.DataFrame.to_pickle"),
        (b"\x80\x04\x8c\x08builtins\x8c\x0fslice.__class__\x93.", "builtins.slice.__class__"),
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
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
        artifacts.read_pickle(tmp_path / "hostile.pkl")
    assert refused in str(error.value) and "does not need" in str(error.value)


@pytest.mark.parametrize("content", [reviews(1), reviews(1).astype(object), ROWS], ids=["frame", "objects", "rows"])
def test_a_pickle_cut_off_at_any_byte_is_bad_input(tmp_path, content):
    path = tmp_path / "cut.pkl"
    artifacts.write_pickle(path, content)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.pkl: not a whole pickle"):
            artifacts.read_pickle(path)


@pytest.mark.parametrize("content", [b"", b"user_id,item_id\n", b"\x1f\x8b\x08", b"{}", b"PK\x03\x04", b"\x80\xff"])
def test_a_file_that_is_no_pickle_is_bad_input(tmp_path, content):
    (tmp_path / "text.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"text\.pkl"):
        artifacts.read_pickle(tmp_path / "text.pkl")


def test_a_folder_or_nothing_in_place_of_a_pickle_is_bad_input(tmp_path):
    for path in (tmp_path, tmp_path / "absent.pkl"):
        with pytest.raises(InputError, match=path.name):
            artifacts.read_pickle(path)


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact.path)
def test_a_missing_file_names_the_script_that_writes_it(tmp_path, artifact):
    assert str(tmp_path / artifact.path) in message_of(tmp_path, artifact)
    assert artifact.written_by in message_of(tmp_path, artifact)
    assert (ROOT / artifact.written_by).is_file()


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
    message = message_of(stored(tmp_path, reviews().astype({column: str})))
    assert "train.pkl" in message and f"column {column} " in message


def test_a_repeated_review_is_named_with_its_file_and_row(tmp_path):
    frame = pd.concat([reviews(), reviews().iloc[[1]].assign(reviews="other words")])
    message = message_of(stored(tmp_path, frame))
    assert "train.pkl" in message and "row 4" in message and "repeats" in message


def test_the_same_user_and_item_at_another_time_is_no_repetition(tmp_path):
    frame = pd.concat([reviews(), reviews().assign(unixReviewTime=5)], ignore_index=True)
    frame = frame.drop_duplicates(["user_id", "item_id", "unixReviewTime"])
    assert len(artifacts.read(stored(tmp_path, frame), TRAIN)) == len(frame) > 4


def test_more_columns_than_needed_are_welcome(tmp_path):
    frame = reviews().assign(extra=float("nan"))
    assert list(artifacts.read(stored(tmp_path, frame), TRAIN)) == [*REVIEW_COLUMNS, "extra"]


def test_a_missing_prediction_is_left_to_the_evaluation(tmp_path):
    frame = reviews().assign(reasoner_reply="A reason.", pred=[4.0, float("nan"), 3.0, 2.0])
    read = artifacts.read(stored(tmp_path, frame, TEST_RATINGS), TEST_RATINGS)
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
        artifacts.check_messages([*ROWS, row], "rows.pkl")


def test_no_training_rows_are_refused():
    with pytest.raises(InputError, match=r"rows\.pkl: no training rows"):
        artifacts.check_messages([], "rows.pkl")


WRITERS = {
    "pickle": (artifacts.write_pickle, ["old"], ["x" * 5_000]),
    "lines": (artifacts.write_json_lines, [{"a": "old"}], [{"a": os.urandom(5_000).hex()}]),
    "text": (artifacts.write_text, "old", "x" * 5_000),
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
    artifacts.write_text(tmp_path / "output", "old", MADE_FROM)
    before = contents(tmp_path)
    with pytest.raises(error), artifacts.whole_file(tmp_path / "output", MADE_FROM) as draft:
        draft.write_text("half")
        raise error
    assert contents(tmp_path) == before


def test_content_that_cannot_be_pickled_leaves_the_old_file(tmp_path):
    artifacts.write_pickle(tmp_path / "output", ROWS, MADE_FROM)
    before = contents(tmp_path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        artifacts.write_pickle(tmp_path / "output", [*ROWS, lambda: None], MADE_FROM)
    assert contents(tmp_path) == before


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "output"
    artifacts.write_text(path, "old")
    with artifacts.whole_file(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert contents(tmp_path) == {"output": b"new"}


def test_a_draft_that_a_killed_run_left_is_no_obstacle(tmp_path):
    path = tmp_path / "output"
    artifacts.draft_path(path).write_text("half of a very long text")
    artifacts.write_text(path, "new")
    assert contents(tmp_path) == {"output": b"new"}


def test_the_folder_of_an_output_is_made(tmp_path):
    artifacts.write_text(tmp_path / "a" / "b" / "output", "new")
    assert (tmp_path / "a" / "b" / "output").read_text() == "new"


@pytest.mark.parametrize("make", [reviews, lambda: reviews().astype(object), lambda: VARIANTS["times"](reviews())])
def test_the_same_frame_gives_the_same_bytes(tmp_path, make):
    for name in ("one", "two"):
        artifacts.write_pickle(tmp_path / name, make())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        rows = [{"messages": [{"role": "user", "content": f"Row {k}"}], "optional": [[k, 9]]} for k in range(20)]
        artifacts.write_pickle(tmp_path / f"{name}.pkl", rows)
        artifacts.write_json_lines(tmp_path / f"{name}.json.gz", rows)
    assert (tmp_path / "one.pkl").read_bytes() == (tmp_path / "two.pkl").read_bytes()
    assert (tmp_path / "one.json.gz").read_bytes() == (tmp_path / "two.json.gz").read_bytes()


def test_lines_written_at_another_time_under_another_name_are_the_same_bytes(tmp_path, monkeypatch):
    artifacts.write_json_lines(tmp_path / "one", [{"a": "ü"}])
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    artifacts.write_json_lines(tmp_path / "two", [{"a": "ü"}])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert gzip.decompress((tmp_path / "one").read_bytes()).decode() == json.dumps({"a": "ü"}) + "\n"


def test_a_record_says_what_an_output_is_and_what_it_was_made_from(tmp_path):
    path = tmp_path / "output"
    artifacts.write_text(path, "new", MADE_FROM)
    record = artifacts.read_record(path)
    assert record["sha256"] == artifacts.sha256(path) == hashlib.sha256(b"new").hexdigest()
    assert record["made_from"] == MADE_FROM
    assert record["versions"]["pandas"] == pd.__version__ and set(record["versions"]) == set(artifacts.PACKAGES)


def test_a_file_that_a_person_put_there_has_no_record_and_a_broken_record_is_named(tmp_path):
    assert artifacts.read_record(tmp_path / "output") is None
    artifacts.record_path(tmp_path / "output").write_text("{half")
    with pytest.raises(InputError, match=r"output\.json"):
        artifacts.read_record(tmp_path / "output")


def test_the_hash_of_a_folder_is_of_the_names_and_contents_of_its_files(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    first = artifacts.sha256(tmp_path)
    (tmp_path / ".part").write_text("hidden")
    assert artifacts.sha256(tmp_path) == first
    (tmp_path / "b").write_text("3")
    assert artifacts.sha256(tmp_path) != first
    (tmp_path / "b").write_text("2")
    (tmp_path / "b").rename(tmp_path / "c")
    assert artifacts.sha256(tmp_path) != first
