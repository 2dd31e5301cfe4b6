"""Intervals, paired tests, calibration and tables against known answers, by simulation, and as a user runs them."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import complaint, put_toy_dataset, run_script

from reason4rec.data import schema
from reason4rec.data.history import History
from reason4rec.data.schema import KEYS, PREDICTION, PROBABILITIES, TEST, TRAIN
from reason4rec.errors import InputError
from reason4rec.evaluation import metrics, tables
from reason4rec.evaluation import ratings as ratings_module
from reason4rec.run import files as files_module
from reason4rec.run import records
from reason4rec.systems.reason4rec import predictions as predictions_module
from reason4rec.systems.reason4rec.artifacts import METRICS, TEST_RATINGS, predictions_of

SCRIPT = "3_Predictor/4_evaluate.py"
NAN = float("nan")
SIMPLE = ["global mean", "global median", "user mean", "item mean", "user + item bias (damping 5)"]


def runs_of(*predictions):
    return [pd.DataFrame({PREDICTION: values}, dtype=float) for values in predictions]


def targets_of(ratings, users=None):
    return pd.DataFrame({"user_id": users or [f"u{k}" for k in range(len(ratings))], "ratings": ratings}, dtype=object)


def history(user_count, item_count):
    return History((), (), None, None, user_count, item_count)


WARM, COLD = history(3, 2), history(0, 4)


# What the table holds.


def test_a_table_has_every_model_on_all_and_on_warm_rows():
    runs = {"ours": runs_of([5.0, NAN, 2.0]), "three": runs_of([3.0, 3.0, 3.0])}
    table = ratings_module.evaluate(runs, targets_of([5.0, 1.0, 3.0]), [WARM, COLD, WARM], "ours", 1)["table"]
    assert [(row["model"], row["rows"], row["n"], row["unusable"], row["seeds"]) for row in table] == [
        ("ours", "all", 3, 1, 1),
        ("three", "all", 3, 0, 1),
        ("ours", "warm", 2, 0, 1),
        ("three", "warm", 2, 0, 1),
    ]
    assert [row["mae"] for row in table] == pytest.approx([5 / 3, 4 / 3, 1 / 2, 1.0])
    assert [row["mae_usable"] for row in table] == pytest.approx([1 / 2, 4 / 3, 1 / 2, 1.0])
    assert table[2]["rmse"] == pytest.approx(0.5**0.5)
    assert all(row["mae_low"] <= row["mae"] <= row["mae_high"] for row in table)
    assert all(row["mae_std"] is None for row in table)


def test_several_seeds_give_the_mean_of_their_errors_and_not_the_error_of_their_mean():
    ratings = [3.0, 3.0]
    runs = {"ours": runs_of([2.0, 2.0], [4.0, 5.0]), "mean of both": runs_of([3.0, 3.5])}
    ours, mean = ratings_module.evaluate(runs, targets_of(ratings), [WARM] * 2, "ours", 1)["table"][:2]
    rmses = [1.0, 2.5**0.5]
    assert (ours["seeds"], ours["n"]) == (2, 2)
    assert ours["mae"] == pytest.approx((1 + 1.5) / 2)
    assert ours["mae_std"] == pytest.approx(np.std([1, 1.5], ddof=1))
    assert ours["rmse"] == pytest.approx(np.mean(rmses))
    assert ours["rmse_std"] == pytest.approx(np.std(rmses, ddof=1))
    assert (ours["mae_low"], ours["mae_high"]) == pytest.approx((1.0, 1.5))
    assert mean["mae"] == pytest.approx(0.25)


def test_unusable_predictions_are_counted_over_all_seeds_and_stay_in_n():
    table = ratings_module.evaluate(
        {"ours": runs_of([NAN, 4.0], [5.0, NAN])}, targets_of([5.0, 4.0]), [WARM] * 2, "ours", 1
    )["table"]
    assert (table[0]["n"], table[0]["unusable"]) == (2, 2)
    assert table[0]["mae"] == pytest.approx((4 / 2 + 3 / 2) / 2)
    assert table[0]["mae_usable"] == 0.0


def test_no_warm_row_is_no_error_and_no_test():
    result = ratings_module.evaluate(
        {"ours": runs_of([4.0, 4.0]), "other": runs_of([3.0, 3.0])}, targets_of([5.0, 4.0]), [COLD] * 2, "ours", 1
    )
    warm = [row for row in result["table"] if row["rows"] == "warm"]
    assert [(row["n"], row["mae"], row["mae_low"]) for row in warm] == [(0, None, None)] * 2
    assert {row["rows"] for part in ("paired", "by_rating", "by_history") for row in result[part]} == {"all"}
    assert "-" in tables.as_text(result | {"settings": {}})


def test_errors_by_rating_and_by_history_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    ratings = rng.choice([1.0, 3.5, 5.0], 60)
    histories = [history(*counts) for counts in rng.integers(0, 40, (60, 2))]
    runs = {"ours": runs_of(rng.uniform(1, 5, 60), rng.uniform(1, 5, 60))}
    result = ratings_module.evaluate(runs, targets_of(list(ratings)), histories, "ours", 1)
    for part in ("by_rating", "by_history"):
        for whole in result["table"]:
            rows = [row for row in result[part] if row["rows"] == whole["rows"]]
            assert sum(row["n"] for row in rows) == whole["n"]
            assert sum(row["n"] * row["mae"] for row in rows) == pytest.approx(whole["n"] * whole["mae"])
    assert [row["rating"] for row in result["by_rating"] if row["rows"] == "all"] == [1.0, 3.5, 5.0]


def test_errors_by_history_have_the_interval_that_a_table_of_those_rows_alone_would_have():
    rng = np.random.default_rng(0)
    ratings, long = rng.choice([1.0, 3.0, 5.0], 80), rng.random(80) < 0.5
    runs = {"ours": runs_of(rng.uniform(1, 5, 80), rng.uniform(1, 5, 80)), "other": runs_of(rng.uniform(1, 5, 80))}
    targets = targets_of(list(ratings))
    histories = [history(30, 0) if one else history(2, 0) for one in long]
    result = ratings_module.evaluate(runs, targets, histories, "ours", 1)
    table, _ = ratings_module.compare(runs, targets, {"20-49": long, "1-4": ~long}, 1)
    expected = {(row["model"], row["rows"]): [row[key] for key in ("n", "mae_low", "mae_high")] for row in table}
    found = {
        (row["model"], row["history"]): [row[key] for key in ("n", "mae_low", "mae_high")]
        for row in result["by_history"]
        if row["rows"] == "all"
    }
    assert found == expected
    (short,) = (
        row
        for row in ratings_module.evaluate({"ours": runs_of([1.0])}, targets_of([2.0]), [history(1, 1)], "ours", 1)[
            "by_history"
        ]
        if row["rows"] == "all"
    )
    assert (short["mae"], short["mae_low"], short["mae_high"]) == (1.0, None, None)


def test_the_history_of_a_row_is_counted_over_user_and_item():
    histories = [
        history(0, 0),
        history(1, 3),
        history(0, 5),
        history(4, 5),
        history(9, 1),
        history(25, 24),
        history(1, 99),
    ]
    runs = {"ours": runs_of(range(1, 8))}
    result = ratings_module.evaluate(runs, targets_of([1.0] * 7), histories, "ours", 1)
    assert [(row["history"], row["n"], row["mae"]) for row in result["by_history"] if row["rows"] == "all"] == [
        ("0", 1, 0.0),
        ("1-4", 1, 1.0),
        ("5-9", 2, 2.5),
        ("10-19", 1, 4.0),
        ("20-49", 1, 5.0),
        ("50+", 1, 6.0),
    ]


# Both rules.


def distributions(rng, n, seeds=1):
    """Runs of a model that gives probabilities, and their expectations."""
    frames = []
    for probabilities in rng.dirichlet(np.ones(5) / 2, (seeds, n)):
        frame = pd.DataFrame(probabilities, columns=list(PROBABILITIES))
        frames.append(frame.assign(**{PREDICTION: metrics.expected_rating(probabilities)}))
    return frames


def test_a_model_with_probabilities_is_judged_by_both_rules_and_one_without_by_its_own_alone():
    rng = np.random.default_rng(0)
    ours = distributions(rng, 400, seeds=2)
    frames = {"ours@1": ours[0], "ours@2": ours[1], "point": runs_of([4.0] * 400)[0]}
    runs = ratings_module.by_model(frames, {"global mean": np.full(400, 4.0)}, "ours")
    assert list(runs) == ["ours", "ours (median)", "global mean", "point"]
    # Ratings that are drawn from the probabilities: then either rule is the best of the two at its own error.
    drawn = [float(rng.choice(5, p=row) + 1) for row in ours[0][list(PROBABILITIES)].to_numpy()]
    one = {"ours": ours[:1]}
    result = ratings_module.evaluate(one | ratings_module.medians(one), targets_of(drawn), [WARM] * 400, "ours", 1)
    mean, median = result["table"][:2]
    assert mean["rmse"] < median["rmse"] and median["mae"] < mean["mae"]
    assert median["mae_low"] < median["mae"] < median["mae_high"]
    (paired, _) = result["paired"]
    assert (paired["model"], paired["against"]) == ("ours (median)", "ours")
    assert paired["mae_difference"] == pytest.approx(median["mae"] - mean["mae"])
    assert {row["model"] for row in result["calibration"]} == {"ours"}  # of the same probabilities, once


def test_medians_of_several_seeds_are_judged_seed_by_seed():
    runs = {"ours": distributions(np.random.default_rng(1), 30, seeds=3)}
    medians = ratings_module.medians(runs)["ours (median)"]
    assert len(medians) == 3
    row = ratings_module.compare({"m": medians}, targets_of([4.0] * 30), {"all": np.full(30, True)}, 1)[0][0]
    assert row["seeds"] == 3 and row["mae_std"] > 0


# Paired tests.


def test_every_other_model_is_tested_against_the_one_named_and_a_worse_one_is_above_0():
    ratings, rng = [4.0] * 40, np.random.default_rng(10)
    runs = {"ours": runs_of(4 + rng.normal(0, 0.1, 40)), "bad": runs_of([1.0] * 40), "best": runs_of(ratings)}
    targets = targets_of(ratings)
    for against in runs:
        paired = ratings_module.evaluate(runs, targets, [WARM] * 40, against, 1)["paired"]
        assert {(row["model"], row["against"]) for row in paired} == {(m, against) for m in runs if m != against}
        table = ratings_module.evaluate(runs, targets, [WARM] * 40, against, 1)["table"]
        mae = {row["model"]: row["mae"] for row in table if row["rows"] == "all"}
        for row in paired:
            assert row["mae_difference"] == pytest.approx(mae[row["model"]] - mae[against])
            assert row["low"] <= row["mae_difference"] <= row["high"]
            assert row["p"] <= row["p_corrected"] < 0.01


# Calibration.


def test_calibration_of_a_worked_example():
    p = np.array([[0.0, 0, 0, 0.2, 0.8], [0.0, 0, 0, 0.2, 0.8], [0.5, 0.5, 0, 0, 0], [0, 0, 1.0, 0, 0]])
    found = ratings_module.calibration(np.array([5.0, 4.0, 2.0, 3.0]), p)
    assert (found["n"], found["unusable"]) == (4, 0)
    assert found["bins"] == [
        {"from": 0.5, "n": 1, "probability": 0.5, "right": 0.0},
        {"from": 0.8, "n": 2, "probability": 0.8, "right": 0.5},
        {"from": 0.9, "n": 1, "probability": 1.0, "right": 1.0},
    ]
    assert found["ece"] == pytest.approx((0.5 + 2 * 0.3 + 0) / 4)
    assert found["brier"] == pytest.approx((0.08 + 1.28 + 0.5 + 0) / 4)
    assert found["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.2) + np.log(0.5)) / 4)
    assert found["predicted"] == pytest.approx([0.125, 0.125, 0.25, 0.1, 0.4])
    assert found["true"] == [0.0, 0.25, 0.25, 0.25, 0.25]


def test_probabilities_from_which_the_ratings_were_drawn_are_calibrated_and_sharper_ones_are_not():
    rng = np.random.default_rng(11)
    p = rng.dirichlet([0.5, 0.5, 1.0, 2.0, 3.0], 5_000)
    ratings = (p.cumsum(axis=1) > rng.random((5_000, 1))).argmax(axis=1) + 1.0
    sharper = p**2 / (p**2).sum(axis=1, keepdims=True)
    honest, sure = ratings_module.calibration(ratings, p), ratings_module.calibration(ratings, sharper)
    assert honest["ece"] < 0.03 < sure["ece"]
    assert honest["brier"] < sure["brier"] and honest["log_loss"] < sure["log_loss"]
    assert honest["predicted"] == pytest.approx(honest["true"], abs=0.03)


def test_rows_without_probabilities_are_counted_and_half_stars_left_out():
    p = np.array([[0.2] * 5, [NAN] * 5, [0.2] * 5])
    found = ratings_module.calibration(np.array([5.0, 5.0, 4.5]), p)
    assert (found["n"], found["unusable"]) == (1, 1)
    nothing = ratings_module.calibration(np.array([5.0]), np.full((1, 5), NAN))
    assert (nothing["n"], nothing["unusable"], nothing["ece"], nothing["bins"]) == (0, 1, None, [])


def test_only_models_that_give_probabilities_are_in_the_calibration():
    frame = pd.DataFrame([[5.0, 0, 0, 0, 0, 1.0]] * 2, columns=[PREDICTION, *PROBABILITIES])
    runs = {"ours": [frame, frame], "mean": runs_of([4.0, 4.0])}
    result = ratings_module.evaluate(runs, targets_of([5.0, 4.0]), [WARM, COLD], "ours", 1)
    assert [(row["model"], row["rows"], row["n"]) for row in result["calibration"]] == [
        ("ours", "all", 4),
        ("ours", "warm", 2),
    ]


# Files of predictions.


@pytest.fixture
def rows():
    n = 6
    return pd.DataFrame(
        {
            "user_id": [f"u{k % 3}" for k in range(n)],
            "item_id": [f"i{k}" for k in range(n)],
            "unixReviewTime": range(100, 100 + n),
            "ratings": [5.0, 4.0, 3.0, 2.0, 1.0, 5.0],
        }
    )


def test_predictions_are_put_in_the_order_of_the_test_rows_and_missing_rows_are_unusable(rows):
    shuffled = rows.assign(pred=[1.0, 2.0, NAN, 4.0, 5.0, 6.0]).sample(frac=1, random_state=1).iloc[:-1]
    found = ratings_module.aligned(shuffled, rows, "x.pkl")
    left_out = (set(range(6)) - set(shuffled.index)).pop()
    expected = [1.0, 2.0, NAN, 4.0, 5.0, 6.0]
    expected[left_out] = NAN
    assert found.columns.tolist() == [PREDICTION]
    np.testing.assert_array_equal(found[PREDICTION], expected)


def changed(frame, row, **cells):
    frame = frame.copy()
    for column, value in cells.items():
        frame.loc[row, column] = value
    return frame


def refusals(rows):
    given = rows.assign(pred=3.0)
    shares = given.assign(**dict.fromkeys(PROBABILITIES, 0.2))
    return {
        "row 2 (user u2, item other, time 102) is not in the split that is judged": changed(given, 2, item_id="other"),
        "row 4 (user u1, item i4, time 104) has another rating there": changed(given, 4, ratings=2.0),
        "row 6 repeats the user, item and time": pd.concat([given, given.iloc[[0]]], ignore_index=True),
        "column pred holds text": given.assign(pred="four"),
        "no column pred": rows,
        "no column p3": shares.drop(columns="p3"),
        "p1 to p5 of row 1 are not probabilities": changed(shares, 1, p1=0.9),
        "p1 to p5 of row 3 are not probabilities": changed(shares, 3, p1=-0.2, p2=0.6),
    }


@pytest.mark.parametrize("k", range(8))
def test_predictions_that_are_not_for_these_rows_are_refused_with_the_row_named(rows, k):
    message, frame = list(refusals(rows).items())[k]
    with pytest.raises(InputError) as error:
        ratings_module.aligned(frame, rows, "x.pkl")
    assert str(error.value).startswith("x.pkl: ") and message in str(error.value)


def test_a_row_without_probabilities_is_no_error(rows):
    shares = rows.assign(pred=3.0, **dict.fromkeys(PROBABILITIES, 0.2))
    shares.loc[2, [PREDICTION, *PROBABILITIES]] = NAN
    assert ratings_module.aligned(shares, rows, "x.pkl")["p5"].isna().tolist() == [k == 2 for k in range(6)]


def test_files_are_named_after_their_models_and_seeds(tmp_path):
    (tmp_path / "predictions").mkdir()
    for name in ("narre@43", "user_item_bias", "zero_shot"):
        (tmp_path / "predictions" / f"{name}.pkl").touch()
        (tmp_path / "predictions" / f"{name}.pkl.json").touch()
    (tmp_path / TEST_RATINGS.path).touch()
    label = "Reason4Rec (demo model)"
    elsewhere = tmp_path / "seed43" / TEST_RATINGS.path
    files = predictions_module.prediction_files(tmp_path, label, [f"Reason4Rec@43={elsewhere}"])
    assert {name: file.path for name, file in files.items()} == {
        label: TEST_RATINGS.path,
        "narre@43": "predictions/narre@43.pkl",
        "user + item bias": "predictions/user_item_bias.pkl",
        "zero shot": "predictions/zero_shot.pkl",
        f"{label}@43": f"seed43/{TEST_RATINGS.path}",
    }
    with pytest.raises(InputError, match="two files of predictions are called narre@43"):
        predictions_module.prediction_files(tmp_path, label, [f"narre@43={elsewhere}"])
    for wrong in ("narre", "=x.pkl", "narre="):
        with pytest.raises(InputError, match="expected NAME=FILE or NAME@SEED=FILE"):
            predictions_module.prediction_files(tmp_path, label, [wrong])


@pytest.mark.parametrize("content", ["{", "[]", '{"table": []}'])
def test_results_of_another_form_are_refused(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(InputError, match=f"{path}: .* --overwrite"):
        ratings_module.read(path)


# As text.


def test_a_table_as_text_shows_every_row_and_number_in_columns():
    runs = {"ours": runs_of([4.0, 2.0]), "a longer name": runs_of([5.0, 1.0])}
    result = ratings_module.evaluate(runs, targets_of([5.0, 1.0]), [WARM, COLD], "ours", 1)
    text = tables.as_text(result)
    table, paired = (part.splitlines() for part in text.split("\n\n"))
    assert table[0].split() == "model rows n unusable MAE 95% interval RMSE 95% interval".split()
    assert table[1].split() == "ours all 2 0 1.0000 1.0000 to 1.0000 1.0000 1.0000 to 1.0000".split()
    assert table[2].startswith("a longer name  all ") and len(table) == 5
    assert len(set(map(len, table))) == 1
    assert [line.split()[:3] for line in paired[3:]] == [["a", "longer", "name"]] * 2
    assert "2     -1.0000  -1.0000 to -1.0000  " in paired[3]


def test_columns_on_seeds_and_on_unusable_predictions_are_there_where_they_are_needed():
    table = ratings_module.evaluate(
        {"ours": runs_of([4.0, NAN], [3.0, 2.0])}, targets_of([5.0, 1.0]), [WARM] * 2, "ours", 1
    )["table"]
    header, _, first, *_ = tables.as_markdown(table).splitlines()
    assert header == (
        "| model | rows | n | seeds | unusable | MAE | std | 95% interval | MAE usable "
        "| RMSE | std | 95% interval | RMSE usable |"
    )
    assert first.startswith("| ours | all | 2 | 2 | 1 | 2.0000 | 0.7071 | ")


def test_where_all_rows_are_warm_the_table_is_printed_once_and_says_so():
    runs = {"ours": runs_of([4.0, 2.0]), "other": runs_of([5.0, 1.0])}
    for histories, groups in (([WARM, WARM], {"all"}), ([WARM, COLD], {"all", "warm"})):
        result = ratings_module.evaluate(runs, targets_of([5.0, 1.0]), histories, "ours", 1)
        text = tables.as_text(result)
        lines = [line.split() for line in text.splitlines() if line.startswith(("ours ", "other "))]
        assert {line[1] for line in lines} == groups
        assert len(lines) == 3 * len(groups)  # two of the table, one of the paired tests
        assert (tables.ALL_ARE_WARM in text) == (groups == {"all"})
        assert {row["rows"] for row in result["table"]} == {"all", "warm"}  # the file keeps both


def named_lines(text):
    return [line.split("  ")[0] for line in text.splitlines()[2:]]


@pytest.mark.parametrize("cold, group", [(0, "warm"), (1, "warm"), (3, "all")])
def test_a_run_ends_with_our_row_and_the_best_three_others(cold, group):
    runs = {f"m{k}": runs_of([5.0 - k / 2] * 3) for k in range(5)} | {"ours": runs_of([1.0] * 3)}
    result = ratings_module.evaluate(runs, targets_of([5.0] * 3), [COLD] * cold + [WARM] * (3 - cold), "ours", 1)
    result["table"] += ratings_module.whole_table(runs, targets_of([5.0] * 3), [WARM] * 3, 1)
    text = tables.closing(result, "ours")
    assert text.startswith("Ours and the best 3 others by MAE; lower is better:\n")
    assert named_lines(text) == ["ours", "m0", "m1", "m2"]
    assert {line.split()[1] for line in text.splitlines()[2:]} == {group}


def test_a_run_ends_with_both_of_our_rules():
    runs = {"ours": distributions(np.random.default_rng(0), 6), "other": runs_of([4.0] * 6)}
    runs |= ratings_module.medians(runs)
    result = ratings_module.evaluate(runs, targets_of([4.0] * 6), [WARM] * 6, "ours", 1)
    assert named_lines(tables.closing(result, "ours")) == ["ours", "ours (median)", "other"]


def test_the_end_of_a_run_without_our_model_or_without_others_says_what_it_shows():
    runs = {"b": runs_of([4.0]), "a": runs_of([5.0])}
    result = ratings_module.evaluate(runs, targets_of([5.0]), [WARM], "a", 1)
    text = tables.closing(result, "ours")
    assert text.startswith("The best 2 others by MAE; ") and named_lines(text) == ["a", "b"]
    assert tables.closing(result, "a").startswith("Ours and the best other by MAE; ")
    alone = {"table": [row for row in result["table"] if row["model"] == "a"]}
    assert tables.closing(alone, "a").startswith("Ours; lower is better:\n")
    assert tables.closing({"table": []}, "a") == "No row was judged."


# As a user runs it.


@pytest.fixture
def folder(tmp_path):
    return put_toy_dataset(tmp_path)


def evaluate(folder, *flags):
    roots = ["--data_root", folder.parent, "--checkpoint_root", folder.parent / "checkpoints"]
    return run_script(SCRIPT, "--dataset", folder.name, *roots, *flags)


def results(folder, *flags):
    done = evaluate(folder, *flags)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / METRICS.path).read_text(encoding="utf-8")), done.stdout


def predict(folder, name, error, probabilities=False, made_from=None, rows=None):
    """Puts predictions that are an error off the ratings; our model's where the name is an artifact."""
    frame = schema.read(folder, TEST).head(rows or 10**6)
    frame[PREDICTION] = frame["ratings"] + error
    if name is TEST_RATINGS:
        frame["reasoner_reply"] = "A reason."
    if probabilities or name is TEST_RATINGS:
        frame[list(PROBABILITIES)] = np.eye(5)[frame["ratings"].astype(int) - 1]
    artifact = name if name is TEST_RATINGS else predictions_of(name)
    if made_from is None:
        files_module.write_pickle(folder / artifact.path, frame)
    else:
        records.write_recorded(folder / artifact.path, frame, made_from)


def rows_of(result, rows="all"):
    return {row["model"]: row for row in result["table"] if row["rows"] == rows}


def test_without_our_model_the_others_are_judged_and_tested_against_the_biases(folder):
    predict(folder, "narre@42", 0.5)
    predict(folder, "narre@43", 1.0)
    result, output = results(folder)
    table = rows_of(result)
    assert list(table) == [*SIMPLE, "narre"]
    assert (table["narre"]["seeds"], table["narre"]["mae"]) == (2, pytest.approx(0.75))
    assert {row["against"] for row in result["paired"]} == {SIMPLE[-1]}
    assert result["settings"]["against"] == SIMPLE[-1] and result["settings"]["seed"] == 42
    assert set(result) == set(ratings_module.SECTIONS)
    assert tables.as_text(result) in output
    again = evaluate(folder)
    assert "complete:" in again.stdout and tables.as_text(result) in again.stdout


def test_our_model_is_first_and_all_others_are_tested_against_it(folder):
    predict(folder, TEST_RATINGS, 0.25)
    predict(folder, "zero_shot", 0.5, probabilities=True)
    result, _ = results(folder)
    table = rows_of(result)
    assert list(table) == ["Reason4Rec", "Reason4Rec (median)", *SIMPLE, "zero shot", "zero shot (median)"]
    # The probabilities of these are all on the true rating, which neither prediction is.
    assert (table["zero shot"]["mae"], table["zero shot (median)"]["mae"]) == (pytest.approx(0.5), 0.0)
    assert {row["against"] for row in result["paired"]} == {"Reason4Rec"}
    assert {row["model"] for row in result["calibration"]} == {"Reason4Rec", "zero shot"}
    other, _ = results(folder, "--against", "zero shot")
    assert {row["against"] for row in other["paired"]} == {"zero shot"}
    assert "--against narre: no such model; there are Reason4Rec, Reason4Rec (median), global mean" in complaint(
        evaluate(folder, "--against", "narre")
    )


def test_two_kinds_of_biases_had_one_name_in_one_table(folder):
    predict(folder, "user_item_bias", 0.125)
    result, output = results(folder)
    table = rows_of(result)
    assert list(table) == [*SIMPLE[:-1], "user + item bias"] and SIMPLE[-1] not in output
    assert {row["against"] for row in result["paired"]} == {"user + item bias"}
    assert table["user + item bias"]["mae"] == pytest.approx(0.125)
    train, test = schema.read(folder, TRAIN), schema.read(folder, TEST)
    mean = metrics.baselines(train, test)["user mean"]
    assert table["user mean"]["mae"] == pytest.approx(metrics.errors(test["ratings"], mean)["mae"])


def test_another_seed_of_ours_lies_elsewhere_and_a_change_in_any_file_is_seen(folder, tmp_path):
    other = put_toy_dataset(tmp_path / "seed43")
    also = ["--also", f"Reason4Rec@43={os.path.relpath(other / TEST_RATINGS.path)}"]

    def mae(first, second):
        predict(folder, TEST_RATINGS, first)
        predict(other, TEST_RATINGS, second)
        result, output = results(folder, *also)
        return rows_of(result)["Reason4Rec"]["mae"], "complete:" in output

    assert mae(0.25, 0.75) == (0.5, False)
    assert mae(0.25, 0.75) == (0.5, True)
    assert mae(0.25, 1.25) == (0.75, False)
    assert mae(0.75, 1.25) == (1.0, False)
    predict(folder, "narre", 0.5)
    result, output = results(folder, *also)
    assert "out of date (predictions/narre.pkl changed)" in output
    # Where it lies would be a path of this machine in what is published.
    assert result["settings"]["also"] == [f"Reason4Rec@43={Path(TEST_RATINGS.path).name}"]
    assert str(tmp_path) not in json.dumps(result)


def record(limit):
    return {"inputs": {}, "settings": {"seed": 42, "limit": limit}}


def test_predictions_made_with_a_limit_are_judged_on_their_rows_and_the_others_on_all_rows_too(folder):
    n = len(schema.read(folder, TEST))
    predict(folder, TEST_RATINGS, 0.25, made_from=record(10), rows=10)
    predict(folder, "narre", 0.5)
    predict(folder, "zero_shot", 0.5, made_from=record(12), rows=12)
    table = rows_of(results(folder)[0])
    whole = [f"{name}, all rows" for name in (*SIMPLE, "narre")]
    assert list(table) == ["Reason4Rec", "Reason4Rec (median)", *SIMPLE, "narre", "zero shot", *whole]
    assert all(row["n"] == (n if name in whole else 10) for name, row in table.items())
    assert all(row["unusable"] == 0 for row in table.values())


def test_a_trial_of_a_baseline_stood_beside_a_whole_run_with_the_largest_errors(folder):
    n = len(schema.read(folder, TEST))
    predict(folder, TEST_RATINGS, 0.25)
    predict(folder, "zero_shot", 0.5, made_from=record(12), rows=12)
    result, output = results(folder)
    assert "zero shot" not in rows_of(result)
    assert f"left out: made with --limit, it lacks {n - 12} of the {n} rows that are judged" in output


def test_a_row_that_our_predictions_lack_without_a_limit_stays_in_n(folder):
    n = len(schema.read(folder, TEST))
    predict(folder, TEST_RATINGS, 0.0, made_from=record(None), rows=n - 4)
    ours = rows_of(results(folder)[0])["Reason4Rec"]
    assert (ours["n"], ours["unusable"], ours["mae_usable"]) == (n, 4, 0.0)
    assert ours["mae"] > 0


def test_a_limit_of_this_step_judges_the_first_rows(folder):
    result, _ = results(folder, "--limit", 7)
    assert {row["n"] for row in result["table"] if row["rows"] == "all"} == {7, len(schema.read(folder, TEST))}
    assert result["settings"]["judged"].startswith("7 of ")


def test_predictions_of_other_rows_end_in_one_line(folder):
    predict(folder, "narre", 0.5)
    path = folder / predictions_of("narre").path
    frame = files_module.read_pickle(path)
    frame.loc[3, "item_id"] = "unknown"
    files_module.write_pickle(path, frame)
    user, time = frame.loc[3, "user_id"], frame.loc[3, KEYS[2]]
    assert complaint(evaluate(folder)) == (
        f"{path}: row 3 (user {user}, item unknown, time {time}) is not in the split that is judged; predict it again"
    )
