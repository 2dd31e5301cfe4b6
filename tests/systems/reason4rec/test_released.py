"""The switches for what the released versions did: the same rows are drawn, and nothing else is put out of date."""

import pandas as pd
import pytest
from helpers import complaint, put_toy_dataset, run_script, step_of

from reason4rec.data import schema
from reason4rec.demo import rules
from reason4rec.run import files
from reason4rec.systems.reason4rec import artifacts, targets
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, REWARD_TARGETS, SUMMARIES


@pytest.fixture
def folder(tmp_path):
    return put_toy_dataset(tmp_path, summaries=True)


def run(script, folder, *words):
    roots = ("--data_root", folder.parent, "--checkpoint_root", folder.parent.parent / "checkpoints")
    done = run_script(script, "--dataset", "Demo_data", *roots, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_released_samples_were_other_rows(folder):
    """Stated in the terms of pandas: a pool, a second draw from it, and a shuffle of both parts, all with seed 0."""
    words = ("--reward_targets", 30, "--reason_targets", 50, "--sampling", "released")
    run("2_Reasoner/1_sample_train_data.py", folder, *words)
    reviews = schema.read(folder, SUMMARIES).reset_index(drop=True)
    _, _, eligible = targets.draw(reviews, (30, 50), 5, None, 0)
    assert eligible > 100
    earlier = [targets.HistoryIndex(reviews, None).of(*key) for key in zip(*(reviews[one] for one in schema.KEYS))]
    pool = reviews[[one.is_at_least(5) for one in earlier]].sample(n=80, random_state=0)
    reward = pool.sample(n=30, random_state=0)
    rest = pool[~pool.index.isin(reward.index)]
    for artifact, expected in ((REWARD_TARGETS, reward), (REASON_TARGETS, rest)):
        shuffled = expected.sample(frac=1, random_state=0).reset_index(drop=True)
        pd.testing.assert_frame_equal(schema.read(folder, artifact), shuffled)


def test_a_new_switch_left_at_its_default_puts_nothing_out_of_date(folder):
    step = step_of("2/1", folder.parent.parent)
    assert "sampling" not in step.provenance["settings"]
    assert step_of("2/1", folder.parent.parent, "--sampling", "released").provenance["settings"]["sampling"]
    run("2_Reasoner/1_sample_train_data.py", folder)
    assert "complete:" in run("2_Reasoner/1_sample_train_data.py", folder, "--sampling", "one-draw")
    assert "out of date" in run("2_Reasoner/1_sample_train_data.py", folder, "--sampling", "released")


def test_the_summarizer_can_learn_from_some_of_the_summaries(folder):
    train = schema.read(folder, schema.TRAIN).head(40)
    train[artifacts.TEACHER_SUMMARY] = [rules.summarize(text) for text in train["reviews"]]
    files.write_pickle(folder / artifacts.TEACHER_SUMMARIES.path, train)
    run("1_Summarizer/2_construct_summarizer_train_data.py", folder, "--summarizer_rows", 15)
    rows = schema.read(folder, artifacts.SUMMARIZER_ROWS)
    chosen = train.sample(n=15, random_state=42)[artifacts.TEACHER_SUMMARY].tolist()
    assert [row["messages"][1]["content"] for row in rows] == chosen


def test_the_predictor_can_learn_from_dropped_targets_too(folder):
    reviews = schema.read(folder, SUMMARIES)
    files.write_pickle(folder / REASON_TARGETS.path, reviews.head(20).drop(columns=artifacts.SUMMARY))
    words = ("--predictor_mode", "direct", "--predictor_rows", "all")
    run("3_Predictor/1_construct_predictor_train_data.py", folder, *words)
    assert len(schema.read(folder, artifacts.PREDICTOR_ROWS)) == 20


def test_dropped_targets_have_no_reason_to_be_learned(folder):
    words = ("--predictor_mode", "one_step", "--predictor_rows", "all", "--dataset", "Demo_data")
    roots = ("--data_root", folder.parent)
    done = run_script("3_Predictor/1_construct_predictor_train_data.py", *words, *roots)
    assert done.returncode == 2 and "--predictor_rows all" in done.stderr


def test_reviews_without_earlier_ones_ended_in_an_empty_file(folder):
    done = run_script("2_Reasoner/1_sample_train_data.py", "--dataset", "Demo_data", "--data_root", folder.parent,
                      "--min_history", 1_000)  # fmt: skip
    assert "--min_history" in complaint(done) and not (folder / REWARD_TARGETS.path).exists()
