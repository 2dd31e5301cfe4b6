"""Published texts as the teacher's: reading logs, finding the review of a summary, choosing reasons, setting aside."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import complaint, run_script

from reason4rec.data import preprocess, schema
from reason4rec.errors import InputError
from reason4rec.run import files
from reason4rec.systems.reason4rec import artifacts, facts, prompts, published, published_files, published_matching
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARY
from reason4rec.systems.reason4rec.published import LoggedPrompt

SCRIPT = "0_Data/4_import_published_texts.py"
SHARED = Path(__file__).parents[4] / "shared" / "data"
WORDS = [f"{a}{b}{c}" for a in "bdfglmnr" for b in "aeiou" for c in ("lt", "nd", "rsh", "ck")]
TITLES = [f"Album {name}" for name in "ABCDEFGHIJKL"]
REASON = (
    "The user looks for clear voices and warm production, and other users praise both in this album, so that it is "
    "likely that the user will enjoy it. Some find it too long."
)


def summary_of(review):
    """Three lines of keywords, all from the review."""
    words = review.split()
    return "\n".join(f"{part}: {', '.join(words[k::3][:5])}" for k, part in enumerate(prompts.SUMMARY_PARTS))


@pytest.fixture(scope="module")
def reviews():
    """12 albums with a review by each of 10 users, all of words drawn at random; users review in turn."""
    rng = np.random.default_rng(3)
    rows = [
        {
            "user_id": f"U{user}",
            "item_id": f"I{item}",
            "title": TITLES[item],
            "ratings": float(rng.integers(1, 6)),
            "reviews": " ".join(rng.choice(WORDS, 24)),
            "unixReviewTime": 1_000_000_000 + 86_400 * (12 * user + item),
        }
        for user in range(10)
        for item in range(12)
    ]
    return pd.DataFrame(rows)


def entry(row):
    return row.title, summary_of(row.reviews)


def logged(reviews, user, item, title=None):
    """The prompt that the log holds for a review: the texts before it of its user and its item."""
    target = reviews[(reviews["user_id"] == user) & (reviews["item_id"] == item)].iloc[0]
    earlier = reviews[reviews["unixReviewTime"] < target["unixReviewTime"]]
    mine, its = earlier[earlier["user_id"] == user], earlier[(earlier["item_id"] == item)]
    return (
        title or target["title"],
        [entry(row) for row in mine.itertuples()],
        [entry(row) for row in its.itertuples()],
    )


def as_text(title, user, item):
    """A prompt as it stands in the published logs."""
    blocks = ["\n\n".join(f"{k}. {name}\n{text}" for k, (name, text) in enumerate(side, 1)) for side in (user, item)]
    return (
        f'Here is information about a user and a new Digital Music "{title}" being recommended to the user. For the '
        f"user, we have the user's review history.\n\n### User Review History ###\n{blocks[0]}\n\n"
        f"### Item Review History by other users ###\n{blocks[1]}\n\n"
        f'Analyze whether the user will like the new Digital Music "{title}" based on the histories.'
    )


def draws(text):
    """Four draws for a prompt: one that gives a rating, the one to be taken, its double, and one that is too short."""
    return [
        ["300", text, f" {REASON} Rating: 4.5/5.", -0.01, 0.9],
        ["300", text, f" {REASON} And it goes on with no e", -0.2, 0.1],
        ["300", text, f" {REASON} And it goes on with no e", -0.4, 0.1],
        ["300", text, " Yes.", -0.1, 0.0],
    ]


def table_of(rows, columns=("step", "prompt", "completion", "reward_function", "advantage")):
    return {"columns": list(columns), "data": rows}


@pytest.fixture(scope="module")
def place(reviews, tmp_path_factory):
    """A data root with a dataset whose last two users are in valid and test, and a folder with two log tables."""
    root = tmp_path_factory.mktemp("published")
    folder = root / "data" / "Logs_data"
    facts.write(facts.described("Logs_data", "Album", root / "data"), root / "data")
    for artifact, users in (
        (schema.TRAIN, [f"U{k}" for k in range(8)]),
        (schema.VALID, ["U8"]),
        (schema.TEST, ["U9"]),
    ):
        files.write_pickle(folder / artifact.path, reviews[reviews["user_id"].isin(users)].reset_index(drop=True))
    rows = [
        row
        for user in (5, 6, 7, 9)
        for item in range(3, 12)
        for row in draws(as_text(*logged(reviews, f"U{user}", f"I{item}")))
    ]
    (root / "logs").mkdir()
    (root / "logs" / "a.table.json").write_text(json.dumps(table_of(rows[: len(rows) // 2])))
    with gzip.open(root / "logs" / "b.table.json.gz", "wt") as file:
        json.dump(table_of(rows[len(rows) // 2 :]), file)
    return root


def imported(root, *words, name="data"):
    return run_script(SCRIPT, "--dataset", "Logs_data", "--data_root", root / name, "--set_aside", 0.3, *words)


@pytest.fixture(scope="module")
def done(place):
    """The dataset's folder after the import."""
    ended = imported(place, "--tables", place / "logs")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "log tables" in ended.stdout
    return place / "data" / "Logs_data"


# What a log holds


def test_a_history_is_read_entry_by_entry():
    first = "Positive Aspects: a\n2. no entry, for no empty line is above it"
    block = f"1. One\n{first}\n\n2.  Two   words\nNegative Aspects: b\n\n3. Three\n"
    assert published_files.entries(block) == (("One", first), ("Two words", "Negative Aspects: b"), ("Three", ""))


def test_a_logged_prompt_with_quotes_in_its_title_and_a_draw_that_came_twice(tmp_path):
    title = 'Songs from "The Last" Time'
    text = as_text(title, [("One", "x")], [])
    path = tmp_path / "x.table.json"
    path.write_text(json.dumps(table_of([*draws(text), ["1", "Another form of prompt", "no", 0.0, 0.0]])))
    (prompt,), counts = published_files.read_tables(published_files.files_in(tmp_path))
    assert (prompt.title, prompt.user, prompt.item) == (title, (("One", "x"),), ())
    assert [round(reward, 6) for _, reward in prompt.reasons] == [-0.01, -0.1, -0.3]
    assert counts == {"logged_rows": 5, "prompts": 1, "prompts_of_another_form": 1}


# The review of a summary


def test_every_summary_finds_its_own_review(reviews):
    table = {title: list(map(summary_of, group["reviews"])) for title, group in reviews.groupby("title")}
    found = published_matching.matched(table, reviews)
    assert len(found) == len(reviews)
    joined = found.merge(reviews, on=list(schema.KEYS))
    assert (joined[TEACHER_SUMMARY] == joined["reviews"].map(summary_of)).all()


def test_a_summary_that_fits_no_review_or_two_alike_has_none(reviews):
    first = reviews["reviews"].iloc[0]
    twins = reviews.iloc[[0, 12]].assign(reviews=[f"{first} loud", f"{first} quiet"])
    others = reviews[reviews["item_id"] != "I0"]
    none = "Positive Aspects: unheard, unseen, unsaid"
    known = pd.concat([twins, others], ignore_index=True)
    assert published_matching.matched({TITLES[0]: [summary_of(first), none]}, known).empty
    clear = published_matching.matched({TITLES[0]: ["Positive Aspects: loud"]}, known)
    assert clear["user_id"].tolist() == ["U0"]


def test_two_summaries_of_a_title_never_share_a_review(reviews):
    review = reviews[reviews["item_id"] == "I0"]["reviews"].iloc[0]
    twice = [f"Positive Aspects: {', '.join(review.split()[:n])}" for n in (20, 10)]
    found = published_matching.matched({TITLES[0]: twice}, reviews)
    assert found[TEACHER_SUMMARY].tolist() == twice[:1]


def test_titles_that_no_item_has_are_told(reviews):
    with pytest.raises(InputError, match="'Nowhere'"):
        published_matching.matched({"Nowhere": ["x"]}, reviews)


# Which reason is learned


@pytest.mark.parametrize(
    "text, reason",
    [
        (f" {REASON}", REASON),
        (f"{REASON} And then it is cut in the mid", REASON),
        (f"{REASON} </p> }} {{ 'user': 'x'. }}", REASON),
        (f"{REASON} [1] A source.", REASON),
        (f"{REASON}\n\nRating: 5.", REASON),
        (f"**Rationale:** {REASON}", REASON),
        (f'"{REASON}', REASON),
        ('"The Wall" is long.', '"The Wall" is long.'),
        ("no sentence ends here", ""),
        ("", ""),
    ],
)
def test_a_paragraph_ends_before_what_runs_on(text, reason):
    assert published.paragraph(text) == reason


@pytest.mark.parametrize(
    "reason, why",
    [
        (REASON, ""),
        ("Too short to tell.", "short"),
        (f"{REASON} {REASON}", "endless"),
        (" ".join(f"Sentence {k} says one more thing." for k in range(60)), "endless"),
        (f"{REASON} It is worth 4 out of 5.", "rating"),
        (f"{REASON} The user rated the album highly.", "rating"),
        (f"{REASON} The user's positive review of the album shows it.", "rating"),
        (f"{REASON} The user's review history shows it.", ""),
        (f"{REASON} It is no overrated album.", ""),
    ],
)
def test_what_no_reason_may_say(reason, why):
    assert published.fault(reason) == why


def test_the_reason_with_the_highest_reward_that_can_be_learned_is_taken():
    rated = (f"{REASON} A perfect 5.", -0.01)
    other = (REASON.replace("warm", "loud"), -0.5)
    assert published.chosen_reason([rated, (REASON, -0.3), other]) == (REASON, "")
    assert published.chosen_reason([rated]) == ("", "rating")
    assert published.chosen_reason([(REASON, -1.2)]) == ("", "wrong_verdict")
    assert published.chosen_reason([("", 0.0), (REASON, -1.2)]) == ("", "short")


def test_a_target_that_may_be_in_test_is_left_out(reviews):
    held_out = reviews[reviews["user_id"] == "U9"]
    splits = published.splits_of(reviews[reviews["user_id"] != "U9"], held_out)
    shown = {("Album A", "mine"): ("U9", "I0"), ("Album B", "theirs"): ("U1", "I1"), ("Album C", "old"): ("U9", "I99")}

    def why(title, *user):
        return published.leak(LoggedPrompt(title, user, (), ()), shown, splits)

    assert why("Album B", ("Album A", "mine")) == "shows_held_out"
    assert why("Album B", ("Album C", "old")) == "target_held_out"
    assert why("Elsewhere", ("Album C", "old")) == ""
    assert why("Album B", ("Album B", "theirs")) == ""
    assert why("Album B", ("Album B", "of nobody known")) == ""


# The step


def test_the_rows_are_those_that_the_teachers_steps_write(done, reviews):
    table = schema.read(done, artifacts.TEACHER_SUMMARIES)
    assert list(table) == [*schema.REVIEW_COLUMNS, TEACHER_SUMMARY]
    assert (table[TEACHER_SUMMARY] == table["reviews"].map(summary_of)).all()
    assert set(table["user_id"]) <= {f"U{k}" for k in range(8)}
    row = next(
        row for row in schema.read(done, artifacts.REASONER_ROWS) if "item: Album L\n" in row["messages"][0]["content"]
    )
    assert row["messages"][1]["content"] == REASON
    texts = [summary_of(text) for text in reviews[reviews["item_id"] == "I11"]["reviews"]]
    expected = published.as_history(LoggedPrompt("Album L", (), tuple(("Album L", text) for text in texts[:5]), ()), 10)
    shown = prompts.reasoner("Album", "Album L", expected).text.rpartition("oldest first:\n")[2]
    assert row["messages"][0]["content"].endswith(shown) and row["optional"]


def test_no_text_of_valid_or_test_is_learned(done, reviews):
    held_out = reviews[reviews["user_id"].isin(["U8", "U9"])]["reviews"].map(summary_of)
    learned = json.dumps(schema.read(done, artifacts.REASONER_ROWS))
    assert not any(json.dumps(text)[1:-1] in learned for text in held_out)
    assert "Album" in learned


def test_titles_are_set_aside_whole_and_from_both_kinds_of_text(done):
    table, aside = (schema.read(done, one) for one in (artifacts.TEACHER_SUMMARIES, artifacts.SUMMARIES_SET_ASIDE))
    assert len(table) and len(aside) and not set(table["title"]) & set(aside["title"])
    targets = [
        {re.search("New item: (.*)", row["messages"][0]["content"])[1] for row in schema.read(done, one)}
        for one in (artifacts.REASONER_ROWS, artifacts.REASONS_SET_ASIDE)
    ]
    assert not targets[0] & targets[1] and not targets[0] & set(aside["title"])
    assert all(published.is_set_aside(title, 0.5, 42) for title in aside["title"])


def test_the_record_says_what_the_texts_are(done, place):
    made_from = json.loads((done / "train_aspect_preference_summary.pkl.json").read_text())["made_from"]
    assert made_from["settings"]["texts"] == published.ORIGIN == "published outputs of the 8B experts, third party"
    assert made_from["settings"]["form"] == "log tables"
    assert {"a.table.json", "b.table.json.gz"} <= set(made_from["inputs"])
    again = imported(place, "--tables", place / "logs")
    assert again.stdout.startswith("complete: ")


def test_texts_in_order_give_the_same_rows_as_the_tables_they_come_from(done, place):
    found, _ = published_files.read_tables(published_files.files_in(place / "logs"))
    splits = [schema.read(done, one) for one in (schema.TRAIN, schema.VALID, schema.TEST)]
    matched = published_matching.matched(published_matching.summaries_in(found), pd.concat(splits, ignore_index=True))
    names = {"user_id": "reviewerID", "item_id": "asin"}
    (place / "ordered").mkdir()
    files.write_json_lines(place / "ordered" / "summaries.jsonl.gz", matched.rename(columns=names).to_dict("records"))
    reasons = [
        {
            "title": prompt.title,
            "reasons": [{"text": text, "reward": reward} for text, reward in prompt.reasons],
            **{
                f"{side}_history": [{"title": title, "summary": text} for title, text in getattr(prompt, side)]
                for side in ("user", "item")
            },
        }
        for prompt in found
    ]
    files.write_json_lines(place / "ordered" / "reasons.jsonl.gz", reasons)
    other = place / "other" / "Logs_data"
    for name in ("dataset.json", *(one.path for one in (schema.TRAIN, schema.VALID, schema.TEST))):
        files.write_bytes(other / name, (done / name).read_bytes())
    ended = imported(place, "--tables", place / "ordered", name="other")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "texts in order" in ended.stdout
    for one in (artifacts.TEACHER_SUMMARIES, artifacts.REASONER_ROWS, artifacts.SUMMARIES_SET_ASIDE):
        assert (other / one.path).read_bytes() == (done / one.path).read_bytes()


def test_raw_reviews_that_the_splits_lack_take_their_own_summaries(done, place, reviews, tmp_path):
    """A summary of a review that the filter took out must not fall to another review of its item."""
    gone = reviews[(reviews["user_id"] == "U0")]
    data = tmp_path / "data" / "Logs_data"
    for one in (schema.VALID, schema.TEST):
        files.write_bytes(data / one.path, (done / one.path).read_bytes())
    files.write_bytes(data / "dataset.json", (done / "dataset.json").read_bytes())
    train = schema.read(done, schema.TRAIN)
    files.write_pickle(data / schema.TRAIN.path, train[~train["user_id"].isin(gone["user_id"])].reset_index(drop=True))
    raw = reviews.rename(
        columns={"user_id": "reviewerID", "item_id": "asin", "ratings": "overall", "reviews": "reviewText"}
    )
    files.write_json_lines(tmp_path / "reviews.json.gz", raw.drop(columns="title").to_dict("records"))
    items = reviews[["item_id", "title"]].drop_duplicates().rename(columns={"item_id": "asin"})
    files.write_json_lines(tmp_path / "items.json.gz", items.to_dict("records"))
    raw_files = ("--reviews", tmp_path / "reviews.json.gz", "--metadata", tmp_path / "items.json.gz")
    words = ("--tables", place / "logs", *raw_files)
    ended = run_script(SCRIPT, "--dataset", "Logs_data", "--data_root", tmp_path / "data", "--set_aside", 0.3, *words)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert re.search(r"not in train (\d+)", ended.stdout)[1] != "0"
    table = schema.read(data, artifacts.TEACHER_SUMMARIES)
    assert (table[TEACHER_SUMMARY] == table["reviews"].map(summary_of)).all()


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "not a table as JSON"),
        ("[]", "not a log table"),
        (json.dumps(table_of([], ("step", "prompt"))), "no column completion"),
        (json.dumps(table_of([], ("prompt", "completion"))), "0 columns of rewards"),
        (json.dumps(table_of([["a", "b"]], ("prompt", "completion", "reward"))), "row 0"),
        (json.dumps(table_of([["a", "b", "c"]], ("prompt", "completion", "reward"))), "row 0"),
        (json.dumps(table_of([["a", "b", 1.0]], ("prompt", "completion", "reward"))), "none of 1 prompts"),
        (json.dumps(table_of(draws(as_text("T", [("Nowhere", "x")], [])))), "'Nowhere'"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_in_one_line(done, place, tmp_path, content, said):
    (tmp_path / "x.table.json").write_text(content)
    message = complaint(imported(place, "--tables", tmp_path, "--overwrite"))
    assert said in message and str(tmp_path) in message or "'Nowhere'" in message
    assert len(message) < 300


def test_folders_and_shares_that_cannot_be_used_are_told(done, place, tmp_path):
    before = (done / artifacts.TEACHER_SUMMARIES.path).read_bytes()
    assert "--tables FOLDER is missing" in complaint(imported(place))
    assert "no such folder" in complaint(imported(place, "--tables", tmp_path / "none"))
    assert "no log table there" in complaint(imported(place, "--tables", tmp_path))
    assert "--set_aside 1.5" in complaint(imported(place, "--tables", place / "logs", "--set_aside", 1.5))
    assert "would be empty" in complaint(imported(place, "--tables", place / "logs", "--set_aside", 1e-9))
    raw = tmp_path / "raw.json"
    assert "with --reviews only" in complaint(imported(place, "--tables", place / "logs", "--metadata", raw))
    assert (done / artifacts.TEACHER_SUMMARIES.path).read_bytes() == before


SUMMARY_LINE = {
    "asin": "I",
    "reviewerID": "U",
    "unixReviewTime": 1,
    "review_summary": "x",
    "similarity": 0.5,
    "second": 0.0,
}
REASON_LINE = {"title": "T", "user_history": [], "item_history": [], "reasons": []}


@pytest.mark.parametrize(
    "summary, reason, said",
    [
        ({"similarity": 0.1}, {}, "none of its 1 summaries"),
        ({"similarity": None}, {}, "line 1: the summary is a text"),
        ({}, {"reasons": ["x"]}, "line 1: a history is"),
        ({}, {"item_history": [{}]}, "line 1: a history is"),
    ],
)
def test_texts_in_order_that_cannot_be_used_are_told_in_one_line(tmp_path, summary, reason, said):
    files.write_json_lines(tmp_path / published_files.SUMMARIES, [SUMMARY_LINE | summary])
    files.write_json_lines(tmp_path / published_files.REASONS, [REASON_LINE | reason])
    with pytest.raises(InputError, match=said):
        published_files.read_ordered(published_files.files_in(tmp_path))


# The texts that were published


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    folder = SHARED / "amazon_digital_music_2014_cut"
    if not folder.is_dir() or not (SHARED / "digital_music_llm_texts").is_dir():
        pytest.skip("the shared data are not here")
    names = ("reviews_Digital_Music_5.json.gz", "meta_Digital_Music.json.gz")
    scratch = tmp_path_factory.mktemp("cut") / "scratch"
    splits = preprocess.preprocess(folder / names[0], folder / names[1], scratch, core=1)
    return pd.concat([splits.train, splits.valid, splits.test], ignore_index=True)


def test_the_sample_as_published_agrees_with_the_texts_in_order(cut):
    folder = SHARED / "digital_music_llm_texts"
    sample = published_files.Files((folder / "completions_sample.table.json.gz",), ())
    prompts_, counts = published_files.read_tables(sample)
    assert counts["logged_rows"] == 64 and counts["prompts"] == 4
    summaries, in_order = published_files.read_ordered(published_files.files_in(folder))
    known = {(prompt.title, prompt.user, prompt.item): prompt for prompt in in_order}
    assert sum((prompt.title, prompt.user, prompt.item) in known for prompt in prompts_) == 3
    matched = published_matching.matched(published_matching.summaries_in(prompts_), cut)
    both = matched.merge(summaries, on=TEACHER_SUMMARY)
    assert len(both) == 2
    assert (both["user_id_x"] == both["user_id_y"]).all() and (both["item_id_x"] == both["item_id_y"]).all()


def test_the_summaries_in_all_histories_find_the_reviews_that_the_order_has(cut):
    folder = SHARED / "digital_music_llm_texts"
    summaries, in_order = published_files.read_ordered(published_files.files_in(folder))
    matched = published_matching.matched(published_matching.summaries_in(in_order), cut)
    both = matched.merge(summaries, on=TEACHER_SUMMARY)
    assert len(both) > 1600
    assert (both["user_id_x"] == both["user_id_y"]).all() and (both["item_id_x"] == both["item_id_y"]).all()
