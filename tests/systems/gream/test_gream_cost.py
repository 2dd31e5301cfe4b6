"""What a run of GREAM would cost: its counts against what the steps really make."""

import gream_run
import pytest
from helpers import Planned, files_in, run_script

from reason4rec.errors import InputError
from reason4rec.llm.tokens import answer_ids, chat_ids, load_tokenizer
from reason4rec.llm.usage import PRICES
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import facts


def plan_of(root, *words, dataset=gream_run.DATASET):
    places = ["--data_root", str(root / "data"), "--checkpoint_root", str(root / "checkpoints")]
    return Planned("gream", ["--dataset", dataset, *places, *words])


def by_what(plan):
    return {line.what: line for line in plan.lines()}


def by_step(plan):
    return {line.step: line for line in plan.lines()}


def test_without_data_the_rows_are_those_of_the_released_data(tmp_path):
    plan = plan_of(tmp_path, "--teacher_model", "gpt-4o", dataset="Grocery")
    lines = by_what(plan)
    users, items = 11_334, 6_149
    assert lines["texts on users"].requests == 5 * users
    assert lines["texts on items"].requests == items
    reasoned = lines["reasonings by the teacher"]
    price_in, price_out = PRICES["gpt-4o"]
    assert reasoned.dollars == pytest.approx((reasoned.tokens_in * price_in + reasoned.tokens_out * price_out) / 1e6)
    of_pass = 6 * users + 4 * items + 50_000 + 2 * users
    assert by_step(plan)["G/7"].rows == 3 * (of_pass + round(0.8 * reasoned.requests))
    assert lines["draws of 150 steps"].requests == 150 * 32 * 10
    text = plan.text()
    assert max(map(len, text.splitlines())) <= 120
    assert "G/7 takes about" in text and "G/8 takes about" in text


def test_a_dataset_of_which_nothing_is_there_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match="train.pkl is missing.*--sequences and --items"):
        plan_of(tmp_path, dataset="Music_data")


def test_the_demo_has_rows_and_tokens_but_neither_hours_nor_dollars(tmp_path):
    lines = plan_of(tmp_path).lines()
    assert all(line.hours is None and line.dollars is None for line in lines)
    assert {line.step for line in lines} == {"T/1", "T/2", "T/3", *(f"G/{k}" for k in range(1, 12))}
    before = files_in(tmp_path)
    done = run_script("run_all.sh", "--system", "gream", "--dry_run", "--data_root", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert "lists by srpo_reasoned" in done.stdout
    assert files_in(tmp_path) == before


def test_rows_and_tokens_are_counted_as_the_steps_then_make_them(tmp_path):
    gream_run.put_choices(tmp_path)
    words = ("--teacher_model", "rules", "--text_users", "6", "--reasonings", "8", "--passes", "2", "--levels", "2")
    given = {
        "G/1": words[:4],
        "G/3": (*words[8:], "--codes", "6"),
        "G/4": words[:2] + words[4:6],
        "G/6": (*words[6:8], "--fusion_rows", "9"),
    }
    for name in ("T/1", "G/1", "G/2", "G/3", "G/4", "G/5", "G/6"):
        gream_run.run(name, tmp_path, *given.get(name, ()), *(("--device", "cpu") if name == "G/2" else ()))
    step = gream_run.step_of("G/6", tmp_path)
    rows = step.read(a.INSTRUCT_ROWS)
    tokenizer = load_tokenizer(step.path(a.BASE))
    tokens = sum(
        len(chat_ids(tokenizer, row["messages"][0]["content"]))
        + len(answer_ids(tokenizer, row["messages"][1]["content"]))
        for row in rows
    )
    known = [*words[2:], "--codes", "6", "--fusion_rows", "9", "--from", "G/6", "--to", "G/7"]
    found = by_step(plan_of(tmp_path, *known))
    epochs = facts.KNOWN[gream_run.DATASET].recipes["Generator"].get("epochs", 1)
    assert found["G/6"].by == "done" and found["G/7"].rows == len(rows)
    assert found["G/7"].tokens_in == pytest.approx(epochs * tokens, rel=0.15)


def test_a_trial_counts_its_users_alone(tmp_path):
    gream_run.put_choices(tmp_path)
    lines = by_step(plan_of(tmp_path, "--limit", "5"))
    assert lines["G/10"].rows == lines["G/11"].rows == 5
    assert lines["G/3"].rows == 40


def test_the_comparison_of_parts_has_a_training_for_each_part_and_seed(tmp_path):
    alone, both = (
        [by_what(plan_of(tmp_path, *more, "--parts", "shuffled", "srpo", "grpo", dataset="Grocery")) for more in words]
        for words in ([("--only", "G/7", "G/8", "G/9")], [("--only", "G/12", "--seeds", "1", "2", "3", "4")])
    )
    alone, both = alone[0], both[0]
    trained = next(line for what, line in alone.items() if what.startswith("train the generator"))
    assert both["8 trainings of a generator"].tokens_in == pytest.approx(8 * trained.tokens_in)
    assert both["draws of 150 steps"].requests == 8 * alone["draws of 150 steps"].requests
    assert both["16 direct lists"].requests == pytest.approx(16 * alone["lists by generator_direct"].requests)
    assert both["16 reasoned lists"].hours == pytest.approx(16 * alone["lists by generator_reasoned"].hours)
