"""The trainings of GREAM on a few dozen users: both orders, a training by a reward, all parts over seeds, and kills."""

import json
import shutil

import gream_run
import numpy as np
import pytest
from helpers import files_in
from safetensors import safe_open
from test_kill import Fuse, the_forks

from reason4rec.errors import InputError
from reason4rec.llm.prompt import training_row
from reason4rec.run import files, locks, records
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import part_comparison, rl_train, train
from reason4rec.systems.gream.prompts import REASONED
from reason4rec.systems.twice_rec.artifacts import SASREC

CONFIG = """
teacher_model: rules
text_users: 6
reasonings: 8
passes: 2
fusion_rows: 5
cases: 5
levels: 2
codes: 5
max_new_tokens: 8
completion_tokens: 12
device: cpu
rank: 4
alpha: 8
batch_size: 8
epochs: 0.04
rl_steps: 2
prompts_a_step: 2
group: 4
watched: 2
watch_every: 2
rl_targets: 6
epochs_most: 1
"""
TRAINERS = {"G/7": train, "G/8": rl_train}
pytestmark = pytest.mark.slow


def step_of(name, root, *words):
    return gream_run.step_of(name, root, "--config", root / "config.yaml", *words)


def run(name, root, *words):
    """Runs a step with the options of the run's file; trainings, whose script is the shell's, by their function."""
    if name in TRAINERS:
        TRAINERS[name].train(step := step_of(name, root, *words))
        locks.unlock()
        return step.outputs[0]
    return gream_run.run(name, root, "--config", root / "config.yaml", *words)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A root in which all steps before the trainings have run."""
    root = tmp_path_factory.mktemp("prepared") / "root"
    gream_run.put_choices(root)
    files.write_text(root / "config.yaml", CONFIG)
    for name in ("T/1", "G/1", "G/2", "G/3", "G/4", "G/5", "G/6"):
        run(name, root)
    return root


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    """A copy of that root with a generator, one of shuffled rows, and a policy."""
    root = shutil.copytree(prepared, tmp_path_factory.mktemp("trained") / "root")
    for words in ((), ("--order", "shuffled")):
        run("G/7", root, *words)
    run("G/8", root)
    return root


def weights(folder):
    with safe_open(folder / "adapter_model.safetensors", "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_both_orders_train_adapters_with_new_tokens_that_differ(trained):
    step = step_of("G/9", trained)
    found = [step.path(one) for one in (a.GENERATOR, a.SHUFFLED)]
    settings = [records.read_record(path)["made_from"]["settings"] for path in found]
    assert [one.get("in_order", False) for one in settings] == [True, False]
    assert [one["order"] for one in settings] == ["curriculum", "shuffled"]
    assert all(one["new_tokens"] and one["base_model"] == a.BASE.path for one in settings)
    first, second = map(weights, found)
    assert first.keys() == second.keys() and any("trainable_tokens" in name for name in first)
    assert any(not np.array_equal(first[name], second[name]) for name in first)


def test_all_weights_are_trained_by_a_switch_then_by_a_reward_and_asked(prepared, tmp_path):
    root = shutil.copytree(prepared, tmp_path / "root")
    run("G/7", root, "--full")
    settings = records.read_record(step_of("G/9", root).path(a.GENERATOR))["made_from"]["settings"]
    assert settings["full"] is True
    assert "new_tokens" not in settings
    assert settings["lr"] == pytest.approx(2 * 5e-5)  # twice that of the released 4B base
    run("G/8", root)
    policy = records.read_record(step_of("G/9", root).path(a.BY_ADVANTAGE["srpo"]))["made_from"]["settings"]
    assert policy["full"] is True
    assert policy["lr"] == pytest.approx(2 * 2e-6)
    run("G/9", root)
    assert {path.name for path in (step_of("G/9", root).path(a.RANKED)).iterdir()} >= {"srpo_direct_test.pkl"}


def test_a_finished_training_is_not_done_again(trained, capsys):
    before = files_in(trained)
    run("G/7", trained)
    assert "complete: " in capsys.readouterr().out
    assert step_of("G/8", trained).status().done
    assert files_in(trained) == before


@pytest.mark.parametrize(("order", "flag"), [("curriculum", "--no-in_order"), ("shuffled", "--in_order")])
def test_rows_in_another_order_than_the_adapters_name_says_are_refused(prepared, order, flag):
    with pytest.raises(InputError, match=f"{flag} with --order {order}: the order of the rows is --order's"):
        train.train(step_of("G/7", prepared, "--order", order, flag))


def test_lists_and_draws_of_trained_generators_and_of_a_real_sasrec_are_judged_on_both_splits(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "root")
    for name in ("T/2", "T/3"):
        run(name, root)
    for split, metrics in (("test", a.METRICS), ("valid", a.VALID_METRICS)):
        words = ("--split", split)
        run("G/9", root, *words, "--draws", 2)
        run("G/10", root, *words)
        step = step_of("G/10", root, *words)
        assert step.path(SASREC).exists()
        result = json.loads(step.path(metrics).read_text())
        models = {row["model"] for row in result["ranks"]}
        assert {"SASRec", "generator_direct", "shuffled_reasoned", "srpo_reasoned"} <= models
        drawn = {row["model"]: row for row in result["draws"]}
        assert drawn.keys() == {"generator_reasoned", "shuffled_reasoned", "srpo_reasoned"}
        assert all(row["draws"] == 2 and [one["k"] for one in row["pass"]] == [1] for row in drawn.values())
        said = step.read(a.written("srpo_reasoned", split))
        assert said.groupby("user_id")["draw"].apply(list).tolist() == [[0, 1, 2]] * 5
    assert step_of("G/10", root).judged_cases("test") != step_of("G/10", root).judged_cases("valid")


# What a reward teaches


def put_answers(root, targets):
    """Rows that teach the form, and for each target the right item as often as each of three others."""
    step = step_of("G/8", root)
    ids, rows = step.id_texts, []
    others = [item.item_id for item in step.catalogue][:3]
    prompts = step.next_item([history for history, _ in targets], REASONED)
    for prompt, (_, item_id) in zip(prompts, targets):
        for answer in (item_id, *(one for one in others if one != item_id)):
            rows.append(training_row(prompt, f"<think>\nA\n</think>\n\nB <answer>{ids[answer]}</answer>"))
    files.write_pickle(step.path(a.INSTRUCT_ROWS), rows)


def test_the_reward_is_not_zero_and_rises_where_it_can_be_learned(prepared, tmp_path):
    """The ids are written, decoded and read: special tokens would vanish, and every reward with them."""
    root = shutil.copytree(prepared, tmp_path / "root")
    words = ("--rl_targets", 2, "--rl_steps", 12, "--group", 8, "--watched", 0, "--completion_tokens", 40)
    step = step_of("G/8", root, *words)
    put_answers(root, rl_train.train_targets(step))
    run("G/7", root, "--epochs", 24, "--lr", 0.01, "--rank", 16, "--alpha", 32)
    out = run("G/8", root, *words, "--rl_lr", 0.0003)
    entries = json.loads((out / "loss_curve.json").read_text())
    rewards, forms, exact = (
        [one[name] for one in entries] for name in ("reward", "rewards/format/mean", "rewards/exact/mean")
    )
    assert np.mean(forms[:3]) > 0.5
    assert 0 < np.mean(rewards[:3]) < np.mean(rewards[-3:]) - 0.15
    assert np.mean(exact[:3]) < np.mean(exact[-3:])


# All parts over seeds


def test_all_parts_are_trained_for_each_seed_and_judged_on_the_same_cases(prepared, tmp_path, capsys, monkeypatch):
    root = shutil.copytree(prepared, tmp_path / "root")
    words = ("--seeds", 1, 2, "--parts", "shuffled", "srpo")
    stopped = part_comparison.compare

    def stop(step):
        raise InputError("cut off here")

    monkeypatch.setattr(part_comparison, "compare", stop)
    with pytest.raises(SystemExit):
        run("G/12", root, *words)
    monkeypatch.setattr(part_comparison, "compare", stopped)
    before = files_in(root)
    capsys.readouterr()
    run("G/12", root, *words)
    out = capsys.readouterr().out
    assert "training:" not in out and out.count("complete: ") == 2 * (3 + 3 * 2)
    assert {name for name, content in files_in(root).items() if before.get(name) != content} == {
        f"data/{gream_run.DATASET}/{a.COMPARISON.path}",
        f"data/{gream_run.DATASET}/{a.COMPARISON.path}.json",
    }
    step = step_of("G/12", root, *words)
    adapters = step.adapters
    result = part_comparison.read(step.path(a.COMPARISON))
    assert result["settings"]["seeds"] == [1, 2] and result["settings"]["cases"] == 5
    for mode in part_comparison.MODES:
        rows = [row for row in result["against_generator"][mode] if row["metric"] == "Recall@10"]
        assert {row["model"]: row["seeds"] for row in rows if row["seeds"] == 2} == dict.fromkeys(
            ("generator", "shuffled", "srpo"), 2
        )
        assert all("p_corrected" in row for row in rows if row["model"] != "generator")
    assert [(one["part"], one["seed"]) for one in result["by_step"]] == [("srpo", 1), ("srpo", 2)]
    first, second = (weights(adapters / f"Generator_seed_{seed}") for seed in (1, 2))
    assert any(not np.array_equal(first[name], second[name]) for name in first)
    for seed in (1, 2):
        made = records.read_record(adapters / f"Generator_srpo_seed_{seed}")["made_from"]["settings"]
        generator = adapters / f"Generator_seed_{seed}"
        assert made["started_from"] == files.sha256(generator / "adapter_model.safetensors") and made["seed"] == seed


@pytest.mark.parametrize("words", [("--seeds", 1, 1), ("--seeds",), ("--parts", "srpo", "srpo")])
def test_seeds_and_parts_are_named_once_each(prepared, words):
    with pytest.raises(InputError, match=f"{words[0]}.*name at least one, and each once"):
        step_of("G/12", prepared, *words)


# Kills


@pytest.mark.parametrize("name", ["G/7", "G/8"])
def test_a_training_that_was_killed_goes_on_and_ends_as_an_unbroken_one(name, trained, tmp_path):
    script = f"reason4rec/systems/gream/{'train' if name == 'G/7' else 'rl_train'}.py"
    found, changes, root = [], 0, tmp_path / "root"  # the same both times, since an adapter names its base by its path
    for kills in (0, 3):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(trained, root)
        out = step_of(name, root).outputs[0]
        shutil.rmtree(out)
        records.record_path(out).unlink()
        fuses = [Fuse(event=max(1, changes * part // 4)) for part in range(1, kills + 1)]
        for fuse in [*fuses, Fuse()]:
            words = [*gream_run.places(root), "--config", str(root / "config.yaml")]
            code, counted = the_forks().run(script, *words, log=tmp_path / "log", fuse=fuse, watched=root)
            assert code in (0, -9), (tmp_path / "log").read_text(errors="replace")[-3_000:]
        assert code == 0
        changes = max(changes, counted)
        found.append(files_in(root))
    assert found[0] == found[1]
