"""What a run of TWiCE-Rec would cost: its counts against what the steps really make."""

import re

import pytest
import toy_run
from helpers import ROOT, Planned, files_in, run_script, serving

from reason4rec.demo import stand_in
from reason4rec.errors import InputError
from reason4rec.llm import shape
from reason4rec.llm.tokens import answer_ids, chat_ids, load_tokenizer
from reason4rec.llm.usage import PRICES
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import facts


def plan_of(root, *words, dataset=toy_run.DATASET):
    places = ["--data_root", str(root / "data"), "--checkpoint_root", str(root / "checkpoints")]
    return Planned("twice_rec", ["--dataset", dataset, *places, *words])


def by_what(plan):
    return {line.what: line for line in plan.lines()}


def by_step(plan):
    return {line.step: line for line in plan.lines()}


@pytest.fixture
def toy(tmp_path):
    """A root with what a few dozen users chose."""
    toy_run.put_choices(tmp_path)
    return tmp_path


def test_without_data_the_rows_are_those_of_the_released_data(tmp_path):
    plan = plan_of(tmp_path, "--teacher_model", "gpt-4o", dataset="Grocery")
    steps, lines = by_step(plan), by_what(plan)
    assert steps["T/4"].requests == steps["T/9"].rows == 11_334
    assert steps["T/6"].rows == 6_149 + 11_334 + round(0.8 * 11_334)
    price_in, price_out = PRICES["gpt-4o"]
    teacher = steps["T/4"]
    assert teacher.dollars == pytest.approx((teacher.tokens_in * price_in + teacher.tokens_out * price_out) / 1e6)
    assert lines["draws of 200 steps"].requests == 200 * 8 * 8
    assert lines["draws of 200 steps"].tokens_out == 200 * 8 * 8 * 300
    assert lines["updates"].tokens_in == lines["reference pass"].tokens_in
    assert {"tokens of a prompt with candidates, train", "tokens of a rationale"} <= set(plan.assumed)
    assert "not on this machine" not in " ".join(plan.notes)
    text = plan.text()
    assert max(map(len, text.splitlines())) <= 120
    assert "T/7 takes about" in text and "T/6 takes about" in text


def test_a_base_whose_heads_are_wider_than_its_hidden_size():
    gemma = shape.shape_of(facts.GEMMA_3_1B)
    assert gemma.widths["q_proj"] == (1152, 1024) and gemma.widths["v_proj"] == (1152, 256)
    assert gemma.multiplied == pytest.approx(1.0e9, 0.01)


def test_memory_and_hours_grow_with_the_draws(tmp_path):
    few, many = (plan_of(tmp_path, "--group", group, dataset="Grocery") for group in ("4", "16"))
    assert by_what(many)["updates"].hours == pytest.approx(4 * by_what(few)["updates"].hours)
    least, most = (int(re.search(r"T/7 takes about (\d+) GB", plan.text())[1]) for plan in (few, many))
    assert 5 < least < most < 100


def test_the_demo_has_rows_and_tokens_but_neither_hours_nor_dollars(tmp_path):
    lines = plan_of(tmp_path).lines()
    assert all(line.hours is None and line.dollars is None for line in lines)
    assert {line.step for line in lines} == {f"T/{k}" for k in range(1, 12)}
    before = files_in(tmp_path)
    done = run_script("run_all.sh", "--system", "twice_rec", "--dry_run", "--data_root", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert "ranks by recommender" in done.stdout
    assert files_in(tmp_path) == before


def test_a_dataset_of_which_nothing_is_there_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match="train.pkl is missing.*--sequences and --items"):
        plan_of(tmp_path, dataset="Music_data")


def test_rows_and_tokens_are_counted_as_the_steps_then_make_them(toy, monkeypatch):
    before = by_step(plan_of(toy))
    toy_run.run("T/1", toy)
    toy_run.run("T/2", toy)
    monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
    with serving(stand_in.Server(0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        toy_run.run("T/4", toy, "--teacher_model", "stand-in")
    step = toy_run.step_of("T/5", toy)
    cases = step.cases("train")
    assert before["T/1"].rows == before["T/4"].rows == len(cases) == 30
    assert before["T/2"].rows == 3 * len(cases)
    toy_run.run("T/5", toy)

    after = plan_of(toy, "--from", "T/4", "--to", "T/6")
    assert [line.by for line in after.lines()] == ["done", "done", "model"]
    rows = step.read(a.INSTRUCT_ROWS)
    tokenizer = load_tokenizer(ROOT / "reason4rec/demo/base")
    tokens = sum(
        len(chat_ids(tokenizer, row["messages"][0]["content"]))
        + len(answer_ids(tokenizer, row["messages"][1]["content"]))
        for row in rows
    )
    epochs = facts.KNOWN[toy_run.DATASET].recipes["Recommender"]["epochs"]
    assert by_step(after)["T/6"].rows == len(rows)
    assert by_step(after)["T/6"].tokens_in == pytest.approx(epochs * tokens, rel=0.05)
    assert "share of rationales that are kept" not in after.assumed

    # A trial of a few users once made all sequences anew.
    assert by_step(plan_of(toy, "--to", "T/2", "--limit", "5"))["T/1"].by == "done"

    changed = plan_of(toy, "--to", "T/6", "--n_candidates", "8")
    assert [line.by for line in changed.lines()] == ["done", "CPU", "CPU", "done", "CPU", "model"]
    assert "T/2 is done again: n_candidates changed" in changed.notes
    assert "T/5 is done again: twice_rec/candidates.pkl is made anew" in changed.notes


def test_a_trial_counts_its_users_alone(toy):
    lines = by_step(plan_of(toy, "--limit", "5"))
    assert lines["T/4"].rows == lines["T/9"].rows == lines["T/11"].rows == 5
    assert lines["T/1"].rows == 30


def test_the_comparison_of_rewards_is_as_many_trainings_as_rewards_and_seeds(tmp_path):
    one = by_what(plan_of(tmp_path, "--only", "T/7", dataset="Grocery"))["draws of 200 steps"]
    all_of = by_what(plan_of(tmp_path, "--only", "T/12", dataset="Grocery"))
    assert all_of["draws of 200 steps"].requests == 9 * one.requests
    assert all_of["ranks by 9 policies"].rows == 9 * 11_334


def test_a_judge_is_asked_about_each_rationale_of_a_recommender(tmp_path):
    judged = [line for line in plan_of(tmp_path, "--judge", dataset="Grocery").lines() if line.step == "T/10"]
    assert [line.by for line in judged] == ["CPU", "teacher"]
    assert judged[1].requests == 2 * 11_334


def test_most_rows_with_thirty_candidates_lost_their_histories_to_fit(tmp_path):
    plain = plan_of(tmp_path, dataset="Grocery")
    plain.lines()
    assert not [note for note in plain.notes if "lose history" in note]
    short = plan_of(tmp_path, "--max_length", "4096", dataset="Grocery")
    short.lines()
    assert "T/6: 77% of the rows lose history to fit 4,096 tokens" in short.notes
