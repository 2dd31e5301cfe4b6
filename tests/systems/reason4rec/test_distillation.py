"""The reward filter: which reason a target keeps, whom the teacher is asked about again, and what a row keeps."""

import importlib.util
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import utils
from reason4rec.data import schema
from reason4rec.data.schema import REVIEW_COLUMNS
from reason4rec.errors import InputError
from reason4rec.llm.teacher import BatchPending
from reason4rec.run import files
from reason4rec.systems.reason4rec import distillation, reward_filter
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, SUMMARIES, SUMMARY, TEACHER_REASON, TEACHER_REASONS
from reason4rec.systems.reason4rec.distillation import filter_reasons
from reason4rec.systems.reason4rec.reward_filter import GIVEAWAYS, HINTED_DRAWS, Accepted

ROOT = Path(__file__).parents[3]
TAU = 0.1


class Table:
    """A teacher and a reward model that answer from tables: `reasons[target][draw]` and the rating it leads to."""

    def __init__(self, predictions, reasons=None):
        self.predictions = predictions
        self.reasons = reasons or [[f"{target}/{draw}" for draw in range(11)] for target in range(len(predictions))]
        self.asked = []
        self.predicted = []

    def ask(self, targets, draw):
        self.asked.append((draw, list(targets)))
        return [self.reasons[target][draw] for target in targets]

    def predict(self, targets, reasons):
        pairs = list(zip(targets, reasons))
        scored = [(target, reason) for target, reason in pairs if not reason.startswith("baseline")]
        if scored:
            self.predicted.append(([target for target, _ in scored], [reason for _, reason in scored]))
        return np.array([self.prediction(*pair) for pair in pairs])

    def prediction(self, target, reason):
        if reason.startswith("baseline"):
            return float(reason.split()[1])
        return self.predictions[target][self.reasons[target].index(reason)]

    def filter(self, ratings, baseline, tau=TAU, **options):
        without = [f"baseline {value}" for value in baseline]
        return filter_reasons(np.array(ratings), without, tau, self.ask, lambda block: self.predict, **options)


def good_from(draw, rating=5.0):
    """Predictions for a target of this rating whose reasons help from this draw on."""
    return [1.0] * draw + [rating] * (1 + HINTED_DRAWS - draw)


def test_a_first_reason_that_helps_is_kept_and_the_teacher_asked_no_more():
    table = Table([good_from(0)])
    accepted, counts = table.filter([5.0], [3.0])
    assert accepted == [Accepted("0/0", -2.0, 0)]
    assert table.asked == [(0, [0])]
    assert counts == Counter({"accepted on draw 0": 1})


@pytest.mark.parametrize("draw", range(1, 1 + HINTED_DRAWS))
def test_a_reason_that_helps_on_a_later_draw_is_kept_with_its_draw(draw):
    table = Table([good_from(draw)])
    accepted, counts = table.filter([5.0], [3.0])
    assert accepted == [Accepted(f"0/{draw}", -2.0, draw)]
    assert table.asked == [(k, [0]) for k in range(draw + 1)]
    assert counts == Counter({f"accepted on draw {draw}": 1})


def test_a_target_without_a_reason_that_helps_is_dropped_after_ten_hinted_draws():
    table = Table([[1.0] * 11])
    accepted, counts = table.filter([5.0], [3.0])
    assert accepted == [None]
    assert len(table.asked) == 1 + 10
    assert counts == Counter({"dropped": 1})


def test_the_teacher_is_asked_again_only_about_targets_without_a_reason():
    table = Table([good_from(2), good_from(0), good_from(1), good_from(11), good_from(1)])
    accepted, counts = table.filter([5.0] * 5, [3.0] * 5)
    assert table.asked[:4] == [(0, [0, 1, 2, 3, 4]), (1, [0, 2, 3, 4]), (2, [0, 3]), (3, [3])]
    assert table.asked[4:] == [(draw, [3]) for draw in range(4, 11)]
    assert [one and one.reason for one in accepted] == ["0/2", "1/0", "2/1", None, "4/1"]
    assert counts["dropped"] == 1


def test_without_hinted_draws_the_first_reason_decides():
    table = Table([good_from(0), good_from(1)])
    accepted, counts = table.filter([5.0] * 2, [3.0] * 2, draws=0)
    assert [one and one.draw for one in accepted] == [0, None]
    assert table.asked == [(0, [0, 1])]
    assert counts["dropped"] == 1


@pytest.mark.parametrize("giveaway", GIVEAWAYS)
def test_a_hinted_reason_that_gives_the_rating_away_is_skipped(giveaway):
    table = Table([good_from(1)], [["plain", f"They gave it {giveaway}.", *[f"better {k}" for k in range(9)]]])
    accepted, counts = table.filter([5.0], [3.0])
    assert accepted == [Accepted("better 0", -2.0, 2)]
    assert counts["gave the rating away"] == 1
    assert table.predicted == [([0], ["plain"]), ([0], ["better 0"])]


@pytest.mark.parametrize("giveaway", GIVEAWAYS)
def test_an_unhinted_reason_knows_no_rating_to_give_away(giveaway):
    table = Table([good_from(0)], [[f"They gave it {giveaway}."] + ["x"] * 10])
    accepted, counts = table.filter([5.0], [3.0])
    assert accepted[0].draw == 0
    assert counts["gave the rating away"] == 0


def test_the_reward_model_is_not_asked_where_every_reason_gives_the_rating_away():
    table = Table([[1.0] * 11], [["plain"] + ["a rating of 5.0"] * 10])
    accepted, counts = table.filter([5.0], [3.0])
    assert accepted == [None]
    assert len(table.predicted) == 1
    assert counts == Counter({"gave the rating away": 10, "dropped": 1})


@pytest.mark.parametrize(
    "reason, away",
    [("Will rate it 4.0.", True), ("A rating of four", True), ("four stars for it", True), ("a star performer", True)]
    + [("Would love its 3 discs", False), ("ratings matter, starry", False), ("", False)],
)
def test_giveaways_are_those_of_the_released_code(reason, away):
    assert reward_filter.gives_away(reason) is away


def test_the_score_is_how_much_farther_from_the_rating_the_reason_leaves_the_prediction():
    scores = reward_filter.score(
        np.array([5.0, 5.0, 1.0, 3.0]), np.array([4.5, 3.0, 2.0, 4.0]), np.array([4.0, 4.5, 2.0, 2.0])
    )
    assert scores == pytest.approx([-0.5, 1.5, 0.0, 0.0])


@pytest.mark.parametrize(
    "tau, prediction, kept",
    [
        (0.1, 3.95, True),  # slightly worse than without the reason
        (0.1, 3.85, False),
        (0.0, 4.0, False),  # no better
        (0.0, 4.05, True),
        (-0.5, 4.25, False),  # better, but not by half a star
        (-0.5, 4.75, True),
    ],
)
def test_a_positive_tau_lets_a_slightly_harmful_reason_pass_and_a_negative_one_asks_for_more(tau, prediction, kept):
    accepted, _ = Table([[prediction] + [1.0] * 10]).filter([5.0], [4.0], tau)
    assert (accepted[0] is not None) is kept


def test_nothing_is_asked_where_there_are_no_targets():
    table = Table([])
    accepted, counts = table.filter([], [])
    assert accepted == [] and table.asked == [] and counts["dropped"] == 0


scale = st.sampled_from([1.0, 1.5, 2.0, 3.0, 3.05, 4.0, 4.5, 5.0])
target = st.tuples(
    st.integers(1, 5).map(float),
    scale,
    st.lists(scale, min_size=11, max_size=11),
    st.lists(st.booleans(), min_size=11, max_size=11),
)


def one_by_one(rating, baseline, predictions, reasons, tau):
    """The rule for one target, as the paper tells it."""
    for draw, (prediction, reason) in enumerate(zip(predictions, reasons)):
        if draw > 0 and any(giveaway in reason for giveaway in GIVEAWAYS):
            continue
        value = abs(rating - prediction) - abs(rating - baseline)
        if value < tau:
            return Accepted(reason, value, draw)
    return None


@settings(max_examples=150, deadline=None)
@given(st.lists(target, max_size=6), st.sampled_from([-0.5, 0.0, 0.1, 0.2]))
def test_rounds_over_all_targets_decide_as_a_loop_over_one_target_at_a_time(targets, tau):
    ratings, baseline, predictions, away = (list(part) for part in zip(*targets)) if targets else ([], [], [], [])
    reasons = [
        [f"{k}/{draw}{' 4.0' if gives else ''}" for draw, gives in enumerate(flags)] for k, flags in enumerate(away)
    ]
    accepted, counts = Table(predictions, reasons).filter(ratings, baseline, tau)
    assert accepted == [one_by_one(*row, tau) for row in zip(ratings, baseline, predictions, reasons)]
    draws = Counter(f"accepted on draw {one.draw}" for one in accepted if one)
    assert {name: n for name, n in counts.items() if name.startswith("accepted")} == draws
    assert counts["dropped"] == accepted.count(None)


def many(n):
    """Targets of which each third is accepted at once, each third on a later draw, and each third never."""
    return Table([good_from([0, 1 + k % 10, 11][k % 3]) for k in range(n)])


@pytest.mark.parametrize("block", [1, 2, 5, 100])
def test_blocks_decide_as_all_targets_together_do(monkeypatch, block):
    whole = many(30).filter([5.0] * 30, [3.0] * 30)
    monkeypatch.setattr(distillation, "BLOCK", block)
    assert many(30).filter([5.0] * 30, [3.0] * 30, requests_at_once=8) == whole


def test_what_is_scored_together_does_not_depend_on_which_reply_comes_first(monkeypatch):
    monkeypatch.setattr(distillation, "BLOCK", 3)
    batches = []
    for slow in (0, 4):
        table = many(12)
        ask = table.ask

        def late(targets, draw, ask=ask, slow=slow):
            time.sleep(0.01 if slow in targets else 0)
            return ask(targets, draw)

        table.ask = late
        table.filter([5.0] * 12, [3.0] * 12, requests_at_once=9)
        batches.append(sorted(table.predicted))
    assert batches[0] == batches[1]


def test_the_teacher_writes_for_one_block_while_another_is_scored(monkeypatch):
    monkeypatch.setattr(distillation, "BLOCK", 1)
    table = many(2)
    both_asked, predict, ask = threading.Event(), table.predict, table.ask
    asked = []

    def noted(targets, draw):
        asked.extend(targets)
        if {0, 1} <= set(asked):
            both_asked.set()
        return ask(targets, draw)

    def waits_for_the_other_block(targets, reasons):
        assert both_asked.wait(5)
        return predict(targets, reasons)

    table.ask, table.predict = noted, waits_for_the_other_block
    accepted, _ = table.filter([5.0] * 2, [3.0] * 2, requests_at_once=2)
    assert [one and one.draw for one in accepted] == [0, 2]


def test_the_reward_model_is_asked_by_one_thread_at_a_time(monkeypatch):
    monkeypatch.setattr(distillation, "BLOCK", 1)
    table, inside, most = many(12), [], []
    predict = table.predict

    def counted(targets, reasons):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()
        return predict(targets, reasons)

    table.predict = counted
    table.filter([5.0] * 12, [3.0] * 12, requests_at_once=8)
    assert max(most) == 1


def test_a_target_that_the_teacher_refuses_at_first_is_asked_about_again_with_a_hint():
    table = Table([good_from(0), good_from(0)])
    ask = table.ask
    table.ask = lambda targets, draw: [None if draw == 0 and k == 0 else r for k, r in zip(targets, ask(targets, draw))]
    accepted, _ = table.filter([5.0] * 2, [3.0] * 2)
    assert [one.draw for one in accepted] == [1, 0]


def test_a_teacher_that_fails_for_one_block_stops_the_others(monkeypatch):
    monkeypatch.setattr(distillation, "BLOCK", 1)
    table = Table([[1.0] * 11] * 50)
    ask = table.ask

    def fails(targets, draw):
        if targets == [1]:
            raise InputError("the teacher is gone")
        time.sleep(0.002)
        return ask(targets, draw)

    table.ask = fails
    with pytest.raises(InputError, match="the teacher is gone"):
        table.filter([5.0] * 50, [3.0] * 50, requests_at_once=2)
    assert len(table.asked) < 100


def test_replies_still_to_come_do_not_keep_the_other_blocks_from_asking(monkeypatch):
    monkeypatch.setattr(distillation, "BLOCK", 2)
    table = many(6)
    wanted = []

    def ask(targets, draw):
        wanted.append((draw, list(targets)))
        raise BatchPending(SimpleNamespace(wanted=wanted))

    table.ask = ask
    with pytest.raises(BatchPending):
        table.filter([5.0] * 6, [3.0] * 6, requests_at_once=2)
    assert sorted(wanted) == [(0, [0, 1]), (0, [2, 3]), (0, [4, 5])]


def distilling_script():
    path = ROOT / "2_Reasoner" / "4_distilling_possible_reason.py"
    spec = importlib.util.spec_from_file_location("distilling_possible_reason", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


class Reader:
    def read_prefixes(self, asked, at_once):
        return None


def distil(folder, monkeypatch, draws, *flags):
    """Runs the script on targets whose reasons help from the given draws on; the models answer from the prompts."""
    n = len(draws)
    frame = pd.DataFrame(
        {
            "user_id": [f"user {k}" for k in range(n)],
            "item_id": [f"item {k}" for k in range(n)],
            "title": [f"Title {k};" for k in range(n)],
            "ratings": [1.0 + k % 5 for k in range(n)],
            "reviews": [f"Review {k}." for k in range(n)],
            "unixReviewTime": range(n),
        }
    )
    data = folder / "data" / "Demo_data"
    files.write_pickle(data / REASON_TARGETS.path, frame)
    files.write_pickle(data / SUMMARIES.path, frame.assign(**{SUMMARY: "Positive Aspects: x"}))
    adapter = folder / "checkpoints" / "Demo_data" / "reason_reward_model"
    adapter.mkdir(parents=True)
    (adapter / "settings.json").write_text("{}")
    seen = []

    def target_of(prompt):
        return int(prompt.text.split("New item: Title ")[1].split(";")[0])

    def chat_with_gpt(teacher, asked, temperature, draw=0, quiet=False):
        seen.extend((draw, target_of(prompt), prompt.text) for prompt in asked)
        return [f"user {target_of(prompt)} on draw {draw}." for prompt in asked]

    def predict(model, asked, heads, what):
        found = []
        for prompt in asked:
            k, reason = target_of(prompt), prompt.text.rsplit("Whether the user will like the item:\n")[-1]
            helps = " on draw " in reason and int(reason.split("draw ")[1].strip(".")) >= draws[k]
            error = 0 if helps else 1 if reason == frame["reviews"][k] else 2
            rating = frame["ratings"][k]
            found.append(rating + error if rating < 3 else rating - error)
        return np.array(found)

    monkeypatch.setattr(utils.ExpertStep, "language_model", lambda step, name: Reader())
    monkeypatch.setattr(utils, "chat_with_gpt", chat_with_gpt)
    monkeypatch.setattr(utils, "logits_weighted_predict", predict)
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    roots = ["--data_root", str(folder / "data"), "--checkpoint_root", str(folder / "checkpoints")]
    monkeypatch.setattr(sys, "argv", ["4_distilling_possible_reason.py", "--dataset", "Demo_data", *roots, *flags])
    script = distilling_script()
    utils.start(script.run, script.__doc__)
    return frame, schema.read(data, TEACHER_REASONS), seen


def test_every_row_after_a_hinted_retry_lost_its_user_item_and_rating(tmp_path, monkeypatch):
    """In the released code, which drops rows in place while it walks over them; here every kept row keeps all."""
    draws = [0, 2, 0, 99, 1, 10, 0, 3]
    frame, kept, _ = distil(tmp_path, monkeypatch, draws, "--tau", "0")
    survivors = [k for k, draw in enumerate(draws) if draw <= HINTED_DRAWS]
    expected = frame.loc[survivors].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept[list(REVIEW_COLUMNS)], expected)
    assert kept["accepted_draw"].tolist() == [draws[k] for k in survivors]
    assert kept[TEACHER_REASON].tolist() == [f"user {k} on draw {draws[k]}." for k in survivors]
    assert (kept["reward_score"] < 0).all()


def test_the_teacher_is_hinted_with_the_true_rating_only_when_it_is_asked_again(tmp_path, monkeypatch):
    frame, _, seen = distil(tmp_path, monkeypatch, [0, 1, 1], "--tau", "0")
    assert [(draw, k) for draw, k, _ in seen] == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]
    for draw, k, text in seen:
        assert (f"rated the item {frame['ratings'][k]:.1f} " in text) == (draw > 0)


@pytest.mark.parametrize("baseline, scores", [("direct", [-2.0, 0.0]), ("review", [-1.0])])
def test_a_reason_is_compared_with_no_reason_or_with_the_real_review(tmp_path, monkeypatch, baseline, scores):
    """The first target's reason is exact; the second's is as good as none, and worse than the review."""
    _, kept, _ = distil(tmp_path, monkeypatch, [0, 99], "--tau", "0.1", "--baseline", baseline)
    assert kept["reward_score"].tolist() == scores
