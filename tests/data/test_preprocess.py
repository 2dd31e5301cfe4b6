"""From raw reviews to splits: repeats, filter, window and split are the paper's, and every stage is counted."""

import hashlib
import json
import pickle
import re
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, files_in, run_script
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.data import data_card, preprocess, schema
from reason4rec.data.catalog import DOWNLOADS
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import DATA_CARD, REVIEW_COLUMNS, TEST, TRAIN, VALID
from reason4rec.errors import InputError
from reason4rec.run import files
from reason4rec.systems.reason4rec.pipeline import PIPELINE

REAL = Path(__file__).parents[3] / "shared" / "data"
INSTRUMENTS = REAL / "amazon_musical_instruments_2014" / "reviews_Musical_Instruments_5.json.gz"
MUSIC = REAL / "amazon_digital_music_2014_cut"
PREPROCESS = "0_Data/2_preprocess.py"

rows_of_reviews = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), max_size=40)


def frame_of(rows):
    """Reviews (user, item, time) in file order; `reviews` tells them apart."""
    return pd.DataFrame(
        [(f"u{u}", f"i{i}", f"title {i}", float(1 + k % 5), f"review {k}", t) for k, (u, i, t) in enumerate(rows)],
        columns=list(REVIEW_COLUMNS),
    )


def put_dump(path, rows, **change):
    """A dump of Amazon's format of 2014 with reviews (user, item, time) in this order."""
    records = [
        {"reviewerID": user, "asin": item, "overall": rating, "reviewText": text, "unixReviewTime": time}
        for user, item, _, rating, text, time in frame_of(rows).itertuples(index=False)
    ]
    files.write_json_lines(path, [record | change for record in records])
    return path


@contextmanager
def kept(rows):
    """A database in which the reviews (user, item, time) are kept; their line numbers count from 1."""
    with preprocess.engine(Path("never-needed")) as db:
        db.execute(
            'CREATE TABLE kept (number BIGINT, "user" BIGINT, item BIGINT, ratings DOUBLE, unixReviewTime BIGINT)'
        )
        if rows:
            db.executemany("INSERT INTO kept VALUES (?, ?, ?, 4.0, ?)", [(k, *row) for k, row in enumerate(rows, 1)])
        yield db


def numbers(db):
    return [number for (number,) in db.execute("SELECT number FROM kept ORDER BY number").fetchall()]


def test_of_a_users_reviews_of_one_item_the_latest_stays():
    with kept([(0, 0, 9), (1, 0, 3), (0, 0, 4), (1, 1, 2), (1, 0, 3), (0, 0, 9)]) as db:
        preprocess.drop_repeats(db)
        assert numbers(db) == [4, 5, 6]


@settings(max_examples=40, deadline=None)
@given(rows_of_reviews)
def test_no_user_reviews_an_item_twice_after_repeats_are_resolved(rows):
    latest = {}
    for k, (u, i, t) in enumerate(rows, 1):
        if t >= latest.get((u, i), (-1, 0))[0]:
            latest[u, i] = t, k
    with kept(rows) as db:
        preprocess.drop_repeats(db)
        assert numbers(db) == sorted(k for _, k in latest.values())


def core_one_at_a_time(rows, k):
    """The line numbers of the core, found by taking away a single review at a time."""
    left = list(enumerate(rows, 1))
    while True:
        users, items = (Counter(row[side] for _, row in left) for side in (0, 1))
        poor = [n for n, (_, (u, i, _)) in enumerate(left) if min(users[u], items[i]) < k]
        if not poor:
            return [number for number, _ in left]
        del left[poor[-1]]


@settings(max_examples=60, deadline=None)
@given(rows_of_reviews, st.integers(1, 5))
def test_the_core_is_the_largest_fixed_point_in_which_all_have_k_reviews(rows, k):
    with kept(rows) as db:
        preprocess.keep_core(db, k)
        assert numbers(db) == core_one_at_a_time(rows, k)


def test_a_chain_that_falls_one_by_one_leaves_nothing_after_many_rounds():
    """Every round takes only the end of the chain away, so one or two rounds are not enough."""
    chain = [(n // 2, (n + 1) // 2, n) for n in range(100)]
    with kept(chain) as db:
        preprocess.keep_core(db, 2)
        assert numbers(db) == []


def seconds(*date):
    return int(datetime(*date, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("last", "months", "first"),
    [
        ((2014, 6, 30, 12), 2, (2014, 4, 30, 12)),
        ((2014, 4, 30), 2, (2014, 2, 28)),
        ((2012, 4, 30), 2, (2012, 2, 29)),
        ((2014, 1, 15), 6, (2013, 7, 15)),
    ],
)
def test_a_window_of_months_includes_its_first_second_and_the_last_review(last, months, first):
    times = [seconds(*first) - 1, seconds(*first), seconds(*last) - 1, seconds(*last)]
    with kept([(0, k, time) for k, time in enumerate(times)]) as db:
        preprocess.keep_last_months(db, months)
        assert numbers(db) == [2, 3, 4]


def test_a_stage_counts_reviews_users_items_ratings_and_times():
    with kept([(0, 0, 9), (1, 0, 3), (0, 1, 4)]) as db:
        db.execute("UPDATE kept SET ratings = 2.5 WHERE number = 2")
        assert preprocess.stage(db) == preprocess.Stage(3, 2, 2, {"2.5": 1, "4": 2}, 3, 9)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 40)), min_size=1, max_size=60))
def test_the_split_is_by_time_complete_disjoint_and_never_divides_a_second(rows):
    frame = frame_of(rows)
    times = sorted(frame["unixReviewTime"])
    # The first n * 8 // 10 reviews are train, and so is every review of the same second as the last of them.
    ends = [sum(t <= times[max(0, len(times) * share // 10 - 1)] for t in times) for share in (8, 9)]
    sizes = [ends[0], ends[1] - ends[0], len(times) - ends[1]]
    if not all(sizes):
        with pytest.raises(InputError, match="split would be empty"):
            preprocess.split(frame)
        return
    train, valid, test = parts = preprocess.split(frame)
    assert [len(part) for part in parts] == sizes
    assert sorted(pd.concat(parts)["reviews"]) == sorted(frame["reviews"])
    assert train["unixReviewTime"].max() < valid["unixReviewTime"].min()
    assert valid["unixReviewTime"].max() < test["unixReviewTime"].min()
    assert all(part["unixReviewTime"].is_monotonic_increasing and part.index[0] == 0 for part in parts)


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 200), st.randoms(use_true_random=False))
def test_reviews_at_different_times_are_split_eight_to_one_to_one(n, random):
    times = random.sample(range(10_000), n)
    train, valid, test = preprocess.split(frame_of([(k, k, t) for k, t in enumerate(times)]))
    assert [len(train), len(valid), len(test)] == [n * 8 // 10, n * 9 // 10 - n * 8 // 10, n - n * 9 // 10]


def by_pandas(frame, core, months, window_first):
    """The same splits, written once more in the plainest way, as a frame in memory."""
    frame = frame.reset_index().sort_values(["unixReviewTime", "index"])
    frame = frame.drop_duplicates(["user_id", "item_id"], keep="last")

    def filtered(frame):
        while True:
            counts = [frame[column].map(frame[column].value_counts()) for column in ("user_id", "item_id")]
            left = frame[(counts[0] >= core) & (counts[1] >= core)]
            if len(left) == len(frame):
                return left
            frame = left

    def windowed(frame):
        times = pd.to_datetime(frame["unixReviewTime"], unit="s")
        return frame[times >= times.max() - pd.DateOffset(months=months)] if months and len(frame) else frame

    for keep in (windowed, filtered) if window_first else (filtered, windowed):
        frame = keep(frame)
    return frame.sort_values(["unixReviewTime", "user_id", "item_id"])[list(REVIEW_COLUMNS)].reset_index(drop=True)


YEAR = 365 * 86_400


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 8)), min_size=20, max_size=80),
    st.integers(1, 3),
    st.sampled_from([None, 2, 6]),
    st.booleans(),
)
def test_a_dump_becomes_the_same_splits_as_by_plain_frames_in_memory(tmp_path_factory, rows, core, months, first):
    root = tmp_path_factory.mktemp("dump")
    rows = [(u, i, 10**9 + t * YEAR // 8) for u, i, t in rows]
    expected = by_pandas(frame_of(rows).assign(title=[f"i{i}" for _, i, _ in rows]), core, months, first)
    dump = put_dump(root / "dump", rows)
    try:
        parts = preprocess.split(expected) if len(expected) else None
    except InputError:
        parts = None
    if parts is None:
        with pytest.raises(InputError, match="no review is left|split would be empty"):
            preprocess.preprocess(dump, None, root / "scratch", core, months, first)
        return
    splits = preprocess.preprocess(dump, None, root / "scratch", core, months, first)
    for ours, theirs in zip((splits.train, splits.valid, splits.test), parts):
        pd.testing.assert_frame_equal(ours, theirs)
    assert not (root / "scratch").exists()


def test_the_core_filter_comes_before_the_window_unless_asked_otherwise(tmp_path):
    """The window alone leaves nobody with two reviews, so a filter after it leaves nothing."""
    rows = [(u, i, u * 60 + 10 * YEAR * (i == u % 3)) for u in range(12) for i in range(3)]
    dump = put_dump(tmp_path / "dump", rows)
    splits = preprocess.preprocess(dump, None, tmp_path / "scratch", core=3, months=2)
    assert list(splits.stages) == ["raw", "without repeats", "3-core", "last 2 months"]
    assert [stage.reviews for stage in splits.stages.values()] == [36, 36, 36, 12]
    with pytest.raises(InputError, match="no review is left after 3-core"):
        preprocess.preprocess(dump, None, tmp_path / "scratch", core=3, months=2, window_first=True)


def test_too_strict_a_core_names_the_dump_and_what_to_do(tmp_path):
    dump = put_dump(tmp_path / "dump.json", [(k, k, k) for k in range(20)])
    with pytest.raises(InputError, match=r"dump\.json: no review is left after 5-core; pass a smaller --core"):
        preprocess.preprocess(dump, None, tmp_path / "scratch")


def test_the_columns_and_types_are_the_contracts(tmp_path):
    splits = preprocess.preprocess(
        put_dump(tmp_path / "dump", [(k, k, k) for k in range(20)]), None, tmp_path / "s", core=1
    )
    for part in (splits.train, splits.valid, splits.test):
        assert list(part.columns) == list(REVIEW_COLUMNS)
        assert part.dtypes.astype(str).tolist() == ["str", "str", "str", "float64", "str", "int64"]
        schema.check_frame(part, REVIEW_COLUMNS, "part")


def test_the_pickle_of_train_held_the_texts_of_test(tmp_path):
    """A part of a frame can keep the memory of the whole, and a pickle of it the texts of all reviews."""
    dump = put_dump(tmp_path / "dump", [(k + 1_000, k, k) for k in range(50)])
    splits = preprocess.preprocess(dump, None, tmp_path / "scratch", core=1)
    for name in ("train", "valid", "test"):
        written = pickle.dumps(getattr(splits, name), protocol=5)
        held = {f"u{k + 1_000}" for k in range(50) if f"u{k + 1_000}".encode() in written}
        assert held == set(getattr(splits, name)["user_id"])


def run_preprocess(root, *args, name="New_data"):
    done = run_script(PREPROCESS, "--dataset", name, "--data_root", root, "--product_class", "Thing", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset that the script made of a dump with a repeat and two broken lines; its folder, and what was printed."""
    root = tmp_path_factory.mktemp("made")
    rows = [(k % 40, k % 37, 10**9 + 86_400 * k) for k in range(1_200)]
    records = [
        {"reviewerID": f"u{u}", "asin": f"i{i}", "overall": 1 + k % 5, "reviewText": f"r {k}", "unixReviewTime": t}
        for k, (u, i, t) in enumerate([*rows, *rows, (0, 0, 1)])
    ]
    lines = [json.dumps(record) for record in records]
    lines.insert(7, "no record")
    lines.insert(1_000, json.dumps(records[0] | {"overall": 9}))
    dump, titles = root / "reviews.json", root / "meta.json"
    dump.write_text("\n".join(lines))
    titles.write_text("".join(f"{{'asin': 'i{i}', 'title': 'Thing {i}'}}\n" for i in range(30)))
    return root, run_preprocess(root, "--reviews", dump, "--metadata", titles)


def test_a_card_counts_every_stage_from_the_dump_to_the_splits(made):
    root, _ = made
    card = json.loads((root / "New_data" / DATA_CARD.path).read_text())
    reviews, metadata = card["files"]
    assert (reviews["lines"], reviews["broken"], metadata["lines"]) == (2_403, 2, 30)
    assert reviews["first_broken"] == {
        "8": "not a record",
        "1001": "no rating of 1 to 5 as overall or rating or stars or ratings",
    }
    assert reviews["sha256"] == hashlib.sha256((root / "reviews.json").read_bytes()).hexdigest()
    assert reviews["bytes"] == (root / "reviews.json").stat().st_size
    assert {name: stage["reviews"] for name, stage in card["stages"].items()} == {
        "raw": 2_401,
        "without repeats": 1_200,
        "5-core": 1_200,
        "train": 960,
        "valid": 120,
        "test": 120,
    }
    choices = {"core": 5, "months": None, "window_first": False}
    assert card["settings"] == choices | {"columns": "known", "limit": None}
    assert card["items_without_title"] == 7
    for name, artifact in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        part, stage = schema.read(root / "New_data", artifact), card["stages"][name]
        assert (stage["users"], stage["items"]) == (part["user_id"].nunique(), part["item_id"].nunique())
        assert sum(stage["by_rating"].values()) == stage["reviews"] == len(part)
        assert (stage["first"], stage["last"]) == (part["unixReviewTime"].min(), part["unixReviewTime"].max())


def test_the_printed_card_shows_counts_and_broken_lines(made):
    _, printed = made
    assert "| raw | 2,401 | 40 | 37 |" in printed
    assert "| test | 120 |" in printed
    assert "line 8: not a record" in printed


def test_what_is_done_is_shown_again_and_not_done_again(made):
    root, printed = made
    before = files_in(root)
    again = run_preprocess(root, "--reviews", root / "reviews.json", "--metadata", root / "meta.json")
    assert "complete:" in again
    assert "| raw | 2,401 | 40 | 37 |" in again
    assert files_in(root) == before


def test_the_same_dump_and_settings_give_the_same_bytes(made, tmp_path):
    root, _ = made
    for name in ("reviews.json", "meta.json"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    run_preprocess(tmp_path, "--reviews", tmp_path / "reviews.json", "--metadata", tmp_path / "meta.json")
    assert files_in(tmp_path) == files_in(root)


def test_a_card_sets_the_papers_figures_beside_ours(tmp_path):
    dump = put_dump(tmp_path / "dump", [(k % 4, k % 5, k) for k in range(20)])
    splits = preprocess.preprocess(dump, None, tmp_path / "scratch", core=1)
    card = data_card.card("X", splits, {dump: "0" * 64}, {}, {"interactions": 21, "warm_test_rows": 1})
    assert card["paper"] == {
        "interactions": {"paper": 21, "ours": 20, "difference": -1},
        "warm_test_rows": {"paper": 1, "ours": 2, "difference": 1},
    }
    assert "| interactions | 21 | 20 | -1 |" in data_card.as_text(card)


def test_a_card_counts_cold_rows_by_side_and_warm_ones_as_the_history_does(tmp_path):
    rows = [*((k % 2, k % 3 + 10 * (k > 5), k) for k in range(16)), (0, 1, 20), (7, 0, 21), (0, 8, 22), (9, 9, 23)]
    splits = preprocess.preprocess(put_dump(tmp_path / "dump", rows), None, tmp_path / "scratch", core=1)
    counted = data_card.card("X", splits, {tmp_path / "dump": ""}, {}, {})["test"]
    histories = HistoryIndex(splits.train, None).of_rows(splits.test)
    assert counted == {
        "warm": sum(history.warm for history in histories),
        "cold_users": sum(history.user_average is None for history in histories),
        "cold_items": sum(history.item_average is None for history in histories),
    }


def test_the_facts_of_a_new_dataset_were_written_although_its_dump_was_none(tmp_path):
    (tmp_path / "dump").write_text("nothing of use\n")
    done = run_script(
        PREPROCESS,
        "--dataset",
        "New_data",
        "--data_root",
        tmp_path,
        "--reviews",
        tmp_path / "dump",
        "--product_class",
        "Thing",
    )
    assert done.returncode == 2
    assert not (tmp_path / "New_data" / "dataset.json").exists()


@pytest.mark.skipif(not INSTRUMENTS.is_file(), reason="real reviews are not at hand")
def test_a_real_five_core_dump_passes_the_filter_unchanged_and_is_split(tmp_path):
    splits = preprocess.preprocess(INSTRUMENTS, None, tmp_path / "scratch")
    counts = [(stage.reviews, stage.users, stage.items) for stage in splits.stages.values()]
    assert counts == [(10_261, 1_429, 900)] * 3
    assert splits.readings[0].broken == 0
    parts = splits.train, splits.valid, splits.test
    for part in parts:
        schema.check_frame(part, REVIEW_COLUMNS, "part")
    assert [len(part) for part in parts] == [8_208, 1_030, 1_023]
    assert splits.train["unixReviewTime"].max() < splits.valid["unixReviewTime"].min()
    assert splits.valid["unixReviewTime"].max() < splits.test["unixReviewTime"].min()


def cards_in_readme():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- card of (\w+) -->\n(.*?)\n<!-- /card -->", text, re.DOTALL))


@pytest.mark.skipif(not MUSIC.is_dir(), reason="real reviews are not at hand")
@pytest.mark.parametrize(
    ("dataset", "flags"),
    [
        ("Instruments_data", ["--reviews", INSTRUMENTS]),
        (
            "Digital_Music_cut",
            ["--reviews", MUSIC / "reviews_Digital_Music_5.json.gz"]
            + ["--metadata", MUSIC / "meta_Digital_Music.json.gz", "--core", 1],
        ),
    ],
)
def test_the_cards_in_readme_are_those_of_the_real_dumps(tmp_path, dataset, flags):
    run_preprocess(tmp_path, *flags, name=dataset)
    card = json.loads((tmp_path / dataset / DATA_CARD.path).read_text())
    assert data_card.as_text(card) == cards_in_readme()[dataset]


def test_readme_of_the_data_names_every_file_and_column():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    written = [artifact for spec in PIPELINE for artifact in spec.writes if not artifact.adapter]
    assert len(written) > 20
    for artifact in written:
        if "Demo" not in artifact.path:
            assert f"`{artifact.path}`" in text
            assert all(f"| `{column}` |" in text for column in artifact.columns)
    for downloads in DOWNLOADS.values():
        assert all(f"`{download.name}`" in text for download in downloads)


@pytest.mark.skipif(not MUSIC.is_dir(), reason="real reviews are not at hand")
def test_real_metadata_in_python_literals_has_a_title_for_every_item(tmp_path):
    reviews, metadata = MUSIC / "reviews_Digital_Music_5.json.gz", MUSIC / "meta_Digital_Music.json.gz"
    splits = preprocess.preprocess(reviews, metadata, tmp_path / "scratch", core=1)
    counts = [(stage.reviews, stage.users, stage.items) for stage in splits.stages.values()]
    assert counts == [(6_908, 2_490, 382)] * 3
    assert splits.untitled == 0
    everything = pd.concat([splits.train, splits.valid, splits.test])
    assert (everything["title"] != everything["item_id"]).all()
    assert set(everything.loc[everything["item_id"] == "5555991584", "title"]) == {"Memory of Trees"}


@pytest.mark.slow
def test_more_texts_than_memory_holds_were_refused_although_they_fit_the_disk(tmp_path, monkeypatch):
    """All reviews were kept, and the engine held every text at once."""
    files.write_json_lines(
        tmp_path / "dump",
        [
            {
                "reviewerID": f"u{k}",
                "asin": f"i{k % 50}",
                "overall": 4,
                "reviewText": f"{k} " * 140,
                "unixReviewTime": k,
            }
            for k in range(200_000)
        ],
    )
    monkeypatch.setattr(preprocess, "MEMORY", "130MB")
    splits = preprocess.preprocess(tmp_path / "dump", None, tmp_path / "new" / "scratch", core=1)
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 200_000
    assert splits.test["reviews"].iloc[-1].startswith("199999 ")
    assert not (tmp_path / "new" / "scratch").exists()


def test_a_wrong_name_for_the_text_gave_a_dataset_of_empty_reviews(tmp_path):
    dump = put_dump(tmp_path / "dump", [(k, k, k) for k in range(20)])
    with pytest.raises(InputError, match="no review has a text as Txet; say --columns reviews=NAME"):
        preprocess.preprocess(dump, None, tmp_path / "s", core=1, fields=preprocess.fields_of("reviews=Txet"))


def test_reviews_given_as_metadata_made_their_headlines_the_titles(tmp_path):
    dump = put_dump(tmp_path / "dump", [(k, k, k) for k in range(20)], title="I love it")
    with pytest.raises(InputError, match="no JSON lines, Python literals or CSV with these fields"):
        preprocess.preprocess(dump, dump, tmp_path / "s", core=1)


def test_metadata_of_another_dataset_named_every_item_by_its_id(tmp_path):
    dump = put_dump(tmp_path / "dump", [(k, k, k) for k in range(20)])
    files.write_json_lines(tmp_path / "meta", [{"asin": "other", "title": "Of another dataset"}])
    with pytest.raises(InputError, match="meta: no item of the reviews has a title there"):
        preprocess.preprocess(dump, tmp_path / "meta", tmp_path / "s", core=1)


@pytest.mark.parametrize("time", ["20140501", 20140501, "epoch", "infinity", "now"])
def test_a_date_without_marks_passed_for_seconds(tmp_path, time):
    dump = put_dump(tmp_path / "dump", [(k, k, k) for k in range(20)], unixReviewTime=time)
    with pytest.raises(InputError, match="no time as"):
        preprocess.preprocess(dump, None, tmp_path / "s", core=1)


def test_two_dumps_of_one_name_shared_one_sha256_on_the_card(tmp_path):
    for folder, records in (
        (
            "a",
            [
                {"reviewerID": f"u{k}", "asin": "i", "overall": 4, "reviewText": "t", "unixReviewTime": k}
                for k in range(20)
            ],
        ),
        ("b", [{"asin": "i", "title": "Thing"}]),
    ):
        files.write_json_lines(tmp_path / folder / "data.json", records)
    dumps = [tmp_path / folder / "data.json" for folder in "ab"]
    run_preprocess(tmp_path / "root", "--reviews", dumps[0], "--metadata", dumps[1], "--core", 1)
    card = json.loads((tmp_path / "root" / "New_data" / DATA_CARD.path).read_text())
    assert [file["sha256"] for file in card["files"]] == [files.sha256(dump) for dump in dumps]


def test_ratings_that_differ_little_are_counted_apart(tmp_path):
    with kept([(0, k, k) for k in range(3)]) as db:
        db.execute("UPDATE kept SET ratings = 3 + number / 10000000")
        assert sum(preprocess.stage(db).by_rating.values()) == len(preprocess.stage(db).by_rating) == 3
