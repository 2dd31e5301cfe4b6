"""Reinforcement learning in groups on the demo's tiny base: resuming, equal groups, what the reward sees, refusals."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import served
from safetensors.torch import load_file

from reason4rec.errors import InputError
from reason4rec.llm.adapters import ADAPTER_WEIGHTS
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.tokens import load_tokenizer
from reason4rec.training import grpo
from reason4rec.training.group_trainer import GroupTrainer
from reason4rec.training.grpo import Task, Validation, settings_of, train_policy
from reason4rec.training.policy import Policy, checked, rate_for
from reason4rec.training.rollouts import Part

POLICY = Policy(
    steps=4,
    prompts_a_step=2,
    group=3,
    lr=1e-3,
    beta=0.05,
    epsilon=0.2,
    epsilon_high=0.2,
    loss_type="dapo",
    temperature=1.0,
    max_new_tokens=12,
    iterations=1,
    least_spread=1e-6,
    leave_out_equal=False,
    mask_truncated=False,
)
PROMPTS = [Prompt(f"Say something about album {n}.") for n in range(5)]
ROWS = [{"number": n} for n in range(5)]


def letters(rollouts):
    return [one.text.count("e") / 10 for one in rollouts]


def equal(rollouts):
    return [1.0] * len(rollouts)


@pytest.fixture(scope="module")
def start(base, tmp_path_factory):
    """A trained adapter, here of small random weights."""
    folder = tmp_path_factory.mktemp("start") / "Reasoner"
    served.put_adapter(folder, base, lm_head=False, size=0.005)
    settings = json.loads((folder / "settings.json").read_text())
    more = {"lr": 1e-3, "warmup": 0, "epochs": 1, "batch_size": 1, "dropout": 0.0, "lm_head": False} | settings
    (folder / "settings.json").write_text(json.dumps({"target_modules": [], "rank": 8, "alpha": 16} | more))
    return folder


def train(start, out, scores=letters, policy=POLICY, validation=None, **more):
    parts = [Part("part", 1.0, scores)]
    watched = validation and validation.recorded()
    weights = {part.name: part.weight for part in parts}
    settings = json.loads(json.dumps(settings_of("Policy", start, policy, weights, watched=watched)))
    task = Task(PROMPTS, ROWS, parts, validation=validation)
    return train_policy(out, {"inputs": {}, "settings": settings}, start, policy, task, 7, "cpu", **more)


def weights_of(folder):
    return load_file(folder / ADAPTER_WEIGHTS)


def same(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


@pytest.fixture(scope="module")
def unbroken(start, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "Policy"
    return out, train(start, out)


def test_a_policy_is_a_complete_adapter_with_its_record_and_its_curve(unbroken):
    out, found = unbroken
    assert found["steps"] == POLICY.steps
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == []
    curve = json.loads((out / "loss_curve.json").read_text())
    assert [entry["step"] for entry in curve] == [1, 2, 3, 4]
    assert all("rewards/part/mean" in entry and "groups/equal" in entry for entry in curve)
    settings = json.loads((out / "settings.json").read_text())
    assert settings["reward"] == {"part": 1.0}
    assert settings["beta"] == POLICY.beta


def test_a_policy_moves_from_where_it_began(unbroken, start):
    assert not same(weights_of(unbroken[0]), weights_of(start))


def test_the_divergence_is_from_the_adapter_it_began_with_and_not_from_the_base(unbroken):
    curve = json.loads((unbroken[0] / "loss_curve.json").read_text())
    assert curve[0]["kl"] == 0
    assert curve[-1]["kl"] > 0


def test_a_training_that_is_cut_off_ends_as_an_unbroken_one(unbroken, start, tmp_path):
    calls = []

    def breaks_once(rollouts):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return letters(rollouts)

    out = tmp_path / "Policy"
    with pytest.raises(KeyboardInterrupt, match="step 2 is kept"):
        train(start, out, breaks_once, save_minutes=1e-9)
    assert not out.exists()
    train(start, out, breaks_once, save_minutes=1e-9)
    assert same(weights_of(out), weights_of(unbroken[0]))
    assert (out / "loss_curve.json").read_bytes() == (unbroken[0] / "loss_curve.json").read_bytes()


def test_groups_of_equal_rewards_pulled_by_their_divergence(start, tmp_path):
    """A group that teaches nothing is left out of the loss; else the divergence alone would move the policy."""
    moved, calls, ends = replace(POLICY, steps=2, beta=1.0), [], {}

    def equal_after_a_step(rollouts):
        calls.append(1)
        return letters(rollouts) if len(calls) % 2 else equal(rollouts)

    for name in ("kept", "left out"):
        calls.clear()
        train(start, tmp_path / name, equal_after_a_step, replace(moved, leave_out_equal=name == "left out"))
        ends[name] = json.loads((tmp_path / name / "loss_curve.json").read_text())
    assert ends["kept"][1]["groups/equal"] == ends["left out"][1]["groups/equal"] == 1
    assert ends["kept"][1]["grad_norm"] > 0
    assert ends["left out"][1]["grad_norm"] == 0


def test_equal_groups_beside_others_weigh_nothing(start, tmp_path):
    """The other groups are learned from as if they had been drawn alone."""
    policy, ends = replace(POLICY, steps=1, beta=0.5), {}
    for name, leave_out in (("kept", False), ("left out", True)):
        scores = lambda rollouts: [0.5 if k < POLICY.group else n for k, n in enumerate(letters(rollouts))]  # noqa: E731
        train(start, tmp_path / name, scores, replace(policy, leave_out_equal=leave_out))
        ends[name] = json.loads((tmp_path / name / "loss_curve.json").read_text())[0]
    assert ends["kept"]["groups/equal"] == ends["left out"]["groups/equal"] == 0.5
    # Half of the tokens are gone from what the loss is divided by.
    assert ends["left out"]["grad_norm"] > 1.2 * ends["kept"]["grad_norm"]


def test_equal_groups_are_left_out_only_where_the_loss_is_divided_by_what_is_left():
    with pytest.raises(InputError, match="loss type grpo"):
        checked(replace(POLICY, leave_out_equal=True, loss_type="grpo"))


def test_a_reward_that_is_no_number_ends_the_training_in_one_line(start, tmp_path):
    with pytest.raises(InputError, match="reward part: nan"):
        train(start, tmp_path / "Policy", lambda rollouts: [float("nan")] * len(rollouts))
    assert not (tmp_path / "Policy").exists()


def test_a_draw_that_is_learned_from_twice_is_clipped_and_resumed_as_it_would_have_run(start, tmp_path):
    policy = replace(POLICY, iterations=2, lr=0.05, epsilon=0.01, epsilon_high=0.01)
    ends = {}
    for name, one in (("clipped", policy), ("not clipped", replace(policy, epsilon=9.0, epsilon_high=9.0))):
        train(start, tmp_path / name, policy=one)
        ends[name] = weights_of(tmp_path / name)
    assert not same(ends["clipped"], ends["not clipped"])
    calls = []

    def breaks_once(rollouts):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return letters(rollouts)

    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt, match="step 2 is kept"):
        train(start, out, breaks_once, policy, save_minutes=1e-9)
    train(start, out, breaks_once, policy, save_minutes=1e-9)
    assert same(weights_of(out), ends["clipped"])


def test_a_training_that_nobody_restrains_has_no_copy_to_diverge_from(start, tmp_path):
    train(start, tmp_path / "Policy", policy=replace(POLICY, beta=0.0, steps=2))
    curve = json.loads((tmp_path / "Policy" / "loss_curve.json").read_text())
    assert "kl" not in curve[0]


def test_an_adapter_with_a_head_of_its_own_is_refused(start, tmp_path):
    (tmp_path / "Head").mkdir()
    settings = json.loads((start / "settings.json").read_text()) | {"lm_head": True}
    (tmp_path / "Head" / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="output head"):
        settings_of("Policy", tmp_path / "Head", POLICY, {})


def test_draws_that_leave_no_room_for_a_prompt_are_told(start):
    with pytest.raises(InputError, match="no room for a prompt"):
        settings_of("Policy", start, replace(POLICY, max_new_tokens=1024), {})


def test_what_was_seen_before_the_training_decides_nothing(start, tmp_path):
    out = tmp_path / "Policy"

    def breaks(rollouts):
        if (out.parent / "once").exists():
            return letters(rollouts)
        if len(list(out.parent.glob(".Policy.training/checkpoint-*"))) == 1:
            (out.parent / "once").touch()
            raise KeyboardInterrupt
        return letters(rollouts)

    with pytest.raises(KeyboardInterrupt, match="step 1 is kept"):
        train(start, out, breaks, save_minutes=1e-9, seen={"probes": [0.1]})
    found = train(start, out, breaks, save_minutes=1e-9, seen={"probes": [0.2]})
    assert found["steps"] == POLICY.steps
    assert json.loads((tmp_path / "Policy.json").read_text())["made_from"]["probes"] == [0.2]


def test_special_tokens_were_hidden_from_the_reward(base):
    tokenizer = load_tokenizer(base)
    end = tokenizer.eos_token_id
    policy = SimpleNamespace(eos_token_ids=[end], _tokenizer=tokenizer)
    # Some of them have no name in the tokenizer, and are hidden all the same.
    hidden = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special and number != end]
    assert set(hidden) - set(tokenizer.all_special_ids)
    for other in hidden:
        ids = [*tokenizer("fine", add_special_tokens=False)["input_ids"], other, end]
        rollout = GroupTrainer.rollout(policy, ROWS[3], ids)
        assert rollout.ended
        assert rollout.row == {"number": 3}
        assert rollout.ids == tuple(ids)
        assert rollout.text == "fine"
        assert rollout.special
    plain = GroupTrainer.rollout(policy, ROWS[0], ids[:-2])
    assert not plain.ended
    assert not plain.special


def test_each_completion_is_scored_with_the_row_of_its_prompt(start, tmp_path):
    seen = []

    def looks(rollouts):
        seen.extend(one.row["number"] for one in rollouts)
        return letters(rollouts)

    train(start, tmp_path / "Policy", looks, replace(POLICY, steps=2))
    assert len(seen) == 2 * POLICY.prompts_a_step * POLICY.group
    groups = [seen[k : k + POLICY.group] for k in range(0, len(seen), POLICY.group)]
    assert all(len(set(group)) == 1 for group in groups)
    assert len({group[0] for group in groups}) == 4


@pytest.mark.parametrize(
    ("name", "value"), [("group", 1), ("steps", 0), ("lr", 0.0), ("beta", -1.0), ("temperature", 0.0)]
)
def test_settings_that_nothing_can_be_trained_with_are_told_by_their_option(name, value):
    with pytest.raises(InputError, match=f"^{name} "):
        checked(replace(POLICY, **{name: value}))


def test_a_larger_base_has_a_smaller_rate():
    assert rate_for(1e6) > rate_for(135e6) > rate_for(1e9) > rate_for(8e9) == rate_for(None)


def test_an_adapter_without_its_settings_is_told(tmp_path):
    with pytest.raises(InputError, match="settings"):
        settings_of("Policy", tmp_path, POLICY, {})
    assert grpo.OF_START


def watching(scores, keep="best", every=2):
    return Validation(PROMPTS[:3], ROWS[:3], [Part("part", 1.0, scores)], every, keep)


def in_turn(*values):
    """A score that is the same for all rollouts of a call, and the next of these values in each call."""
    left = list(values)

    def scores(rollouts):
        value = left.pop(0)
        return [value] * len(rollouts)

    return scores


def test_a_policy_is_measured_on_the_same_prompts_before_and_between_its_steps(start, tmp_path):
    seen = []

    def looks(rollouts):
        seen.append([one.row["number"] for one in rollouts])
        return letters(rollouts)

    out = tmp_path / "Policy"
    found = train(start, out, validation=watching(looks, "last"))
    curve = json.loads((out / "loss_curve.json").read_text())
    assert [entry["step"] for entry in curve if "watched/reward" in entry] == [0, 2, 4]
    assert seen == [[0, 1, 2]] * 3
    assert found["kept_step"] == 4


def test_watching_a_policy_changes_nothing_of_it(unbroken, start, tmp_path):
    out = tmp_path / "Policy"
    train(start, out, validation=watching(letters, "last"))
    assert same(weights_of(out), weights_of(unbroken[0]))


def test_the_weights_of_the_best_step_are_kept(start, tmp_path):
    first, second = tmp_path / "first" / "Policy", tmp_path / "second" / "Policy"
    found = train(start, first, validation=watching(in_turn(1.0, 0.5, 0.2)))
    assert found["kept_step"] == 0
    assert same(weights_of(first), weights_of(start))
    found = train(start, second, validation=watching(in_turn(0.1, 0.5, 0.2)))
    assert found["kept_step"] == 2
    half = tmp_path / "half" / "Policy"
    train(start, half, policy=replace(POLICY, steps=2))
    assert same(weights_of(second), weights_of(half))


def test_a_watched_training_that_is_cut_off_ends_as_an_unbroken_one(start, tmp_path):
    whole, cut = tmp_path / "whole" / "Policy", tmp_path / "cut" / "Policy"
    train(start, whole, validation=watching(letters), save_minutes=1e-9)
    calls = []

    def breaks_once(rollouts):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return letters(rollouts)

    with pytest.raises(KeyboardInterrupt):
        train(start, cut, breaks_once, validation=watching(letters), save_minutes=1e-9)
    train(start, cut, validation=watching(letters), save_minutes=1e-9)
    assert same(weights_of(cut), weights_of(whole))
    assert (cut / "loss_curve.json").read_text() == (whole / "loss_curve.json").read_text()
