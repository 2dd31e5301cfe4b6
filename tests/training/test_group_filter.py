"""Groups that count as equal by one part of the reward, and the dual clip; neither stands in a record that lacks it."""

import json
from dataclasses import asdict, replace

import pytest
import served

from reason4rec.errors import InputError
from reason4rec.llm.prompt import Prompt
from reason4rec.training.group_trainer import config_of
from reason4rec.training.grpo import Task, settings_of, train_policy
from reason4rec.training.policy import Policy, checked, recorded
from reason4rec.training.rollouts import Part

POLICY = Policy(
    steps=1,
    prompts_a_step=2,
    group=3,
    lr=1e-3,
    beta=0.05,
    epsilon=0.2,
    epsilon_high=0.2,
    loss_type="dapo",
    temperature=1.0,
    max_new_tokens=10,
    iterations=1,
    least_spread=1e-6,
    leave_out_equal=True,
    mask_truncated=False,
)


def letters(rollouts):
    return [one.text.count("e") / 10 for one in rollouts]


def equal(rollouts):
    return [1.0] * len(rollouts)


def in_groups(rollouts):
    """Equal within the first group of a step, and not within the second."""
    return [0.0 if place < POLICY.group else float(place) for place in range(len(rollouts))]


@pytest.fixture(scope="module")
def start(base, tmp_path_factory):
    """A trained adapter, here of small random weights."""
    folder = tmp_path_factory.mktemp("start") / "Generator"
    served.put_adapter(folder, base, lm_head=False, size=0.005)
    settings = json.loads((folder / "settings.json").read_text())
    more = {"lr": 1e-3, "warmup": 0, "epochs": 1, "batch_size": 1, "dropout": 0.0, "lm_head": False} | settings
    (folder / "settings.json").write_text(json.dumps({"target_modules": [], "rank": 8, "alpha": 16} | more))
    return folder


def train(start, out, policy, rewarded, watched):
    parts = [Part("rewarded", 1.0, rewarded), Part("watched", 0.0, watched)]
    settings = json.loads(json.dumps(settings_of("Policy", start, policy, {part.name: part.weight for part in parts})))
    prompts = [Prompt(f"Say something about album {n}.") for n in range(4)]
    task = Task(prompts, [{"number": n} for n in range(4)], parts)
    train_policy(out, {"inputs": {}, "settings": settings}, start, policy, task, 7, "cpu")
    return json.loads((out / "loss_curve.json").read_text())


@pytest.mark.parametrize(
    ("rewarded", "watched", "spread_of", "share"),
    [
        (letters, equal, None, 0),
        (letters, equal, "watched", 1),
        (equal, letters, "watched", 0),
        (letters, in_groups, "watched", 0.5),
    ],
)
def test_groups_are_left_out_that_are_equal_by_the_part_that_is_named(
    start, tmp_path, rewarded, watched, spread_of, share
):
    curve = train(start, tmp_path / "Policy", replace(POLICY, spread_of=spread_of), rewarded, watched)
    assert [entry["groups/equal"] for entry in curve] == [share]
    learned = share < 1 and rewarded is letters
    assert (curve[0]["grad_norm"] > 0) == learned


def test_a_part_that_the_reward_lacks_is_told_before_the_training(start):
    with pytest.raises(InputError, match="spread_of 'match'.*score, format"):
        settings_of("Policy", start, replace(POLICY, spread_of="match"), {"score": 1.0, "format": 0.0})


def test_a_record_holds_what_is_set_and_one_without_it_is_as_it_was(start):
    plain = settings_of("Policy", start, POLICY, {"score": 1.0})
    assert not {"spread_of", "delta"} & plain.keys()
    assert recorded(POLICY).keys() == asdict(POLICY).keys() - {"spread_of", "delta"}
    both = settings_of("Policy", start, replace(POLICY, spread_of="score", delta=10.0), {"score": 1.0})
    assert both == plain | {"spread_of": "score", "delta": 10.0}


@pytest.mark.parametrize("delta", [None, 10.0])
def test_the_bound_of_a_ratio_comes_to_the_trainer(tmp_path, delta):
    parts = [Part("score", 1.0, letters)]
    config = config_of(replace(POLICY, delta=delta), parts, 7, tmp_path, POLICY.group, on_cpu=True)
    assert config.delta == delta


@pytest.mark.parametrize("delta", [1.2, 0.0, float("nan")])
def test_a_bound_below_that_of_the_clipping_is_told(delta):
    with pytest.raises(InputError, match="^delta "):
        checked(replace(POLICY, delta=delta))
    assert checked(replace(POLICY, delta=10.0)).delta == 10
