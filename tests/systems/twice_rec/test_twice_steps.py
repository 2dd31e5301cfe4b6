"""The steps of TWiCE-Rec on a few dozen users: their files, what a change redoes, kills, leaks and bad input."""

import contextlib
import gzip
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import served
import toy_run
from helpers import Planned, complaint_of, files_in, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_kill import CountingServer, Fuse, the_forks

from reason4rec.data import candidates, sequences
from reason4rec.data.sequences import ITEM_COLUMNS, SEQUENCE_COLUMNS
from reason4rec.errors import InputError
from reason4rec.llm.options import RULE_TEACHER
from reason4rec.run import files, records
from reason4rec.run.commands import guarded
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import asking, distillation, instruct_rows, ranking_runs, rl_train
from reason4rec.systems.twice_rec.pipeline import PIPELINE
from reason4rec.systems.twice_rec.prompts import ITEM_ONLY, RATIONALE_FIRST
from reason4rec.training.adapters import sha256_of_weights

CONFIG = """
teacher_model: rules
cases: 6
steps:
  T/5: {fields: [rating]}
  T/8: {fields: [rating], max_new_tokens: 6, device: cpu}
  T/10: {fields: [rating]}
  T/12: {fields: [rating], max_new_tokens: 6, device: cpu}
"""
STEPS = ("T/1", "T/2", "T/4", "T/5", "T/8", "T/9", "T/10", "T/11")
RANKED = tuple(of(name, "test") for name in ("item_only", "recommender") for of in (a.ranked, a.written))


def run(name, root, *words):
    """Runs a step with the options of the run's file."""
    toy_run.run(name, root, "--config", root / "config.yaml", *words)


def outputs_of(name, root):
    """The paths of what a step writes."""
    step = toy_run.step_of(name, root)
    return [step.path(one) for one in RANKED] if name == "T/8" else step.outputs


def to_do(root, *words):
    """The steps that a run would do, of those that this file runs and of the trainings."""
    only = ["--only", *STEPS, "T/3", "T/6"]
    places = [*toy_run.places(root), "--config", str(root / "config.yaml")]
    return Planned("twice_rec", [*places, *only, *words]).survey.to_do


def put_scores(root):
    """Puts logits drawn at random in the place of the collaborative model's, as if by hand."""
    step = toy_run.step_of("T/9", root)
    lists, rng = step.read(a.CANDIDATES), np.random.default_rng(0)
    found = lists[["user_id", "split", "item_id"]].assign(logit=rng.normal(size=len(lists)), item_mean=0.0)
    files.write_pickle(step.path(a.SCORES), found.assign(count=rng.integers(0, 9, len(lists))))
    files.write_text(step.path(a.SASREC) / "card.json", "{}")


@pytest.fixture(scope="module")
def made(base, tmp_path_factory):
    """A root in which all steps but the trainings have run; adapters and logits are put there."""
    root = tmp_path_factory.mktemp("made") / "root"
    toy_run.put_choices(root)
    files.write_text(root / "config.yaml", CONFIG)
    for name in ("T/1", "T/2"):
        run(name, root)
    put_scores(root)
    served.put_adapter(root / "checkpoints" / toy_run.DATASET / "Recommender", base, lm_head=False)
    for name in STEPS[2:]:
        run(name, root)
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy of that root, to be changed."""
    return shutil.copytree(made, tmp_path / "root")


def changed(root, artifact, change):
    """Writes a table again with a change, as somebody might by hand."""
    path = toy_run.step_of("T/9", root).path(artifact)
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


def test_the_files_hold_what_they_should(made):
    step = toy_run.step_of("T/9", made, "--cases", 6)
    users, items = (len(step.cases("test")), len(step.catalogue))
    kept = step.read(a.RATIONALES)
    assert len(step.read(a.CANDIDATES)) == 3 * users * 10
    assert 0 < len(kept) < users
    assert len(step.read(a.INSTRUCT_ROWS)) == items + users + len(kept)
    ranks, said = step.read(a.ranked("recommender", "test")), step.read(a.written("recommender", "test"))
    judged = [case.user_id for case in step.judged_cases("test")]
    assert ranks["user_id"].drop_duplicates().tolist() == said["user_id"].tolist() == judged
    assert (ranks["log_likelihood"] < 0).all() and len(ranks) == 60
    metrics = json.loads(step.path(a.METRICS).read_text())
    assert metrics["settings"]["cases"] == 6
    assert [row["model"] for row in metrics["top"]][-2:] == ["item_only", "recommender"]
    assert set(json.loads(step.path(a.QUALITY).read_text())["writers"]) == {"teacher (training cases)", "recommender"}
    assert all(user in step.path(a.CASE_STUDY).read_text() for user in judged)
    assert records.read_record(step.path(a.RATIONALES))["made_from"]["settings"]["teacher_server"].startswith(
        RULE_TEACHER
    )


@pytest.mark.parametrize(
    ("words", "redone"),
    [
        ((), ""),
        (("--n_candidates", "8"), "T/2 T/5 T/8 T/9 T/10 T/11"),
        (("--rationale_targets", "20"), "T/4 T/5 T/10"),
        (("--tasks", "item_only"), "T/5"),
        (("--max_new_tokens", "7"), "T/8 T/9 T/10 T/11"),
        (("--scored", "sum"), "T/9"),
        (("--rows", "3"), "T/11"),
        (("--seed", "43"), "T/1 T/2 T/4 T/5 T/8 T/9 T/10 T/11"),
        (("--cases", "5"), "T/8 T/9 T/10 T/11"),
        (("--limit", "9"), "T/4 T/5 T/8 T/9 T/10 T/11"),
    ],
)
def test_a_changed_option_redoes_exactly_what_follows(words, redone, made):
    assert to_do(made, *words) == set(redone.split())


def test_the_steps_do_what_a_dry_run_says_of_a_change(root, capsys):
    run("T/4", root, "--rationale_targets", 20)
    capsys.readouterr()
    for name in STEPS:
        run(name, root, *(("--rationale_targets", 20) if name == "T/4" else ()))
        again = "out of date (twice_rec/rationales.pkl changed)" in capsys.readouterr().out
        assert again == (name in ("T/5", "T/10")), name


def test_another_adapter_is_ranked_again_and_nothing_else(root, base):
    folder = root / "checkpoints" / toy_run.DATASET / "Recommender"
    shutil.rmtree(folder)
    served.put_adapter(folder, base, lm_head=False, size=0.03)
    assert to_do(root) == {"T/8", "T/9", "T/10", "T/11"}


def recorded(root):
    """A step under a root, whose recommender is recorded to have learned the rows that are there."""
    step = toy_run.step_of("T/9", root)
    rows = {a.INSTRUCT_ROWS.path: files.sha256(step.path(a.INSTRUCT_ROWS))}
    path = step.path(a.RECOMMENDER)
    records.write_record(path, {"inputs": rows, "settings": {}}, files.sha256(path))
    return step


def test_a_recommender_of_old_rows_is_left_out_with_its_ranks(root, capsys):
    step = recorded(root)
    assert [one.name for one in ranking_runs.trained(step)] == ["item_only", "recommender"]
    changed(root, a.INSTRUCT_ROWS, lambda rows: rows[1:])
    assert ranking_runs.trained(step) == [] and ranking_runs.there(step, "test") == []
    why = f"was made with another {a.INSTRUCT_ROWS.path} than the one that is there"
    why += "; run TWiCE_Rec/6_recommender_train.sh again"
    assert f"Recommender: left out: it {why}" in capsys.readouterr().out
    assert refused(capsys, "T/8", root) == f"{step.path(a.RECOMMENDER)} {why}"


@pytest.mark.parametrize("artifact", [a.SEQUENCES, a.ITEMS, a.CANDIDATES], ids=lambda one: one.path)
def test_a_recommender_that_learned_rows_of_other_sequences_items_or_lists_is_left_out(artifact, root, capsys):
    """Targets of the test could be items of the training parts that the rows were made of."""
    step = recorded(root)
    path = step.path(artifact)
    path.write_bytes(path.read_bytes() + b" ")
    assert ranking_runs.trained(step) == []
    told = f"which was made with another {artifact.path} than the one that is there; run TWiCE_Rec/"
    assert told in capsys.readouterr().out
    with pytest.raises(InputError, match=told):
        rl_train.check(toy_run.step_of("T/7", root), ["match"])


def test_a_teacher_at_a_server_is_asked_once_for_each_case(root, monkeypatch, capsys):
    step = toy_run.step_of("T/4", root)
    path = step.path(a.RATIONALES)
    monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
    words = ("--teacher_model", "stand-in", "--overwrite")
    with serving(CountingServer()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        run("T/4", root, *words)
        asked = len(server.asked)
        assert asked == len(step.cases("train"))
        kept = files.read_pickle(path)
        run("T/4", root, *words)
        assert len(server.asked) == asked
        assert files.read_pickle(path).equals(kept)
        run("T/4", root, *words[:2])
        assert "complete: " in capsys.readouterr().out
    targets = {case.user_id: case.target.item_id for case in step.cases("train")}
    assert 0 < len(kept) < asked
    assert [targets[user] for user in kept["user_id"]] == kept["item_id"].tolist()


def test_the_stand_in_of_the_demo_refused_to_judge_rationales(root, monkeypatch):
    step = toy_run.step_of("T/10", root)
    rows = files.read_pickle(step.path(RANKED[3]))
    lists = step.candidates("test")
    said = [
        f"<think> Warm. </think> <item_nm> x </item_nm> <item_id> {lists[user][0]} </item_id>"
        for user in rows["user_id"]
    ]
    changed(root, RANKED[3], lambda frame: frame.assign(reply=said))
    monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
    with serving(CountingServer()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        run("T/10", root, "--judge", "--teacher_model", "stand-in")
        assert len(server.asked) == len(rows)
    grades = json.loads(step.path(a.QUALITY).read_text())["writers"]["recommender"]["grade"]
    assert grades["n"] == len(rows) and 0 <= grades["value"] <= 3


# Kills


def cut_off(root, name, words, fuses, log, server=None):
    """Kills a step at each of some moments and lets it end; the files below the root, and how often one was changed."""
    script, flags = PIPELINE[name].script, [*toy_run.places(root), *words]
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
        path.unlink()
        records.record_path(path).unlink()
    for store in root.rglob("*.sqlite"):
        store.unlink()
    return root


@pytest.mark.slow
def test_ranks_that_were_killed_go_on_and_end_as_unbroken_ones(made, tmp_path):
    log = tmp_path / "log"
    words = ("--config", str(made / "config.yaml"), "--models", "recommender")
    whole, changes = cut_off(without(made, tmp_path / "whole", "T/8"), "T/8", words, (), log)
    fuses = (Fuse(seconds=1.5), Fuse(event=changes // 2), Fuse(event=changes - 2))
    found, _ = cut_off(without(made, tmp_path / "cut", "T/8"), "T/8", words, fuses, log)
    assert found == whole


@pytest.mark.slow
def test_a_teacher_that_was_cut_off_is_asked_for_the_rest_alone(made, tmp_path):
    log, words = tmp_path / "log", ("--teacher_model", "stand-in", "--requests_at_once", "2")
    with serving(CountingServer()) as server:
        whole, changes = cut_off(without(made, tmp_path / "whole", "T/4"), "T/4", words, (), log, server)
        server.asked.clear()
        server.fatal = 12
        root = without(made, tmp_path / "cut", "T/4")
        found, _ = cut_off(root, "T/4", words, (Fuse(), Fuse(event=changes - 1)), log, server)
        assert found == whole
        assert 30 <= len(server.asked) <= 30 + 2 * 2


# Leaks


def put_tables(folder, chosen):
    """Writes sequences of items by number, their lists, and a rationale for each case; each text is one of its own."""
    ids = [f"I{k:02d}" for k in range(24)]
    items = pd.DataFrame([(one, f"title {one}", f"about {one}", f"made of {one}") for one in ids], columns=ITEM_COLUMNS)
    rows = [
        (f"U{user}", ids[item], place, 1.0 + place % 5, f"said by U{user} of {ids[item]}")
        for user, of_user in enumerate(chosen)
        for place, item in enumerate(of_user)
    ]
    frame = pd.DataFrame(rows, columns=SEQUENCE_COLUMNS).astype({"user_id": "str", "item_id": "str", "reviews": "str"})
    written = [(case.user_id, case.target.item_id, "Suits.") for case in sequences.cases(frame, "train")]
    lists = candidates.draw(frame, ids, 6)
    tables = (frame, items, lists, pd.DataFrame(written, columns=a.RATIONALES.columns))
    for artifact, table in zip((a.SEQUENCES, a.ITEMS, a.CANDIDATES, a.RATIONALES), tables):
        files.write_pickle(folder / artifact.path, table)
    return frame


def check_shown(root):
    """AssertionError where a training row or prompt shows what its user chose later, or a review of it or its target.

    The teacher's prompts, those of the training by a reward, and the instruct rows of both tasks with users.
    """
    words = ("--fields", "description", "details", "review", "rating", "--cut", 300)
    steps = {name: toy_run.step_of(name, root, *words) for name in ("T/4", "T/5", "T/7")}
    cases, frame = steps["T/5"].cases("train"), files.read_pickle(root / "data" / toy_run.DATASET / a.SEQUENCES.path)
    rows = instruct_rows.of_tasks(steps["T/5"])
    asked = rl_train.targets_of(steps["T/7"], "train", len(cases))
    lists = steps["T/7"].candidates("train")
    shown = [
        *zip(cases, (one.text for one in distillation.prompts_of(steps["T/4"], cases))),
        *zip(asked, (one.text for one in steps["T/7"].prompts_of(asked, lists, RATIONALE_FIRST))),
        *((case, json.dumps(row)) for task in (ITEM_ONLY, RATIONALE_FIRST) for case, row in zip(cases, rows[task])),
    ]
    assert len(shown) == 4 * frame["user_id"].nunique()
    chosen = {user: of_user["item_id"].tolist() for user, of_user in frame.groupby("user_id")}
    for case, text in shown:
        *history, target, valid, test = chosen[case.user_id]
        for later in (valid, test):
            assert f"title {later}" not in text and f"about {later}" not in text and f"of {later}" not in text
        said = {item for item in chosen[case.user_id] if f"said by {case.user_id} of {item}" in text}
        assert said <= set(history)
        assert f"title {target}" in text
        assert not any(f"said by U{k} " in text for k in range(len(chosen)) if f"U{k}" != case.user_id)


choices = st.lists(st.lists(st.integers(0, 23), min_size=4, max_size=9, unique=True), min_size=1, max_size=4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(choices)
def test_no_training_row_and_no_prompt_shows_what_its_user_chose_later(tmp_path_factory, chosen):
    root = tmp_path_factory.mktemp("leak")
    put_tables(root / "data" / toy_run.DATASET, chosen)
    check_shown(root)


@pytest.mark.parametrize("mistake", ["a history that ends one later", "targets of the validation", "lists with others"])
def test_a_leak_would_be_caught(mistake, tmp_path, monkeypatch):
    chosen = [[0, 1, 2, 3, 4, 5], [6, 3, 0, 8, 9, 1, 2]]
    frame = put_tables(tmp_path / "data" / toy_run.DATASET, chosen)
    check_shown(tmp_path)
    cases = sequences.cases
    if mistake == "a history that ends one later":

        def late(of, split):
            return [type(c)(c.user_id, (*c.history, c.target), c.target) for c in cases(of, split)]

        monkeypatch.setattr(sequences, "cases", late)
    elif mistake == "targets of the validation":
        monkeypatch.setattr(sequences, "cases", lambda of, split: cases(of, "valid" if split == "train" else split))
    else:
        later = frame.groupby("user_id")["item_id"].last()

        def leaking(table, split):
            return {user: (*of[:-1], later[user]) for user, of in drawn(table, split).items()}

        drawn = candidates.lists
        monkeypatch.setattr(candidates, "lists", leaking)
    with pytest.raises((AssertionError, InputError)):
        check_shown(tmp_path)


# Bad input


@pytest.mark.parametrize(
    ("artifact", "script", "reading"),
    [
        (a.SEQUENCES, "TWiCE_Rec/1_sequences.py", STEPS[1:]),
        (a.ITEMS, "TWiCE_Rec/1_sequences.py", STEPS[1:]),
        (a.CANDIDATES, "TWiCE_Rec/2_candidates.py", ("T/5", "T/8", "T/9", "T/10", "T/11")),
        (a.SCORES, "TWiCE_Rec/3_sasrec.py", ("T/9", "T/11")),
        (a.RATIONALES, "TWiCE_Rec/4_distil_rationales.py", ("T/5",)),
        (a.RECOMMENDER, "TWiCE_Rec/6_recommender_train.sh", ("T/8",)),
    ],
    ids=lambda value: getattr(value, "path", None),
)
def test_a_missing_file_is_named_with_who_writes_it(artifact, script, reading, root, capsys):
    path = toy_run.step_of("T/9", root).path(artifact)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in reading:
        assert refused(capsys, name, root) == f"{path} is missing: {script} writes it", name


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("T/4", ("--fields", "colour"), "--fields colour: no such field; there are description, details, review"),
        ("T/8", ("--models", "gpt"), "--models gpt: no such model; there are item_only, recommender, rl_mended"),
        ("T/8", ("--models", "rl_match"), "7_recommender_rl.sh --reward match writes it"),
        ("T/9", ("--against", "nobody"), "--against nobody: no such row; there are chance, popularity"),
        ("T/1", ("--sequences", "x.jsonl"), "--sequences and --items belong together"),
        ("T/1", ("--sequences", "x", "--items", "y", "--shortest", "9"), "--shortest 9: ready sequences are taken as"),
        ("T/1", ("--longest", "19"), "--longest 19: the sequences of the demo are taken as they are; leave it out"),
        ("T/1", ("--metadata", "x.json"), "--metadata is for the splits of a dataset; the demo has descriptions"),
        ("T/12", ("--watched", "-1"), "--watched"),
        ("T/8", ("--draws", "-1"), "--draws"),
        ("T/8", ("--fields", "details"), "was made with other --fields (['rating']), so that the recommender learned"),
        ("T/2", ("--n_candidates", "1"), "1 candidates are no list to choose from"),
        ("T/2", ("--n_candidates", "60"), "ask for"),
        ("T/9", ("--cases", "7"), "run TWiCE_Rec/8_rank_candidates.py again, with the same --limit and --cases"),
    ],
)
def test_an_option_that_cannot_be_is_told_in_one_line(name, words, message, root, capsys):
    assert message in refused(capsys, name, root, *words)


def repeated(frame):
    return frame.assign(item_id=[frame["item_id"][0], *frame["item_id"][:1], *frame["item_id"][2:]])


def of_others(frame):
    return frame.assign(user_id="X" + frame["user_id"])


def moved(frame):
    """Each item in the place of another one of the catalogue."""
    ids = sorted(frame["item_id"].unique())
    return frame.assign(item_id=frame["item_id"].map(dict(zip(ids, [*ids[1:], ids[0]]))))


@pytest.mark.parametrize(
    ("artifact", "change", "message", "reading"),
    [
        (a.SEQUENCES, repeated, "stands in that user's sequence already", STEPS[1:]),
        (a.CANDIDATES, of_others, "is of a user that has no sequence; run TWiCE_Rec/2", STEPS[3:]),
        (a.CANDIDATES, moved, "run TWiCE_Rec/2_candidates.py again", STEPS[3:]),
        (a.SCORES, of_others, "is not in it; run TWiCE_Rec/3_sasrec.py again", ("T/9", "T/11")),
        (a.SCORES, lambda frame: pd.concat([frame, frame]), "is in it twice; run TWiCE_Rec/3", ("T/9", "T/11")),
        (a.SCORES, lambda frame: frame.assign(logit=np.nan), "logit in row 0 is no finite number", ("T/9", "T/11")),
        (a.ranked("recommender", "test"), of_others, "is not in it; run TWiCE_Rec/8", ("T/9", "T/11")),
        (a.written("recommender", "test"), lambda frame: frame.assign(reply=None), "column reply", STEPS[5:]),
        (a.written("recommender", "test"), lambda frame: frame[1:], "5 greedy replies to 6 cases; run", ("T/9",)),
        (a.RATIONALES, moved, "run TWiCE_Rec/4_distil_rationales.py again", ("T/5",)),
    ],
    ids=lambda value: getattr(value, "path", getattr(value, "__name__", None)),
)
def test_a_table_of_other_data_is_told_in_one_line(artifact, change, message, reading, root, capsys):
    changed(root, artifact, change)
    assert message in refused(capsys, reading[0], root)
    for name in reading[1:]:
        # What a step before made of it is out of date, and told first.
        told = refused(capsys, name, root)
        assert message in told or f"made with another {artifact.path} than the one that is there" in told, name


def ask(root, *words):
    guarded(lambda: asking.ask([*toy_run.places(root), *map(str, words)]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--user", "nobody"), "--user 'nobody': not a user of this run, whose users are such as U0000"),
        ((), "--dataset NAME and --user ID say"),
        (("--user", "U0001", "--candidates", "B001"), "name two or more different items"),
        (("--user", "U0001", "--candidates", "B001", "B999"), "'B999' is no item of this dataset"),
        (("--user", "U0001", "--model", "rl_match"), "--model rl_match: not trained"),
    ],
)
def test_a_question_that_cannot_be_answered_is_told_in_one_line(words, message, made, capsys):
    assert message in complaint_of(capsys, lambda: ask(made, "--fields", "rating", *words))


def test_a_question_is_answered_by_the_tables(made, capsys):
    step = toy_run.step_of("T/9", made, "--cases", 6)
    user = step.judged_cases("test")[0].user_id
    capsys.readouterr()
    with contextlib.suppress(SystemExit):
        ask(made, "--user", user, "--fields", "rating", "--json", "--model", "recommender")
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    ranks = step.read(a.ranked("recommender", "test"))
    assert {one["item_id"] for one in answer["ranked"]} == set(ranks.loc[ranks["user_id"] == user, "item_id"])
    assert [one["log_likelihood"] for one in answer["ranked"]] == sorted(
        (one["log_likelihood"] for one in answer["ranked"]), reverse=True
    )


# What went wrong once


def test_an_evaluation_of_fewer_cases_than_were_ranked_failed(root, capsys):
    step = toy_run.step_of("T/9", root)
    for artifact in RANKED:
        step.path(artifact).unlink()
    lists = step.candidates("test")
    rows = [(user, item, -1.0, 3) for user, listed in lists.items() for item in listed]
    files.write_pickle(step.path(RANKED[2]), pd.DataFrame(rows, columns=RANKED[2].columns))
    said = [(user, 0, "none") for user in lists]
    files.write_pickle(step.path(RANKED[3]), pd.DataFrame(said, columns=RANKED[3].columns))
    run("T/9", root, "--cases", 4)
    assert "4 cases of test" in capsys.readouterr().out


def test_a_question_with_other_prompts_than_the_tables_was_answered_as_if_they_were_the_same(made, capsys):
    message = complaint_of(capsys, lambda: ask(made, "--user", "U0001"))
    assert "item_only_test.pkl" in message or "recommender_test.pkl" in message
    assert "other --fields" in message
    assert "no such field" in complaint_of(capsys, lambda: ask(made, "--user", "U0001", "--fields", "colour"))


def test_the_papers_protocol_takes_each_drawn_item_once_in_the_order_drawn(root):
    step = toy_run.step_of("T/9", root, "--cases", 6)
    cases, lists = step.judged_cases("test"), step.candidates("test")
    rows = []
    for k, case in enumerate(cases):
        target = case.target.item_id
        others = [one for one in lists[case.user_id] if one != target]
        drawn = ([target] * 3, [others[0], others[0], target], others[:3], [None, target, others[0]])[k % 4]
        for draw, item in enumerate((others[0], *drawn)):
            named = f"<item_nm> x </item_nm> <item_id> {item} </item_id>" if item else "nothing"
            rows.append((case.user_id, draw, f"<think> so </think> {named}"))
    changed(root, RANKED[3], lambda frame: pd.DataFrame(rows, columns=frame.columns))
    run("T/9", root)
    (row,) = (one for one in json.loads(step.path(a.METRICS).read_text())["named"] if one["model"] == "recommender")
    places = [(1, 2, 0, 1)[k % 4] for k in range(6)]
    assert row["draws"] == 3
    assert row["first"]["value"] == pytest.approx(np.mean([one == 1 for one in places]))
    assert row["pass"]["value"] == pytest.approx(np.mean([one > 0 for one in places]))
    assert row["ndcg"]["value"] == pytest.approx(np.mean([1 / np.log2(one + 1) if one else 0 for one in places]))
    assert row["greedy"]["value"] == 0


def test_a_page_of_test_cases_called_itself_one_of_the_validation(root, capsys):
    assert "unknown option --split" in complaint_of(capsys, lambda: run("T/11", root, "--split", "valid"))


def test_the_comparison_of_rewards_found_only_after_its_trainings_that_ranks_were_missing(root, capsys):
    path = toy_run.step_of("T/9", root).path(a.ranked("recommender", "test"))
    path.unlink()
    (root / "checkpoints" / toy_run.DATASET / "SASRec" / "x").write_text("")
    assert f"{path} is missing: TWiCE_Rec/8_rank_candidates.py writes it" == refused(capsys, "T/12", root)


def put_policy(root, base, started_from, reward="match"):
    """Puts a policy beside the recommender, and ranks of its own like those of the recommender."""
    step = toy_run.step_of("T/9", root)
    folder = step.path(a.BY_REWARD[reward])
    served.put_adapter(folder, base, lm_head=False)
    settings = json.loads((folder / "settings.json").read_text()) | {"started_from": started_from}
    files.write_text(folder / "settings.json", json.dumps(settings))
    for of in (a.ranked, a.written):
        source, copy = (step.path(of(name, "test")) for name in ("recommender", f"rl_{reward}"))
        shutil.copy(source, copy)
        record = records.read_record(source)
        inputs = dict(record["made_from"]["inputs"])
        inputs.pop(a.RECOMMENDER.path)
        inputs[a.BY_REWARD[reward].path] = files.sha256(folder)
        record["made_from"]["inputs"] = inputs
        files.write_text(records.record_path(copy), json.dumps(record))
    return folder


def models_of(root, name="T/9"):
    run(name, root)
    return [row["model"] for row in json.loads(toy_run.step_of("T/9", root).path(a.METRICS).read_text())["top"]]


def test_ranks_of_a_policy_from_another_recommender_stood_beside_those_of_the_new_one(root, base, capsys):
    now = sha256_of_weights(toy_run.step_of("T/9", root).path(a.RECOMMENDER))
    put_policy(root, base, now)
    assert "rl_match" in models_of(root)
    put_policy(root, base, "another")
    capsys.readouterr()
    assert "rl_match" not in models_of(root)
    said = capsys.readouterr().out
    assert "left out: it its Recommender_match" not in said
    assert "was trained from another Recommender" in said
    assert "TWiCE_Rec/7_recommender_rl.sh --reward match again" in said
    for name, artifact in (("T/10", a.QUALITY), ("T/11", a.CASE_STUDY)):
        run(name, root)
        assert "rl_match" not in toy_run.step_of(name, root).path(artifact).read_text(), name
    assert "rl_match" in refused(capsys, "T/8", root, "--models", "rl_match")


def test_ranks_with_other_settings_stood_in_one_table(root, base, capsys):
    put_policy(root, base, sha256_of_weights(toy_run.step_of("T/9", root).path(a.RECOMMENDER)))
    run("T/8", root, "--models", "recommender", "--max_new_tokens", 5)
    capsys.readouterr()
    assert [name for name in models_of(root) if name in a.MODEL_NAMES] == ["recommender"]
    assert "was made with another max_new_tokens than the ranks of recommender" in capsys.readouterr().out


def test_a_collaborative_model_below_popularity_stopped_runs_that_need_none(root, capsys):
    step = toy_run.step_of("T/7", root)
    low, high = {"HR@10": 0.5, "NDCG@10": 0.3}, {"HR@10": 0.6, "NDCG@10": 0.4}
    files.write_text(
        step.path(a.SASREC) / "card.json", json.dumps({"metrics": {"valid": {"SASRec": low, "popularity": high}}})
    )
    words = ("--fields", "rating")
    assert "does not beat popularity on valid (HR@10 0.5 to 0.6" in refused(capsys, "T/12", root, *words)
    with pytest.raises(InputError, match="take --reward match, or make the sequences of more users"):
        rl_train.check(toy_run.step_of("T/7", root, *words), ["faithful"])
    rl_train.check(toy_run.step_of("T/7", root, *words), ["match"])


def test_policies_were_trained_before_their_cases_were_found_to_be_others(root, capsys):
    for words in (("--cases", 5), ("--max_new_tokens", 7), ("--limit", 9)):
        message = refused(capsys, "T/12", root, *words)
        assert "recommender_test.pkl is out of date" in message and "give the options that it was made with" in message
    assert not (root / "checkpoints" / toy_run.DATASET / "rewards").exists()


def test_faithfulness_was_measured_against_texts_that_no_prompt_showed(root):
    run("T/10", root, "--fields", "rating")
    found = json.loads(toy_run.step_of("T/10", root).path(a.QUALITY).read_text())["writers"]["teacher (training cases)"]
    run("T/10", root, "--fields", "description", "details", "review", "rating")
    more = json.loads(toy_run.step_of("T/10", root).path(a.QUALITY).read_text())["writers"]["teacher (training cases)"]
    assert found["faithfulness"]["value"] < more["faithfulness"]["value"]


def test_ids_with_spaces_were_found_out_only_by_the_collaborative_model(tmp_path, capsys):
    toy_run.put_choices(tmp_path)
    path = toy_run.step_of("T/1", tmp_path).path(a.DEMO_ITEMS)
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    files.write_json_lines(path, [row | {"asin": f"The {row['asin']}"} for row in rows])
    message = complaint_of(capsys, lambda: toy_run.run("T/1", tmp_path))
    assert "item_id 'The B000' is no id" in message


def test_a_rule_teacher_that_was_to_judge_was_found_out_at_the_end_of_a_run(root):
    with pytest.raises(InputError, match="--judge: --teacher_model rules does not judge"):
        to_do(root, "--judge")
