"""Baselines: known answers, structure that they must find, no leak, and files that survive a kill."""

import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, complaint, files_in, put_toy_dataset, run_script, serving, step_of
from shapes import make_base

from reason4rec.data import schema
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import KEYS, PREDICTION, PROBABILITIES, TEST, TRAIN, VALID
from reason4rec.demo import stand_in
from reason4rec.errors import InputError
from reason4rec.evaluation import metrics
from reason4rec.llm.local import load
from reason4rec.run import files, records
from reason4rec.systems.reason4rec import baseline_runs, baselines, prompts
from reason4rec.systems.reason4rec.artifacts import EFFORTS, SUMMARIES, SUMMARY, predictions_of
from reason4rec.systems.reason4rec.baselines import LEARNED, as_ratings, choose

SCRIPT = "3_Predictor/5_baselines.py"
HERE = [name for name in LEARNED if all(importlib.util.find_spec(one) for one in LEARNED[name].libraries)]
QUICK = [name for name in HERE if name != "narre"]


def reviews(rows):
    """A frame of (user, item, rating) in the order of time."""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "ratings"])
    return frame.assign(title="title", reviews="good sound", unixReviewTime=range(1, len(frame) + 1))


def later(rows):
    """The same, after all training reviews."""
    return reviews(rows).assign(unixReviewTime=range(10**6, 10**6 + len(rows)))


def drawn(rng, rows, users, items, rating):
    """Distinct random pairs of a user and an item with their ratings, split in three by time."""
    pairs = rng.choice(users * items, size=rows, replace=False)
    frame = [(f"u{pair // items}", f"i{pair % items}", rating(pair // items, pair % items)) for pair in pairs]
    cut = [int(rows * part) for part in (0.8, 0.9)]
    return reviews(frame[: cut[0]]), later(frame[cut[0] : cut[1]]), later(frame[cut[1] :])


def mae(name, splits, seed=1):
    train, valid, test = splits
    return np.abs(as_ratings(choose(name, train, valid, test, seed)[0]) - test["ratings"]).mean()


TRAINED = reviews([("u", "i", 5), ("u", "j", 4), ("u", "k", 4), ("v", "i", 1)])  # mean 3.5, median 4
TARGETS = later([("u", "i", 1), ("v", "new", 1), ("new", "j", 1), ("new", "new", 1)])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("global_mean", [3.5, 3.5, 3.5, 3.5]),
        ("global_median", [4, 4, 4, 4]),
        ("user_mean", [13 / 3, 1, 3.5, 3.5]),
        ("item_mean", [3, 3.5, 4, 3.5]),
        ("prompt_averages", [(4.3 + 3.0) / 2, 1.0, 4.0, 3.5]),
    ],
)
def test_means_have_their_known_answers(name, expected):
    assert choose(name, TRAINED, None, TARGETS, 1)[0] == pytest.approx(expected)


def test_biases_have_their_known_answer():
    ((settings, predict),) = LEARNED["user_item_bias"].learn(TRAINED, 1, {"item_damping": (1,), "user_damping": (2,)})
    # Items first: i (1.5 - 2.5) / (2 + 1), j and k 0.5 / (1 + 1). Then what is left of the users, over 3 + 2 and 1 + 2.
    item = {"i": -1 / 3, "j": 0.25}
    user = {"u": (1.5 + 1 / 3 + 0.25 + 0.25) / 5, "v": (-2.5 + 1 / 3) / 3}
    assert predict(TARGETS) == pytest.approx([3.5 + item["i"] + user["u"], 3.5 + user["v"], 3.5 + item["j"], 3.5])


@pytest.mark.parametrize("name", QUICK)
def test_cold_users_and_users_of_one_rating_get_a_rating(name):
    rng = np.random.default_rng(0)
    train = reviews([(f"u{k}", f"i{rng.integers(9)}", int(rng.integers(1, 6))) for k in range(60)])
    targets = later([("u1", "i1", 3), ("u2", "new", 3), ("new", "i2", 3), ("new", "new", 3)])
    found = as_ratings(choose(name, train, targets, targets, 1)[0])
    assert found.shape == (4,)
    assert np.isfinite(found).all()
    assert ((found >= 1) & (found <= 5)).all()


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("rating", [1, 4, 5])
def test_constant_ratings_are_predicted(name, rating):
    splits = drawn(np.random.default_rng(0), 300, 30, 20, lambda user, item: rating)
    assert mae(name, splits) < 0.02


def test_classes_that_no_training_row_has_are_foreseen_with_nothing_and_both_rules_are_the_best_at_their_error():
    rng = np.random.default_rng(0)
    # Users of two kinds, whose ratings are skewed: the expectation is never a rating that is given.
    splits = drawn(rng, 3000, 60, 60, lambda user, item: rng.choice([2, 5], p=[0.3, 0.7] if user % 2 else [0.6, 0.4]))
    found, _, _ = choose("gradient_boosting_classes", *splits, 1)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(splits[2])))
    assert (found[:, [0, 2, 3]] == 0).all()
    ratings = splits[2]["ratings"].to_numpy()
    mean, median = metrics.expected_rating(found) - ratings, metrics.median_rating(found) - ratings
    assert np.abs(median).mean() < np.abs(mean).mean() and (mean**2).mean() < (median**2).mean()


def test_halves_were_no_classes():
    train, valid, test = drawn(np.random.default_rng(0), 300, 30, 20, lambda user, item: 4.5 if user % 2 else 1.5)
    found, _, _ = choose("gradient_boosting_classes", train, valid, test, 1)
    assert set(metrics.median_rating(found)) <= {2.0, 5.0}  # the higher of two that are as near


def test_matrix_factorization_finds_a_low_rank():
    rng = np.random.default_rng(3)
    users, items = rng.choice([-1, 1], 40), rng.choice([-1, 1], 30)
    splits = drawn(rng, 900, 40, 30, lambda user, item: 3 + 2 * int(users[user] * items[item]))
    assert mae("matrix_factorization", splits) < 0.5
    assert min(mae(name, splits) for name in ("global_mean", "user_mean", "item_mean", "user_item_bias")) > 1.5


@pytest.mark.parametrize("name", ["gradient_boosting", "gradient_boosting_squared", "gradient_boosting_classes"])
def test_gradient_boosting_finds_what_no_sum_of_biases_can(name):
    rng = np.random.default_rng(3)
    users, items = rng.integers(1, 6, 60), rng.integers(1, 6, 60)
    splits = drawn(rng, 3000, 60, 60, lambda user, item: min(users[user], items[item]))
    means = (mae(one, splits) for one in ("global_mean", "global_median", "user_mean", "item_mean", "user_item_bias"))
    assert mae(name, splits) < 0.9 * min(means)


@pytest.mark.parametrize("name", ["gradient_boosting", "gradient_boosting_squared", "gradient_boosting_classes"])
def test_gradient_boosting_does_not_learn_from_a_rating_that_it_must_foresee(name):
    # Each user has one training rating, drawn at random. If a row saw its own, the user's average would be its rating.
    rng = np.random.default_rng(3)
    ratings = rng.choice([1, 5], 600)
    train = reviews([(f"u{k}", f"i{k % 5}", int(rating)) for k, rating in enumerate(ratings)])
    valid, test = (
        later([(f"u{k}", f"i{k % 5}", int(rng.choice([1, 5]))) for k in chosen]) for chosen in (range(300),) * 2
    )
    ((_, predict),) = LEARNED["gradient_boosting_squared"].learn(
        train, 1, {"max_iter": (50,), "max_leaf_nodes": (4,), "min_samples_leaf": (20,)}
    )
    assert np.corrcoef(predict(test), ratings[:300])[0, 1] < 0.3
    assert np.isfinite(choose(name, train, valid, test, 1)[0]).all()


@pytest.mark.parametrize("name", QUICK)
def test_nothing_but_user_item_and_time_of_a_test_row_is_looked_at(name):
    train, valid, test = drawn(np.random.default_rng(5), 300, 30, 20, lambda user, item: 1 + (user * item) % 5)
    found, settings, lowest = choose(name, train, valid, test, 1)
    again, *same = choose(name, train, valid, test[list(KEYS)][::-1], 1)
    assert (again[::-1] == found).all()
    assert same == [settings, lowest]


def test_the_setting_with_the_lowest_error_on_valid_is_taken():
    train, valid, test = drawn(np.random.default_rng(5), 300, 30, 20, lambda user, item: 1 + (user + item) % 5)
    name = "user_item_bias"
    tried = [
        (np.abs(np.clip(predict(valid), 1, 5) - valid["ratings"]).mean(), settings, np.clip(predict(test), 1, 5))
        for settings, predict in LEARNED[name].learn(train, 1, LEARNED[name].grid)
    ]
    assert len(tried) == 36
    error, settings, expected = min(tried, key=lambda one: one[0])
    found, chosen, lowest = choose(name, train, valid, test, 1)
    assert chosen == settings
    assert lowest == pytest.approx(error)
    assert (found == expected).all()


def test_the_seed_decides_matrix_factorization():
    train, valid, test = drawn(np.random.default_rng(5), 300, 30, 20, lambda user, item: 1 + (user * item) % 5)
    first, again, other = (choose("matrix_factorization", train, valid, test, seed)[0] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert (first != other).any()


def test_of_repeated_ratings_matrix_factorization_learns_the_latest():
    rows = [("u", "i", 1), ("u", "i", 5), ("v", "j", 3)]
    data = baselines._cornac_dataset(reviews(rows), 1)
    users, items, ratings = data.uir_tuple
    assert dict(zip(zip(users, items), ratings)) == {
        (data.uid_map["u"], data.iid_map["i"]): 5.0,
        (data.uid_map["v"], data.iid_map["j"]): 3.0,
    }


@pytest.mark.slow
@pytest.mark.skipif("narre" not in HERE, reason="needs requirements-baselines.txt")
def test_narre_learns_from_reviews_and_repeats_itself(monkeypatch):
    rng = np.random.default_rng(3)
    good = rng.integers(0, 2, 20)
    train, valid, test = drawn(rng, 400, 30, 20, lambda user, item: 1 + 4 * int(good[item]))
    said = np.where(train["ratings"] > 3, "splendid tone", "awful noise")
    grid = LEARNED["narre"].grid | {"dropout_rate": (0.2,), "epochs": (5, 10)}
    monkeypatch.setitem(LEARNED, "narre", baselines.Baseline(LEARNED["narre"].learn, grid))
    train = train.assign(reviews=said)
    targets = pd.concat([test, later([("new", "i1", 3), ("u1", "new", 3), ("new", "new", 3)])])
    found, settings, _ = choose("narre", train, valid, targets, 1)
    assert np.abs(found[: len(test)] - test["ratings"]).mean() < 1.0
    assert np.isfinite(found).all()
    assert settings["epochs"] in (5, 10)
    assert choose("narre", train, valid, targets, 1)[0].tobytes() == found.tobytes()


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("Predicted Rating: 4.5", 4.5),
        ("Because it is loud.\n**Predicted Rating:** 2", 2.0),
        ("Predicted Rating: 1.0, no:\nPredicted Rating: 3.25/5", 3.25),
        ("Predicted Rating: 5.5", None),
        ("Predicted Rating: 0.5", None),
        ("Predicted Rating: 45", None),
        ("Predicted Rating: 4,5", None),
        ("Predicted Rating: four", None),
        ("4.0", None),
        ("", None),
    ],
)
def test_a_rating_is_taken_only_from_the_form_asked_for(reply, rating):
    found = baseline_runs.rating_in(reply)
    assert np.isnan(found) if rating is None else found == rating


# The script


@pytest.fixture
def folder(tmp_path):
    """A toy dataset without summaries."""
    return put_toy_dataset(tmp_path)


def script(folder, *args, **options):
    roots = ("--data_root", folder.parent, "--checkpoint_root", folder.parent / "checkpoints")
    return run_script(SCRIPT, "--dataset", "Demo_data", *roots, *args, **options)


def ran(folder, *args, **options):
    done = script(folder, *args, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def efforts(folder):
    return json.loads((folder / EFFORTS.path).read_text())


def baselines_step(folder):
    return step_of("3/5", folder.parent.parent, "--teacher_model", "stand-in", "--seeds", "42")


@pytest.mark.slow
def test_all_writes_predictions_and_efforts_and_a_rerun_makes_only_what_is_missing(folder):
    printed = ran(folder, "--model", "all", "--seeds", 7, 8, "--limit", 20)
    test = schema.read(folder, TEST).head(20).reset_index(drop=True)
    names = [run for name in HERE for run in ([f"{name}@7", f"{name}@8"] if LEARNED[name].seeded else [name])]
    assert sorted(path.stem for path in (folder / "predictions").glob("*.pkl")) == sorted(names)
    assert ("left out: narre needs" in printed) == ("narre" not in HERE)
    for name in names:
        frame = schema.read(folder, predictions_of(name))
        given = PROBABILITIES if name == "gradient_boosting_classes" else ()
        assert list(frame.columns) == [*KEYS, "ratings", PREDICTION, *given]
        pd.testing.assert_frame_equal(frame[[*KEYS, "ratings"]], test[[*KEYS, "ratings"]])
        assert frame[PREDICTION].between(1, 5).all()
        assert records.read_record(folder / predictions_of(name).path)["made_from"]["settings"]["limit"] == 20
    rows = efforts(folder)
    assert [(row["model"], row["seed"]) for row in rows] == [
        (name, seed) for name in HERE for seed in ((7, 8) if LEARNED[name].seeded else (None,))
    ]
    for row in rows:
        for setting, values in row["grid"].items():
            assert row["settings"][setting] in values
        assert row["seconds"] >= 0
        assert 0 < row["peak_gb"] < 2
        assert row["source"] == "ours" or " " in row["source"]

    gone = folder / predictions_of("matrix_factorization@8").path
    before = files_in(folder / "predictions")
    gone.unlink()
    printed = ran(folder, "--model", "all", "--seeds", 7, 8, "--limit", 20)
    assert printed.count("complete: ") == len(names) - 1
    assert files_in(folder / "predictions") == before
    assert len(efforts(folder)) == len(rows)


def test_changed_test_ratings_change_no_prediction_and_changed_training_ratings_do(folder):
    flags = ("--model", "matrix_factorization", "--seeds", 7)
    name = predictions_of("matrix_factorization@7")
    ran(folder, *flags)
    first, settings = schema.read(folder, name)[PREDICTION], efforts(folder)[0]["settings"]
    for split, same in ((TEST, True), (TRAIN, False)):
        frame = schema.read(folder, split)
        files.write_pickle(folder / split.path, frame.assign(ratings=6.0 - frame["ratings"], reviews="bad"))
        assert "out of date" in ran(folder, *flags)
        assert (schema.read(folder, name)[PREDICTION] == first).all() == same
        assert (efforts(folder)[0]["settings"] == settings) or not same


def test_other_prompts_and_another_teacher_put_only_the_asked_out_of_date(folder):
    ran(folder, "--model", "global_mean")
    assert "complete" in ran(folder, "--model", "global_mean", "--teacher_model", "stand-in")
    step = baseline_runs.part_of(baselines_step(folder), "zero_shot_teacher", "zero_shot_teacher", 42)
    assert not step.done()
    assert step.provenance["settings"]["teacher_model"] == "stand-in"


def test_means_need_no_validation_rows_and_a_grid_does(folder):
    (folder / VALID.path).unlink()
    ran(folder, "--model", "user_mean")
    message = complaint(script(folder, "--model", "user_item_bias"))
    assert message.startswith(f"{folder / VALID.path} is missing")


def test_the_validation_rows_were_not_found_under_the_authors_name(folder):
    ran(folder, "--model", "user_item_bias")
    expected = schema.read(folder, predictions_of("user_item_bias"))
    (folder / VALID.path).rename(folder / "raw_data" / "val.pkl")
    ran(folder, "--model", "user_item_bias", "--overwrite")
    pd.testing.assert_frame_equal(schema.read(folder, predictions_of("user_item_bias")), expected)


def test_an_unknown_model_is_refused_with_those_that_are_known(folder):
    done = script(folder, "--model", "oracle")
    assert done.returncode == 2
    assert all(name in done.stderr for name in ("oracle", "all", *LEARNED, *baseline_runs.ASKED))


def test_a_missing_library_is_named_with_the_file_that_installs_it(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cornac", None)
    with pytest.raises(InputError, match="cornac.*requirements-baselines.txt"):
        baseline_runs.part_of(baselines_step(folder), "matrix_factorization", "matrix_factorization@42", 42)
    assert baseline_runs.installed(["global_mean", "matrix_factorization"]) == ["global_mean"]
    assert "left out: matrix_factorization needs cornac" in capsys.readouterr().out


def test_efforts_that_are_none_are_named(folder):
    files.write_text(folder / EFFORTS.path, "[1]")
    assert complaint(script(folder, "--model", "global_mean")).startswith(f"{folder / EFFORTS.path}: not the efforts")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_like_an_unbroken_one(folder, tmp_path):
    command = [sys.executable, SCRIPT, "--dataset", "Demo_data", "--data_root", folder.parent]
    flags = ["--model", "matrix_factorization", "--seeds", "1", "2"]
    process = subprocess.Popen([*command, *flags], cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (folder / predictions_of("matrix_factorization@1").path).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    printed = ran(folder, *flags)
    assert printed.count("complete: ") in (1, 2)  # the second may have been complete, too
    unbroken = put_toy_dataset(tmp_path / "unbroken")
    ran(unbroken, *flags)
    names = [predictions_of(f"matrix_factorization@{seed}").path for seed in (1, 2)]
    assert [(folder / name).read_bytes() for name in names] == [(unbroken / name).read_bytes() for name in names]
    assert [row["seed"] for row in efforts(folder)] == [1, 2]
    assert not list(folder.rglob("*.part"))


def test_the_peak_of_memory_is_the_baselines_own(folder):
    held = np.ones(2**27)  # a gigabyte
    step = baseline_runs.part_of(baselines_step(folder), "global_mean", "global_mean", 42)
    frame, effort = baseline_runs.in_own_process("global_mean", step, 42)
    assert 0.05 < effort["peak_gb"] < 0.7
    assert len(frame) == len(schema.read(folder, TEST))
    assert held.all()


def test_what_goes_wrong_in_the_process_of_a_baseline_is_told(folder):
    step = baseline_runs.part_of(baselines_step(folder), "global_mean", "global_mean", 42)
    (folder / TEST.path).unlink()
    with pytest.raises(InputError, match="is missing"):
        baseline_runs.in_own_process("global_mean", step, 42)

    def kill():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.001)
        os.kill(children[0].pid, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(InputError, match="killed .signal 9.*memory"):
        baseline_runs.in_own_process("global_mean", step, 42)


# The baselines that are asked


def test_zero_shot_weighs_the_digits_after_the_direct_prompt(folder, base):
    ran(folder, "--model", "zero_shot", "--limit", 6, "--device", "cpu")
    frame = schema.read(folder, predictions_of("zero_shot"))
    assert list(frame.columns) == [*KEYS, "ratings", PREDICTION, *PROBABILITIES]
    found = frame[list(PROBABILITIES)].to_numpy()
    assert found.sum(axis=1) == pytest.approx(np.ones(6))
    assert frame[PREDICTION].to_numpy() == pytest.approx(found @ np.arange(1, 6))
    (effort,) = efforts(folder)
    assert effort["settings"]["histories"] == "reviews"
    assert effort["settings"]["base_model"] == "reason4rec/demo/base"

    train, test = schema.read(folder, TRAIN), schema.read(folder, TEST).head(6)
    index = HistoryIndex(train, "reviews", 6)
    asked = [prompts.predictor("Album", t, h, None) for t, h in zip(test["title"], index.of_rows(test))]
    expected = load(base, None, device="cpu").choice_probabilities(asked, prompts.RATINGS, prompts.RATING_PREFIX)
    assert found == pytest.approx(expected, abs=1e-4)


def test_zero_shot_with_a_reason_reads_what_the_same_base_wrote(folder, base, tmp_path):
    base = make_base(tmp_path / "chatml", base)
    (tmp_path / "chatml" / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '\n' + m['content'] + '<|eot_id|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant\n' }}{% endif %}"
    )
    train = schema.read(folder, TRAIN)
    files.write_pickle(folder / SUMMARIES.path, train.assign(**{SUMMARY: "Positive Aspects: mood"}))
    flags = ("--model", "zero_shot_reasoned", "--limit", 4, "--device", "cpu", "--base_model", base)
    ran(folder, *flags, "--max_new_tokens", 12)
    frame = schema.read(folder, predictions_of("zero_shot_reasoned"))
    settings = records.read_record(folder / predictions_of("zero_shot_reasoned").path)["made_from"]["settings"]
    assert settings["max_new_tokens"] == 12

    test, model = schema.read(folder, TEST).head(4), load(base, None, device="cpu")
    histories = HistoryIndex(schema.read(folder, SUMMARIES), SUMMARY, 6).of_rows(test)
    reasons = model.generate([prompts.reasoner("Album", *one) for one in zip(test["title"], histories)], 12)
    asked = [prompts.predictor("Album", *one) for one in zip(test["title"], histories, reasons)]
    expected = model.choice_probabilities(asked, prompts.RATINGS, prompts.RATING_PREFIX)
    assert frame[list(PROBABILITIES)].to_numpy() == pytest.approx(expected, abs=1e-4)
    assert "out of date (max_new_tokens changed)" in ran(folder, *flags, "--max_new_tokens", 8)


def test_the_teacher_is_asked_once_without_a_reason_and_unusable_replies_stay(folder, monkeypatch):
    seen = []

    def answer(prompt, temperature, seed):
        seen.append(prompt)
        assert temperature == 0
        return "I cannot tell." if len(seen) == 3 else f"Predicted Rating: {1 + len(seen) % 5}.0"

    monkeypatch.setattr(stand_in, "answer", answer)
    train = schema.read(folder, TRAIN)
    summaries = train.assign(**{SUMMARY: [f"summary {k}" for k in range(len(train))]})
    files.write_pickle(folder / SUMMARIES.path, summaries)
    flags = ("--model", "zero_shot_teacher", "--limit", 8, "--teacher_model", "stand-in", "--requests_at_once", 1)
    with serving(stand_in.Server(0)) as server:
        key = {"OPENAI_API_KEY": "none-needed", "OPENAI_BASE_URL": server.address}
        ran(folder, *flags, env=key)
        frame = schema.read(folder, predictions_of("zero_shot_teacher"))
        assert frame[PREDICTION].isna().sum() == 1
        assert frame[PREDICTION].dropna().between(1, 5).all()
        settings = efforts(folder)[0]["settings"]
        assert (settings["unusable"], settings["requests"], settings["histories"]) == (1, 8, "summaries")
        test = schema.read(folder, TEST).head(8)
        index = HistoryIndex(summaries, SUMMARY, 6)
        asked = [prompts.predictor("Album", t, h, None).text for t, h in zip(test["title"], index.of_rows(test))]
        assert sorted(seen) == sorted(asked)

        ran(folder, *flags, "--overwrite", env=key)
        assert len(seen) == 8
        assert efforts(folder)[0]["settings"]["kept_replies"] == 8
    assert "OPENAI_API_KEY" in complaint(script(folder, *flags, "--overwrite", env={"OPENAI_API_KEY": ""}))


def test_the_script_is_small_and_says_that_all_asks_no_llm():
    assert "all that ask no LLM" in run_script(SCRIPT, "--help").stdout
    assert len(Path(ROOT / SCRIPT).read_text().splitlines()) <= 100


def put_ten_efforts(path, model):
    for seed in range(10):
        baseline_runs.put_effort(path, {"model": model, "seed": seed})


def test_two_baselines_that_ended_at_once_lost_the_effort_of_one(tmp_path):
    path = tmp_path / "efforts.json"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=put_ten_efforts, args=(path, f"model {k}")) for k in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(json.loads(path.read_text())) == 40
