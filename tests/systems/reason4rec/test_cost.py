"""What a run would cost: its counts against what the steps really do, and that looking costs nothing."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from helpers import ROOT, Planned, complaint, files_in, put_toy_dataset, run_script, serving

from reason4rec.data import schema
from reason4rec.data.history import HistoryIndex
from reason4rec.demo import rules, stand_in
from reason4rec.errors import InputError
from reason4rec.llm import shape
from reason4rec.llm.usage import PRICES
from reason4rec.run import files
from reason4rec.systems import costs
from reason4rec.systems.reason4rec import artifacts, targets
from reason4rec.systems.reason4rec import facts as facts_module
from reason4rec.systems.reason4rec.experts import EXPERTS
from reason4rec.training import gpu_memory
from reason4rec.training.recipe import Recipe

BASE = "reason4rec/demo/base"


def plan_of(root, *words, dataset="Demo_data"):
    places = ["--data_root", str(root / "data"), "--checkpoint_root", str(root / "checkpoints")]
    return Planned("reason4rec", ["--dataset", dataset, *places, *words])


def by_step(plan):
    """The line of each step; of 2/4 that of the teacher, and that of the reward model as `scores`."""
    lines = plan.lines()
    return {("scores" if line.what == "scores of the reasons" else line.step): line for line in lines}


@pytest.fixture
def toy(tmp_path):
    """A root with the splits of a toy dataset."""
    put_toy_dataset(tmp_path)
    return tmp_path


@pytest.fixture
def real_ids():
    """Token ids of a message in the chat format, and of an answer with its end, as the trainer has them."""
    from reason4rec.llm.tokens import answer_ids, chat_ids, load_tokenizer

    tokenizer = load_tokenizer(ROOT / BASE)
    return lambda text: chat_ids(tokenizer, text), lambda text: answer_ids(tokenizer, text)


def tokens_of(rows, real_ids):
    chat, answer = real_ids
    return sum(len(chat(row["messages"][0]["content"])) + len(answer(row["messages"][1]["content"])) for row in rows)


def test_without_data_the_rows_are_those_that_the_paper_states(tmp_path):
    plan = plan_of(tmp_path, dataset="Music_data")
    lines = by_step(plan)
    assert lines["1/1"].rows == lines["1/1"].requests == lines["1/4"].rows == 64_706 * 8 // 10 == 51_764
    assert (lines["2/2"].rows, lines["2/4"].rows, lines["2/1"].rows) == (8_000, 12_000, 20_000)
    assert lines["2/5"].rows == lines["3/1"].rows == 7_500
    assert lines["2/7"].rows == lines["3/3"].rows == 6_471
    assert 12_000 < lines["2/4"].requests < 132_000
    assert lines["scores"].requests == 12_000 + lines["2/4"].requests
    assert {"tokens of a review", "targets with an accepted reason"} <= set(plan.assumed)


def test_the_price_of_the_teacher_is_that_of_its_tokens(tmp_path):
    line = by_step(plan_of(tmp_path, "--teacher_model", "gpt-4o", dataset="Music_data"))["1/1"]
    price_in, price_out = PRICES["gpt-4o"]
    assert line.dollars == pytest.approx((line.tokens_in * price_in + line.tokens_out * price_out) / 1e6)
    assert line.hours is None


def test_a_teacher_whose_price_is_not_known_costs_unknown_and_not_nothing(tmp_path):
    plan = plan_of(tmp_path, "--teacher_model", "gpt-17", dataset="Music_data")
    assert math.isnan(by_step(plan)["2/4"].dollars)
    text = plan.text()
    assert "unknown" in text
    assert "The price of gpt-17 is not known" in text


def test_hours_are_tokens_by_the_rates_of_the_file(tmp_path):
    lines = by_step(plan_of(tmp_path, dataset="Music_data"))
    rates = {name: rate["value"] for name, rate in json.loads(costs.RATES.read_text())["rates"].items()}
    training, writing = lines["1/3"], lines["2/7"]
    assert training.hours * 3600 == pytest.approx(rates["loading"] + training.tokens_in / rates["training Summarizer"])
    seconds = rates["loading"] + writing.tokens_in / rates["reading"] + writing.tokens_out / rates["writing"]
    assert writing.hours * 3600 == pytest.approx(seconds)
    assert {f"training {name}" for name in EXPERTS} <= set(rates)


def test_the_assumed_rates_follow_from_the_arithmetic_beside_them():
    rates = json.loads(costs.RATES.read_text())
    assert rates["parameters"] == shape.Shape().multiplied
    for name, passes in (("training Summarizer", 3), ("reading", 1)):
        if rates["rates"][name]["origin"].startswith("assumed"):
            arithmetic = 0.35 * 790e12 / (2 * passes * rates["parameters"])
            assert rates["rates"][name]["value"] == pytest.approx(arithmetic, rel=0.01)


def test_a_training_by_a_reward_counts_every_draw_at_its_longest_and_tells_its_memory(tmp_path):
    plan = plan_of(tmp_path, "--only", "2/8", dataset="Music_data")
    lines = {line.what: line for line in plan.lines()}
    draws, updates = lines["draws of 40 steps"], lines["updates"]
    assert draws.rows == 2_000 and draws.requests == 40 * 12 * 8
    assert draws.tokens_out == draws.requests * 256
    assert updates.tokens_in == lines["reference pass"].tokens_in == draws.tokens_in + draws.tokens_out
    rates = {name: rate["value"] for name, rate in json.loads(costs.RATES.read_text())["rates"].items()}
    writing = max(draws.tokens_out / rates["writing"], 40 * 256 * rates["a token of a batch"])
    assert draws.hours * 3600 == pytest.approx(rates["loading"] + draws.tokens_in / rates["reading"] + writing)
    assert "2/8 takes about" in plan.text() and "GB of GPU memory" in plan.text()
    fewer = plan_of(tmp_path, "--only", "2/8", "--group", "4", "--beta", "0", "--watched", "0", dataset="Music_data")
    assert [line.what for line in fewer.lines()] == ["draws of 40 steps", "updates", "rewards by the Predictor"]
    assert fewer.lines()[0].requests == draws.requests / 2


def test_draws_for_all_targets_that_the_predictor_has_not_learned(toy):
    lines = by_step(plan_of(toy, "--only", "2/8", "--reason_targets", "20"))
    assert lines["2/8"].rows == by_step(plan_of(toy, "--only", "2/8", "--reason_targets", "30"))["2/8"].rows + 10
    assert lines["2/8"].hours is None


@pytest.mark.parametrize(("rank", "head", "tokens", "measured"), [(16, False, 541, 10.7), (8, True, 1_701, 25.8)])
def test_the_memory_of_a_training_is_that_which_was_measured(rank, head, tokens, measured):
    eight = shape.Shape()
    recipe = Recipe(rank, rank, 0.0, 1e-4, 0, 1, 16, head)
    assert gpu_memory.supervised(eight, recipe, 16 * tokens) / 1e9 == pytest.approx(measured, 0.07)


def test_all_weights_take_more_memory_than_an_adapter_and_a_reward_more_than_rows():
    eight, adapter = shape.Shape(), Recipe(16, 16, 0.0, 1e-4, 0, 1, 16, False)
    full = replace(adapter, full=True)
    assert gpu_memory.trained(eight, full) == pytest.approx(8.03e9, rel=0.01)
    least = 12 * 8.03e9  # a copy in fp32, its gradient and two states of 8 bits, and the base's own in 16
    assert least < gpu_memory.supervised(eight, full, 1_000) < 1.2 * least
    peak = gpu_memory.by_a_reward(eight, full, 64, 8, 500, 100)
    assert peak.adapter == pytest.approx(14 * gpu_memory.trained(eight, full))
    assert peak.total > 5 * gpu_memory.by_a_reward(eight, adapter, 64, 8, 500, 100).weights


def test_a_smaller_base_model_takes_less_time(tmp_path):
    small = plan_of(tmp_path, "--base_model", str(ROOT / BASE), dataset="Music_data")
    assert by_step(small)["1/3"].hours < by_step(plan_of(tmp_path, dataset="Music_data"))["1/3"].hours / 20


def test_training_without_checkpointing_is_quicker_and_with_padding_slower(tmp_path):
    plain, quick, slow = (
        by_step(plan_of(tmp_path, *words, dataset="Music_data"))["2/6"].hours
        for words in ((), ("--no-gradient_checkpointing",), ("--no-padding_free",))
    )
    assert quick < plain < slow


def test_every_line_of_the_card_fits_the_terminal_and_names_what_is_assumed(tmp_path):
    text = plan_of(tmp_path, dataset="Book_data").text()
    assert max(map(len, text.splitlines())) <= 120
    assert "our guess" in text
    assert "nothing was measured on a GPU" in text or "measured" in text
    assert "third party" in text


def test_the_demo_has_rows_and_tokens_but_neither_hours_nor_dollars(tmp_path):
    plan = plan_of(tmp_path)
    lines = plan.lines()
    assert all(line.hours is None and line.dollars is None for line in lines)
    # As the published run of the demo has them.
    assert next(line.rows for line in lines if line.step == "3/3") == 477
    assert "characters a token" not in plan.assumed


def test_a_dataset_of_which_no_counts_are_known_must_be_preprocessed_first(tmp_path):
    facts = facts_module.Dataset("New_data", "Thing", tau=0.1)
    facts_module.write(facts, tmp_path / "data")
    with pytest.raises(InputError, match="2_preprocess.py writes both"):
        plan_of(tmp_path, "--dataset", "New_data")


def test_targets_are_counted_and_measured_as_the_steps_then_draw_them(tmp_path, real_ids):
    folder = put_toy_dataset(tmp_path, summaries=True)
    before = by_step(plan_of(tmp_path, "--from", "2/1"))
    flags = ("--dataset", "Demo_data", "--data_root", tmp_path / "data")
    for script in ("2_Reasoner/1_sample_train_data.py", "2_Reasoner/2_construct_reward_train_data.py"):
        assert run_script(script, *flags).returncode == 0
    rewards, reasons = (schema.read(folder, a) for a in (artifacts.REWARD_TARGETS, artifacts.REASON_TARGETS))
    assert before["2/1"].rows == len(rewards) + len(reasons)
    assert before["2/2"].rows == len(rewards)
    assert before["2/4"].rows == len(reasons)
    rows = schema.read(folder, artifacts.REWARD_ROWS)
    epochs = facts_module.KNOWN["Demo_data"].recipes["reason_reward_model"]["epochs"]
    assert before["2/3"].tokens_in == pytest.approx(epochs * tokens_of(rows, real_ids), rel=0.005)

    after = plan_of(tmp_path, "--from", "2/1")
    assert [line.by for line in after.lines()[:2]] == ["done", "done"]
    assert by_step(after)["2/3"].tokens_in == pytest.approx(before["2/3"].tokens_in)


def test_the_teachers_requests_are_counted_as_it_is_then_asked(toy, real_ids):
    folder = toy / "data" / "Demo_data"
    train = schema.read(folder, schema.TRAIN)
    before = plan_of(toy, "--to", "1/4")
    flags = ("--dataset", "Demo_data", "--data_root", toy / "data")
    with serving(stand_in.Server(0)) as server:
        key = {"OPENAI_BASE_URL": server.address, "OPENAI_API_KEY": "none-needed"}
        script = "1_Summarizer/1_distilling_aspect_preference_summary.py"
        assert run_script(script, *flags, "--teacher_model", "stand-in", env=key).returncode == 0
    assert run_script("1_Summarizer/2_construct_summarizer_train_data.py", *flags).returncode == 0
    lines = by_step(before)
    assert lines["1/1"].requests == len(schema.read(folder, artifacts.TEACHER_SUMMARIES)) == 240
    assert lines["1/4"].rows == len(train)

    after = plan_of(toy, "--to", "1/4")
    assert [line.by for line in after.lines()] == ["done", "done", "model", "model"]
    rows = schema.read(folder, artifacts.SUMMARIZER_ROWS)
    epochs = facts_module.KNOWN["Demo_data"].recipes["Summarizer"]["epochs"]
    # What the teacher wrote takes the place of the guess.
    assert "tokens of a summary" not in after.assumed
    assert by_step(after)["1/3"].tokens_in == pytest.approx(epochs * tokens_of(rows, real_ids), rel=0.03)

    # A mean length is no whole number, and once could not be added to counted tokens.
    assert by_step(plan_of(toy))["2/3"].tokens_in > 0

    changed = plan_of(toy, "--to", "1/4", "--seed", "7")
    assert [line.by for line in changed.lines()] == ["teacher", "CPU", "model", "model"]
    assert "1/1 is done again: seed changed" in changed.notes
    assert "1/2 is done again: train_aspect_preference_summary.pkl is made anew" in changed.notes
    assert {line.by for line in plan_of(toy, "--to", "1/2", "--overwrite").lines()} == {"teacher", "CPU"}


def test_a_trial_counts_only_the_reviews_that_its_test_rows_and_targets_need(toy):
    folder, limit = toy / "data" / "Demo_data", 3
    train, test = (schema.read(folder, part) for part in (schema.TRAIN, schema.TEST))
    enough = [history.is_at_least(5) for history in HistoryIndex(train, None).of_rows(train)]
    learned_from = train[enough].sample(limit, random_state=targets.SEED)
    shown = set()
    for target in [*test.head(limit).itertuples(), *learned_from.itertuples()]:
        earlier = train[train["unixReviewTime"] < target.unixReviewTime]
        shown |= set(earlier[earlier["user_id"] == target.user_id].index[-6:])
        others = earlier[(earlier["item_id"] == target.item_id) & (earlier["user_id"] != target.user_id)]
        shown |= set(others.index[-6:])
    lines = by_step(plan_of(toy, "--limit", str(limit)))
    assert lines["1/4"].rows == len(shown)
    assert lines["1/1"].rows == lines["2/7"].rows == limit
    assert lines["2/1"].rows == limit


def test_outputs_put_there_by_hand_are_taken_as_done(toy):
    folder = toy / "data" / "Demo_data"
    train = schema.read(folder, schema.TRAIN)
    reasons = train.head(30).assign(**{artifacts.TEACHER_REASON: "A reason of some words."})
    train[artifacts.SUMMARY] = [rules.summarize(text) for text in train["reviews"]]
    files.write_pickle(folder / artifacts.SUMMARIES.path, train)
    files.write_pickle(folder / artifacts.TEACHER_REASONS.path, reasons)
    plan = plan_of(toy)
    lines = by_step(plan)
    assert lines["1/4"].by == lines["2/4"].by == "done"
    assert lines["2/5"].rows == lines["3/1"].rows == 30
    assert "targets with an accepted reason" not in plan.assumed
    assert "tokens of a reason" not in plan.assumed


def test_a_dry_run_said_nothing_of_the_baselines_that_lack_validation_rows(toy):
    folder = toy / "data" / "Demo_data"
    assert "3/5 leaves out" not in " ".join(plan_of(toy, "--from", "2/5").text().split())
    (folder / schema.VALID.path).rename(folder / "raw_data" / "val.pkl")
    assert "3/5 leaves out" not in " ".join(plan_of(toy, "--from", "2/5").text().split())
    (folder / "raw_data" / "val.pkl").unlink()
    said = " ".join(plan_of(toy, "--from", "2/5").text().split())
    assert "3/5 leaves out user_item_bias, matrix_factorization, gradient_boosting" in said and "val.pkl" in said


def test_replies_of_local_models_alone_are_cut_at_max_new_tokens(tmp_path):
    lines = by_step(plan_of(tmp_path, "--max_new_tokens", "20", dataset="Music_data"))
    assert lines["2/7"].tokens_out == 20 * lines["2/7"].requests
    assert lines["1/1"].tokens_out > 20 * lines["1/1"].requests


def test_long_rows_count_no_more_than_the_longest_length(toy):
    whole, cut = (by_step(plan_of(toy, "--from", "2/3", *words))["2/3"] for words in ((), ("--max_length", "200")))
    epochs = facts_module.KNOWN["Demo_data"].recipes["reason_reward_model"]["epochs"]
    assert cut.tokens_in <= 200 * epochs * cut.rows < whole.tokens_in


def test_a_review_that_holds_a_special_token_is_counted_as_text(toy):
    plan = plan_of(toy, "--base_model", BASE)
    assert plan.plan.work.count(["<|eot_id|>"])[0] > 1


def test_a_dry_run_of_run_all_writes_nothing_and_needs_no_key_and_no_torch(toy):
    before = files_in(toy)
    places = ("--data_root", toy / "data", "--checkpoint_root", toy / "checkpoints")
    (toy / "torch.py").write_text("raise SystemExit('torch was imported')")
    before = files_in(toy)
    variables = {"PYTHONPATH": str(toy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = run_script("run_all.sh", "--dry_run", *places, "--from", "2/1", "--limit", "8", env=variables)
    assert done.returncode == 0, done.stderr
    assert "2/4" in done.stdout
    assert "1/4" not in done.stdout.split("not there yet")[0]
    assert files_in(toy) == before
    assert list(toy.rglob("*.part")) == []


@pytest.fixture
def commands(tmp_path):
    """The commands that run_all.sh gives to an interpreter that notes them, and fails where the name fits."""
    log, interpreter = tmp_path / "log", tmp_path / "interpreter"
    interpreter.write_text(
        f'#!/usr/bin/env bash\ncase "$*" in "-m reason4rec.run "*) exec {sys.executable} "$@" ;; esac\n'
        f'echo "$*" >>{log}\ncase "$*" in *"$WAITS"*) exit 3 ;; esac\n'
    )
    interpreter.chmod(0o755)

    def run(*words, waits="nothing"):
        log.write_text("")
        environment = os.environ | {"PYTHON": str(interpreter), "WAITS": waits}
        command = ["bash", "run_all.sh", "--dataset", "Music_data", *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        return done, {line.split(" --dataset")[0]: line for line in log.read_text().splitlines()}

    return run


def having(commands, word):
    return [name.split("/")[-1][:20] for name, line in commands.items() if f" {word}" in line]


def test_options_go_to_the_steps_that_take_them(commands):
    words = [
        "--requests_at_once",
        "2",
        "--base_url",
        "http://127.0.0.1:1/v1",
        "--api",
        "chat",
        "--prompts_at_once",
        "3",
    ]
    _, lines = commands(*words, "--no-padding_free", "--gradient_checkpointing", "--reviews", "a b", "--limit", "4")
    assert len(lines) == 19
    teacher = ["1_distilling_aspect_", "4_distilling_possibl"]
    assert having(lines, "--requests_at_once=2") == [*teacher, "5_baselines.py"]
    servers = ["4_summarizer_generat", "4_distilling_possibl", "7_generate_reason_fo", "1_construct_predicto"]
    assert having(lines, "--base_url=http://127.0.0.1:1/v1 --api=chat --prompts_at_once=3") == [
        *servers,
        "3_generate_predict_f",
    ]
    trainers = [line for line in lines.values() if "reason4rec.train " in line]
    assert len(trainers) == 4
    assert all("--no-padding_free --gradient_checkpointing" in line for line in trainers)
    assert not any("--prompts_at_once" in line for line in trainers)
    assert having(lines, "--limit=4") == [name for name in having(lines, "--limit") if "preprocess" not in name]
    assert len(having(lines, "--limit=4")) == 18


def test_the_knobs_of_an_experiment_were_refused(commands):
    """run_all.sh did not know --prompts, --tau, --draws, --lr, --epochs, --min_history and --rated_hints."""
    words = ["--prompts", "mine", "--tau", "-0.1", "--draws", "3", "--lr", "1e-4", "--epochs", "2"]
    done, lines = commands(*words, "--min_history", "2", "--rated_hints")
    assert done.returncode == 0, done.stderr
    assert having(lines, "--tau=-0.1 --draws=3") == having(lines, "--rated_hints") == ["4_distilling_possibl"]
    assert having(lines, "--min_history=2") == ["1_sample_train_data."]
    assert len(having(lines, "--lr=1e-4 --epochs=2")) == 4
    assert {"4_summarizer_generat", "2_construct_reward_t", "3_generate_predict_f"} <= set(
        having(lines, "--prompts=mine")
    )


def test_a_range_over_names_was_no_range_over_the_order_in_which_steps_run(commands):
    """--from 3/5 never refreshed the table, and --to 3/4 gave one without baselines."""
    assert having(commands("--from", "3/5")[1], "") == [
        "5_baselines.py",
        "4_evaluate.py",
        "7_reason_quality.py",
        "8_case_study.py",
    ]
    assert having(commands("--from", "3/3", "--to", "3/4")[1], "") == [
        "3_generate_predict_f",
        "5_baselines.py",
        "4_evaluate.py",
    ]
    assert having(commands("--only", "3/6", "2/1")[1], "") == ["1_sample_train_data.", "6_ablations.py"]


def test_a_step_that_waits_for_a_batch_ends_the_run_with_its_exit_code(commands):
    done, lines = commands("--from", "2/2", "--batch_export", "requests.jsonl", waits="4_distilling")
    assert done.returncode == 3
    assert having(lines, "--batch_export=requests.jsonl") == ["4_distilling_possibl"]
    assert len(lines) == 3


@pytest.mark.parametrize("range_", [("--to", "2/4"), ("--from", "2/5"), ("--from", "1/2", "--to", "2/3")])
def test_a_batch_is_refused_unless_it_is_of_one_step(commands, range_):
    done, lines = commands("--batch_import", "replies.jsonl", *range_)
    assert complaint(done).startswith("--batch_import is for")
    assert not lines


def test_a_dry_run_knows_what_decides_the_cost(tmp_path):
    words = ["--from", "2/1", "--to", "3/3", "--seed", "5", "--limit", "9", "--teacher_model", "gpt-4o", "--overwrite"]
    models = ["--base_model", "m", "--max_length", "99", "--max_new_tokens", "7", "--device", "cpu", "--engine", "auto"]
    plan = plan_of(tmp_path, *words, *models, dataset="Music_data")
    assert [line.step for line in plan.lines()][0] == "2/1"
    assert [line.step for line in plan.lines()][-1] == "3/3"
    common = plan.survey.step("2/1").common
    assert (common.seed, common.limit, common.overwrite) == (5, 9, True)
    assert (plan.plan.teacher, plan.plan.work.base_model) == ("gpt-4o", "m")
    assert (plan.plan.work.max_length, plan.plan.work.max_new_tokens) == (99, 7)


def test_with_another_seed_a_dry_run_called_a_step_done_that_would_work(tmp_path):
    put_toy_dataset(tmp_path, summaries=True)
    flags = ("--dataset", "Demo_data", "--data_root", tmp_path / "data", "--checkpoint_root", tmp_path / "checkpoints")
    for script in ("3_Predictor/5_baselines.py", "3_Predictor/4_evaluate.py"):
        more = ("--model", "user_mean") if "baselines" in script else ()
        assert run_script(script, *flags, *more).returncode == 0
    assert by_step(plan_of(tmp_path, "--only", "3/4"))["3/4"].by == "done"
    assert by_step(plan_of(tmp_path, "--only", "3/4", "--seed", "7"))["3/4"].by == "CPU"


def test_a_dry_run_refuses_a_dump_that_is_not_preprocessed(commands):
    done, lines = commands("--dry_run", "--reviews", "dump.json.gz")
    assert "run 0_Data/2_preprocess.py with --reviews first" in complaint(done)
    assert not lines
