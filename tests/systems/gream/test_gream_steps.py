"""The steps of GREAM on a few dozen users: their files, what a change redoes, kills, leaks and bad input."""

import contextlib
import json
import re
import shutil

import gream_run
import numpy as np
import pandas as pd
import pytest
import served
from helpers import Planned, complaint_of, files_in, serving
from test_kill import CountingServer, Fuse, the_forks

from reason4rec.llm.options import RULE_TEACHER
from reason4rec.llm.tokens import load_tokenizer, plain_ids
from reason4rec.run import files, records
from reason4rec.run.commands import guarded
from reason4rec.run.pipeline import of_script
from reason4rec.run.project import ROOT
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import asking, recommending, rl_train
from reason4rec.systems.gream.full_ranking import SHRINKS
from reason4rec.systems.gream.pipeline import PIPELINE
from reason4rec.systems.twice_rec.artifacts import ITEMS, SEQUENCES

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
device: cpu
"""
STEPS = ("T/1", "G/1", "G/2", "G/3", "G/4", "G/5", "G/6", "G/9", "G/10", "G/11")
MODELS = ("generator_direct", "generator_positionwise", "generator_reasoned")
RANKED = tuple(of(name, "test") for name in MODELS for of in (a.ranked, a.written))


def run(name, root, *words):
    """Runs a step with the options of the run's file."""
    gream_run.run(name, root, "--config", root / "config.yaml", *words)


def outputs_of(name, root):
    """The paths of what a step writes."""
    step = gream_run.step_of(name, root)
    return [step.path(one) for one in RANKED] if name == "G/9" else step.outputs


def to_do(root, *words):
    """The steps that a run would do, of those that this file runs and of the trainings."""
    places = [*gream_run.places(root), "--config", str(root / "config.yaml")]
    return Planned("gream", [*places, "--only", *STEPS, "G/7", *words]).survey.to_do


def put_generator(root, size=0.02):
    """Puts an adapter that nobody trained on the base with new tokens, as if by hand."""
    folder = root / "checkpoints" / gream_run.DATASET
    shutil.rmtree(folder / a.GENERATOR.path, ignore_errors=True)
    served.put_adapter(folder / a.GENERATOR.path, str(folder / a.BASE.path), lm_head=False, size=size)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A root in which all steps but the trainings have run; an adapter is put there."""
    root = tmp_path_factory.mktemp("made") / "root"
    gream_run.put_choices(root)
    files.write_text(root / "config.yaml", CONFIG)
    for name in STEPS[:7]:
        run(name, root)
    put_generator(root)
    for name in STEPS[7:]:
        run(name, root)
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy of that root, to be changed."""
    return shutil.copytree(made, tmp_path / "root")


def changed(root, artifact, change):
    """Writes a table again with a change, as somebody might by hand."""
    path = gream_run.step_of("G/10", root).path(artifact)
    files.write_pickle(path, change(files.read_pickle(path)))


def refused(capsys, name, root, *words):
    """The one line in which a step ends."""
    return complaint_of(capsys, lambda: run(name, root, *words))


# What the steps write, and what follows from a change


@pytest.mark.parametrize("name", STEPS)
def test_a_step_writes_its_files_with_records_and_is_complete_after_that(name, made, capsys):
    before = files_in(made)
    for path in outputs_of(name, made):
        record = records.read_record(path)
        assert record["sha256"] == files.sha256(path), path
        assert record["made_from"]["inputs"] and record["made_from"]["settings"]["seed"] == 42
    capsys.readouterr()
    run(name, made)
    assert "complete: " in capsys.readouterr().out
    assert files_in(made) == before


def test_every_id_is_read_and_written_by_the_base_as_it_is(made):
    step = gream_run.step_of("G/9", made)
    tokenizer = load_tokenizer(step.path(a.BASE))
    texts = list(step.id_texts.values())
    assert len(set(texts)) == len(step.catalogue) == 40
    for text in texts:
        ids = plain_ids(tokenizer, text)
        assert len(ids) in (2, 3) and tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_rows_are_those_of_all_tasks_in_each_pass_with_the_reasonings(made):
    step = gream_run.step_of("G/6", made)
    rows, kept = step.read(a.INSTRUCT_ROWS), step.read(a.REASONINGS)
    places = sum(len(past.events) - 1 for past in step.pasts)
    of_users = 2 * len(step.read(a.USER_TEXTS))
    assert 0 < len(kept) <= 8
    assert len(rows) == 2 * (places + 4 * 40 + 5 + of_users + len(kept))
    answers = [row["messages"][1]["content"] for row in rows]
    assert sum("<think>" in answer for answer in answers) == 2 * len(kept)


def test_every_list_has_ten_different_items_that_the_user_has_not(made):
    step = gream_run.step_of("G/10", made, "--cases", 5)
    cases = {case.user_id: {event.item_id for event in case.history} for case in step.judged_cases("test")}
    for name in ("generator_direct", "generator_reasoned"):
        frame = step.read(a.ranked(name, "test"))
        assert frame["user_id"].drop_duplicates().tolist() == list(cases)
        for user, of_user in frame.groupby("user_id"):
            assert of_user["place"].tolist() == list(range(1, 11))
            assert of_user["item_id"].nunique() == 10 and not set(of_user["item_id"]) & cases[user]
            assert of_user["score"].is_monotonic_decreasing


def test_the_table_has_all_models_and_the_page_all_cases(made):
    step = gream_run.step_of("G/10", made, "--cases", 5)
    metrics = json.loads(step.path(a.METRICS).read_text())
    assert metrics["settings"]["cases"] == 5 and metrics["settings"]["split"] == "test"
    assert metrics["settings"]["shrink"] in SHRINKS  # of item-kNN, chosen on the validation cases
    assert {row["model"] for row in metrics["ranks"]} == {"chance", "popularity", "item-kNN", *MODELS}
    page = step.path(a.CASE_STUDY).read_text()
    assert all(case.user_id in page for case in step.judged_cases("test"))
    record = records.read_record(step.path(a.REASONINGS))
    assert record["made_from"]["settings"]["teacher_server"].startswith(RULE_TEACHER)


@pytest.mark.parametrize(
    ("words", "redone"),
    [
        ((), ""),
        (("--text_users", "5"), "G/1 G/2 G/3 G/4 G/5 G/6 G/9 G/10 G/11"),
        (("--codes", "6"), "G/3 G/5 G/6 G/9 G/10 G/11"),
        (("--reasonings", "7"), "G/4 G/6"),
        (("--passes", "1"), "G/6"),
        (("--beams", "11"), "G/9 G/10 G/11"),
        (("--against", "chance"), "G/10"),
        (("--rows", "3"), "G/11"),
        (("--seed", "43"), " ".join(STEPS)),
        (("--cases", "4"), "G/9 G/10 G/11"),
    ],
)
def test_a_changed_option_redoes_exactly_what_follows(words, redone, made):
    assert to_do(made, *words) - {"G/7"} == set(redone.split())


def test_another_adapter_recommends_again_and_nothing_else(root):
    put_generator(root, size=0.03)
    assert to_do(root) == {"G/9", "G/10", "G/11"}


def test_a_run_that_was_moved_to_another_folder_still_recommends(root, made, capsys):
    """The adapter's settings name the base where it was trained."""
    step = gream_run.step_of("G/9", root)
    settings = step.path(a.GENERATOR) / "settings.json"
    files.write_text(settings, settings.read_text().replace(str(made), "/nowhere"))
    run("G/9", root, "--models", "generator_direct")
    assert "generator_direct" in capsys.readouterr().out


def test_a_borrowed_step_runs_as_one_of_its_own_system():
    for spec in PIPELINE:
        pipeline, own = of_script(ROOT / spec.script)
        assert pipeline.name == ("gream" if spec.name.startswith("G/") else own_system(spec.name))
        assert own.name == spec.name and not own.borrowed


def own_system(name):
    return "twice_rec" if name.startswith("T/") else "reason4rec"


# Kills


def cut_off(root, name, words, fuses, log, server=None):
    """Kills a step at each of some moments and lets it end; the files below the root, and how often one was changed."""
    script, flags = PIPELINE[name].script, [*gream_run.places(root), *words]
    address = {"OPENAI_API_KEY": "none-needed", "OPENAI_BASE_URL": server.address} if server else {}
    for fuse in [*fuses, Fuse()]:
        process = the_forks().start(script, *flags, log=log, env=address, fuse=fuse, watched=root)
        if server:
            server.victim = process.kill
        code, changes = the_forks().wait(process, fuse)
        assert code in (0, -9), log.read_text(errors="replace")[-3_000:]
    assert code == 0
    return {k: b"" if k.endswith(".sqlite") else v for k, v in files_in(root).items()}, changes


def without(made, root, name):
    """A copy of a root without the outputs of a step and the replies that are kept."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(made, root)
    for path in outputs_of(name, root):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        records.record_path(path).unlink()
    for store in root.rglob("*.sqlite"):
        store.unlink()
    return root


@pytest.mark.slow
def test_lists_that_were_killed_go_on_and_end_as_unbroken_ones(made, tmp_path):
    log = tmp_path / "log"
    words = ("--config", str(made / "config.yaml"), "--models", "generator_reasoned")
    names = [step for step in RANKED if "reasoned" in step.path]
    assert len(names) == 2
    whole, changes = cut_off(without(made, tmp_path / "whole", "G/9"), "G/9", words, (), log)
    fuses = (Fuse(seconds=1.5), Fuse(event=changes // 2), Fuse(event=changes - 2))
    found, _ = cut_off(without(made, tmp_path / "cut", "G/9"), "G/9", words, fuses, log)
    assert found == whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["G/2", "G/3", "G/4", "G/5", "G/6", "G/10", "G/11"])
def test_a_step_that_was_killed_ends_as_an_unbroken_one(name, made, tmp_path):
    log, words = tmp_path / "log", ("--config", str(made / "config.yaml"))
    whole, changes = cut_off(without(made, tmp_path / "whole", name), name, words, (), log)
    fuses = [Fuse(event=at) for at in sorted({1, changes // 2, changes - 1}) if at > 0]
    found, _ = cut_off(without(made, tmp_path / "cut", name), name, words, fuses, log)
    assert found == whole


@pytest.mark.slow
def test_a_teacher_that_was_cut_off_is_asked_for_the_rest_alone(made, tmp_path):
    log, words = tmp_path / "log", ("--teacher_model", "stand-in", "--requests_at_once", "2", "--text_users", "6")
    with serving(CountingServer()) as server:
        whole, changes = cut_off(without(made, tmp_path / "whole", "G/1"), "G/1", words, (), log, server)
        asked = len(server.asked)
        server.asked.clear()
        server.fatal = 12
        found, _ = cut_off(
            without(made, tmp_path / "cut", "G/1"), "G/1", words, (Fuse(), Fuse(event=changes - 1)), log, server
        )
        assert found == whole
        assert asked <= len(server.asked) <= asked + 2 * 2


# Leaks


RUN_OF_IDS = re.compile(r"(?:<\|[a-z]_\d+\|>)+")


def learnable(step):
    """Each history that may be shown, with the item that may follow it: of sequences without their last two items."""
    found = set()
    for _, of_user in step.read(SEQUENCES).sort_values("position").groupby("user_id"):
        ids = [step.id_texts[item] for item in of_user["item_id"]][:-2]
        found |= {(tuple(ids[max(0, place - 20) : place]), ids[place]) for place in range(1, len(ids))}
    return found


def leak(row, pairs):
    """Whether a row shows a history, or an item after one, that its user did not have in the training part."""
    question, answer = (RUN_OF_IDS.findall(message["content"]) for message in row["messages"])
    if len(question) < 2:
        return False
    return not any(shown == tuple(question) and (not answer or answer[-1] == then) for shown, then in pairs)


def test_no_row_and_no_prompt_of_a_training_shows_what_its_user_chose_later(made):
    step, rl = gream_run.step_of("G/6", made), gream_run.step_of("G/8", made)
    pairs = learnable(step)
    asked = rl_train.train_targets(rl)
    prompts = rl.next_item([history for history, _ in asked], "reasoned")
    parts = step.read(SEQUENCES).groupby("user_id").size() - 2
    assert len(prompts) == sum(max(0, n - 4) for n in parts)
    for prompt, (history, target) in zip(prompts, asked):
        shown = tuple(RUN_OF_IDS.findall(prompt.text))
        assert shown == tuple(step.id_texts[event.item_id] for event in history)
        assert (shown, step.id_texts[target]) in pairs
    rows = step.read(a.INSTRUCT_ROWS)
    of_histories = [row for row in rows if len(RUN_OF_IDS.findall(row["messages"][0]["content"])) > 1]
    assert len(of_histories) > 100 and not any(leak(row, pairs) for row in rows)


def test_a_row_that_shows_a_target_of_the_validation_or_the_test_would_be_caught(made):
    step = gream_run.step_of("G/6", made)
    pairs, shown = learnable(step), step.read(SEQUENCES).sort_values("position")
    for _, of_user in list(shown.groupby("user_id"))[:10]:
        ids = [step.id_texts[item] for item in of_user["item_id"]]
        for end in (len(ids) - 1, len(ids)):
            asked = f"The user took {', '.join(ids[max(0, end - 21) : end - 1])}. Which item is next?"
            assert leak({"messages": [{"content": asked}, {"content": ids[end - 1]}]}, pairs)


# Bad input


@pytest.mark.parametrize(
    ("artifact", "script", "reading"),
    [
        (SEQUENCES, "TWiCE_Rec/1_sequences.py", ("G/1", "G/3", "G/4", "G/6", "G/9", "G/10", "G/11")),
        (ITEMS, "TWiCE_Rec/1_sequences.py", STEPS[1:5]),
        (a.ITEM_TEXTS, "GREAM/1_write_texts.py", ("G/2", "G/3", "G/4", "G/6")),
        (a.USER_TEXTS, "GREAM/1_write_texts.py", ("G/6",)),
        (a.EMBEDDINGS, "GREAM/2_embed_items.py", ("G/3",)),
        (a.SEMANTIC_IDS, "GREAM/3_semantic_ids.py", ("G/5", "G/6", "G/9", "G/10")),
        (a.REASONINGS, "GREAM/4_distil_reasonings.py", ("G/6",)),
        (a.BASE, "GREAM/5_extend_base.py", ("G/9",)),
        (a.GENERATOR, "GREAM/7_generator_train.sh", ("G/9",)),
    ],
    ids=lambda value: getattr(value, "path", None),
)
def test_a_missing_file_is_named_with_who_writes_it(artifact, script, reading, root, capsys):
    path = gream_run.step_of("G/10", root).path(artifact)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in reading:
        assert refused(capsys, name, root) == f"{path} is missing: {script} writes it", name


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("G/9", ("--models", "gpt"), "--models gpt: no such model; there are generator_direct, generator_positionwise"),
        ("G/9", ("--models", "grpo_direct"), "8_generator_rl.sh --advantage grpo writes it"),
        ("G/9", ("--models", "shuffled_direct"), "7_generator_train.sh --order shuffled writes it"),
        ("G/10", ("--against", "nobody"), "--against nobody: no such row; there are chance, popularity"),
        ("G/10", ("--cases", "7"), "run GREAM/9_recommend.py again, with the same --limit and --cases"),
        (
            "G/3",
            ("--codes", "41"),
            "--codes 41: a level of semantic ids has from 2 codes to",
        ),
        ("G/6", ("--tasks", "poetry"), "--tasks"),
        ("G/4", ("--prompts", "/nowhere"), "--prompts /nowhere: no templates"),
    ],
)
def test_an_option_that_cannot_be_is_told_in_one_line(name, words, message, root, capsys):
    assert message in refused(capsys, name, root, *words)


def of_others(frame):
    return frame.assign(user_id="X" + frame["user_id"])


@pytest.mark.parametrize(
    ("artifact", "change", "message", "reading"),
    [
        (a.REASONINGS, lambda f: f.assign(position=f["position"] + 1), "run GREAM/4_distil_reasonings.py again", "G/6"),
        (a.REASONINGS, lambda f: f.assign(position=0.5), "column position does not hold whole numbers", "G/6"),
        (a.REASONINGS, of_others, "run GREAM/4_distil_reasonings.py again", "G/6"),
        (a.ITEM_TEXTS, lambda f: f.assign(description=None), "column description is empty (NaN) in row 0", "G/2"),
        (a.ranked("generator_direct", "test"), of_others, "is not in it; run GREAM/9_recommend.py again", "G/10"),
        (a.ranked("generator_direct", "test"), lambda f: f.assign(place=1), "has place 1 twice", "G/10"),
    ],
    ids=lambda value: getattr(value, "path", None),
)
def test_a_table_of_other_data_is_told_in_one_line(artifact, change, message, reading, root, capsys):
    changed(root, artifact, change)
    assert message in refused(capsys, reading, root)


def test_ids_of_other_items_are_told_in_one_line(root, capsys):
    path = gream_run.step_of("G/6", root).path(a.SEMANTIC_IDS)
    found = json.loads(path.read_text())
    del found["items"]["B000"]
    files.write_text(path, json.dumps(found))
    assert "item B000 has no semantic id; run GREAM/3_semantic_ids.py again" in refused(capsys, "G/6", root)
    assert f"GREAM_base is out of date: it was made with another {a.SEMANTIC_IDS.path}" in refused(capsys, "G/9", root)


# Asking


def ask(root, *words):
    guarded(lambda: asking.ask([*gream_run.places(root), "--max_new_tokens", "8", *map(str, words)]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--user", "nobody"), "--user 'nobody': not a user of this run, whose users are such as U0000"),
        ((), "--dataset NAME and --user ID say"),
        (("--user", "U0001", "--model", "grpo_direct"), "--model grpo_direct: not trained"),
    ],
)
def test_a_question_that_cannot_be_answered_is_told_in_one_line(words, message, made, capsys):
    assert message in complaint_of(capsys, lambda: ask(made, *words))


@pytest.mark.parametrize("model", ["generator_direct", "generator_reasoned"])
def test_a_question_is_answered_by_the_tables(model, made, capsys):
    step = gream_run.step_of("G/10", made, "--cases", 5)
    user = step.judged_cases("test")[0].user_id
    capsys.readouterr()
    with contextlib.suppress(SystemExit):
        ask(made, "--user", user, "--json", "--model", model)
    answer = json.loads(capsys.readouterr().out)
    frame = step.read(a.ranked(model, "test"))
    listed = frame.loc[frame["user_id"] == user, "item_id"].tolist()
    assert [one["item_id"] for one in answer["ranked"]] == listed
    assert [one["title"] for one in answer["ranked"]] == [step.catalogue[item].title for item in listed]
    assert (answer["reasoning"] != "") == (model == "generator_reasoned")


# The parts of a reply


@pytest.mark.parametrize(
    ("reply", "begun"),
    [
        ("<think>\nA\n</think>\n\nSo <answer><|a_1|>", "<think>\nA\n</think>\n\nSo <answer>"),
        ("<think>\n<answer>A\n</think>\n\n<answer>", "<think>\n<answer>A\n</think>\n\n<answer>"),
        ("<think>\nA", "<think>\nA\n</think>\n\n<answer>"),
        ("<think>\nA\n</think>\n\nSo", "<think>\nA\n</think>\n\nSo\n\n<answer>"),
        ("", "<think>\n</think>\n\n<answer>"),
    ],
)
def test_beams_follow_a_reply_up_to_its_answer(reply, begun):
    assert recommending.before_the_answer(reply) == begun


def test_a_list_keeps_the_place_of_what_is_no_item():
    from reason4rec.data.sequences import Case, Event
    from reason4rec.llm.trie import of_paths

    case = Case("U", (Event("A", None, ""),), Event("B", None, ""))
    trie = of_paths([(1, 9), (2, 9)], positionwise=True)
    lists, said = recommending.tables([case], [[((2, 9), -0.5), ((7, 9), -0.7)]], trie, ["A", "B"], [[""]])
    assert lists["item_id"].tolist() == ["B", None] and lists["place"].tolist() == [1, 2]
    assert said.to_dict("records") == [{"user_id": "U", "draw": 0, "reply": ""}]
    assert isinstance(lists, pd.DataFrame) and np.isclose(lists["score"], [-0.5, -0.7]).all()
