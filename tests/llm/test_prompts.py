"""Prompts: fields filled once, histories cut oldest first, and nothing told that a prompt must not tell."""

import re
import shutil

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.data import schema
from reason4rec.data.history import Entry, History
from reason4rec.errors import InputError
from reason4rec.llm.prompt import WORDS_PER_CUT, OnDemand, Prompt, TooLong, shorten, texts_of, training_row
from reason4rec.run import files
from reason4rec.systems.reason4rec import prompts

TRICKY = "a {title} {review} {0} {} {{x}} }{ %s \\1"
texts = st.text(alphabet="ab {}%$\\01.\n", max_size=30)
ratings = st.integers(1, 5).map(float)
sides = st.lists(st.builds(Entry, title=texts, rating=ratings, text=texts), max_size=4).map(tuple)
averages = st.none() | st.floats(1, 5)
histories = st.builds(
    History, user=sides, item=sides, user_average=averages, item_average=averages, user_count=st.just(0)
)


def numbered(user, item):
    """A history whose entries say which they are: U1 is the user's oldest."""
    return History(
        tuple(Entry(f"Title U{k}", 4.0, f"text U{k}") for k in range(1, user + 1)),
        tuple(Entry(f"Title I{k}", 2.0, f"text I{k}") for k in range(1, item + 1)),
        4.0,
        2.0,
    )


def every_form(product_class, title, history, text):
    return [
        prompts.summarizer(product_class, title, 4.0, text),
        prompts.reasoner(product_class, title, history),
        prompts.reasoner(product_class, title, history, hint=4.0),
        prompts.reasoner(product_class, title, history, hint=4.0, rated=True),
        prompts.predictor(product_class, title, history),
        prompts.predictor(product_class, title, history, text),
    ]


def instruction_of(prompt):
    return prompt.text.split("Product class:")[0]


@settings(max_examples=100, deadline=None)
@given(texts, texts, texts)
def test_braces_in_a_review_title_or_reason_stay_as_they_are(title, text, entry_text):
    title, text, entry_text = (f"{TRICKY}{value}" for value in (title, text, entry_text))
    history = History((Entry(title, 4.0, entry_text),), (), None, None)
    summarizer, *others = every_form("{review}", title, history, text)
    assert f"Product class: {{review}}\nTitle: {title}\nRating: 4.0\nReview: {text}" in summarizer.text
    for prompt in others:
        assert f"Product class: {{review}}\nNew item: {title}\n" in prompt.text
        assert f"{title}\n{entry_text}" in prompt.text or f"{title}, 4.0;\n{entry_text}" in prompt.text
    assert others[-1].text.endswith(text)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_the_entry_farthest_in_the_past_of_either_side_is_cut_first(user, item, rated):
    prompt = (prompts.predictor if rated else prompts.reasoner)("Album", "New", numbered(user, item))
    cut = [prompt.text[start:end] for start, end in prompt.optional]
    sides = [re.search(r"text ([UI])(\d)", text) for text in cut]
    behind = [{"U": user, "I": item}[side[1]] - int(side[2]) for side in sides]
    assert len(cut) == user + item
    assert behind == sorted(behind, reverse=True)


@settings(max_examples=100, deadline=None)
@given(histories, texts, texts, texts)
def test_a_cut_takes_whole_entries_and_never_instruction_title_or_averages(history, product_class, title, text):
    for prompt in every_form(product_class, title, history, text)[1:]:
        spans = sorted(prompt.optional)
        assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:]))
        left = prompt.without(len(spans))
        fixed, position = "", 0
        for start, end in spans:
            fixed, position = fixed + prompt.text[position:start], end
        assert left == fixed + prompt.text[position:]
        assert left.startswith(instruction_of(prompt))
        assert f"Product class: {product_class}\nNew item: {title}\n" in left
        if "Average rating given by the user" in prompt.text:
            assert prompt.text[prompt.text.rindex("Average rating given by the user") :] in left


def test_histories_lose_their_oldest_entries_line_by_line():
    prompt = prompts.reasoner("Album", "New", numbered(3, 1))
    assert "1. Title U1" not in prompt.without(1) and "2. Title U2\ntext U2\n3. Title U3" in prompt.without(1)
    assert "Title U2" not in prompt.without(2) and "\n3. Title U3\ntext U3\n\n" in prompt.without(2)
    left = prompt.without(4)
    assert "Title U" not in left and "Title I" not in left and "New item: New\n" in left


@settings(max_examples=150, deadline=None)
@given(histories, texts, st.integers(0, 900))
def test_shorten_cuts_no_more_than_it_must(history, text, longest):
    def fits(candidate):
        return len(candidate) <= longest

    for prompt in every_form("Album", "New", history, text):
        if not fits(prompt.without(len(prompt.optional))):
            with pytest.raises(ValueError, match="max_length"):
                shorten(prompt, fits)
            continue
        shortened, cut = shorten(prompt, fits)
        assert fits(shortened)
        assert shortened == prompt.without(cut)
        assert cut == 0 or not fits(prompt.without(cut - 1))


def test_a_prompt_that_fits_is_left_alone():
    prompt = prompts.predictor("Album", "New", numbered(10, 10), "A reason.")
    assert shorten(prompt, lambda text: True) == (prompt.text, 0)


def test_a_prompt_without_anything_to_cut_says_that_it_is_too_long():
    with pytest.raises(TooLong, match="too long even without its histories"):
        shorten(Prompt("an instruction"), lambda text: False)


@settings(max_examples=80, deadline=None)
@given(histories, texts, texts)
def test_the_direct_form_is_the_reasoned_form_without_the_section_of_the_reason(history, title, reason):
    direct = prompts.predictor("Album", title, history)
    reasoned = prompts.predictor("Album", title, history, reason)
    section = reasoned.text.removeprefix(direct.text)
    assert reasoned.text.startswith(direct.text)
    assert section == f"\n\nWhether the user will like the item:\n{reason}"
    assert reasoned.optional == direct.optional


def with_other_ratings(history):
    def changed(side):
        return tuple(Entry(e.title, 6 - e.rating, e.text) for e in side)

    return History(changed(history.user), changed(history.item), 1.5, 4.5)


@settings(max_examples=80, deadline=None)
@given(histories, texts)
def test_the_reasoner_is_told_no_rating(history, title):
    other = with_other_ratings(history)
    assert prompts.reasoner("Album", title, history) == prompts.reasoner("Album", title, other)
    hinted = prompts.reasoner("Album", title, history, hint=4.0)
    assert hinted == prompts.reasoner("Album", title, other, hint=4.0)


def test_ratings_stand_in_a_hinted_prompt_only_where_they_are_asked_for():
    plain = prompts.reasoner("Album", "New", numbered(1, 1), hint=5.0)
    rated = prompts.reasoner("Album", "New", numbered(1, 1), hint=5.0, rated=True)
    assert "1. Title U1\n" in plain.text and "1. Title I1\n" in plain.text
    assert "1. Title U1, 4.0;\n" in rated.text and "1. Title I1, 2.0;\n" in rated.text


@settings(max_examples=40, deadline=None)
@given(histories, ratings)
def test_the_true_rating_stands_in_the_prompt_only_as_a_hint(history, rating):
    plain = prompts.reasoner("Album", "New", history)
    hinted = prompts.reasoner("Album", "New", history, hint=rating)
    assert hinted.text.startswith(plain.text)
    hint = hinted.text.removeprefix(plain.text)
    assert f"{rating:.1f}" in hint and "hint" in hint
    assert "hint" not in plain.text
    assert hinted.optional == plain.optional


def test_the_predictor_reads_rated_histories_and_averages_with_one_decimal():
    history = History((Entry("Old", 4.0, "liked it"),), (Entry("New", 2.0, "too long"),), 3.96, 10 / 3)
    text = prompts.predictor("Album", "New", history).text
    assert "by the user, oldest first:\n1. Old, 4.0;\nliked it\n\n" in text
    assert "by other users, oldest first:\n1. New, 2.0;\ntoo long\n\n" in text
    assert text.endswith("given by the user: 4.0\nAverage rating received by the item: 3.3")


def test_an_empty_history_is_said_to_be_none():
    text = prompts.predictor("Album", "New", History((), (), None, None)).text
    assert text.count("oldest first:\n(none)\n") == 2


@pytest.mark.parametrize("rating, answer", [(4.0, "4.0"), (5, "5.0"), (1.0, "1.0")])
def test_the_answer_of_a_row_is_the_prefix_and_the_rating_with_one_decimal(rating, answer):
    assert prompts.rating_answer(rating) == f"Predicted Rating: {answer}"
    assert "Predicted Rating: X.X" in prompts.predictor("Album", "New", History((), (), None, None)).text


def test_the_prompts_of_many_targets_are_a_sequence_of_those_of_each():
    def prompt(title, review):
        return prompts.summarizer("Album", title, 4.0, review)

    titles, reviews = (
        [f"Record {k}" for k in range(5)],
        pd.Series([f"Fine {k}." for k in range(5)], index=[9, 3, 1, 0, 7]),
    )
    each = [prompt(*row) for row in zip(titles, reviews)]
    assert list(texts_of(each)) == [one.text for one in each]
    asked = OnDemand(prompt, titles, reviews)
    assert list(asked) == each
    assert (len(asked), asked[1], asked[-1], asked[1:3], asked[4:9]) == (5, each[1], each[4], each[1:3], each[4:])
    with pytest.raises(IndexError):
        asked[5]
    with pytest.raises(ValueError, match="different lengths"):
        OnDemand(prompt, titles, reviews[1:])


def test_an_error_in_making_a_prompt_is_not_the_end_of_the_prompts():
    with pytest.raises(IndexError):
        list(OnDemand([1, 2].__getitem__, [0, 1, 2, 1]))


def test_a_long_review_loses_its_end_and_nothing_else():
    words = [f"word{k}" for k in range(400)]
    prompt = prompts.summarizer("Album", "A title", 4.0, " ".join(words))
    before, _ = prompt.text.split("word0 ")
    shortened, cut = shorten(prompt, lambda text: len(text.split()) <= 300)
    kept = shortened.removeprefix(before).split()
    assert cut > 0 and shortened.startswith(before)
    assert kept == words[: len(kept)]
    assert len(shortened.split()) > 300 - WORDS_PER_CUT


@pytest.mark.parametrize("review", ["", "short", "x" * 512, " ".join(["word"] * 64)])
def test_a_review_without_a_place_to_cut_is_kept_whole(review):
    prompt = prompts.summarizer("Album", "A title", 4.0, review)
    assert prompt.optional == ()
    assert prompt.text.endswith(f"Review: {review}")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab \n", max_size=2000))
def test_the_cuts_of_a_review_lie_in_the_review_and_take_its_end_first(review):
    prompt = prompts.summarizer("Album", "A title", 4.0, review)
    start = len(prompt.text) - len(review)
    for n in range(len(prompt.optional) + 1):
        left = prompt.without(n)
        assert prompt.text.startswith(left) and len(left) >= start


@pytest.fixture
def own_templates(tmp_path):
    folder = tmp_path / "templates"
    folder.mkdir()
    for template in prompts.FOLDER.glob("*.txt"):
        shutil.copy(template, folder)
    return folder


def test_own_templates_replace_the_wording_and_may_leave_a_field_out(own_templates):
    (own_templates / "reasoner.txt").write_text("Für {title}: {{ja}} oder nein?\n{item_history}\n", encoding="utf-8")
    prompt = prompts.reasoner("Album", "New", numbered(2, 1), folder=own_templates)
    assert prompt.text == "Für New: {ja} oder nein?\n1. Title I1\ntext I1"
    assert prompt.without(1) == "Für New: {ja} oder nein?\n"


def test_an_unknown_field_of_an_own_template_is_named_with_its_file(own_templates):
    (own_templates / "hint.txt").write_text("It was {stars}.", encoding="utf-8")
    with pytest.raises(InputError) as error:
        prompts.reasoner("Album", "New", numbered(0, 0), hint=4.0, folder=own_templates)
    assert str(own_templates / "hint.txt") in str(error.value)
    assert "{stars}" in str(error.value) and "rating" in str(error.value)


@pytest.mark.parametrize("text", ["It was {rating", "It was rating}", "{", "{rating!}"])
def test_a_lone_brace_in_an_own_template_ended_in_an_error_without_its_file(own_templates, text):
    (own_templates / "hint.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"hint\.txt"):
        prompts.reasoner("Album", "New", numbered(0, 0), hint=4.0, folder=own_templates)


def test_an_own_summarizer_template_without_the_review_ended_in_a_key_error(own_templates):
    (own_templates / "summarizer.txt").write_text("What is {title}?", encoding="utf-8")
    prompt = prompts.summarizer("Album", "New", 4.0, "one two " * 100, own_templates)
    assert prompt == Prompt("What is New?")


def test_a_missing_template_is_named(own_templates):
    (own_templates / "reason.txt").unlink()
    with pytest.raises(InputError, match=r"reason\.txt"):
        prompts.predictor("Album", "New", numbered(0, 0), "A reason.", folder=own_templates)


def test_a_training_row_is_a_user_and_an_assistant_message_with_the_spans_that_may_go(tmp_path):
    prompt = prompts.predictor("Album", "New", numbered(2, 1), "A reason.")
    row = training_row(prompt, prompts.rating_answer(4.0))
    assert row["messages"] == [
        {"role": "user", "content": prompt.text},
        {"role": "assistant", "content": "Predicted Rating: 4.0"},
    ]
    files.write_pickle(tmp_path / "rows.pkl", [row])
    again = files.read_pickle(tmp_path / "rows.pkl")
    schema.check_messages(again, "rows.pkl")
    assert again[0]["messages"][0]["content"] == prompt.text
    assert tuple(map(tuple, again[0]["optional"])) == prompt.optional


def test_the_head_of_a_predictor_prompt_is_that_of_all_prompts_on_its_target():
    direct, one, other = (prompts.predictor("Album", "New", numbered(2, 1), r) for r in (None, "A reason.", "Another."))
    assert direct.head == one.head == other.head == len(direct.text)
    assert one.text[: one.head] == other.text[: other.head] == direct.text
    assert prompts.with_task(direct, "one_step").head == direct.head
    assert prompts.summarizer("Album", "New", 4.0, "Good.").head == 0


@pytest.mark.parametrize(
    "text, whole",
    [
        ("Positive Aspects: voice\nNegative Aspects: None\nUser Preference Elements: warm, slow", True),
        ("Sure!\n\nNegative Aspects: x\nPositive Aspects: y\nUser Preference Elements: z\nBye", True),
        ("Positive Aspects:voice\nNegative Aspects:\tx\nUser Preference Elements: z", True),
        ("Positive Aspects: voice\nNegative Aspects:\nUser Preference Elements: z", False),
        ("Positive Aspects: voice\nNegative Aspects:   \nUser Preference Elements: z", False),
        ("Positive Aspects: a Negative Aspects: b User Preference Elements: c", False),
        ("Positive Aspects: voice\nNegative Aspects: x", False),
        ("positive aspects: a\nnegative aspects: b\nuser preference elements: c", False),
        ("The Positive Aspects: a\nNegative Aspects: b\nUser Preference Elements: c", False),
        ("", False),
    ],
)
def test_a_summary_has_its_three_parts_each_on_a_line_and_not_empty(text, whole):
    assert prompts.is_summary(text) is whole


def test_the_summarizer_asks_for_the_three_parts_and_shows_them_in_its_example():
    text = prompts.summarizer("Album", "A title", 4.0, "A review.").text
    assert all(text.count(f"\n{part}: ") == 2 for part in prompts.SUMMARY_PARTS)
    assert prompts.is_summary(text)
