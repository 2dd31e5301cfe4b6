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
from reason4rec.training.grpo import Task, settings_of, train_policy
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


def train(start, out, scores=letters, policy=POLICY, **more):
    parts = [Part("part", 1.0, scores)]
    settings = json.loads(json.dumps(settings_of("Policy", start, policy, {part.name: part.weight for part in parts})))
    task = Task(PROMPTS, ROWS, parts)
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
    once = replace(POLICY, steps=2)
    moved = replace(once, beta=1.0)
    calls = []

    def equal_after_a_step(rollouts):
        calls.append(1)
        return letters(rollouts) if len(calls) % 2 else equal(rollouts)

    ends = {}
    for name, policy in (("one step", replace(moved, steps=1)), ("kept", moved), ("left out", moved)):
        calls.clear()
        policy = replace(policy, leave_out_equal=name == "left out")
        train(start, tmp_path / name, equal_after_a_step, policy)
        ends[name] = json.loads((tmp_path / name / "loss_curve.json").read_text())
    assert ends["kept"][1]["groups/equal"] == ends["left out"][1]["groups/equal"] == 1
    assert ends["kept"][1]["grad_norm"] > 0
    assert ends["left out"][1]["grad_norm"] == 0


def test_a_reward_that_is_no_number_ends_the_training_in_one_line(start, tmp_path):
    with pytest.raises(InputError, match="reward part: nan"):
        train(start, tmp_path / "Policy", lambda rollouts: [float("nan")] * len(rollouts))
    assert not (tmp_path / "Policy").exists()


def test_special_tokens_were_hidden_from_the_reward(base):
    tokenizer = load_tokenizer(base)
    end, other = tokenizer.eos_token_id, tokenizer.all_special_ids[0]
    ids = [*tokenizer("fine", add_special_tokens=False)["input_ids"], other, end]
    policy = SimpleNamespace(eos_token_ids=[end], _tokenizer=tokenizer, rows=ROWS)
    rollout = GroupTrainer._rollout(policy, 3, ids)
    assert rollout.ended
    assert rollout.row == {"number": 3}
    assert rollout.ids == tuple(ids)
    assert ("fine" in rollout.text) and (tokenizer.decode([other]) in rollout.text)
    assert not GroupTrainer._rollout(policy, 0, ids[:-2]).ended


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
