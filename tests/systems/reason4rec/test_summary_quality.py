"""The quality of summaries: shares and chance by hand, further texts, and the script as a user runs it."""

import gzip
import json
import math

import numpy as np
import pandas as pd
import pytest
from helpers import complaint, put_toy_dataset, run_script, step_of

from reason4rec.data import schema
from reason4rec.demo import rules
from reason4rec.errors import InputError
from reason4rec.llm.prompt import Prompt, training_row
from reason4rec.run import files, records
from reason4rec.systems.reason4rec import artifacts, summary_quality
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARY

SCRIPT = "1_Summarizer/5_summary_quality.py"


def three_lines(likes, dislikes="None mentioned", wants="clear voice"):
    return f"Positive Aspects: {likes}\nNegative Aspects: {dislikes}\nUser Preference Elements: {wants}"


@pytest.fixture
def rows():
    return pd.DataFrame(
        {
            "user_id": ["a", "b", "c"],
            "item_id": ["1", "1", "2"],
            "title": ["One", "One", "Two"],
            "reviews": ["Warm voices, clear and pure.", "The drums are loud.", "A slow piano."],
            "unixReviewTime": [1, 2, 3],
            TEACHER_SUMMARY: [three_lines("warm voice"), three_lines("loud drums"), three_lines("slow piano")],
        }
    )


def test_aspects_stand_in_a_review_by_their_stems_in_any_order():
    review = "The singers are clear; their voices were warm, the drumming less so."
    assert summary_quality.in_review(three_lines("warm voice, loud drums", wants="clear voice"), review) == (
        2 / 3,
        5 / 6,
    )
    assert all(map(math.isnan, summary_quality.in_review("no summary", review)))
    assert all(map(math.isnan, summary_quality.in_review(three_lines("None", wants="none"), review)))


def test_chance_is_never_a_text_on_the_same_title():
    titles = ["One", "One", "Two", "Three", "Two"] * 4
    other = summary_quality.others(titles, seed=1)
    assert all(titles[k] != titles[n] for k, n in enumerate(other))
    assert (summary_quality.others(titles, seed=1) == other).all()
    with pytest.raises(InputError, match="all of one title"):
        summary_quality.others(["One", "One"], seed=1)


def test_the_published_text_is_like_itself_and_no_other(rows):
    other = np.array([2, 2, 0])
    found = summary_quality.scores(rows[TEACHER_SUMMARY], rows, other, None, "cpu", 8)
    table = {(row["score"], row["against"]): row for row in summary_quality.table({"8B": found}, rows["title"], seed=0)}
    assert table["three_parts", ""]["value"] == 1 and "chance" not in table["three_parts", ""]
    own = table["rouge_1", "published text"]
    # Without the headings, "None mentioned" and "clear voice" are what any two of these have in common.
    assert own["value"] == 1 and own["chance"] < 0.75 and own["n"] == 3
    named = table["aspects", "review"]
    assert named["value"] == pytest.approx((2 / 2 + 1 / 2 + 1 / 2) / 3)
    # The pure and clear voices of the first review hold "clear voice" of the third summary.
    assert named["chance"] == pytest.approx((0 + 0 + 1 / 2) / 3)


def test_a_text_of_another_form_has_no_aspects_and_counts_in_the_share_of_three_parts(rows):
    texts = [three_lines("warm voice"), "It is warm.", ""]
    found = summary_quality.scores(texts, rows, np.array([2, 2, 0]), None, "cpu", 8)
    table = {(row["score"], row["against"]): row for row in summary_quality.table({"x": found}, rows["title"], seed=0)}
    assert table["three_parts", ""]["value"] == pytest.approx(1 / 3)
    assert table["aspects", "review"]["n"] == 1


def test_further_texts_are_put_to_their_reviews(rows, tmp_path):
    path = tmp_path / "rules.pkl"
    files.write_pickle(path, rows.assign(**{TEACHER_SUMMARY: ["x", "y", "z"]}).iloc[::-1])
    assert summary_quality.named_texts([f"rules={path}"], rows) == {"rules": ["x", "y", "z"]}
    files.write_pickle(path, rows.iloc[:2])
    with pytest.raises(InputError, match="no summary of 1 of the 3"):
        summary_quality.named_texts([f"rules={path}"], rows)
    files.write_pickle(path, rows.drop(columns=TEACHER_SUMMARY))
    with pytest.raises(InputError, match="no table of reviews with"):
        summary_quality.named_texts([f"rules={path}"], rows)
    for word in ("rules", "=x", "rules="):
        with pytest.raises(InputError, match="NAME=FILE"):
            summary_quality.named_texts([word], rows)
    for name in ("published", "title"):  # the rows are written with a column for each text
        with pytest.raises(InputError, match="choose another"):
            summary_quality.named_texts([f"{name}=x"], rows)
    with pytest.raises(InputError, match="name of its own"):
        summary_quality.named_texts(["rules=x", "rules=y"], rows)


def test_reviews_that_the_summarizer_learned_are_not_scored(tmp_path):
    learned = [training_row(Prompt("one"), "x"), training_row(Prompt("two"), "y")]
    summary_quality.check_set_aside([Prompt("three")], learned, tmp_path)
    with pytest.raises(InputError, match="holds 1 of the 2"):
        summary_quality.check_set_aside([Prompt("three"), Prompt("two")], learned, tmp_path)


@pytest.mark.slow
def test_the_script_scores_the_expert_its_base_and_further_texts(tmp_path, base):
    folder = put_toy_dataset(tmp_path)
    train = schema.read(folder, schema.TRAIN)
    train[TEACHER_SUMMARY] = [rules.summarize(text) for text in train["reviews"]]
    titles = sorted(train["title"].unique())
    aside = train["title"].isin(titles[:3])
    files.write_pickle(folder / artifacts.TEACHER_SUMMARIES.path, train[~aside].reset_index(drop=True))
    files.write_pickle(folder / artifacts.SUMMARIES_SET_ASIDE.path, train[aside].reset_index(drop=True))
    files.write_pickle(tmp_path / "rules.pkl", train)
    roots = ("--dataset", "Demo_data", "--data_root", tmp_path / "data", "--checkpoint_root", tmp_path / "checkpoints")
    for script, *words in (
        ("1_Summarizer/2_construct_summarizer_train_data.py",),
        ("1_Summarizer/3_summarizer_train.sh", "--limit", 8, "--epochs", 1, "--device", "cpu"),
        (SCRIPT, "--limit", 6, "--max_new_tokens", 24, "--summaries", f"rules={tmp_path / 'rules.pkl'}"),
    ):
        done = run_script(script, *roots, *words)
        assert done.returncode == 0, done.stderr[-2000:]
    table = json.loads((folder / artifacts.SUMMARY_QUALITY.path).read_text())["table"]
    assert {row["texts"] for row in table} == {"published", "rules", "Summarizer", "base model"}
    values = {(row["texts"], row["score"], row["against"]): row["value"] for row in table}
    assert values["rules", "rouge_1", "published text"] == 1
    lines = gzip.decompress((folder / artifacts.SUMMARY_QUALITY_ROWS.path).read_bytes()).decode().splitlines()
    assert [json.loads(line)["reviews"] for line in lines] == train[aside]["reviews"].tolist()[:6]
    # Rows that hold what is to be scored are refused.
    step = step_of("1/2", tmp_path)
    learned = [training_row(prompt, "x") for prompt in step.summary_prompts(train[aside])]
    files.write_pickle(folder / artifacts.SUMMARIZER_ROWS.path, learned)
    records.record_path(step.path(artifacts.SUMMARIZER)).unlink()  # else it would be out of date
    assert "the Summarizer learned them" in complaint(run_script(SCRIPT, *roots, "--limit", 6, "--overwrite"))
