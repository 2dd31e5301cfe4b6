"""Nothing of a target, nor of anything at or after its time, nor of valid and test, is in what a model is shown.

The one exception is the method's own: the reward model's training rows hold the target's review where a reason will
stand (2_Reasoner/2_construct_reward_train_data.py).
"""

import random

import pytest
from helpers import put_toy_dataset, run_script
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reason4rec.data import preprocess, schema
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import KEYS
from reason4rec.errors import InputError
from reason4rec.run import files
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, REWARD_TARGETS, SUMMARIES, SUMMARY

# User, item, time, rating: few of each, so that ties, repeats and users of a single review are frequent.
raw_reviews = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 25), st.integers(1, 5)), min_size=12, max_size=60
)
slow_dumps = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def splits_of(reviews, root):
    """The splits of a dump of reviews, unsorted as they come; None where they are too few for three."""
    records = [
        {"reviewerID": f"u{u}", "asin": f"i{i}", "overall": r, "reviewText": f"<text {k}>", "unixReviewTime": t}
        for k, (u, i, t, r) in enumerate(reviews)
    ]
    files.write_json_lines(root / "dump", records)
    try:
        return preprocess.preprocess(root / "dump", None, root / "scratch", core=1)
    except InputError as error:
        assert "split would be empty" in str(error)
        return None


def shown(splits, targets, length=10):
    """What the Reasoner and the Predictor are shown of each target, in one text each."""
    summarised = splits.train.assign(**{SUMMARY: splits.train["reviews"].str.replace("text", "summary")})
    histories = HistoryIndex(summarised, SUMMARY, length).of_rows(targets)
    return [
        prompts.reasoner("Thing", title, history).text + prompts.predictor("Thing", title, history).text
        for title, history in zip(targets["title"], histories)
    ]


@slow_dumps
@given(raw_reviews)
def test_only_earlier_training_reviews_are_shown_and_never_the_target(tmp_path_factory, reviews):
    splits = splits_of(reviews, tmp_path_factory.mktemp("leak"))
    if splits is None:
        return
    times = {f"<summary {k}>": time for k, (_, _, time, _) in enumerate(reviews)}
    trained = set(splits.train["reviews"].str.replace("text", "summary"))
    for targets in (splits.train, splits.valid, splits.test):
        for target, text in zip(targets.itertuples(), shown(splits, targets)):
            entries = {summary for summary in times if summary in text}
            assert all(times[summary] < target.unixReviewTime for summary in entries)
            assert entries <= trained
            assert "<text" not in text


@slow_dumps
@given(raw_reviews, st.integers(0, 25), st.randoms(use_true_random=False))
def test_what_happens_from_a_moment_on_changes_nothing_that_is_shown_up_to_it(
    tmp_path_factory, reviews, moment, random
):
    """Other ratings and texts from then on: by them alone could a leaked average or text be told."""
    other = [(u, i, t, random.randint(1, 5) if t >= moment else r) for u, i, t, r in reviews]
    splits, changed = (splits_of(rows, tmp_path_factory.mktemp("leak")) for rows in (reviews, other))
    if splits is None:
        return
    for name in ("train", "valid", "test"):
        before, after = (getattr(parts, name) for parts in (splits, changed))
        early = (before["unixReviewTime"] <= moment).to_numpy()
        assert shown(splits, before[early]) == shown(changed, after[early])


@slow_dumps
@given(raw_reviews)
def test_valid_and_test_change_nothing_that_is_shown(tmp_path_factory, reviews):
    splits = splits_of(reviews, tmp_path_factory.mktemp("leak"))
    if splits is None:
        return
    start = splits.valid["unixReviewTime"].min()
    other = [(u, i, t, 6 - r if t >= start else r) for u, i, t, r in reviews]
    changed = splits_of(other, tmp_path_factory.mktemp("leak"))
    for name in ("train", "valid", "test"):
        assert shown(splits, getattr(splits, name)) == shown(changed, getattr(changed, name))


@slow_dumps
@given(raw_reviews)
def test_the_order_of_the_dump_changes_no_split(tmp_path_factory, reviews):
    latest = {(u, i): (u, i, t, r) for u, i, t, r in sorted(reviews, key=lambda review: review[2])}
    one = list(latest.values())
    other = random.Random(0).sample(one, len(one))
    splits, shuffled = (splits_of(rows, tmp_path_factory.mktemp("leak")) for rows in (one, other))
    if splits is None:
        assert shuffled is None
        return
    for name in ("train", "valid", "test"):
        keys = [getattr(parts, name)[[*KEYS, "ratings"]] for parts in (splits, shuffled)]
        assert keys[0].equals(keys[1])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_two_samples_are_disjoint_earlier_known_and_from_train_alone(tmp_path, seed):
    folder = put_toy_dataset(tmp_path, summaries=True)
    done = run_script(
        "2_Reasoner/1_sample_train_data.py", "--dataset", "Demo_data", "--data_root", folder.parent, "--seed", seed
    )
    assert done.returncode == 0, done.stderr
    first, second = (schema.read(folder, artifact) for artifact in (REWARD_TARGETS, REASON_TARGETS))
    train = schema.read(folder, SUMMARIES)
    drawn = [set(map(tuple, part[list(KEYS)].to_numpy().tolist())) for part in (first, second)]
    assert min(map(len, drawn)) > 10
    assert not drawn[0] & drawn[1]
    assert drawn[0] | drawn[1] <= set(map(tuple, train[list(KEYS)].to_numpy().tolist()))
    for targets in (first, second):
        for history in HistoryIndex(train, SUMMARY).of_rows(targets):
            assert history.user
            assert history.item or history.item_count
