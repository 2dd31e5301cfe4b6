"""Tables of reviews as others write them: read as they are where that is sure, or refused by file, column and value."""

import datetime
import decimal
import gzip
import pickle

import numpy as np
import pandas as pd
import pytest
from helpers import complaint, put_toy_dataset, run_script

from reason4rec.data import schema
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import KEYS, REVIEW_COLUMNS, TEST, TRAIN, VALID
from reason4rec.errors import InputError
from reason4rec.evaluation import metrics, ratings
from reason4rec.run import files
from reason4rec.systems.reason4rec.artifacts import TEST_RATINGS, predictions_of

START = 1_400_000_000


def reviews(n=6, start=START):
    return pd.DataFrame(
        {
            "user_id": [str(10 + k % 3) for k in range(n)],
            "item_id": [f"{k % 2}" for k in range(n)],
            "title": ["Blue Hour", "Nachtlied"] * (n // 2),
            "ratings": [float(1 + k % 5) for k in range(n)],
            "reviews": [f"Review {k}" for k in range(n)],
            "unixReviewTime": [start + k for k in range(n)],
        }
    )


def stored(folder, frame, artifact=TRAIN):
    path = folder / artifact.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(frame))
    return folder


def read(folder, frame, artifact=TRAIN):
    return schema.read(stored(folder, frame, artifact), artifact)


def refused(folder, frame, artifact=TRAIN):
    with pytest.raises(InputError) as error:
        read(folder, frame, artifact)
    message = str(error.value)
    assert message.startswith(str(folder / artifact.path)) and "\n" not in message
    assert len(message) - len(str(folder)) < 300
    return message


TEXTS = ["user_id", "item_id", "title", "reviews"]
IN_ORDER = {
    "as it is": lambda f: f,
    "objects": lambda f: f.astype(dict.fromkeys(TEXTS, object)),
    "nullable texts": lambda f: f.astype(dict.fromkeys(TEXTS, "string")),
    "texts of python": lambda f: f.astype(dict.fromkeys(TEXTS, pd.StringDtype("python", na_value=np.nan))),
    "small numbers": lambda f: f.astype({"ratings": "float32", "unixReviewTime": "int32"}),
    "whole ratings": lambda f: f.astype({"ratings": "int8"}),
    "other labels": lambda f: f.sample(frac=1, random_state=0),
    "labels that are texts": lambda f: f.set_axis(list("fedcba")),
    "labels that come twice": lambda f: f.set_axis([1, 1, 2, 2, 3, 3]),
    "more columns": lambda f: f.assign(price=[1.5, None] * 3, brand=None, categories=[["a", ["b"]], {"c": 1}] * 3),
}


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_table_in_order_is_returned_as_it_is_and_nothing_is_said(tmp_path, capsys, name):
    frame = IN_ORDER[name](reviews())
    found = read(tmp_path, frame)
    pd.testing.assert_frame_equal(found, frame)
    assert files.pickled(found) == files.pickled(files.read_pickle(tmp_path / TRAIN.path))
    assert capsys.readouterr().out == ""


def test_a_table_as_the_authors_may_have_it_is_read(tmp_path, capsys):
    frame = reviews().drop(columns="unixReviewTime")
    frame = frame.assign(
        date=["2014-05-13 16:53:20", "2014-05-13 16:53:21", "2014-05-13T16:53:22Z", "2014-05-13 17:53:23+01:00"]
        + ["2014-05-13 16:53:24.5", "2014-05-13 16:53"],
        ratings=pd.Series(["5", 5, 5.0, decimal.Decimal("4.5"), np.float32(3), "1.0"], dtype=object),
        description=[["a"], ["b", None], [], None, "text", {"a": [1]}],
        categories="a, b",
        brand=pd.Series(["a", None] * 3).astype("category"),
        price=["$1", 2.5, None, float("nan"), {1, 2}, decimal.Decimal("1")],
        stars_y=[4.5] * 6,
        address=[("a", "b")] * 6,
    ).set_axis([9, 7, 5, 5, 1, 0])
    path = tmp_path / TRAIN.path
    path.parent.mkdir()
    path.write_bytes(gzip.compress(pickle.dumps(frame)))
    found = schema.read(tmp_path, TRAIN)
    assert found["unixReviewTime"].tolist() == [START + k for k in (0, 1, 2, 3, 4, -20)]
    assert found["ratings"].tolist() == [5, 5, 5, 4.5, 3, 1] and found["ratings"].dtype == "float64"
    assert found.index.tolist() == [9, 7, 5, 5, 1, 0]
    assert found["stars_y"].tolist() == [4.5] * 6 and found["description"].tolist() == frame["description"].tolist()
    note = capsys.readouterr().out
    assert note.count("note: ") == 1 and "price (a set)" in note and "address (a tuple)" in note


IDS = {
    "whole numbers": [10, 11, 12],
    "numbers of a float column": [10.0, 11.0, 12.0],
    "numbers of numpy": pd.Series([np.int64(10), np.int32(11), np.float64(12)], dtype=object),
    "unsigned": np.array([10, 11, 12], dtype="uint8"),
    "nullable": pd.array([10, 11, 12], dtype="Int64"),
    "mixed": pd.Series(["10", 11, 12.0], dtype=object),
    "category of numbers": pd.Series([10, 11, 12]).astype("category"),
    "category of texts": pd.Series(["10", "11", "12"]).astype("category"),
    "decimals": [decimal.Decimal(10), decimal.Decimal("11.0"), 12],
    "bytes": [b"10", b"11", b"12"],
    "pyarrow": pd.Series([10, 11, 12]).astype("int64[pyarrow]"),
}


@pytest.mark.parametrize("column", ["user_id", "item_id"])
@pytest.mark.parametrize("name", IDS)
def test_ids_are_texts_whatever_they_were(tmp_path, name, column):
    frame = reviews(6).head(3).assign(**{column: IDS[name]})
    assert read(tmp_path, frame)[column].tolist() == ["10", "11", "12"]


BAD_IDS = [17.5, float("inf"), 2.0**60, True, ["17"], b"\xff", pd.Timestamp("2014"), datetime.date(2014, 1, 1)]


@pytest.mark.parametrize("value", BAD_IDS, ids=str)
def test_an_id_that_is_none_is_named_with_column_row_and_value(tmp_path, value):
    column = pd.Series(["a", "b", "c", value, "d", "e"], dtype=object)
    message = refused(tmp_path, reviews().assign(user_id=column))
    assert "column user_id holds" in message and "row 3" in message and "convert" in message
    assert ("a list" if isinstance(value, list) else repr(value)) in message


def test_an_id_with_a_fraction_or_without_a_value_in_a_column_of_numbers_is_named(tmp_path):
    message = refused(tmp_path, reviews().assign(item_id=[1.0, 2.0, 2.5, 3.0, 4.0, 5.0]))
    assert "column item_id holds 2.5 in row 2" in message
    message = refused(tmp_path, reviews().assign(item_id=[1.0, 2.0, None, 3.0, 4.0, 5.0]))
    assert "column item_id is empty (NaN) in row 2" in message


WRITTEN = {
    "texts": lambda f: f,
    "objects": lambda f: f.astype({"user_id": object, "item_id": object}),
    "nullable texts": lambda f: f.astype({"user_id": "string", "item_id": "string"}),
    "whole numbers": lambda f: f.astype({"user_id": "int64", "item_id": "int64"}),
    "numbers with a point": lambda f: f.astype({"user_id": "float64", "item_id": "float64"}),
    "categories": lambda f: f.astype({"user_id": "category", "item_id": "category"}),
}


@pytest.mark.parametrize("of_test", WRITTEN)
@pytest.mark.parametrize("of_train", WRITTEN)
def test_tables_of_which_one_has_numbers_for_ids_did_not_meet(tmp_path, of_train, of_test):
    plain_train, plain_test = reviews(), reviews(4, START + 100)
    predicted = plain_test[[*KEYS, "ratings"]].assign(pred=3.0)
    train = read(tmp_path, WRITTEN[of_train](plain_train), TRAIN)
    test = read(tmp_path, WRITTEN[of_test](plain_test), TEST)
    predictions = read(tmp_path, WRITTEN[of_train](predicted), predictions_of("mine"))
    assert HistoryIndex(train, "reviews").of_rows(test) == HistoryIndex(plain_train, "reviews").of_rows(plain_test)
    assert ratings.aligned(predictions, test, "file")["pred"].tolist() == [3.0] * 4
    assert ratings.rows_in_all(test, [predictions]).tolist() == [0, 1, 2, 3]
    found, expected = metrics.baselines(train, test), metrics.baselines(plain_train, plain_test)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


TIMES = {
    "with a point": [float(START + k) for k in range(6)],
    "milliseconds": [1000 * (START + k) + 7 for k in range(6)],
    "milliseconds with a point": [1000.0 * (START + k) for k in range(6)],
    "microseconds": [10**6 * (START + k) + 7 for k in range(6)],
    "nanoseconds": [10**9 * (START + k) + 7 for k in range(6)],
    "datetimes": pd.to_datetime([START + k for k in range(6)], unit="s"),
    "datetimes of nanoseconds": pd.to_datetime([START + k for k in range(6)], unit="s").astype("datetime64[ns]"),
    "datetimes with a zone": pd.to_datetime([START + k for k in range(6)], unit="s", utc=True).tz_convert("Asia/Tokyo"),
    "datetimes of python": [datetime.datetime(2014, 5, 13, 16, 53, 20 + k) for k in range(6)],
    "objects": pd.Series([START, np.int64(START + 1), float(START + 2), START + 3, START + 4, START + 5], dtype=object),
    "nullable": pd.array([START + k for k in range(6)], dtype="Int64"),
    "texts of dates": [f"2014-05-13 16:53:2{k}" for k in range(6)],
    "texts of seconds": [str(START + k) for k in range(6)],
    "mixed": pd.Series(
        [START, "2014-05-13T16:53:21Z", pd.Timestamp(START + 2, unit="s"), str(1000 * (START + 3))]
        + [decimal.Decimal(START + 4), np.datetime64(START + 5, "s")],
        dtype=object,
    ),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_are_unix_seconds_whatever_they_were(tmp_path, name):
    found = read(tmp_path, reviews().assign(unixReviewTime=TIMES[name]))["unixReviewTime"]
    assert found.tolist() == [START + k for k in range(6)] and found.dtype == "int64"


def test_milliseconds_among_seconds_are_cut_and_a_time_that_is_in_no_unit_stays(tmp_path):
    given = [START, 1000 * (START + 1), START + 2, 10**15, START + 4, -5]
    found = read(tmp_path, reviews().assign(unixReviewTime=given))["unixReviewTime"]
    assert found.tolist() == [START, START + 1, START + 2, 10**15, START + 4, -5] and found.dtype == "int64"


def test_days_and_times_before_1970_are_seconds_too(tmp_path):
    days = [datetime.date(1969, 12, 31), "2014-05-13", datetime.date(1970, 1, 1), 0, -5, START]
    found = read(tmp_path, reviews().assign(unixReviewTime=pd.Series(days, dtype=object)))
    assert found["unixReviewTime"].tolist() == [-86400, 1399939200, 0, 0, -5, START]
    times = pd.to_datetime(["1969-12-31 23:59:59.5"] * 6).astype("datetime64[ns]")
    assert read(tmp_path, reviews().assign(unixReviewTime=times))["unixReviewTime"].tolist() == [-1] * 6


BAD_TIMES = [
    True,
    START + 0.5,
    float("inf"),
    "yesterday",
    "20140501",
    "",
    "2014-13-01",
    10**30,
    [START],
    b"\xff",
]


@pytest.mark.parametrize("value", BAD_TIMES, ids=str)
def test_a_time_that_is_none_is_named_with_row_and_value(tmp_path, value):
    column = pd.Series([START, START, value, START, START, START], dtype=object)
    message = refused(tmp_path, reviews().assign(unixReviewTime=column))
    assert "column unixReviewTime holds" in message and "row 2" in message
    assert ("a list" if isinstance(value, list) else repr(value)) in message


def test_a_column_of_truth_values_is_neither_times_nor_ratings(tmp_path):
    for column in ("unixReviewTime", "ratings"):
        for values in ([True] * 6, pd.array([True] * 6, dtype="boolean")):
            assert f"column {column} holds True in row 0" in refused(tmp_path, reviews().assign(**{column: values}))


@pytest.mark.parametrize("value", ["five", "", "4,5", "nan", True, [5], b"x", pd.Timestamp("2014")], ids=str)
def test_a_rating_that_is_none_is_named_with_row_and_value(tmp_path, value):
    message = refused(tmp_path, reviews().assign(ratings=pd.Series([5, "4", value, 1.0, 2, 3], dtype=object)))
    assert "column ratings holds" in message and "row 2" in message


def test_a_converted_rating_outside_the_scale_is_named(tmp_path):
    assert "rating 7.0 in row 1 is outside" in refused(
        tmp_path, reviews().assign(ratings=["5", "7", "1", "1", "1", "1"])
    )


@pytest.mark.parametrize("name", ["title", "reviews"])
def test_texts_of_other_kinds_are_texts(tmp_path, name):
    for values in (pd.Series(list("aabbcc")).astype("category"), [b"a", "a", np.str_("b"), b"b", "c", "c"]):
        found = read(tmp_path, reviews().assign(**{name: values}))[name]
        assert found.tolist() == list("aabbcc") and {type(value) for value in found} == {str}
    message = refused(tmp_path, reviews().assign(**{name: ["a", "b", ["c"], "d", "e", "f"]}))
    assert f"column {name} holds a list in row 2" in message


def test_a_title_that_is_a_number_is_its_digits_and_a_review_that_is_one_is_named(tmp_path):
    numbers = ["a", 1984, 300.0, "b", "c", "d"]
    assert read(tmp_path, reviews().assign(title=numbers))["title"].tolist() == ["a", "1984", "300", "b", "c", "d"]
    assert "column reviews holds 1984 in row 1" in refused(tmp_path, reviews().assign(reviews=numbers))


def test_predictions_of_other_kinds_are_numbers_of_which_some_are_missing(tmp_path):
    frame = reviews(4)[[*KEYS, "ratings"]]
    for values in (
        pd.array([3, None, 4, 5], dtype="Int64"),
        pd.Series([3, None, decimal.Decimal("4.0"), 5.0], dtype=object),
    ):
        found = read(tmp_path, frame.assign(pred=values, p1=values), predictions_of("mine"))
        for column in ("pred", "p1"):
            assert found[column].isna().tolist() == [False, True, False, False]
            assert found[column].dropna().tolist() == [3, 4, 5] and found[column].dtype == "float64"
    found = read(tmp_path, frame.assign(pred=["3", "about 4", None, 5]), predictions_of("mine"))
    with pytest.raises(InputError, match="column pred holds text"):
        ratings.aligned(found, reviews(4), "file")


def test_test_rows_without_a_text_are_read_with_an_empty_one_and_counted_once(tmp_path, capsys):
    columns = (
        ["a", None, "b", float("nan"), "c", "d"],
        [None] * 6,
        pd.array(["a", None] * 3, dtype="string"),
        pd.Series(["a", None] * 3).astype("category"),
        [b"a", None] * 3,
    )
    for values in columns:
        frame = reviews().assign(reviews=values)
        missing = int(frame["reviews"].isna().sum())
        found = read(tmp_path, frame, TEST)
        expected = [
            one.decode() if isinstance(one, bytes) else one for one in frame["reviews"].astype(object).fillna("")
        ]
        assert found["reviews"].tolist() == expected
        schema.read(tmp_path, TEST)
        said = capsys.readouterr().out
        assert said.count("note: ") == 1 and TEST.path in said and f"{missing} of 6 rows are without reviews" in said
        assert read(tmp_path, frame, VALID)["reviews"].tolist() == expected
        capsys.readouterr()
        # The experts learn from these.
        row = int(frame["reviews"].isna().to_numpy().argmax())
        assert f"column reviews is empty (NaN) in row {row}" in refused(tmp_path, frame, TRAIN)


def test_rows_that_repeat_a_review_are_read_once_and_counted(tmp_path, capsys):
    frame = pd.concat([reviews(), reviews().iloc[[4, 1]].assign(reviews="later")]).astype({"user_id": object})
    frame.iloc[-1, 0] = int(frame.iloc[-1, 0])  # the same user as a number
    found = read(tmp_path, frame)
    pd.testing.assert_frame_equal(found, reviews(), check_dtype=False)
    said = capsys.readouterr().out
    assert said.count("note: ") == 1 and "2 of 8 rows repeat" in said and TRAIN.path in said


def test_a_repeated_row_does_not_move_the_row_that_is_at_fault(tmp_path):
    frame = pd.concat([reviews().iloc[[0, 0, 1]], reviews().iloc[[2]].assign(ratings=9.0)])
    assert "rating 9.0 in row 3" in refused(tmp_path, frame)


def test_predictions_that_come_twice_are_not_chosen_from(tmp_path):
    frame = pd.concat([reviews(), reviews().iloc[[1]]]).assign(reasoner_reply="x", pred=3.0)
    assert "row 6 repeats" in refused(tmp_path, frame, TEST_RATINGS)


def test_a_datetime_column_stands_in_for_the_time_where_it_is_the_only_one(tmp_path, capsys):
    moments = pd.to_datetime(reviews()["unixReviewTime"], unit="s")
    frame = reviews().drop(columns="unixReviewTime").assign(reviewed=moments)
    assert read(tmp_path, frame)["unixReviewTime"].tolist() == reviews()["unixReviewTime"].tolist()
    assert "column reviewed" in capsys.readouterr().out
    message = refused(tmp_path, frame.assign(seen=moments))
    assert "unixReviewTime" in message and "reviewed" in message and "seen" in message
    assert "no column unixReviewTime" in refused(tmp_path, reviews().drop(columns="unixReviewTime"))
    message = refused(tmp_path, reviews().drop(columns="unixReviewTime").assign(date=["2014-05-13"] * 5 + ["soon"]))
    assert "column date holds 'soon' in row 5" in message


def test_the_time_is_not_taken_from_another_column_where_it_is_there(tmp_path):
    frame = reviews().assign(date="never", seen=pd.Timestamp("2020"))
    pd.testing.assert_frame_equal(read(tmp_path, frame), frame)


LABELLED = {
    "one": lambda f: f.set_index("user_id"),
    "two": lambda f: f.set_index(["user_id", "item_id"]),
    "one of two": lambda f: f.assign(a=range(6)).set_index(["a", "unixReviewTime"]),
    "categories": lambda f: f.astype({"title": "category"}).set_index("title"),
    "datetimes": lambda f: f.assign(unixReviewTime=pd.to_datetime(f["unixReviewTime"], unit="s")).set_index(
        "unixReviewTime"
    ),
    "numbers": lambda f: f.astype({"user_id": int}).set_index("user_id"),
}


@pytest.mark.parametrize("name", LABELLED)
def test_an_index_called_like_a_column_that_is_not_there_becomes_it(tmp_path, name):
    found = read(tmp_path, LABELLED[name](reviews()))
    pd.testing.assert_frame_equal(found[list(REVIEW_COLUMNS)], reviews())


def test_an_index_called_like_a_column_that_is_there_loses_its_name(tmp_path):
    for column in ("user_id", "unixReviewTime"):
        found = read(tmp_path, reviews().set_index(column, drop=False))
        assert found.index.name is None and found[column].tolist() == reviews()[column].tolist()
        HistoryIndex(found, None), found.sort_values(column)


COLUMNS = {
    "levels": (pd.MultiIndex.from_product([["reviews"], REVIEW_COLUMNS]), "levels"),
    "one level": (pd.MultiIndex.from_arrays([REVIEW_COLUMNS]), "levels"),
    "numbers": (range(6), "no column user_id"),
    "twice": (["user_id", "user_id", *REVIEW_COLUMNS[2:]], "column user_id is there twice"),
    "missing": ([None, *REVIEW_COLUMNS[1:]], "no column user_id"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_odd_columns_are_one_line_that_names_them(tmp_path, name):
    names, fault = COLUMNS[name]
    assert fault in refused(tmp_path, reviews().set_axis(names, axis=1))


def test_columns_whose_names_are_categories_are_columns(tmp_path):
    frame = reviews().set_axis(pd.CategoricalIndex(REVIEW_COLUMNS), axis=1).drop(columns="unixReviewTime")
    found = read(tmp_path, frame.set_axis(pd.to_datetime(reviews()["unixReviewTime"], unit="s").rename("date")))
    assert list(found.columns) == [*REVIEW_COLUMNS[:5], "date", "unixReviewTime"]


def numbered(root, ids_of):
    """A root with a small dataset whose ids are numbers, written in each table as `ids_of` says."""
    folder = put_toy_dataset(root, summaries=True)
    frames = {artifact: files.read_pickle(folder / artifact.path) for artifact in (TRAIN, VALID, TEST)}
    whole = pd.concat(frames.values())
    codes = {name: {one: k for k, one in enumerate(sorted(set(whole[name])))} for name in ("user_id", "item_id")}
    frames[predictions_of("mine")] = frames[TEST][[*KEYS, "ratings"]].assign(pred=3.0)
    for artifact, frame in frames.items():
        for name, known in codes.items():
            frame[name] = frame[name].map(known).astype(ids_of(artifact))
        stored(folder, frame, artifact)
    return root / "data"


def test_an_evaluation_of_tables_with_numbers_and_texts_for_ids_found_no_history(tmp_path):
    kinds = {TRAIN.path: "int64", VALID.path: "float64", TEST.path: "str", predictions_of("mine").path: "float64"}
    texts_alone = numbered(tmp_path / "texts", lambda artifact: "str")
    mixed = numbered(tmp_path / "mixed", lambda artifact: kinds[artifact.path])
    results = []
    for data in (texts_alone, mixed):
        flags = ("--dataset", "Demo_data", "--data_root", data)
        done = run_script("3_Predictor/4_evaluate.py", *flags)
        assert done.returncode == 0, done.stderr
        result = ratings.read(data / "Demo_data" / "results" / "metrics.json")
        results.append({name: rows for name, rows in result.items() if name != "settings"})
        lines = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
        assert not lines
    assert results[0] == results[1]
    assert {row["model"] for row in results[1]["table"]} > {"mine"}
    assert {row["history"] for row in results[1]["by_history"]} != {"0"}


def test_a_prediction_of_another_row_is_named_by_its_ids_as_texts(tmp_path):
    data = numbered(tmp_path, lambda artifact: "int64")
    folder = data / "Demo_data"
    mine = files.read_pickle(folder / predictions_of("mine").path)
    stored(folder, mine.assign(user_id=mine["user_id"] + 1_000), predictions_of("mine"))
    done = run_script("3_Predictor/4_evaluate.py", "--dataset", "Demo_data", "--data_root", data)
    message = complaint(done)
    assert "mine.pkl: row 0" in message and "is not in the split that is judged" in message
