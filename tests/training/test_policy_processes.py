"""A policy trained in two processes, on the CPU: it learns what one process does, and what is drawn is kept apart."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_grpo import POLICY, PROMPTS, ROWS, letters, settings_of, start, weights_of  # noqa: F401

from reason4rec.errors import InputError
from reason4rec.run import records
from reason4rec.training import grpo
from reason4rec.training.group_trainer import GroupTrainer
from reason4rec.training.policy import prompts_of_each
from reason4rec.training.rollouts import Part

ROOT = Path(__file__).parents[2]
FOUR = replace(POLICY, prompts_a_step=4, steps=2)
LEFT_OUT = replace(FOUR, leave_out_equal=True, beta=0.5)
DRAWN = replace(POLICY, steps=2, max_new_tokens=6)
NUMBERS = range(2)  # of the processes


def sums(rollouts):
    """Scores of completions that were given; one prompt has a group of equal ones."""
    return [0.5 if one.row["number"] == 2 else sum(one.ids) % 7 / 10 for one in rollouts]


class Given:
    """Writes completions that depend on the prompt, the step and the place in the group, whoever draws them."""

    def __init__(self, words: int):
        self.words, self.calls = words, 0

    def __call__(self, trainer: GroupTrainer, prompts: list[list[int]], *_: object, **__: object) -> tuple[list, None]:
        self.calls += 1
        found = []
        for place, ids in enumerate(prompts):
            rng = np.random.default_rng([self.calls, place % trainer.num_generations, *ids])
            ends = [trainer.eos_token_ids[0]] if place % 2 else []
            found.append([*rng.integers(20, self.words, rng.integers(2, 11)).tolist(), *ends])
        return found, None


def trained(start, out, scores=letters, policy=FOUR, validation=None, save_minutes=10):  # noqa: F811
    """What `train_policy` says of a training, its curve and the sha256 of the weights that this process ends with."""
    parts, ends = [Part("part", 1.0, scores)], []
    weights = {part.name: part.weight for part in parts}
    settings = settings_of("Policy", start, policy, weights, watched=validation and validation.recorded())
    build = grpo.build_trainer

    def kept(*given):
        trainer, shortened = build(*given)
        ends.append(trainer)
        return trainer, shortened

    grpo.build_trainer = kept
    try:
        found = grpo.train_policy(
            out,
            {"inputs": {}, "settings": json.loads(json.dumps(settings))},
            start,
            policy,
            grpo.Task(PROMPTS, ROWS, parts, validation=validation),
            7,
            "cpu",
            save_minutes,
        )
    finally:
        grpo.build_trainer = build
    model = ends[0].accelerator.unwrap_model(ends[0].model)
    learned = [weight.detach().numpy().tobytes() for name, weight in model.named_parameters() if ".default." in name]
    return found, hashlib.sha256(b"".join(learned)).hexdigest()


def given(start, out, policy=FOUR):  # noqa: F811
    """A training whose completions are given."""
    draw = GroupTrainer._generate_single_turn
    write = Given(words=200)
    GroupTrainer._generate_single_turn = lambda trainer, *args, **named: write(trainer, *args, **named)
    try:
        return trained(start, out, sums, policy)
    finally:
        GroupTrainer._generate_single_turn = draw


def watching():
    return grpo.Validation(PROMPTS[:3], ROWS[:3], [Part("part", 1.0, letters)], 1, "best")


def in_two(start, root):  # noqa: F811
    """What each of two processes does: given completions, draws of its own, the same cut off, and an error in one."""
    from accelerate import PartialState

    from reason4rec.run.commands import guarded
    from reason4rec.training import processes

    calls = []

    def breaks_once(rollouts):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return letters(rollouts)

    def fails_in_one(rollouts):
        return [float("nan")] * len(rollouts) if PartialState().process_index else letters(rollouts)

    def run():
        state = processes.started("cpu")
        with processes.one_speaks(state):
            ends = {"given": given(start, root / "given"), "left out": given(start, root / "left out", LEFT_OUT)}
            ends["drawn"] = trained(start, root / "drawn", policy=DRAWN, validation=watching())
            try:
                trained(start, root / "cut", breaks_once, DRAWN, watching(), save_minutes=1e-9)
            except KeyboardInterrupt as said:
                ends["interrupted"] = str(said)
            ends["cut"] = trained(start, root / "cut", letters, DRAWN, watching(), save_minutes=1e-9)
            (root / f"ends-{state.process_index}.json").write_text(json.dumps(ends))
            print("learned", flush=True)
            trained(start, root / "failed", fails_in_one, DRAWN)

    guarded(run)


def launch(*words, seconds=400, **more):
    """What two processes say that a launcher starts together, and how each of them ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            env=os.environ
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        for rank in NUMBERS
    ]
    try:
        said = [process.communicate(timeout=seconds) for process in together]
    finally:
        for process in together:
            process.kill()
    return said, [process.returncode for process in together]


@pytest.fixture(scope="module")
def two(start, tmp_path_factory):  # noqa: F811
    """The folder of the trainings in two processes, what each of them ended with, said, and its exit."""
    root = tmp_path_factory.mktemp("two")
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from pathlib import Path\nimport test_policy_processes as here\n"
        "here.in_two(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    said, codes = launch("-c", code, start, root)
    paths = [root / f"ends-{number}.json" for number in NUMBERS]
    assert all(path.exists() for path in paths), said[0][1][-3000:] + said[1][1][-3000:]
    return root, [json.loads(path.read_text()) for path in paths], said, codes


def curve_in(folder):
    return json.loads((folder / "loss_curve.json").read_text())


@pytest.mark.parametrize(
    ("name", "policy"),
    [("given", FOUR), ("left out", LEFT_OUT)],
)
def test_two_processes_learn_from_the_same_completions_what_one_does(two, start, tmp_path, name, policy):  # noqa: F811
    given(start, tmp_path / name, policy)
    one, both = curve_in(tmp_path / name), curve_in(two[0] / name)
    assert len(one) == len(both) == policy.steps
    for key in ("reward", "grad_norm", "groups/equal", "groups/spread", "rewards/part/mean"):
        assert [entry[key] for entry in both] == pytest.approx([entry[key] for entry in one], rel=2e-3, abs=1e-6), key
    # A mean over parts, which are other rows in each training: a step's are mixed before it is cut.
    assert both[1]["kl"] == pytest.approx(one[1]["kl"], rel=0.3)
    assert min(entry["grad_norm"] for entry in one) > 0
    assert max(entry["groups/equal"] for entry in one) == 0.25
    alone, shared = weights_of(tmp_path / name), weights_of(two[0] / name)
    moved = max(float((alone[key] - weight).abs().max()) for key, weight in weights_of(start).items())
    for key, weight in alone.items():
        torch.testing.assert_close(shared[key], weight, atol=moved / 20, rtol=0)


def test_all_processes_end_with_the_same_weights(two):
    first, second = two[1]
    for name in ("given", "left out"):
        assert first[name][1] == second[name][1]
        assert second[name][0] is None
    assert first["given"][0]["steps"] == FOUR.steps


def test_two_processes_draw_from_seeds_of_their_own_and_again_the_same(two):
    root, ends, *_ = two
    assert ends[0]["interrupted"].startswith("step 1 is kept")
    assert min(entry["grad_norm"] for entry in curve_in(root / "drawn") if "reward" in entry) > 0
    for name in ("adapter_model.safetensors", "loss_curve.json"):
        assert (root / "cut" / name).read_bytes() == (root / "drawn" / name).read_bytes()
    assert ends[0]["cut"][0] == ends[0]["drawn"][0]


def test_both_measure_a_policy_and_one_writes_what_is_kept(two):
    root, ends, *_ = two
    measured = [entry for entry in curve_in(root / "drawn") if "watched/reward" in entry]
    assert [entry["step"] for entry in measured] == [0, 1, 2]
    best = max(measured, key=lambda entry: entry["watched/reward"])
    assert ends[0]["drawn"][0]["kept_step"] == best["step"]
    assert sorted(path.name for path in root.iterdir() if path.name.startswith(".")) == [".failed.training"]
    settings = json.loads((root / "drawn" / "settings.json").read_text())
    assert settings["processes"] == 2
    assert records.read_record(root / "drawn")["made_from"]["execution"]["processes"] == 2


def test_a_reward_that_fails_in_one_process_ends_both_in_one_line(two):
    _, _, said, codes = two
    assert codes == [2, 2]
    errors = [[line for line in err.splitlines() if line.startswith("error:")] for _, err in said]
    assert [len(lines) for lines in errors] == [0, 1]
    assert "reward part: nan" in errors[1][0]
    assert [out.splitlines().count("learned") for out, _ in said] == [1, 0]


@pytest.mark.parametrize(("prompts", "processes"), [(12, 5), (1, 2), (3, 2)])
def test_prompts_that_processes_cannot_share_are_told(prompts, processes):
    with pytest.raises(InputError, match=f"--prompts_a_step {prompts} .* {processes} processes"):
        prompts_of_each(replace(POLICY, prompts_a_step=prompts), processes)
    assert prompts_of_each(replace(POLICY, prompts_a_step=12), 3) == 4
