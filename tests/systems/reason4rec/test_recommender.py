"""The recommender: the numbers of the numbered scripts, new users and items, many at once, and what is not known."""

import json
import re
import runpy
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import served
from helpers import ROOT, files_in, put_toy_dataset

from reason4rec import Question, Recommender, Review
from reason4rec.data import schema
from reason4rec.data.history import Entry
from reason4rec.data.schema import PREDICTION, PROBABILITIES, TEST
from reason4rec.errors import InputError
from reason4rec.evaluation.metrics import median_rating
from reason4rec.llm.tokens import encode
from reason4rec.run import records
from reason4rec.systems.reason4rec import artifacts as a
from reason4rec.systems.reason4rec.asking import finished, questions
from reason4rec.systems.reason4rec.asking.known import Known
from reason4rec.systems.reason4rec.asking.shortlist import Shortlister
from reason4rec.systems.reason4rec.asking.spoken_of import as_data, spoken_of

ROWS = 12
SCRIPTS = ("2_Reasoner/7_generate_reason_for_test.py", "3_Predictor/3_generate_predict_for_test.py")
LOVED = [Review("Some album", 5, "A lovely melody and a great voice."), Review("Another", 2, "Dull rhythm.")]


def run(script, root, *flags):
    """Runs a numbered script in this process, as its command line would."""
    roots = ("--dataset", "Demo_data", "--data_root", root / "data", "--checkpoint_root", root / "checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, (*roots, *flags))])
        runpy.run_path(str(ROOT / script), run_name="__main__")


@pytest.fixture(scope="module")
def root(base, tmp_path_factory):
    """A root in which the last steps ran with other settings than the dataset's."""
    root = tmp_path_factory.mktemp("recommender")
    put_toy_dataset(root, summaries=True)
    for name, lm_head in (("Summarizer", False), ("Reasoner", False), ("Predictor", True)):
        served.put_adapter(root / "checkpoints" / "Demo_data" / name, base, lm_head, size=0.005)
    for script in SCRIPTS:
        more = ("--max_new_tokens", 24) if script == SCRIPTS[0] else ()
        run(script, root, "--device", "cpu", "--history_length", 3, "--limit", ROWS, *more)
    return root


@pytest.fixture(scope="module")
def recommender(root):
    # Long enough for no prompt of a toy adapter, whose rows are short: the tokens of a summary are in no record here.
    return load(root, max_new_tokens=24)


def load(root, **more):
    return Recommender.load(
        "Demo_data", data_root=root / "data", checkpoint_root=root / "checkpoints", device="cpu", **more
    )


@pytest.fixture(scope="module")
def predicted(root):
    return schema.read(root / "data" / "Demo_data", a.TEST_RATINGS)


def questions_of(rows):
    return [Question(row.user_id, row.item_id, before=row.unixReviewTime) for row in rows.itertuples()]


def refused(ask, *given, **more):
    with pytest.raises(InputError) as caught:
        ask(*given, **more)
    return str(caught.value)


@pytest.mark.parametrize("kept", [True, False], ids=["from kept replies", "computed anew"])
def test_answers_have_the_numbers_of_the_scripts(root, predicted, kept, tmp_path):
    recommender = load(root)
    if not kept:
        recommender.step.__dict__["cache"] = None
    answers = recommender.explain_all(questions_of(predicted))
    assert [answer.reason for answer in answers] == predicted[a.REASON].tolist()
    probabilities = predicted[list(PROBABILITIES)].to_numpy()
    assert np.array_equal([answer.probabilities for answer in answers], probabilities)
    assert [answer.rating for answer in answers] == predicted[PREDICTION].tolist()
    assert [answer.median for answer in answers] == median_rating(probabilities).tolist()
    assert [answer.title for answer in answers] == predicted["title"].tolist()


def test_a_run_with_another_reasoner_was_asked_with_the_first_one(root, tmp_path):
    root = shutil.copytree(root, tmp_path / "root")
    path = records.record_path(root / "data" / "Demo_data" / a.TEST_REASONS.path)
    record = json.loads(path.read_text())
    record["made_from"]["settings"]["reasoner"] = "Reasoner_rl"
    path.write_text(json.dumps(record))
    assert "Reasoner_rl is missing" in refused(load, root)
    adapters = root / "checkpoints" / "Demo_data"
    shutil.copytree(adapters / "Reasoner", adapters / "Reasoner_rl")
    assert finished.reasoner_of(load(root).step) == "Reasoner_rl"


@pytest.fixture(scope="module")
def forgetful(root):
    """A recommender that keeps no reply, so that each answer is computed."""
    recommender = load(root, max_new_tokens=24)
    recommender.step.__dict__["cache"] = None
    return recommender


def test_one_question_gets_what_it_gets_among_many(forgetful, predicted):
    together = forgetful.explain_all(questions_of(predicted))
    assert [forgetful.explain_all([one])[0] for one in questions_of(predicted)] == together


def test_the_settings_are_those_of_the_run_and_not_those_of_the_dataset(recommender, predicted):
    answers = recommender.explain_all(questions_of(predicted))
    assert recommender.past.length == 3
    assert max(len(answer.user_history) for answer in answers) == 3
    assert max(answer.user_count for answer in answers) > 3


def test_many_threads_each_get_their_own_answer(forgetful, predicted):
    alone = forgetful.explain_all(questions_of(predicted))
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(forgetful.explain_all, [one]) for one in questions_of(predicted) * 2]
        assert [one.result()[0] for one in asked] == alone * 2


def test_an_id_that_is_not_known_is_told_with_the_nearest_ones(recommender):
    user, item = next(iter(recommender.known.users)), next(iter(recommender.known.items))
    typo = user[:-1] + ("0" if user[-1] != "0" else "1")
    assert user in refused(recommender.explain, typo, item)
    assert item in refused(recommender.explain, user, item.lower() + "x")
    assert "ids are like" in refused(recommender.explain, "?", item)
    assert recommender.explain(f" {user}\n", item).user_id == user


def test_a_new_user_and_a_new_item_are_summarised_on_the_spot(recommender):
    answer = recommender.explain(user_reviews=LOVED, title="New album", item_reviews=[{"rating": 4, "text": "Fine."}])
    assert (answer.user_id, answer.item_id, answer.title) == (None, None, "New album")
    assert (answer.user_count, answer.user_average, answer.item_count, answer.item_average) == (2, 3.5, 1, 4.0)
    assert [(entry.title, entry.rating) for entry in answer.user_history] == [("Some album", 5.0), ("Another", 2.0)]
    assert [entry.title for entry in answer.item_history] == ["New album"]
    assert all(entry.text for entry in (*answer.user_history, *answer.item_history))
    assert abs(sum(answer.probabilities) - 1) < 1e-6


def test_a_new_user_is_shown_to_the_experts_as_a_known_one_with_the_same_history(recommender, predicted, monkeypatch):
    row = next(row for row in predicted.itertuples() if recommender.known.users[row.user_id] >= 2)
    known = recommender.explain(row.user_id, row.item_id)
    train = recommender.step.read(a.SUMMARIES)
    of_user = train[train["user_id"] == row.user_id].sort_values("unixReviewTime", kind="stable")
    reviews = [Review(r.title, r.ratings, r.reviews, r.unixReviewTime) for r in of_user.itertuples()]
    summaries = of_user[a.SUMMARY].tolist()
    monkeypatch.setattr(
        recommender.experts,
        "entries",
        lambda given: [
            Entry(one.title, one.rating, summaries[[r.time for r in reviews].index(one.time)]) for one in given
        ],
    )
    new = recommender.explain(user_reviews=reviews, item_id=row.item_id)
    assert (new.user_history, new.user_average, new.user_count) == (
        known.user_history,
        known.user_average,
        known.user_count,
    )


def test_a_second_question_about_the_same_user_writes_no_new_summary(recommender, monkeypatch):
    item, other = list(recommender.known.items)[:2]
    recommender.explain(user_reviews=LOVED, item_id=item)
    load_model, asked = recommender.experts.model, []
    monkeypatch.setattr(recommender.experts, "model", lambda name, *more: asked.append(name) or load_model(name, *more))
    recommender.explain(user_reviews=LOVED, item_id=other)
    recommender.explain(next(iter(recommender.known.users)), other)
    assert asked
    assert "Summarizer" not in asked


def test_texts_that_are_given_with_a_question_leave_nothing_on_disk(root, recommender):
    item = next(iter(recommender.known.items))
    before = files_in(root)
    recommender.explain(user_reviews=[Review("A title", 1, "A text that nobody has given before.")], item_id=item)
    assert files_in(root) == before


def test_summaries_of_given_reviews_do_not_fill_the_memory(recommender, monkeypatch):
    from reason4rec.systems.reason4rec.asking import loaded

    monkeypatch.setattr(loaded, "KEPT_SUMMARIES", 2)
    reviews = [Review("A title", 1, f"Text {n}.") for n in range(3)]
    assert len(recommender.experts.entries(reviews)) == 3
    assert len(recommender.experts._summaries) == 2


def test_summaries_of_new_users_were_written_one_user_at_a_time(recommender, monkeypatch):
    item = next(iter(recommender.known.items))
    summarizer, calls = recommender.experts.model("Summarizer"), []

    class Counting:
        tokenizer, max_length, shortened = summarizer.tokenizer, summarizer.max_length, 0

        def generate(self, prompts, **more):
            calls.append(len(prompts))
            return ["Positive Aspects: a\nNegative Aspects: b\nUser Preference Elements: c"] * len(prompts)

    model = recommender.experts.model
    monkeypatch.setattr(
        recommender.experts,
        "model",
        lambda name, *more, **named: Counting() if name == "Summarizer" else model(name, *more, **named),
    )
    asked = [Question(user_reviews=[Review("t", 3, f"Review {n}.")], item_id=item) for n in range(4)]
    assert [len(answer.user_history) for answer in recommender.explain_all(asked)] == [1] * 4
    assert calls == [4]


def test_nothing_of_a_given_review_but_its_summary_stays_in_memory(recommender):
    recommender.experts.entries([Review("A title to forget", 3, "A text to forget.")])
    assert "to forget" not in str(recommender.experts._summaries.keys())


def test_reviews_are_put_in_the_order_of_their_times(recommender):
    item = next(iter(recommender.known.items))
    late, early = Review("Late", 1, "Bad.", time=9), {"title": "Early", "rating": 5, "text": "Good.", "time": 3}
    answer = recommender.explain(user_reviews=[late, early], item_id=item)
    assert [entry.title for entry in answer.user_history] == ["Early", "Late"]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"item_id": "ITEM"}, "id of a known user"),
        ({"user_id": "USER"}, "title of a new one"),
        ({"user_id": "USER", "item_id": "ITEM", "title": "x"}, "title of a new one"),
        ({"user_id": "USER", "user_reviews": [], "item_id": "ITEM"}, "id of a known user"),
        ({"user_id": "USER", "item_id": "ITEM", "item_reviews": LOVED}, "item_reviews"),
        ({"user_id": "USER", "item_id": "ITEM", "before": "2014"}, "unix seconds"),
        ({"user_id": "USER", "item_id": "ITEM", "befor": 3}, "befor"),
        ({"user_id": 7, "item_id": "ITEM"}, "user 7"),
        ({"user_reviews": "a text", "item_id": "ITEM"}, "expected a list"),
        ({"user_reviews": [{"title": "t", "rating": 6, "text": "x"}], "item_id": "ITEM"}, "review 1: rating 6.0"),
        ({"user_reviews": [{"title": "t", "rating": "nan", "text": "x"}], "item_id": "ITEM"}, "rating nan"),
        ({"user_reviews": [{"title": "t", "rating": 3}], "item_id": "ITEM"}, "review 1: text"),
        ({"user_reviews": [{"title": "t", "rating": 3, "text": " "}], "item_id": "ITEM"}, "text is empty"),
        ({"user_reviews": [{"title": " ", "rating": 3, "text": "x"}], "item_id": "ITEM"}, "title is empty"),
        ({"user_reviews": [{"title": "t", "rating": 3, "text": "x", "stars": 1}], "item_id": "ITEM"}, "stars"),
        ({"user_reviews": [3], "item_id": "ITEM"}, "review 1"),
        ({"user_id": "USER", "title": " "}, "title is empty"),
        ({"user_reviews": [Review("t", 3, "x", item_id="nix")], "item_id": "ITEM"}, "review 1: item_id: no item"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_in_one_line(recommender, question, said):
    stand_for = {"USER": next(iter(recommender.known.users)), "ITEM": next(iter(recommender.known.items))}
    question = {
        name: stand_for.get(value, value) if isinstance(value, str) else value for name, value in question.items()
    }
    message = refused(recommender.explain, **question)
    assert said in message
    assert "\n" not in message


def test_a_user_of_whom_nothing_is_known_is_answered_with_a_note(recommender):
    item = next(iter(recommender.known.items))
    answer = recommender.explain(user_reviews=[], item_id=item)
    assert (answer.user_history, answer.user_average, answer.user_count) == ((), None, 0)
    assert any("this user" in note for note in answer.notes)


def test_numbers_of_a_table_were_refused_because_they_are_numpys(recommender, predicted):
    row = predicted.iloc[0]
    asked = recommender.explain(row["user_id"], row["item_id"], before=row["unixReviewTime"])
    assert asked == recommender.explain_all(questions_of(predicted))[0]
    given = {"title": "t", "rating": np.int64(4), "text": "Fine.", "time": np.int64(7)}
    assert recommender.explain(user_reviews=[given], item_id=row["item_id"]).user_average == 4.0


def test_a_ranking_is_sorted_and_holds_each_item_once(recommender, predicted):
    items = list(recommender.known.items)[:5]
    ranked = recommender.rank(predicted["user_id"][0], [*items, items[0]])
    assert sorted(answer.item_id for answer in ranked) == sorted(items)
    ratings = [answer.rating for answer in ranked]
    assert ratings == sorted(ratings, reverse=True)
    assert "at least one" in refused(recommender.rank, predicted["user_id"][0], [])
    assert "at least one" in refused(recommender.rank, predicted["user_id"][0], items[0])


def test_what_is_recommended_is_new_to_the_user_and_says_who_chose(recommender):
    train = recommender.step.read(a.SUMMARIES)
    user = train["user_id"].value_counts().index[-1]
    had = set(train.loc[train["user_id"] == user, "item_id"])
    answers = recommender.recommend(user, k=2, shortlist=3)
    assert len(answers) == 2
    assert not had & {answer.item_id for answer in answers}
    assert all("truncated SVD" in answer.notes[-1] for answer in answers)
    best = recommender.rank(user, [answer.item_id for answer in recommender.recommend(user, k=3, shortlist=3)])
    assert [one.item_id for one in answers] == [one.item_id for one in best[:2]]
    assert "k 4" in refused(recommender.recommend, user, k=4, shortlist=3)


def test_an_item_that_was_reviewed_in_the_test_rows_was_recommended(recommender):
    test = recommender.step.read(TEST)
    user = test["user_id"][0]
    had = set(test.loc[test["user_id"] == user, "item_id"])
    assert had
    assert not had & {answer.item_id for answer in recommender.recommend(user, k=12, shortlist=12)}


def test_the_users_own_review_of_the_item_is_told(recommender):
    train = recommender.step.read(a.SUMMARIES)
    row = train.iloc[len(train) // 2]
    pair = {"user_id": row["user_id"], "item_id": row["item_id"]}
    told = "the user's own review of this item is among those that were read"
    assert told in recommender.explain(**pair).notes
    assert told not in recommender.explain(**pair, before=int(train["unixReviewTime"].min())).notes


def test_reviews_that_did_not_fit_were_listed_as_read(recommender, monkeypatch):
    user, item = next(iter(recommender.known.users)), next(iter(recommender.known.items))
    whole = recommender.explain(user, item)
    assert not any("did not" in note or "not all" in note for note in whole.notes)
    reasoner = recommender.experts.model("Reasoner")
    prompt = recommender.step.reason_prompts(
        {"title": [whole.title]}, [recommender.past.histories([Question(user, item)], list)[0]]
    )
    monkeypatch.setattr(reasoner, "max_length", len(encode(reasoner.tokenizer, prompt[0], 4096)[0]) + 24 - 5)
    assert any("not all that is shown" in note for note in recommender.explain(user, item).notes)


def test_an_unusable_rating_is_last_and_no_number_in_json(recommender, monkeypatch):
    items = list(recommender.known.items)[:3]
    predict = recommender.experts.predict

    def unusable(titles, histories, private):
        probabilities, *more = predict(titles, histories, private)
        probabilities[1] = np.nan
        return probabilities, *more

    monkeypatch.setattr(recommender.experts, "predict", unusable)
    ranked = recommender.rank(next(iter(recommender.known.users)), items)
    assert ranked[-1].item_id == items[1]
    assert as_data(ranked[-1])["rating"] is None
    assert as_data(ranked[-1])["probabilities"] == [None] * 5


def test_a_new_user_is_not_recommended_what_their_reviews_are_about(recommender):
    item, *others = recommender.known.items
    reviews = [Review(recommender.known.titles[item], 5, "Good."), Review("?", 5, "Good.", item_id=others[0])]
    answers = recommender.recommend(user_reviews=reviews, k=12, shortlist=12)
    assert not {item, others[0]} & {answer.item_id for answer in answers}


def test_the_shortlist_prefers_what_like_minded_users_like():
    import pandas as pd

    rows = [(f"a{n}", item, 5.0 if item in "xy" else 1.0) for n in range(8) for item in "xyz"]
    rows += [(f"b{n}", item, 1.0 if item in "xy" else 5.0) for n in range(8) for item in "xyz"]
    train = pd.DataFrame(rows, columns=["user_id", "item_id", "ratings"]).assign(unixReviewTime=0)
    shortlister = Shortlister(train, seed=0)
    assert shortlister.best({"x": 5.0}, {"x"}, 1) == ["y"]
    assert shortlister.best({"x": 1.0}, {"x"}, 1) == ["z"]
    assert shortlister.best({}, set(), 9) == shortlister.best({}, set(), 3)


def test_a_run_that_is_not_there_or_an_option_that_is_not_known_is_told(root, tmp_path):
    assert "Summarizer/4" in refused(load, tmp_path) or "missing" in refused(load, tmp_path)
    assert "did you mean --device" in refused(Recommender.load, "Demo_data", devise="cpu")
    assert "history_length" in refused(load, root, history_length="many")


def test_an_adapter_that_is_missing_is_told_before_anything_is_asked(root, tmp_path):
    message = refused(Recommender.load, "Demo_data", data_root=root / "data", checkpoint_root=tmp_path)
    assert "Reasoner" in message
    assert "6_reasoner_train.sh" in message


def test_other_prompts_than_those_of_the_run_are_told(root, tmp_path):
    from reason4rec.systems.reason4rec.prompts import FOLDER

    for template in FOLDER.glob("*.txt"):
        (tmp_path / template.name).write_text(template.read_text() + "\n")
    assert "other prompt templates" in refused(load, root, prompts=tmp_path)


def test_keywords_are_marked_where_the_reason_names_them():
    text = (
        "Positive Aspects: great voices, melody, slow tempo\nNegative Aspects: None\nUser Preference Elements: melody."
    )
    entry = Entry("A", 5.0, text)
    (spans,) = spoken_of([entry], "The user loves a great voice; the melody is fine. None of this is slow.")
    assert [text[start:end] for start, end in spans] == ["great voices", "melody", "melody"]
    assert spoken_of([Entry("B", 1.0, "no summary at all, melody")], "melody") == [[]]


def test_an_answer_as_data_has_the_spans_in_its_entries(recommender):
    answer = recommender.explain(next(iter(recommender.known.users)), next(iter(recommender.known.items)))
    data = as_data(answer)
    assert data["rating"] == answer.rating
    for entry in data["item_history"]:
        for start, end in entry["spoken_of"]:
            assert re.fullmatch(r"[^,;\n]+", entry["text"][start:end])


def test_users_and_items_are_found_by_parts_of_what_they_are_called():
    titles = {"B1": "Blue Moon", "B2": "Blue Sun", "B3": "Red Moon"}
    known = Known(titles, {"Ann1": 3, "ANNA": 5, "Bob": 1}, {"B1": 2, "B2": 9, "B3": 0})
    assert [one["id"] for one in known.found_items("blue")] == ["B2", "B1"]
    assert [one["id"] for one in known.found_items("moon RED")] == ["B3"]
    assert [one["id"] for one in known.found_items("b2")] == ["B2"]
    assert [one["id"] for one in known.found_users("ann")] == ["ANNA", "Ann1"]
    assert len(known.found_items("", most=2)) == 2
    assert known.item_called(" blue moon ") == "B1"


def test_a_text_of_any_length_up_to_the_limit_is_taken(recommender, monkeypatch):
    monkeypatch.setattr(questions, "LONGEST_TEXT", 50)
    item = next(iter(recommender.known.items))
    assert "at most 50" in refused(recommender.explain, item_id=item, user_reviews=[Review("t", 3, "x" * 51)])
    monkeypatch.setattr(questions, "MOST_REVIEWS", 1)
    assert "at most the last 1" in refused(recommender.explain, item_id=item, user_reviews=LOVED)


def test_weights_are_loaded_once_by_threads_that_ask_at_the_same_time(root):
    recommender = load(root)
    count, lock, language_model = [], threading.Lock(), recommender.step.language_model

    def counting(name):
        with lock:
            count.append(name)
        return language_model(name)

    recommender.step.language_model = counting
    user, item = next(iter(recommender.known.users)), next(iter(recommender.known.items))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: recommender.explain(user, item), range(4)))
    assert sorted(count) == ["Predictor", "Reasoner"]
