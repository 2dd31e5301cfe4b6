"""The reward of a semantic ID: known answers, what is read from any text, and that no cheat is paid as the truth."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason4rec.errors import InputError
from reason4rec.systems.gream import probes
from reason4rec.systems.gream.replies import read
from reason4rec.systems.gream.rewards import GRPO, NO_BONUS, SRPO, match, parts_of, prefix, weights_of
from reason4rec.training.rollouts import Rollout, scores_of, total

TARGET = ("<|a_1|>", "<|b_2|>", "<|c_3|>", "<|d_4|>")
TWIN = (*TARGET, "<|e_2|>")
ITEMS = {TARGET: "one", TWIN: "two", ("<|a_9|>", "<|b_2|>", "<|c_3|>", "<|d_4|>"): "three"}


def tokens(*codes):
    return tuple(f"<|{letter}_{code}|>" for letter, code in zip("abcdefghijk", codes))


def written(answer, think="It fits."):
    thoughts = "" if think is None else f"<think>\n{think}\n</think>\n\n"
    return f"{thoughts}Next is <answer>{''.join(answer)}</answer>"


def scored(text, target=TARGET, variant=SRPO):
    parts = parts_of(variant, [target], 4, ITEMS.get)
    scores = scores_of(parts, [Rollout({"number": 0}, text, (), True)])
    return dict(zip((part.name for part in parts), scores[0].tolist())), total(parts, scores)[0]


@pytest.mark.parametrize(
    ("said", "target", "expected"),
    [
        (tokens(1, 2, 9, 9), TARGET, math.sqrt(0.5)),
        (tokens(9, 2, 3, 4), TARGET, 0),
        (tokens(1, 2, 3, 4, 1), TARGET, 0.95),
        (tokens(1, 2, 3), TARGET, math.sqrt(0.75)),
        (tokens(1, 9, 3, 4), TARGET, 0.5),
        (TARGET, TARGET, 1),
        (TWIN, TWIN, 1),
        (TARGET, TWIN, 0.95),
        (tokens(1, 2, 3, 4, 1), TWIN, 0.95),
        ((), TARGET, 0),
    ],
)
def test_an_answer_is_paid_by_how_much_of_the_target_it_begins_with(said, target, expected):
    assert match(said, target, 4) == pytest.approx(expected)
    parts, reward = scored(written(said) if said else "<think>x</think>", target)
    assert reward == parts["score"] == parts["match"] == pytest.approx(expected)
    assert parts["exact"] == (said == target)


def test_two_levels_are_paid_as_in_the_figure_of_the_paper():
    target = tokens(5, 6)
    assert [match(one, target, 2) for one in (tokens(4, 6), tokens(5, 4), target)] == [0, math.sqrt(0.5), 1]


@given(st.integers(1, 10), st.data())
def test_an_answer_that_shares_more_is_never_paid_less(levels, data):
    code = st.integers(1, 2)
    target = tokens(*data.draw(st.lists(code, min_size=levels, max_size=levels + 1)))
    said = [tokens(*data.draw(st.lists(code, max_size=levels + 1))) for _ in range(2)]
    fewer, more = sorted(said, key=lambda one: (one == target, prefix(one, target)))
    assert 0 <= match(fewer, target, levels) <= match(more, target, levels) <= 1
    assert (match(more, target, levels) == 1) == (more == target)


@pytest.mark.parametrize(
    "text",
    [
        written(TARGET, think=None),
        written(TARGET).replace("</think>", ""),
        "Next <answer>" + "".join(TARGET) + "</answer> <think>too late",
    ],
)
def test_the_right_answer_without_closed_thoughts_is_a_match_that_is_not_paid(text):
    parts, reward = scored(text)
    assert reward == parts["score"] == parts["exact"] == parts["format"] == 0
    assert parts["match"] == parts["valid"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        f"the item {''.join(TARGET)}",
        f"{''.join(TARGET)} ",
        " ".join(TARGET),
        "<|a_0|>",
        "<|A_1|>",
        "<|a_1|",
        "<|a_١|>",
        "",
    ],
)
def test_an_answer_holds_tokens_and_nothing_else(answer):
    parts, reward = scored(f"<think>\nx\n</think>\n<answer>{answer}</answer>")
    assert reward == 0
    assert parts["format"] == parts["match"] == 0


def test_an_answer_that_is_not_closed_is_read_and_not_paid():
    text = written(TARGET).removesuffix("</answer>")
    assert read(text).answer == TARGET
    assert not read(text).closed
    assert set(scored(text)[0].values()) == {0}


def test_the_first_answer_after_the_thoughts_counts():
    other = tokens(9, 9, 9, 9)
    within = f"<think>Maybe <answer>{''.join(other)}</answer>?</think><answer>{''.join(TARGET)}</answer>"
    assert read(within).answer == TARGET
    assert read(written(TARGET) + written(other)).answer == TARGET
    junk_first = f"<think>x</think><answer>it is</answer><answer>{''.join(TARGET)}</answer>"
    assert read(junk_first).answer == TARGET
    open_first = f"<think>x</think><answer>{''.join(other)} no, <answer>{''.join(TARGET)}</answer>"
    assert read(open_first).answer == TARGET


PIECES = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", *TWIN, "<|a_0|>", "<|", "|>", "\n", " ", "words", "<", "é"]
)


@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=40))
def test_any_text_is_read_without_a_fault(text):
    said = read(text)
    joined = "".join(said.answer)
    assert f"<answer>{joined}" in text or not said.answer
    assert not said.closed or f"<answer>{joined}</answer>" in text
    assert not said.well_formed or (said.think is not None and said.answer)
    assert said.think is None or said.think in text


@given(st.text(alphabet="ab <>/|_1\n", max_size=30), st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_what_is_written_in_the_form_is_read_as_it_was(thoughts, codes):
    said = read(written(tokens(*codes), thoughts.replace("</think>", "")))
    assert said.well_formed
    assert said.answer == tokens(*codes)


def test_each_rollout_is_scored_by_the_target_of_its_row_and_known_items_are_told():
    parts = parts_of(SRPO, [TARGET, TWIN], 4, ITEMS.get)
    rollouts = [Rollout({"number": number}, written(TWIN), (), True) for number in (1, 0)]
    rollouts.append(Rollout({"number": 0}, written(tokens(1, 2, 3, 9)), (), True))
    scores = dict(zip((part.name for part in parts), scores_of(parts, rollouts).T.tolist()))
    assert scores["score"] == pytest.approx([1, 0.95, math.sqrt(0.75)])
    assert scores["exact"] == [1, 0, 0]
    assert scores["valid"] == [1, 1, 0]


def test_plain_grpo_is_paid_for_the_item_alone_and_the_others_for_the_score():
    half = written(tokens(1, 2, 9, 9))
    assert [scored(half, variant=one)[1] for one in (SRPO, NO_BONUS, GRPO)] == pytest.approx([0.5**0.5, 0.5**0.5, 0])
    assert scored(written(TARGET), variant=GRPO)[1] == 1
    with pytest.raises(InputError, match="--advantage other"):
        weights_of("other")


@pytest.mark.parametrize(("target", "levels"), [(TARGET[:3], 4), ((*TWIN, "<|f_1|>"), 4), (TARGET, 11), ((), 0)])
def test_targets_that_are_no_items_of_so_many_levels_are_told(target, levels):
    with pytest.raises(InputError, match="levels|target 0"):
        parts_of(SRPO, [target], levels, ITEMS.get)


def probed(variant):
    targets = [TARGET, TWIN, tokens(5, 5, 5, 5, 1)]
    last = [tokens(1, 7, 7, 7), tokens(8, 8, 8, 8), tokens(5, 5, 7, 7)]
    parts = parts_of(variant, targets, 4, ITEMS.get)
    return probes.scored(parts, probes.policies(targets, last, TARGET, 4))


@pytest.mark.parametrize("variant", [SRPO, GRPO])
def test_no_cheat_is_paid_as_the_truth(variant):
    table = probed(variant)
    assert probes.cheats(table) == []
    assert "warning" not in probes.as_text(table)
    means = {row["policy"]: row["reward"] for row in table}
    assert means[probes.EXACT] == 1
    assert means[probes.NO_THINK] == means[probes.NOT_CLOSED] == means[probes.EMPTY] == 0
    assert (means[probes.COLLISION] == 0.95) == (variant == SRPO)


def test_a_table_of_policies_shows_each_part_and_warns_of_a_cheat():
    table = probed(SRPO)
    by_policy = {row["policy"]: row for row in table}
    assert by_policy[probes.NO_THINK]["match"] == 1
    assert by_policy[probes.PREFIX]["score"] == pytest.approx(math.sqrt(0.75), abs=1e-4)
    assert by_policy[probes.POPULAR]["reward"] == pytest.approx((1 + 0.95 + 0) / 3, abs=1e-4)
    assert by_policy[probes.SEEN]["reward"] == pytest.approx((0.5 + 0 + math.sqrt(0.5)) / 3, abs=1e-4)
    paid = [row | {"reward": 1.0} if row["policy"] == probes.PREFIX else row for row in table]
    assert probes.cheats(paid) == [probes.PREFIX]
    lines = probes.as_text(paid).split("\n")
    assert len(lines) == len(table) + 2
    assert probes.PREFIX in lines[-1]
    assert len({len(line) for line in lines[:-1]}) == 1
