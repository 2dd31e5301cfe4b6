"""The reasonings: for which targets, what is kept of a teacher's reply, and the rows that are learned."""

import re

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from toy_histories import IDS, ITEMS, items, review, sequences, some_users, title, traces

from reason4rec.data import schema
from reason4rec.errors import InputError
from reason4rec.systems.gream import pasts, prompts, reasoning, replies
from reason4rec.systems.gream.rule_texts import RuleTexts

COLUMNS = ["user_id", "item_id", "position", "reasoning"]
STEPS = "Step 1: Tea in two of them.\nStep 2: A taste for tea.\nStep 3: More green tea."
REPLY = f"{STEPS}\nStep 4: Recommend Matcha Powder. It is tea."


def past(*chosen):
    return pasts.training_parts(sequences(chosen))


def kept(reply, title="Matcha Powder", history=()):
    return reasoning.steps_of(reply, title, history)


def test_the_fourth_step_goes():
    assert kept(REPLY) == (STEPS, "")
    assert kept(REPLY.replace("\n", "\n\n").replace("Step", "**Step")) == (STEPS.replace("Step", "Step"), "")


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (None, "no answer"),
        ("", "no answer"),
        ("<think>long thoughts", "no answer"),
        ("None", "no connection"),
        (" **none.** ", "no connection"),
        (STEPS, "not in the form"),
        (REPLY.replace("Step 2", "Then"), "not in the form"),
        (REPLY.replace("Step 2", "Step 1"), "not in the form"),
        ("Sure! " + REPLY, "not in the form"),
        ("Step 1:\nStep 2: A.\nStep 3: B.\nStep 4: C.", "not in the form"),
        (REPLY + "\nSo, by Step 4. it is done.", "not in the form"),
        (REPLY.replace("More green", "<b>More</b>"), "has tags"),
        (REPLY.replace("More green", "<|a_1|>"), "has tags"),
        (REPLY.replace("More green tea", "The user then bought it"), "hindsight: in the end"),
        (REPLY.replace("More green tea", "So matcha  powder it is"), "names the target"),
        (REPLY.replace("Tea in", "tea " * 301), "more than 300 words"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(reply, why):
    assert kept(reply)[1] == why


def test_thoughts_before_the_steps_are_left_out():
    assert kept(f"<think>Step 4 is hard.</think>\n{REPLY}") == (STEPS, "")


def test_up_to_the_last_full_stop_before_the_last_mention():
    assert kept(REPLY.replace("More green tea.", "More green tea. And now"))[0] == STEPS
    mentioned = REPLY.replace("A taste for tea", "As step 4 will show, a taste for tea")
    assert kept(mentioned)[0].split("\n")[1] == "Step 2: As step 4 will show, a taste for tea."


def test_a_title_that_the_history_has_too_may_be_named():
    reply = REPLY.replace("Tea in two of them", "Matcha Powder and tea")
    assert kept(reply)[1] == "names the target"
    assert kept(reply, history=["Matcha Powder"])[1] == ""
    assert kept(REPLY, title="tea")[1] == ""  # any word may be a title of one word


words = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["Step 1: ", "Step 2:", "\nStep 3: ", "Step 4", "step 4:", ".", "None", "\n"]) | words))
@example(["Step 1: a", "Step 2: b", "Step 3: c", ".", "Step 4"])
def test_any_reply_is_kept_in_form_or_refused(parts):
    text, why = kept("".join(parts))
    if not why:
        assert re.fullmatch(r"Step 1: .+\nStep 2: .+\nStep 3: .+", text)
        assert kept(f"{text}\nStep 4: x")[0] == text
    assert reasoning.is_in_form("".join(parts)) == (why not in ("no answer", "not in the form"))


def test_targets_stand_from_the_fifth_item_to_the_end_of_the_training_part():
    found = reasoning.targets(past(ITEMS[:6], ITEMS[:7], ITEMS))
    assert [(one.user_id, one.position) for one in found] == [("U1", 4), *(("U2", place) for place in range(4, 10))]
    for one in found:
        assert one.item_id == ITEMS[one.position]
        assert [event.item_id for event in one.history] == ITEMS[: one.position]


def test_targets_are_drawn_in_their_order_and_the_same_every_time():
    pool = past(*[ITEMS] * 10)
    drawn = reasoning.targets(pool, 20, seed=3)
    assert len(drawn) == 20 and drawn == reasoning.targets(pool, 20, seed=3) != reasoning.targets(pool, 20, seed=4)
    everyone = reasoning.targets(pool)
    assert [everyone.index(one) for one in drawn] == sorted(everyone.index(one) for one in drawn)
    assert reasoning.targets(pool, 1000) == everyone


def table(chosen, seed=0):
    pool = past(*chosen)
    chosen_targets = reasoning.targets(pool)
    asked = reasoning.prompts_of(chosen_targets, items())
    replies = RuleTexts(seed).ask([one.text for one in asked], quiet=True)
    rows, counts = reasoning.reasonings(chosen_targets, replies, items())
    assert sum(counts.values()) == len(chosen_targets) and counts["kept"] == len(rows)
    return pd.DataFrame(rows, columns=COLUMNS), pool


def test_a_row_thinks_repeats_the_history_and_answers():
    frame, pool = table([ITEMS])
    rows = reasoning.rows(frame, pool, IDS, seed=0)
    schema.check_messages(rows, "rows")
    assert len(rows) == len(frame) > 2
    for row, one in zip(rows, frame.itertuples()):
        question, answer = (message["content"] for message in row["messages"])
        history = ", ".join(IDS[item_id] for item_id in ITEMS[: one.position])
        assert history in question and row["optional"] == []
        think, restated, last = re.fullmatch(r"<think>\n(.*)\n</think>\n\n(.*)\n\n(.*)", answer, re.DOTALL).groups()
        assert think == one.reasoning
        assert history in restated and "\n" not in restated
        assert last.endswith(f"<answer>{IDS[one.item_id]}</answer>")
        assert question.startswith(prompts.next_item([], prompts.REASONED).text[:80])
    assert len({row["messages"][0]["content"].split("\n")[2].split("<")[0] for row in rows}) > 1


def test_a_row_answers_right_after_its_thoughts_where_the_history_is_not_to_be_repeated():
    frame, pool = table([ITEMS])
    long, short = (reasoning.rows(frame, pool, IDS, seed=0, restates=restates) for restates in (True, False))
    for whole, row, one in zip(long, short, frame.itertuples()):
        (asked, whole_answer), (question, answer) = (
            [message["content"] for message in each["messages"]] for each in (whole, row)
        )
        assert answer == f"<think>\n{one.reasoning}\n</think>\n\n{whole_answer.splitlines()[-1]}"
        assert question.split("\n")[2:] == asked.split("\n")[2:]
        assert "again" in asked and "again" not in question
        assert replies.read(answer).well_formed


def test_a_reasoning_of_another_target_is_refused():
    frame, pool = table([ITEMS])
    for wrong in ({"position": 3}, {"position": 99}, {"user_id": "U9"}, {"item_id": "B11"}, {"position": 0}):
        with pytest.raises(InputError, match="GREAM/4_distil"):
            reasoning.rows(frame.head(1).assign(**wrong), pool, IDS, seed=0)


def test_refused_replies_are_counted_and_left_out():
    chosen = reasoning.targets(past(ITEMS[:9]))
    rows, counts = reasoning.reasonings(chosen, [REPLY, None, "None"], items())
    assert rows == [("U0", ITEMS[4], 4, STEPS)]
    assert counts == {"kept": 1, "refused, no answer": 1, "no connection": 1}


@settings(max_examples=25, deadline=None)
@given(some_users)
def test_nothing_of_the_validation_and_the_test_is_asked_or_learned(chosen):
    for user, one in enumerate(chosen):
        pool = [past(*chosen)[user]]
        found = reasoning.targets(pool)
        asked = [prompt.text for prompt in reasoning.prompts_of(found, items())]
        replies = RuleTexts().ask(asked, quiet=True)
        frame = pd.DataFrame(reasoning.reasonings(found, replies, items())[0], columns=COLUMNS)
        learned = [row["messages"] for row in reasoning.rows(frame, pool, IDS, 0)]
        text = "\n".join([*asked, *replies, *(message["content"] for row in learned for message in row)])
        for trace in traces(user, one[-2:]):
            assert trace not in text


def test_the_teacher_sees_no_ids_and_no_review_of_the_target():
    (one,) = reasoning.targets(past(ITEMS[:7]))
    text = reasoning.prompts_of([one], items())[0].text
    before, _, last = text.rpartition("The item that proved right:")
    assert title(ITEMS[4]) in last and title(ITEMS[4]) not in before
    assert "<|" not in text and review(0, ITEMS[4]) not in text
    assert all(review(0, item_id) in before for item_id in ITEMS[:4])
