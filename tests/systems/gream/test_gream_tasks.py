"""The rows of the six tasks: how many, what stands in them, and that nothing of the validation or the test does."""

import re
import shutil
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_histories import IDS, ITEMS, SAID, item_table, items, sequences, some_users, title, traces

from reason4rec.data import schema
from reason4rec.errors import InputError
from reason4rec.llm.prompt import Prompt
from reason4rec.systems.gream import pasts, prompts, tasks
from reason4rec.systems.gream.prompts import FOLDER, FROM_ITEM, FUSION, PREFERENCE, SEARCH, SEQREC, TASKS, TO_ITEM
from reason4rec.systems.gream.texts import UserTexts
from reason4rec.systems.twice_rec.catalogue import Catalogue

CHOSEN = [ITEMS[:4], ITEMS[2:9], ITEMS[::-1]]
OF_USERS = (SEQREC, FUSION, SEARCH, PREFERENCE)


def material(chosen=CHOSEN, without=(), said=SAID):
    past = pasts.training_parts(sequences(chosen))
    return tasks.Material(past, items(without), IDS, {one.user_id: said for one in past})


def made(task, chosen=CHOSEN, seed=0, fusion_rows=1000, **more):
    (rows,) = tasks.alignment(material(chosen, **more), 1, fusion_rows, seed, [task])
    return [tuple(message["content"] for message in row["messages"]) for row in rows]


def test_a_pass_has_the_rows_that_are_counted():
    rows = tasks.alignment(material(), fusion_rows=9)
    counts = tasks.rows_a_pass(material().pasts, len(ITEMS), 9)
    interactions, users = sum(map(len, CHOSEN)), len(CHOSEN)
    assert counts[SEQREC] == interactions - 3 * users == 14
    assert sum(counts.values()) == interactions - 3 * users + 4 * len(ITEMS) + 9 + 2 * users
    assert [len(one) for one in rows] == [sum(counts.values())] * 3
    for task in TASKS:
        assert len(made(task, fusion_rows=9)) == counts[task], task
    assert len(made(FUSION)) == counts[SEQREC]
    schema.check_messages([row for one in rows for row in one], "rows")


def test_passes_are_drawn_anew_and_the_same_every_time():
    first, again = tasks.alignment(material(), seed=3), tasks.alignment(material(), seed=3)
    assert first == again
    assert first[0] != first[1] != first[2] != first[0]
    assert first != tasks.alignment(material(), seed=4)


def test_every_place_of_a_training_part_but_the_first_is_a_target():
    targets = Counter(answer for _, answer in made(SEQREC))
    assert targets == Counter(IDS[item_id] for one in CHOSEN for item_id in one[1:-2])
    for question, answer in made(SEQREC, [ITEMS[:8]]):
        shown = re.findall(r"<\|a_\d+\|><\|b_\d+\|>", question)
        assert shown == [IDS[one] for one in ITEMS[: ITEMS.index(next(k for k in ITEMS if IDS[k] == answer))]]


def test_an_item_without_a_description_is_asked_about_by_its_title():
    for task in (TO_ITEM, FROM_ITEM):
        rows = [made(task, seed=seed, without=ITEMS) for seed in range(5)]
        assert all("Title" in question + answer for one in rows for question, answer in one)
        assert any("about" in question + answer for question, answer in made(task))
    assert all("about" not in answer for seed in range(5) for _, answer in made(FUSION, seed=seed, without=ITEMS))


def test_the_two_rows_of_an_item_are_worded_differently():
    for task in (TO_ITEM, FROM_ITEM):
        rows = made(task)
        assert all(one != two for one, two in zip(rows[::2], rows[1::2]))


def test_every_wording_is_used_and_its_fields_are_filled():
    for task in TASKS:
        assert len(prompts.wordings(task)) >= (4 if task == PREFERENCE else 5 if task == SEQREC else 6)
        shown = [made(task, seed=seed) for seed in range(20)]
        texts = "\n".join(question + answer for one in shown for question, answer in one)
        assert "{" not in texts and "}" not in texts
        for wording in prompts.wordings(task):
            for part in re.split(r"\{\w+\}", wording.question):
                assert part in texts, wording.question


def test_a_search_leads_to_the_last_item_of_the_training_part():
    for question, answer in made(SEARCH, [ITEMS[:6]]) + made(SEARCH, [ITEMS[:6]], seed=1):
        assert answer == IDS[ITEMS[3]]
        assert IDS[ITEMS[3]] not in question
        assert any(text in question for text in (*SAID.preferences(), *SAID.wishes().values()))
    for _, answer in made(PREFERENCE):
        assert answer in SAID.preferences()


def test_what_the_teacher_failed_to_say_makes_no_row():
    assert made(SEARCH, said=UserTexts()) == made(PREFERENCE, said=UserTexts()) == []
    wishes_alone = UserTexts(wish_of_user="I want melody")
    assert made(PREFERENCE, said=wishes_alone) == []
    for seed in range(10):
        assert all("I want melody" in question for question, _ in made(SEARCH, said=wishes_alone, seed=seed))


@settings(max_examples=40, deadline=None)
@given(some_users, st.integers(0, 9))
def test_nothing_of_the_validation_and_the_test_is_in_the_rows_of_a_user(chosen, seed):
    frame = sequences(chosen)
    for user, past in enumerate(pasts.training_parts(frame)):
        made_from = tasks.Material([past], items(), IDS, {past.user_id: SAID})
        rows = [row for one in tasks.alignment(made_from, 2, 100, seed, OF_USERS) for row in one]
        text = "\n".join(message["content"] for row in rows for message in row["messages"])
        assert rows
        for trace in traces(user, chosen[user][-2:]):
            assert trace not in text


@given(st.integers(1, 20))
def test_of_a_history_that_is_too_long_the_oldest_go_first(n):
    history = [f"<|a_{k}|>" for k in range(n)]
    asked = prompts.next_item(history, prompts.DIRECT)
    for cut in range(n):
        assert re.findall(r"<\|a_\d+\|>", asked.without(cut)) == history[cut:]
    assert len(asked.optional) == n - 1


def test_a_history_has_twenty_items_at_most():
    events = pasts.training_parts(sequences([ITEMS]))[0].events * 4
    assert len(pasts.window(events, 40)) == 20 and pasts.window(events, 40)[-1] == events[39]
    assert pasts.window(events, 3) == events[:3]


def test_the_modes_ask_in_different_words():
    direct, reasoned = (prompts.next_item(["<|a_1|>"], mode).text for mode in (prompts.DIRECT, prompts.REASONED))
    assert direct != reasoned and "<answer>" in reasoned and "<answer>" not in direct
    assert isinstance(prompts.next_item(["<|a_1|>"], prompts.DIRECT, 3), Prompt)


def test_an_item_without_a_semantic_id_is_named():
    with pytest.raises(InputError, match="B00"):
        tasks.Material([], items(), {})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("What follows {history}?", "line 2 is no wording"),
        ("What follows {history}? => ", "line 2 is no wording"),
        ("What follows {past}? => {item}", r"no field \{past\}, only history, item"),
        ("What follows {history? => {item}", "line 2"),
    ],
)
def test_a_line_that_is_no_wording_is_named(tmp_path, line, message):
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    prompts.check(tmp_path)
    path = tmp_path / "seqrec.txt"
    path.write_text(path.read_text(encoding="utf-8").split("\n")[0] + f"\n{line}\n", encoding="utf-8")
    prompts.wordings.cache_clear()
    prompts.template.cache_clear()
    with pytest.raises(InputError, match=message):
        prompts.check(tmp_path)


def test_titles_are_quoted_and_lose_the_stop_at_their_end():
    shown = material().history(material().pasts[0], 2)
    assert shown["titles"] == [f'"{title(one)}"' for one in ITEMS[:2]]
    dotted = Catalogue(item_table().assign(title=lambda frame: frame["title"] + "..."))
    assert tasks.Material([], dotted, IDS).texts["B00"]["title"] == title("B00")


@pytest.mark.parametrize("text", ["Answer.", "{question} {question}"])
def test_a_mode_asks_its_question_once(tmp_path, text):
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "direct.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"direct\.txt: the field \{question\}"):
        prompts.check(tmp_path)
