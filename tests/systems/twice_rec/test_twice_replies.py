"""Replies, read strictly: no text may break the reader, and what is not asked for is no answer."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason4rec.llm.stops import WROTE_ON, kept
from reason4rec.systems.twice_rec.hindsight import HINDSIGHT, WEAK_LINK, hindsight, weak_link
from reason4rec.systems.twice_rec.recommending import end_of_answer
from reason4rec.systems.twice_rec.replies import inner, outcomes, rationale_of, read, why_refused

GOOD = "<think> it fits </think> <item_nm> green tea </item_nm> <item_id> B1 </item_id>"
OPEN = (
    "The user keeps coming back to dark chocolate and praises how rich it is, while a coarse salt was rated Bad. "
    "A previously purchased tea was liked too. The chocolate cookies are made with dark chocolate, so that they suit."
)
WRITTEN = f"Rationale: {OPEN}\nConnection: yes"
SAMPLE = Path(__file__).parents[4] / "shared/data/amazon_grocery_2023_sequences/rationale_rows_sample.jsonl.gz"
MARKS = [f"<{slash}{tag}>" for tag in ("think", "item_nm", "item_id", "item_info", "b") for slash in ("", "/")]


def test_an_answer_in_the_form_asked_for():
    found = read(GOOD)
    assert (found.think, found.title, found.item_id, found.problems) == ("it fits", "green tea", "B1", ())
    assert found.well_formed
    assert read(GOOD.removeprefix("<think> it fits </think> "), rationale=False).well_formed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B1",
        GOOD.replace(" it fits ", " "),
        GOOD.replace(" B1 ", " \n "),
        GOOD.replace("</item_id>", ""),
        f"{GOOD} {GOOD}",
        f"Sure! {GOOD}",
        f"{GOOD} Enjoy.",
        GOOD.replace(" <item_nm>", ", <item_nm>"),
        GOOD.replace("it fits", "it <b>fits</b>"),
        GOOD.replace("it fits", "it </think> fits"),
        "<item_nm> green tea </item_nm> <item_id> B1 </item_id>",
        "<item_nm> green tea </item_nm> <think> it fits </think> <item_id> B1 </item_id>",
        "<think> it <item_nm> green tea </item_nm> fits </think> <item_id> B1 </item_id>",
    ],
)
def test_any_other_form_is_none(text):
    found = read(text)
    assert not found.well_formed and found.problems


def test_a_rationale_that_is_not_asked_for_is_one_too_many():
    assert read(GOOD, rationale=False).problems


def test_the_first_of_several_tags_counts():
    assert inner("</item_id> <item_id> B1\n</item_id><item_id>B2</item_id>", "item_id") == "B1"
    assert inner("</item_id> <item_id> B1", "item_id") is None


@given(st.lists(st.sampled_from(MARKS) | st.text(max_size=8), max_size=12).map("".join), st.booleans())
def test_no_text_breaks_the_reader(text, rationale):
    found = read(text, rationale)
    assert found.well_formed == (not found.problems)
    if found.well_formed:
        assert found.title and found.item_id and bool(found.think) == rationale


def test_many_openings_are_read_in_no_time():
    assert read("<think>" * 100_000).problems


@pytest.mark.parametrize(
    "reply",
    [
        WRITTEN,
        f"<think>Hm.</think>\n{WRITTEN}",
        f"```\n{WRITTEN}\n```",
        WRITTEN.replace("Rationale:", "**Rationale:**").replace("Connection:", "**Connection**:"),
        WRITTEN.replace("\n", "\r\n\r\n"),
        WRITTEN.replace(": ", ":\n", 1),
        WRITTEN.replace(". A", ".\nA").replace("yes", "Yes."),
    ],
)
def test_a_rationale_and_its_verdict_are_read(reply):
    found = rationale_of(reply)
    assert (found.text, found.relevant, found.refused) == (OPEN, True, "")


@pytest.mark.parametrize(
    "reply",
    ["", OPEN, f"Rationale: {OPEN}", f"Here it is. {WRITTEN}", f"{WRITTEN}, or no", "Connection: yes", "<think>Hm."],
)
def test_a_reply_of_another_form_is_refused(reply):
    assert rationale_of(reply).refused == "not in the form"


def test_a_case_without_a_connection_is_no_row():
    found = rationale_of("Rationale: The next purchased item is unrelated.\nConnection: no")
    assert (found.relevant, found.refused) == (False, "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("It suits the user.", "fewer than 10 words"),
        (f"{OPEN} " * 6, "more than 200 words"),
        (OPEN.replace("dark", "<item_id>"), "has tags"),
        (f"{OPEN} So the user went on to buy them.", "hindsight: went on to"),
        (f"{OPEN} The next purchased item shares this.", "hindsight: next purchased item"),
        (f"{OPEN} The user ultimately chose them.", "hindsight: in the end"),
        (f"{OPEN} The link may seem unrelated.", "weak link: unrelated"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(text, why):
    assert why_refused(text) == why
    found = [rationale_of(f"Rationale: {one}\nConnection: yes") for one in (text, OPEN)]
    assert outcomes(found) == {f"refused, {why}": 1, "kept": 1}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Next, the user purchased item after item. The next item, cookies, aligns.", "the next item"),
        ("This likely influenced the user.", "likely bought"),
        ("The user\u2019s taste led to the decision to buy cookies.", "the decision"),
        ("The choice of cookies reflects this.", "the purchase of it"),
        ("This explains the purchase.", "why it was bought"),
        ("It explains why the user happily bought them.", "why it was bought"),
        ("The chosen item is sweet.", "the chosen item"),
        ("The transition\nfrom tea to cookies shows a wish for variety.", "the transition"),
        ("As it turned out, cookies fit.", "told"),
    ],
)
def test_hindsight_is_found(text, name):
    assert name in hindsight(text)


@pytest.mark.parametrize(
    "text",
    [
        OPEN,
        "The next item should be sweet, and these cookies are a natural choice.",
        "Their purchase of a dark chocolate bar, which is rich, shows a liking for chocolate.",
        "The user bought tea and later reviewed it as weak. It did not match what the user looks for in tea.",
    ],
)
def test_a_choice_that_is_open_is_no_hindsight(text):
    assert hindsight(text) == weak_link(text) == ()


def test_every_pattern_has_a_name_that_no_other_has():
    assert not HINDSIGHT.keys() & WEAK_LINK.keys()


def test_a_reply_is_finished_after_its_answer_and_not_within_its_thoughts():
    """One with a rationale was never stopped: it began with what looks like a model's own thoughts."""
    item_only = GOOD.removeprefix("<think> it fits </think> ")
    for whole in (GOOD, item_only):
        assert end_of_answer(whole) == len(whole) and end_of_answer(whole.removesuffix("</item_id>")) is None
        stopped = Counter()
        assert kept([f"{whole} and on", whole], end_of_answer, stopped, thoughts=True) == [whole, whole]
        assert stopped == {WROTE_ON: 1} and read(whole, rationale=whole == GOOD).well_formed
    assert end_of_answer("<think> as <item_id> B1 </item_id>") is None
    quoted = GOOD.replace("it fits", "as </item_id>")
    assert end_of_answer(quoted) == len(quoted)


@given(st.text() | st.text(alphabet="Rationale: Connection yes\n*").map(lambda text: f"Rationale: {text}"))
def test_no_reply_breaks_the_reader_of_rationales(text):
    found = rationale_of(text)
    assert not found.refused or not found.text or found.relevant
    assert found.text == " ".join(found.text.split())


@pytest.mark.skipif(not SAMPLE.exists(), reason="the shared data are not here")
def test_nearly_all_rationales_of_the_released_data_have_hindsight():
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as file:
        texts = [inner(json.loads(line)["answer"], "think") for line in file]
    counts = outcomes(rationale_of(f"Rationale: {text}\nConnection: yes") for text in texts)
    assert counts["kept"] == 3
    assert sum(n for why, n in counts.items() if "hindsight" in why) == 97
    assert sum(bool(weak_link(text)) for text in texts) == 8
