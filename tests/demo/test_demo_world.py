"""The demo's synthetic world: seeded, in Amazon's format, and rated by the match of user and item."""

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, files_in, run_script

from reason4rec.data import preprocess
from reason4rec.demo import world
from reason4rec.run import files
from reason4rec.systems.reason4rec import artifacts

USERS, ITEMS = 480, 160


@pytest.fixture(scope="module")
def records():
    return world.raw_records(USERS, ITEMS, seed=42)


@pytest.fixture(scope="module")
def splits(records, tmp_path_factory):
    """The reviews and titles as they are preprocessed."""
    root = tmp_path_factory.mktemp("world")
    dumps = root / "reviews.json.gz", root / "meta.json.gz"
    for path, written in zip(dumps, records):
        files.write_json_lines(path, written)
    return preprocess.preprocess(*dumps, root / "scratch")


@pytest.fixture(scope="module")
def frame(splits):
    """All reviews of all splits."""
    return pd.concat([splits.train, splits.valid, splits.test])


def test_a_seed_gives_one_world_and_another_seed_another(records):
    assert world.raw_records(USERS, ITEMS, seed=42) == records
    assert world.raw_records(USERS, ITEMS, seed=43)[0] != records[0]


def test_there_are_several_thousand_reviews_with_all_ratings_of_1_to_5(frame):
    assert 4_000 < len(frame) < 8_000
    shares = frame["ratings"].value_counts(normalize=True)
    assert sorted(shares.index) == [1, 2, 3, 4, 5]
    assert shares.min() > 0.05


def test_it_is_a_5_core_without_repeats(splits, frame):
    assert list(splits.stages) == ["raw", "without repeats", "5-core"]
    assert {stage.reviews for stage in splits.stages.values()} == {len(frame)}
    assert (frame["user_id"].nunique(), frame["item_id"].nunique()) == (USERS, ITEMS)


def test_every_item_has_a_distinct_title_and_every_review_a_text(splits, frame):
    assert splits.untitled == 0
    assert frame["title"].nunique() == len(frame[["item_id", "title"]].drop_duplicates()) == ITEMS
    assert (frame["reviews"].str.split().str.len() >= 5).all()
    assert frame["reviews"].nunique() > 0.99 * len(frame)


def test_more_items_than_titles_are_refused():
    with pytest.raises(ValueError, match="2304 items"):
        world.make_world(1, 2_305, np.random.default_rng(0))


def test_the_match_explains_most_of_what_both_averages_leave():
    rng = np.random.default_rng(7)
    made = world.make_world(USERS, ITEMS, rng)
    pairs = [(user, int(item)) for user in range(USERS) for item in rng.choice(ITEMS, 12, replace=False)]
    rows = pd.DataFrame(pairs, columns=["user", "item"])
    rows["rating"] = [float(world.rate(made, user, item, rng)) for user, item in pairs]
    rows["met"] = [len(set(made.wanted[user]) & set(made.strong[item])) for user, item in pairs]
    rows["missed"] = [len(set(made.wanted[user]) & set(made.weak[item])) for user, item in pairs]

    def beyond_both_averages(values):
        left = values - values.mean()
        for _ in range(20):
            for side in ("user", "item"):
                left -= left.groupby(rows[side]).transform("mean")
        return left.to_numpy()

    left = beyond_both_averages(rows["rating"])
    match = np.column_stack([beyond_both_averages(rows[name].astype(float)) for name in ("met", "missed")])
    weights, *_ = np.linalg.lstsq(match, left, rcond=None)
    explained = 1 - np.var(left - match @ weights) / np.var(left)
    assert explained > 0.6
    assert weights[0] > 0.5
    assert weights[1] < -0.5
    assert np.var(left) > 0.5 * np.var(rows["rating"])


def test_a_review_names_what_its_writer_wants(records):
    rng = np.random.default_rng(0)
    made = world.make_world(20, 20, rng)
    for user in range(20):
        text = world.write_review(made, user, user, 4, rng)
        assert any(world.ASPECTS[aspect] in text for aspect in made.wanted[user])
        assert any(text.endswith(closing) for closing in world.CLOSINGS[4])


def test_the_demos_data_is_byte_identical_in_two_runs(tmp_path):
    made = []
    for name, hash_seed in (("one", "1"), ("two", "2")):
        root = tmp_path / name
        folder = root / "Demo_data"
        flags = ("--dataset", "Demo_data", "--data_root", root)
        dumps = ("--reviews", folder / artifacts.DEMO_REVIEWS.path, "--metadata", folder / artifacts.DEMO_METADATA.path)
        for script, *more in (("0_Data/3_make_demo_data.py",), ("0_Data/2_preprocess.py", *dumps)):
            done = run_script(script, *flags, *more, env={"PYTHONHASHSEED": hash_seed})
            assert done.returncode == 0, done.stderr
        made.append(files_in(root))
    assert made[0] == made[1]
    assert set(made[0]) > {f"Demo_data/raw_data/{part}.pkl" for part in ("train", "valid", "test")}


@pytest.mark.parametrize("script", ["0_Data/1_download.py", "0_Data/2_preprocess.py", "0_Data/3_make_demo_data.py"])
def test_a_step_that_asks_no_model_does_not_wait_for_torch(script, tmp_path):
    look = (
        "import runpy, sys; path, sys.argv = sys.argv[1], sys.argv[1:]; sys.path.insert(0, '0_Data')\n"
        "try: runpy.run_path(path, run_name='__main__')\n"
        "except SystemExit as end: print(end.code)\n"
        "print(sorted({'torch', 'transformers', 'openai', 'sklearn'} & set(sys.modules)))"
    )
    probe = tmp_path / "look.py"
    probe.write_text(look)
    dump = tmp_path / "reviews.json"
    record = '{"reviewerID": "u%d", "asin": "i%d", "overall": 3.0, "reviewText": "x", "unixReviewTime": %d}\n'
    dump.write_text("".join(record % (k, k % 3, k) for k in range(20)))
    given = {
        "0_Data/1_download.py": ("--what", "preprocessed"),
        "0_Data/2_preprocess.py": ("--reviews", dump, "--core", 1),
        "0_Data/3_make_demo_data.py": ("--limit", 5, "--dataset", "Demo_data"),
    }
    done = run_script(str(probe), ROOT / script, "--data_root", tmp_path / "data", *given[script])
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
