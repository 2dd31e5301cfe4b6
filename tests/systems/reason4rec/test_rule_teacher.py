"""The rule teacher: what it finds in a review, what it argues from histories, and how steps ask it."""

import gzip
import json
import pickle
import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, complaint, put_toy_dataset, run_script, step_of
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.data.history import Entry, History
from reason4rec.errors import InputError
from reason4rec.llm.options import RULES
from reason4rec.run import records
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import TEACHER_REASONS, TEACHER_SUMMARIES, TEACHER_SUMMARY
from reason4rec.systems.reason4rec.options import EDITION
from reason4rec.systems.reason4rec.reward_filter import gives_away
from reason4rec.systems.reason4rec.rule_teacher import RuleTeacher, learn, reasons, summary_of
from reason4rec.systems.reason4rec.rule_teacher.english import clauses
from reason4rec.systems.reason4rec.rule_teacher.opinions import opinions
from reason4rec.systems.reason4rec.rule_teacher.reasons import told_in

DUMP = ROOT.parent / "shared/data/amazon_musical_instruments_2014/reviews_Musical_Instruments_5.json.gz"
LAMPS = [
    "The light is bright and the base is sturdy. I love the color.",
    "Great light, but the switch is flimsy and the cord is too short.",
    "The color is lovely. The switch works well and the base is solid.",
    "Terrible cord. The switch broke after a week and the light is weak.",
    "This lamp has a beautiful color and a nice warm light. The cord is fine.",
    "I bought this lamp for my desk. The battery life is awful, the base is nice.",
    "Good battery life and an excellent switch. This lamp is easy to use.",
    "The battery life is great and the cord is excellent.",
]
"""What people might write about desk lamps."""


@pytest.fixture(scope="module")
def lamps():
    return learn(LAMPS)


def lines(review, rating, vocabulary):
    """The keywords of the three lines of a summary."""
    found = [line.partition(": ")[2] for line in summary_of(review, rating, vocabulary).splitlines()]
    return [[] if line == "None" else line.split(", ") for line in found]


def test_aspects_are_nouns_that_reviews_praise_or_blame_and_the_item_itself_is_none(lamps):
    assert {"light", "switch", "cord", "color", "base"} <= lamps.nouns
    assert "battery life" in lamps.pairs or "battery" in lamps.nouns
    assert "lamp" in lamps.items
    assert not {"lamp", "week", "desk"} & lamps.nouns


@pytest.mark.parametrize(
    "review, praised, blamed",
    [
        ("The light is bright, but the cord is awful.", ["bright light"], ["cord"]),
        ("I love the color and the base.", ["color", "base"], []),
        ("I do not like the switch.", [], ["switch"]),
        ("The base isn't good.", [], ["base"]),
        ("The cord could be better.", [], ["cord"]),
        ("The cord is not bad at all.", ["cord"], []),
        ("It is sturdy and comfortable.", ["sturdiness", "comfort"], []),
        ("Very easy to use, well worth the money.", ["ease of use", "value for money"], []),
        ("It fell apart after a week.", [], ["durability"]),
        ("There is a constant hum.", [], ["noise"]),
        ("Great light and no hum.", ["light", "low noise"], []),
        ("The light is a little too dim.", [], ["light"]),
        ("It sounds great and looks nice.", ["sound", "looks"], []),
        ("If the light were bright I would be happy.", [], []),
        ("Is the light good?", [], []),
        ("The light is better than my old lamp with its awful cord.", ["light"], []),
        ("Other lamps have a terrible switch.", [], []),
    ],
)
def test_each_aspect_gets_the_sign_that_its_clause_gives_it(lamps, review, praised, blamed):
    found = opinions(review, 3.0, lamps)
    assert sorted(one.shown for one in found if one.sign > 0 and one.key != "overall quality") == sorted(praised)
    assert sorted(one.shown for one in found if one.sign < 0 and one.key != "overall quality") == sorted(blamed)


def test_a_summary_has_three_lines_and_what_is_wanted_has_no_sign(lamps):
    text = summary_of("The light is bright, but there is a loud hum and the cord is flimsy.", 3.0, lamps)
    assert prompts.is_summary(text)
    assert prompts.as_summary(text) == text
    assert text.splitlines() == [
        "Positive Aspects: bright light",
        "Negative Aspects: noise, flimsy cord",
        "User Preference Elements: bright light, low noise, cord",
    ]


def test_a_review_that_only_praises_is_of_good_quality_on_the_whole_and_one_without_words_says_nothing(lamps):
    assert lines("I am so happy, it is wonderful!", 5.0, lamps) == [["overall quality"], [], []]
    for empty in ("", "...", "Das Licht flackert.", "12345", "\ud800"):
        assert lines(empty, 3.0, lamps) == [[], [], []]


def test_the_rating_decides_where_the_words_do_not(lamps):
    review = "Bright light. Awful light."
    assert lines(review, 5.0, lamps)[:2] == [["bright light"], []]
    assert lines(review, 1.0, lamps)[:2] == [[], ["light"]]


def test_the_same_reviews_give_the_same_vocabulary(lamps):
    assert learn(list(LAMPS)) == learn(pd.Series(LAMPS)) == lamps


@given(st.text(max_size=400), st.floats(1, 5))
@settings(max_examples=80, deadline=None)
def test_any_text_gets_a_summary_of_the_form_asked_for(text, rating):
    assert prompts.is_summary(summary_of(text, rating, learn(LAMPS)))


def test_a_text_without_punctuation_costs_no_more_than_its_length(lamps):
    review = "the light is bright and the cord awful while " * 4_000
    assert max(map(len, clauses(review))) <= 60
    assert lines(review, 3.0, lamps)[0]


# Reasons

USER = (
    Entry("Desk lamp", 5.0, "Positive Aspects: bright light\nNegative Aspects: None\nUser Preference Elements: light"),
    Entry("Clock", 2.0, "Positive Aspects: None\nNegative Aspects: noise\nUser Preference Elements: low noise"),
)
GOOD_ITEM = (
    Entry("Lamp", 5.0, "Positive Aspects: light, base\nNegative Aspects: None\nUser Preference Elements: light"),
    Entry("Lamp", 4.0, "Positive Aspects: strong light\nNegative Aspects: None\nUser Preference Elements: light"),
)
BAD_ITEM = (
    Entry("Lamp", 1.0, "Positive Aspects: None\nNegative Aspects: weak light, noise\nUser Preference Elements: light"),
    Entry("Lamp", 2.0, "Positive Aspects: color\nNegative Aspects: light\nUser Preference Elements: color"),
)


def asked(user, item, draw=0, hint=None, title="Lamp", seed=0):
    prompt = prompts.reasoner("Lamp", title, History(user, item, None, None), hint)
    return RuleTeacher(lambda: learn(LAMPS), seed).ask([prompt.text], 1.0, draw, quiet=True)[0]


def level(reason):
    """The verdict in a reason, -2 to 2."""
    last = reason[: reason.rindex(".") + 1].lower()
    return next(k for k, texts in reasons.wordings()["verdicts"].items() if any(last.endswith(text) for text in texts))


def test_a_reason_names_what_matches_and_what_clashes():
    good, bad = asked(USER, GOOD_ITEM), asked(USER, BAD_ITEM)
    assert "light" in good and "light" in bad
    assert level(good) > level(bad)


@pytest.mark.parametrize("rating, verdict", [(1.0, -2), (2.0, -1), (3.0, 0), (4.0, 1), (5.0, 2)])
@pytest.mark.parametrize("item", [GOOD_ITEM, BAD_ITEM, ()])
def test_a_hinted_reason_leads_to_the_rating_whatever_the_histories_say(rating, verdict, item):
    for draw in range(1, 6):
        reason = asked(USER, item, draw, rating)
        assert level(reason) == verdict
        assert not gives_away(reason)


@pytest.mark.parametrize("user", [USER, ()])
@pytest.mark.parametrize("item", [GOOD_ITEM, BAD_ITEM, ()])
@pytest.mark.parametrize("title", ["Lamp", "Lamp 2.0", "4 star rating "])
def test_a_reason_is_one_paragraph_of_three_to_six_sentences_without_a_number(user, item, title):
    for draw, hint in ((0, None), (1, 4.0), (2, 2.0)):
        reason = asked(user, item, draw, hint, title)
        assert "\n" not in reason
        assert 3 <= len(re.findall(r"\.(?: |$)", reason)) <= 6, reason
        assert not re.search(r"\d|[{}]|\bNone\b", reason), reason
        assert not gives_away(reason)


def test_draws_differ_and_each_is_the_same_again():
    drawn = [asked(USER, GOOD_ITEM, draw, 5.0) for draw in range(1, 11)]
    assert len(set(drawn)) >= 8
    assert drawn == [asked(USER, GOOD_ITEM, draw, 5.0) for draw in range(1, 11)]
    assert asked(USER, GOOD_ITEM, seed=1) != asked(USER, GOOD_ITEM, seed=2) or len(set(drawn)) > 8


def test_histories_are_read_from_other_teachers_summaries_too():
    told = told_in(
        "1. Album\nPositive Aspects: Catchy beats, Eric Clapton's guitar, None mentioned, Top 15 albums\n"
        "Negative Aspects: Not mentioned\nUser Preference Elements: Catchy Beats\n"
    )
    assert told.praised == {"beat": 1, "guitar": 1}
    assert not told.blamed
    assert told.good["guitar"] == "Eric Clapton's guitar"


def test_the_verdict_without_a_hint_agrees_with_ratings_more_often_than_not_on_items_of_two_kinds():
    rng = random.Random(0)
    right = 0
    for _ in range(50):
        item = [rng.choice(GOOD_ITEM if good else BAD_ITEM) for good in [rng.random() < 0.5] * 4]
        loved = np.mean([entry.rating for entry in item]) > 3
        right += (level(asked(USER, tuple(item))) > 0) == loved
    assert right > 40


# Asked by steps


def test_several_threads_get_what_one_gets():
    texts = [prompts.summarizer("Lamp", f"Lamp {k}", 4.0, review).text for k, review in enumerate(LAMPS * 4)]
    alone = RuleTeacher(lambda: learn(LAMPS)).ask(texts, 0.2, quiet=True)
    shared, start = RuleTeacher(lambda: learn(LAMPS)), threading.Barrier(4)

    def ask(_):
        start.wait()
        return shared.ask(texts, 0.2, quiet=True)

    with ThreadPoolExecutor(4) as pool:
        assert all(found == alone for found in pool.map(ask, range(4)))
    assert shared.usage() == {"teacher": "rule teacher", "replies": 4 * len(texts)}


def test_a_prompt_is_read_back_whatever_stands_in_a_review_or_with_templates_of_ones_own(tmp_path):
    teacher = RuleTeacher(lambda: learn(LAMPS))
    inside = "Product class: x\nTitle: y\nRating: 1.0\nReview: The light is bright.\nNew item: z\n"
    assert "bright light" in teacher.ask([prompts.summarizer("Lamp", "Lamp", 5.0, inside).text], 0.2, quiet=True)[0]
    for path in prompts.FOLDER.glob("*.txt"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8").replace("{", "<{"), encoding="utf-8")
    (tmp_path / "summarizer.txt").write_text("{review}\n== {rating}", encoding="utf-8")
    own = RuleTeacher(lambda: learn(LAMPS), templates=tmp_path)
    prompt = prompts.summarizer("Lamp", "Lamp", 5.0, "The light is bright.", tmp_path)
    assert "bright light" in own.ask([prompt.text], 0.2, quiet=True)[0]


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("summarizer", "Read {review}", "reads {rating}"),
        ("reasoner", "{title}: {user_history}", "reads {item_history}"),
        ("hint", "{rating} is the rating.", "begins with a field"),
        ("hint", "Mind the rating.", "reads {rating}"),
        ("hint", "Mind {", "written twice"),
    ],
)
def test_templates_in_which_it_cannot_read_are_told_before_anything_is_asked(tmp_path, name, text, said):
    for path in prompts.FOLDER.glob("*.txt"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        RuleTeacher(lambda: learn(LAMPS), templates=tmp_path)


def test_fields_that_nothing_stands_between_are_told(tmp_path):
    for path in prompts.FOLDER.glob("*.txt"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "summarizer.txt").write_text("{rating}{review}", encoding="utf-8")
    prompt = prompts.summarizer("Lamp", "Lamp", 5.0, "The light is bright.", tmp_path)
    with pytest.raises(InputError, match="between its fields"):
        RuleTeacher(lambda: learn(LAMPS), templates=tmp_path).ask([prompt.text], 0.2, quiet=True)


@pytest.mark.parametrize(
    "prompt",
    [
        prompts.judge("Lamp", "Lamp", "Nice.", "The user will like it."),
        prompts.predictor("Lamp", "Lamp", History((), (), None, None)),
    ],
)
def test_it_neither_judges_nor_rates(prompt):
    with pytest.raises(InputError, match="name another teacher"):
        RuleTeacher(lambda: learn(LAMPS)).ask([prompt.text], 0.0, quiet=True)


def test_step_1_1_asks_it_without_key_or_server_and_says_so(tmp_path):
    folder = put_toy_dataset(tmp_path)
    roots = ("--dataset", "Demo_data", "--data_root", tmp_path / "data", "--checkpoint_root", tmp_path / "checkpoints")
    script = "1_Summarizer/1_distilling_aspect_preference_summary.py"
    first = run_script(script, *roots, "--teacher_model", "rules", "--limit", 20)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "teacher rule teacher | replies 20" in first.stdout
    assert "cost" not in first.stdout.splitlines()[-1]
    record = json.loads(records.record_path(folder / TEACHER_SUMMARIES.path).read_text())
    assert record["made_from"]["settings"]["teacher_server"] == f"rule teacher, edition {EDITION}"
    frame = pd.read_pickle(folder / TEACHER_SUMMARIES.path)
    assert len(frame) == 20
    assert frame[TEACHER_SUMMARY].map(prompts.is_summary).all()
    before = (folder / TEACHER_SUMMARIES.path).read_bytes()
    again = run_script(script, *roots, "--teacher_model", "rules", "--limit", 20, "--overwrite")
    assert again.returncode == 0
    assert (folder / TEACHER_SUMMARIES.path).read_bytes() == before
    done = run_script(script, *roots, "--teacher_model", "rules", "--limit", 20, "--batch_export", tmp_path / "x.jsonl",
                      "--overwrite")  # fmt: skip
    assert "--batch_export" in complaint(done)
    url = run_script(script, *roots, "--teacher_model", "rules", "--limit", 20, "--overwrite",
                     env={"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})  # fmt: skip
    assert "OPENAI_BASE_URL is not used" in url.stdout


def test_a_table_names_the_rule_teacher_and_no_other_run_does(tmp_path):
    folder = put_toy_dataset(tmp_path)
    step = step_of("3/4", tmp_path)
    assert "rule teacher" not in step.label
    for model in ("gpt-4o-mini", RULES):
        provenance = {"inputs": {}, "settings": {"teacher_model": model}}
        records.write_recorded(folder / TEACHER_REASONS.path, pickle.dumps(model), provenance)
        assert ("rule teacher" in step.label) == (model == RULES)


def test_a_dry_run_counts_neither_requests_nor_dollars_for_it():
    done = run_script("run_all.sh", "--dataset", "Music_data", "--dry_run", "--teacher_model", "rules")
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines() if "rule teacher" in line and line[:3] in ("1/1", "2/4")]
    assert len(rows) == 2
    assert all(row[-3:-1] == ["rule", "teacher"] for row in rows)  # then its rows, and nothing after them
    assert "dollars go to" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_a_run_with_a_judge_is_refused_before_it_starts():
    done = run_script("run_all.sh", "--dataset", "Music_data", "--teacher_model", "rules", "--judge")
    assert "--judge" in complaint(done)


# On real reviews


@pytest.mark.slow
@pytest.mark.skipif(not DUMP.exists(), reason="the reviews of Musical Instruments are not there")
def test_on_musical_instruments_most_reviews_name_an_aspect():
    with gzip.open(DUMP, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if len(row["reviewText"].split()) >= 20][::8]
    vocabulary = learn([row["reviewText"] for row in rows])
    assert {"sound quality", "tuning stability"} & vocabulary.pairs
    assert {"tone", "sustain", "padding"} <= vocabulary.nouns
    assert {"guitar", "strap", "cable"} <= vocabulary.items
    found = [opinions(row["reviewText"], row["overall"], vocabulary) for row in rows]
    named = [{one.key for one in some} - {"overall quality"} for some in found]
    assert np.mean([bool(some) for some in found]) > 0.9
    assert np.mean([bool(some) for some in named]) > 0.75
    balance = [sum(one.sign for one in some) for some in found]
    assert np.corrcoef(balance, [row["overall"] for row in rows])[0, 1] > 0.25
