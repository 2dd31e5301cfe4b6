"""Ratings of another scale than 1 to 5: five classes for the model, halves kept, errors in the unit of the reviews."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import complaint, run_script

from reason4rec.data import schema
from reason4rec.demo import world
from reason4rec.evaluation import metrics, ratings
from reason4rec.run import files
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import METRICS


@pytest.fixture
def dump(tmp_path):
    """Reviews of the demo's world, rated from 0.5 to 5 in halves."""
    reviews, _ = world.raw_records(40, 12, seed=5)
    for place, review in enumerate(reviews):
        review["overall"] = review["overall"] - 0.5 * (place % 2)
    path = tmp_path / "reviews.json.gz"
    files.write_json_lines(path, reviews)
    return path


def test_halves_below_1_were_refused_and_errors_were_in_no_unit_of_the_reviews(dump, tmp_path):
    words = ("--dataset", "Halves", "--data_root", tmp_path / "data")
    made = ("--reviews", dump, "--product_class", "Film", "--core", 1)
    assert "--scale" in complaint(run_script("0_Data/2_preprocess.py", *words, *made))
    done = run_script("0_Data/2_preprocess.py", *words, *made, "--scale", "0.5:5")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data" / "Halves"
    train, test = schema.read(folder, schema.TRAIN), schema.read(folder, schema.TEST)
    original = {round(0.5 + (rating - 1) * 4.5 / 4, 6) for rating in train["ratings"]}
    assert original == {half / 2 for half in range(1, 11)}

    done = run_script("3_Predictor/4_evaluate.py", *words)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / METRICS.path).read_text())
    assert result["settings"]["unit"] == "ratings of 0.5 to 5"
    row = next(row for row in result["table"] if (row["model"], row["rows"]) == ("global mean", "all"))
    mean = np.full(len(test), train["ratings"].mean())
    assert row["mae"] == pytest.approx(metrics.errors(test["ratings"], mean)["mae"] * 4.5 / 4)
    assert {row["rating"] for row in result["by_rating"]} <= {half / 2 for half in range(1, 11)}


def test_a_result_on_1_to_5_stays_as_it_is():
    result = {"table": [{"mae": 0.5}], "paired": [], "by_rating": [{"rating": 3.5}], "by_history": [], "settings": {}}
    assert ratings.in_unit(result, (1.0, 5.0)) == result
    doubled = ratings.in_unit(result, (0.0, 8.0))
    assert doubled["table"] == [{"mae": 1.0}] and doubled["by_rating"] == [{"rating": 5.0}]


@pytest.mark.parametrize(
    "rating, answer", [(1.0, "1.0"), (1.49, "1.0"), (2.5, "3.0"), (3.5, "4.0"), (4.49, "4.0"), (5.0, "5.0")]
)
def test_a_rating_between_two_classes_was_answered_with_the_lower_one(rating, answer):
    """The model weighs the digit before the point alone."""
    assert prompts.rating_answer(rating) == f"Predicted Rating: {answer}"


def test_an_error_that_is_none_stays_none():
    rows = pd.DataFrame([{"mae": None, "rmse_low": 0.5, "model": "x"}]).astype(object).to_dict("records")
    result = {"table": rows, "paired": [], "by_rating": [], "by_history": []}
    assert ratings.in_unit(result, (0.0, 8.0))["table"] == [{"mae": None, "rmse_low": 1.0, "model": "x"}]
