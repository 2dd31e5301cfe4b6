"""What was trained or listed by others than those that are there: left out or refused, in every step that reads it.

Beside it what a moved run, a trial, and templates, texts and options that do not fit lead to.
"""

import json
import shutil
from collections import Counter

import gream_run
import pandas as pd
import pytest
import served
from helpers import files_in
from hypothesis import given
from hypothesis import strategies as st

from reason4rec.data.sequences import Case, Event
from reason4rec.errors import InputError
from reason4rec.llm.adapters import ADAPTER_WEIGHTS, adapter_settings, base_of
from reason4rec.llm.trie import of_paths
from reason4rec.run import __main__ as run_of_all
from reason4rec.run import files, records
from reason4rec.run.files import adapter
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import (
    asking,
    evaluation_runs,
    prompts,
    reasoning,
    recommending,
    recommending_runs,
    rl_train,
    staleness,
    texts,
    train,
)
from reason4rec.systems.gream import options as o
from reason4rec.systems.gream.pipeline import PIPELINE
from reason4rec.systems.gream.tasks import Material, alignment
from reason4rec.systems.twice_rec import options as of_twice_rec
from reason4rec.systems.twice_rec.artifacts import ITEMS, SASREC, SEQUENCES
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.training.options import Training
from reason4rec.training.policy import checked

CONFIG = """
teacher_model: rules
text_users: 6
reasonings: 8
restate_history: true
passes: 1
fusion_rows: 5
cases: 3
levels: 2
codes: 5
max_new_tokens: 8
device: cpu
"""
STEPS = ("T/1", "G/1", "G/2", "G/3", "G/4", "G/5", "G/6")
DIRECT = "generator_direct"


def words(root):
    return ("--config", root / "config.yaml")


def run(name, root, *more):
    gream_run.run(name, root, *words(root), *more)


def step_of(name, root, *more):
    return gream_run.step_of(name, root, *words(root), *more)


def put(root, name, **more):
    """Puts an adapter that nobody trained on the base with new tokens, with settings as its training leaves them."""
    folder = root / "checkpoints" / gream_run.DATASET
    shutil.rmtree(folder / name, ignore_errors=True)
    path = served.put_adapter(folder / name, str(folder / a.BASE.path), lm_head=False)
    files.write_text(path / "settings.json", json.dumps(adapter_settings(path) | more))
    return path


def record(root, name):
    """Records of an adapter that it learned the rows that are there."""
    step = step_of("G/9", root)
    path, rows = step.path(adapter(name)), step.path(a.INSTRUCT_ROWS)
    records.write_record(
        path, {"inputs": {a.INSTRUCT_ROWS.path: files.sha256(rows)}, "settings": {}}, files.sha256(path)
    )


def sha256_of_generator(root):
    return files.sha256(step_of("G/9", root).path(a.GENERATOR) / ADAPTER_WEIGHTS)


def change_base(root):
    """Makes the base with new tokens another one, as a run of G/5 with another base would."""
    files.write_text(step_of("G/9", root).path(a.BASE) / "more.json", "{}")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A root with a generator, a policy that was trained from it, and the lists of both in the direct mode."""
    root = tmp_path_factory.mktemp("made") / "root"
    gream_run.put_choices(root)
    files.write_text(root / "config.yaml", CONFIG)
    for name in STEPS:
        run(name, root)
    put(root, "Generator")
    put(root, "Generator_srpo", started_from=sha256_of_generator(root))
    run("G/9", root, "--models", DIRECT, "srpo_direct")
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy of that root, to be changed."""
    return shutil.copytree(made, tmp_path / "root")


def refused(capsys, call):
    """The one line in which a call ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call()
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("error: ")


# Stale adapters and lists


def test_a_policy_of_another_generator_is_left_out_with_its_list(root, capsys):
    step = step_of("G/9", root)
    put(root, "Generator", alpha=1)
    weights = step.path(a.GENERATOR) / ADAPTER_WEIGHTS
    served_again = served.put_adapter(step.path(a.GENERATOR), str(step.path(a.BASE)), lm_head=False, size=0.05)
    assert served_again / ADAPTER_WEIGHTS == weights
    assert {one.adapter for one in recommending.trained(step)} == {"Generator"}
    assert "left out: it was trained from another Generator" in capsys.readouterr().out
    run("G/9", root, "--models", DIRECT)
    capsys.readouterr()
    run("G/10", root)
    told = capsys.readouterr().out
    assert "srpo_direct_test.pkl: left out: its Generator_srpo was trained from another Generator" in told
    assert "GREAM/8_generator_rl.sh again" in told
    rows = {row["model"] for row in json.loads(step.path(a.METRICS).read_text())["ranks"]}
    assert DIRECT in rows and "srpo_direct" not in rows
    run("G/11", root)
    assert "srpo_direct" not in step.path(a.CASE_STUDY).read_text()


def test_a_stale_policy_that_is_asked_for_by_name_is_refused(root, capsys):
    put(root, "Generator_srpo", started_from="0" * 64)
    told = refused(capsys, lambda: run("G/9", root, "--models", "srpo_direct"))
    assert told.startswith("--models srpo_direct: Generator_srpo was trained from another Generator")


def test_a_list_of_an_adapter_that_is_gone_or_another_is_left_out(root, capsys):
    step = step_of("G/10", root)
    assert evaluation_runs.there(step, "test") == [DIRECT, "srpo_direct"]
    put(root, "Generator_srpo", started_from=sha256_of_generator(root), rank=3)
    assert evaluation_runs.there(step, "test") == [DIRECT]
    assert "left out: was made with another Generator_srpo" in capsys.readouterr().out
    shutil.rmtree(step.path(a.BY_ADVANTAGE["srpo"]))
    assert evaluation_runs.there(step, "test") == [DIRECT]


def test_a_list_with_other_ids_is_left_out_and_one_put_there_by_hand_is_not(root):
    step = step_of("G/10", root)
    record = records.record_path(step.path(a.ranked("srpo_direct", "test")))
    record.unlink()
    ids = step.path(a.SEMANTIC_IDS)
    files.write_text(ids, ids.read_text() + "\n")
    assert evaluation_runs.there(step, "test") == ["srpo_direct"]


def test_the_adapter_of_shuffled_rows_is_left_out_when_its_rows_or_its_base_changed(root, capsys):
    step = step_of("G/9", root)
    path = put(root, "Generator_shuffled")
    rows = step.path(a.INSTRUCT_ROWS)
    record(root, "Generator_shuffled")
    assert "shuffled_direct" in {one.name for one in recommending.trained(step)}
    changed = files.read_pickle(rows)
    files.write_pickle(rows, changed[1:])
    assert "shuffled_direct" not in {one.name for one in recommending.trained(step)}
    assert f"left out: it was made with another {a.INSTRUCT_ROWS.path}" in capsys.readouterr().out
    files.write_pickle(rows, changed)
    assert "shuffled_direct" in {one.name for one in recommending.trained(step)}
    files.write_text(path / "settings.json", json.dumps(adapter_settings(path) | {"base_sha256": "0" * 64}))
    assert "shuffled_direct" not in {one.name for one in recommending.trained(step)}


def test_a_generator_of_old_rows_and_its_policy_are_left_out_as_that_of_shuffled_rows_is(root, capsys):
    step = step_of("G/9", root)
    record(root, "Generator")
    assert {one.adapter for one in recommending.trained(step)} == {"Generator", "Generator_srpo"}
    rows = step.path(a.INSTRUCT_ROWS)
    files.write_pickle(rows, files.read_pickle(rows)[1:])
    assert recommending.trained(step) == []
    told = capsys.readouterr().out
    why = (
        f"was made with another {a.INSTRUCT_ROWS.path} than the one that is there; run GREAM/7_generator_train.sh again"
    )
    assert f"Generator: left out: it {why}" in told and f"left out: it needs Generator, which {why}" in told
    assert evaluation_runs.there(step_of("G/10", root), "test") == []
    assert refused(capsys, lambda: run("G/9", root)) == f"{step.path(a.GENERATOR)} {why}"


@pytest.mark.parametrize("artifact", [SEQUENCES, ITEMS, a.SEMANTIC_IDS], ids=lambda one: one.path)
def test_a_generator_that_learned_rows_of_other_sequences_items_or_ids_is_left_out(artifact, root, capsys):
    """With --least_rating 3 and no new rows, items of the old training parts were targets of the test."""
    step = step_of("G/9", root)
    record(root, "Generator")
    path = step.path(artifact)
    path.write_bytes(path.read_bytes() + b" ")
    assert recommending.trained(step) == []
    told = f"which was made with another {artifact.path} than the one that is there; run GREAM/"
    assert told in capsys.readouterr().out


def test_no_policy_is_trained_from_a_generator_that_is_out_of_date(root):
    step = step_of("G/8", root, "--overwrite")
    change_base(root)
    with pytest.raises(InputError, match="Generator was trained on another GREAM_base .*7_generator_train.sh again"):
        rl_train.train(step)


def test_a_list_of_other_settings_than_the_generators_is_left_out(root, capsys):
    """A list of a search of 100 beams stood beside those of 30."""
    run("G/9", root, "--models", "srpo_direct", "--beams", 12)
    capsys.readouterr()
    assert evaluation_runs.there(step_of("G/10", root), "test") == [DIRECT]
    told = "srpo_direct_test.pkl: left out: was made with another beams than the list of generator_direct; run GREAM/9"
    assert told in capsys.readouterr().out


def test_a_sasrec_of_other_items_is_left_out_and_one_put_there_by_hand_is_not(root, capsys):
    step = step_of("G/10", root)
    path = step.path(SASREC)
    files.write_text(path / "card.json", "{}")
    assert evaluation_runs.trained_beside(step) == [SASREC] and SASREC in step.reads
    made_of = {one.path: files.sha256(step.path(one)) for one in (SEQUENCES, ITEMS)}
    records.write_record(path, {"inputs": made_of, "settings": {}}, files.sha256(path))
    assert evaluation_runs.trained_beside(step) == [SASREC]
    records.write_record(path, {"inputs": made_of | {ITEMS.path: "0" * 64}, "settings": {}}, files.sha256(path))
    assert evaluation_runs.trained_beside(step) == []
    assert SASREC not in step_of("G/10", root).reads and SASREC not in step_of("G/11", root).reads
    told = f"SASRec: left out: it was made with another {ITEMS.path} than the one that is there; run TWiCE_Rec/3_sasrec"
    assert told in capsys.readouterr().out


def test_no_adapter_goes_on_another_base_than_its_own(root, capsys):
    change_base(root)
    step = step_of("G/9", root)
    with pytest.raises(InputError, match="was trained on another GREAM_base .*; run GREAM/7_generator_train.sh again"):
        step.language_model("Generator")
    told = refused(capsys, lambda: run("G/9", root))
    assert told.endswith("run GREAM/7_generator_train.sh again")


# A moved run, and what decides the training


def test_a_training_records_its_base_by_name_and_a_moved_run_leaves_it_done(made, root):
    both = []
    for place in (made, root):
        step = step_of("G/7", place)
        both.append({name: step.provenance[name] for name in ("inputs", "settings")})
        assert step.provenance["settings"]["base_model"] == "GREAM_base"
        assert step.provenance["settings"]["base_sha256"] == files.sha256(step.path(a.BASE))
        assert str(place) not in json.dumps(both[-1])
    assert both[0] == both[1]


@pytest.mark.slow
def test_a_moved_run_leaves_its_trainings_done_and_can_be_trained_further(made, tmp_path, capsys):
    """The path of the base was recorded, so that a moved run was out of date, or was trained on the base it left."""
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(made, before)
    for name in ("Generator", "Generator_srpo"):
        shutil.rmtree(step_of("G/9", before).path(adapter(name)))
    of_training = ["--limit", 8, "--batch_size", 4, "--rank", 4, "--alpha", 8, "--lr", 1e-3]
    policy = ["--rl_steps", 1, "--prompts_a_step", 2, "--group", 2, "--completion_tokens", 8, "--watched", 0]
    trained("G/7", before, *of_training)
    trained("G/8", before, *policy)
    before.rename(after)
    for name, more in (("G/7", of_training), ("G/8", policy)):
        assert step_of(name, after, *more).status().done
    trained("G/8", after, *policy, "--advantage", "grpo")
    step = step_of("G/9", after)
    assert {one.adapter for one in recommending.trained(step)} == {"Generator", "Generator_srpo", "Generator_grpo"}
    assert step.language_model("Generator_grpo").generate(list(step.next_item([[]], "direct")), 4)


def trained(name, root, *more):
    """Runs a training in this process."""
    module = {"G/7": train, "G/8": rl_train}[name]
    module.main([str(word) for word in (*gream_run.places(root), *words(root), *more)])


def test_a_moved_run_trains_a_policy_on_the_base_that_lies_beside_it(root):
    known = {"target_modules": ["q_proj"], "rank": 8, "alpha": 16, "dropout": 0.0, "lm_head": False}
    path = put(root, "Generator", base_model="GREAM_base", max_length=2560, **known)
    step = step_of("G/8", root)
    assert step.provenance["settings"]["base_model"] == "GREAM_base"
    assert base_of(path, "GREAM_base") == str(step.path(a.BASE))
    assert base_of(path, "Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B" and base_of(path, "gpt2") == "gpt2"


def test_the_learning_rate_is_that_of_the_base_that_is_trained(root):
    """The ablation that was run by hand, without --base_model, got the rate of another base."""
    rates = set()
    for base in ("qwen3-0.6b", "llama-3-8b"):
        step = step_of("G/7", root, "--base_model", base)
        recipe = train.training.recipe_of(step, train.RECIPE, a.INSTRUCT_ROWS, {}, a.BASE)
        assert step[Training].lr is None
        rates.add(recipe.lr)
    assert len(rates) == 1


def test_the_vectors_are_out_of_date_when_the_files_of_the_base_that_reads_changed(root, monkeypatch, tmp_path):
    base = shutil.copytree(step_of("G/9", root).path(a.BASE), tmp_path / "base")
    before = step_of("G/2", root, "--base_model", base).provenance["settings"]
    files.write_text(base / "more.json", "{}")
    after = step_of("G/2", root, "--base_model", base).provenance["settings"]
    assert before["base_model"] == after["base_model"] and before["base_sha256"] != after["base_sha256"]
    small = step_of("G/2", root, "--encoder", "minilm", "--base_model", base).provenance["settings"]
    assert small["encoder"] == "minilm" and not {"base_model", "base_sha256"} & small.keys()


def test_more_levels_than_a_reward_is_made_for_are_refused_before_ids_are_made(made, capsys):
    assert "--levels 11: there are at most 10" in refused(capsys, lambda: run("G/3", made, "--levels", 11))
    found = o.Reinforcement().policy("qwen3-0.6b")
    assert checked(found).least_spread < 0.95 - 0.9**0.5  # all of ten levels, and all but the last


def test_the_popular_item_of_the_probes_is_that_of_the_training_parts(made, monkeypatch):
    step, seen = step_of("G/8", made), []
    target = step.pasts[0].events[-1].item_id
    rare = next(one for one in step.id_texts if all(one != e.item_id for past in step.pasts for e in past.events))
    frame = step.sequences
    later = frame.groupby("user_id")["position"].transform("max") - 1 <= frame["position"]
    step.__dict__["sequences"] = frame.assign(item_id=frame["item_id"].where(~later, rare))
    popular = pd.Series([e.item_id for past in step.pasts for e in past.events]).value_counts()
    monkeypatch.setattr(rl_train.probes, "policies", lambda t, last, popular, levels: seen.append(popular) or {})
    rl_train.probe(step, [(step.pasts[0].events[:-1], target)])
    assert popular[step.ids.item_of(seen[0])] == popular.max()


# Positions, options and trials


def test_a_case_without_any_beam_is_a_row_without_an_item():
    case = Case("U", (Event("A", None, ""),), Event("B", None, ""))
    trie = of_paths([(1, 9), (2, 9)], positionwise=True)
    lists, _ = recommending.tables([case, case], [[], [((2, 9), -0.5)]], trie, ["A", "B"], [[""], [""]])
    assert lists["place"].tolist() == [1, 1]
    assert lists["item_id"].tolist() == [None, "B"]


def test_the_search_by_positions_keeps_what_the_user_has(made):
    """They were dropped after the search, so that a list could be empty, and G/10 ended there."""
    step, asked = step_of("G/9", made), []

    class Searcher:
        tokenizer = None

        def beams(self, prompts, trie, most, begun, excluded, what, length_penalty):
            asked.append(excluded)
            return [[] for _ in prompts]

    cases = step.judged_cases("test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recommending, "trie_of", lambda *of: of_paths([(1, 9)]))
        for name in ("generator_positionwise", DIRECT):
            lists, _ = recommending.recommended(step, Searcher(), cases, recommending.MODELS[name], step[o.Models])
            assert lists["user_id"].tolist() == [case.user_id for case in cases]
    assert asked[0] == [[]] * len(cases) and all(asked[1])


def test_the_temperature_of_draws_puts_no_list_out_of_date_that_has_none(made):
    def settings(*more):
        step = step_of("G/9", made, *more)
        return recommending_runs.part_of(step, recommending.MODELS["generator_reasoned"]).provenance["settings"]

    assert settings() == settings("--draw_temperature", 0.9)
    assert settings("--draws", 2) != settings("--draws", 2, "--draw_temperature", 0.9)


def test_only_the_templates_that_are_used_put_a_list_out_of_date(made, tmp_path):
    folder = shutil.copytree(prompts.FOLDER, tmp_path / "prompts", ignore=shutil.ignore_patterns("__*", "*.py"))

    def settings(name):
        return step_of(name, made, "--prompts", folder).recorded()

    before = {name: settings(name) for name in ("G/4", "G/8", "G/9")}
    files.write_text(folder / "teacher_reasoning.txt", (folder / "teacher_reasoning.txt").read_text() + "!\n")
    assert [name for name in before if settings(name) != before[name]] == ["G/4"]
    files.write_text(folder / "reasoned.txt", (folder / "reasoned.txt").read_text() + "!\n")
    assert [name for name in before if settings(name) != before[name]] == ["G/4", "G/8", "G/9"]
    assert "cut" not in before["G/9"] and "cut" in before["G/4"]


def test_a_trial_of_the_rows_takes_the_reasonings_of_its_users_alone(root):
    whole = step_of("G/6", root).reasonings()
    some = step_of("G/6", root, "--limit", 3)
    kept = some.reasonings()
    assert len(kept) < len(whole) and set(kept["user_id"]) <= {past.user_id for past in some.pasts}
    run("G/6", root, "--limit", 3)


def test_where_nothing_can_be_reasoned_towards_it_is_told_before_the_work(root):
    """The teacher's step ended with an empty file, and that of the reward in a division by 0."""
    for name in ("G/4", "G/8"):
        step = step_of(name, root)
        step.__dict__["pasts"] = [one._replace(events=one.events[:4]) for one in step.pasts]
        with pytest.raises(InputError, match="no training part has 5 items.*--no-reasoned"):
            step.reasoning_targets()
    with pytest.raises(InputError, match="no training part has 5 items"):
        rl_train.train_targets(step)


def test_replies_that_are_all_refused_are_told_with_what_to_do(root, capsys, monkeypatch):
    monkeypatch.setattr(reasoning, "reasonings", lambda chosen, replies, items: ([], Counter(refused=len(chosen))))
    told = refused(capsys, lambda: run("G/4", root, "--overwrite"))
    assert told == "the replies are all refused: take another --teacher_model, or run with --no-reasoned"


def test_a_run_without_reasonings_asks_no_teacher_for_them_and_trains_by_no_reward():
    for words, has in (((), True), (("--no-reasoned",), False)):
        given, _ = run_of_all.parse(PIPELINE, ["--system", "gream", *words])
        assert ({"G/4", "G/8"} <= {one.name for one in run_of_all.selected(PIPELINE, given)}) == has
    assert not {"G/4", "G/8"} & {one.name for one in run_of_all.selected(PIPELINE, given)}


def test_draws_without_a_temperature_are_refused():
    for group in (o.Models, of_twice_rec.Models):
        with pytest.raises(InputError, match="--draw_temperature 0: at 0 all draws are the same"):
            group(draw_temperature=0.0)


def test_rows_without_reasonings_need_none(root):
    step = step_of("G/6", root, "--no-reasoned")
    step.path(a.REASONINGS).unlink()
    run("G/6", root, "--no-reasoned")
    rows = step.read(a.INSTRUCT_ROWS)
    assert not any("<think>" in row["messages"][1]["content"] for row in rows)


def test_a_generator_without_reasonings_was_asked_for_lists_in_the_mode_that_it_had_not_learned(root, monkeypatch):
    monkeypatch.setattr(staleness, "of_adapter", lambda step, name: "")  # as after a training on those rows
    step = step_of("G/9", root)
    assert {model.mode for model in recommending.trained(step)} == {prompts.DIRECT, prompts.REASONED}
    run("G/6", root, "--no-reasoned")
    assert {model.mode for model in recommending.trained(step_of("G/9", root))} == {prompts.DIRECT}


def test_an_adapter_without_weights_is_told_without_a_flag_that_the_step_lacks(root):
    step = step_of("G/9", root)
    (step.path(a.GENERATOR) / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(InputError, match="Generator: no adapter_model.safetensors there; train it again") as told:
        recommending.trained(step)
    assert "--start_from" not in str(told.value)


# Templates


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("seqrec", "What next? => {item}", "seqrec.txt: line 1: ask about {history} and answer {item} alone"),
        ("seqrec", "After {history}? => It is {item}", "seqrec.txt: line 1: ask about {history}"),
        ("reasoned_answer", "{steps} {history} <answer>{item}</answer>", "must have <think>, </think>, <answer> and"),
        (
            "reasoned_answer",
            "<answer>{item}</answer> <think> {steps} {history} </think>",
            "must have <think>, </think>, <answer> and </answer> in this order",
        ),
    ],
)
@pytest.mark.parametrize("step", ["G/6", "G/9"])
def test_templates_that_cannot_be_used_are_told_before_the_work(step, name, text, message, made, tmp_path, capsys):
    folder = shutil.copytree(prompts.FOLDER, tmp_path / "prompts", ignore=shutil.ignore_patterns("__*", "*.py"))
    files.write_text(folder / f"{name}.txt", text + "\n")
    before = files_in(made)
    assert message in refused(capsys, lambda: run(step, made, "--prompts", folder))
    assert files_in(made) == before


@pytest.mark.parametrize("restates", [True, False])
def test_the_shipped_templates_can_be_used(restates):
    prompts.check(restates=restates)


def test_a_question_that_the_generator_did_not_learn_is_refused(made, capsys):
    before = files_in(made)
    told = refused(capsys, lambda: run("G/9", made, "--no-restate_history"))
    assert "--no-restate_history: the generator learned answers the other way; pass --restate_history" in told
    assert files_in(made) == before


def test_the_form_of_answers_is_recorded_where_rows_follow_from_it(made):
    for name, follows in (("G/1", False), ("G/4", False), ("G/6", True)):
        step = step_of(name, made, *(["--no-restate_history"] if follows else []))
        assert (step.provenance["settings"].get("restate_history") is False) == follows, name
        assert "restate_history" not in step_of(name, made).provenance["settings"]


def test_templates_that_came_later_put_nothing_out_of_date_until_they_are_changed(tmp_path):
    earlier = shutil.copytree(prompts.FOLDER, tmp_path / "earlier", ignore=shutil.ignore_patterns("__*", "*_alone*"))
    changed = shutil.copytree(prompts.FOLDER, tmp_path / "changed", ignore=shutil.ignore_patterns("__*"))
    files.write_text(changed / "reasoned_alone.txt", "Think. {question}\n")
    for group in (o.Prompts, o.Questions):
        shipped = group().recorded()
        assert group(prompts=earlier).recorded() == shipped
        assert group(prompts=changed).recorded() != shipped


# What a shop writes


TOKEN = "<|a_1|>"


def shop(title, description):
    columns = ["item_id", "title", "description", "details"]
    return Catalogue(pd.DataFrame([["B1", title, description, ""], ["B2", "Salt", "", ""]], columns=columns))


@given(st.lists(st.sampled_from([TOKEN, "<|a_", "1|>", "<|", "Tea ", "|>", "&lt;|b_2|&gt;"]), max_size=8).map("".join))
def test_no_text_of_a_shop_can_hold_a_token_of_an_id(text):
    items = shop(f"Box {text}", text)
    made = Material([], items, {"B1": "<|a_3|><|b_3|>", "B2": "<|a_3|><|b_4|>"})
    (rows,) = alignment(made, passes=1, tasks=(prompts.TO_ITEM, prompts.FROM_ITEM))
    for row in rows:
        written = "".join(message["content"] for message in row["messages"])
        assert TOKEN not in written and "<|b_2|>" not in written
    assert TOKEN not in texts.clean(text) and "<|b_2|>" not in texts.clean(text)


def test_a_teacher_sees_no_token_of_an_id_and_may_write_none():
    items = shop(f"Tea {TOKEN} box", f"Green {TOKEN}.")
    shown = prompts.reasoning(items, [Event("B1", 5.0, f"Good {TOKEN}")], "B2").text
    assert TOKEN not in shown and "Tea" in shown
    assert TOKEN not in prompts.describe(items["B1"], [f"Good {TOKEN}"]).text
    assert texts.item_text(f"A box of tea {TOKEN}.")[1] == "has tags"


# Asking


def load(root, model="", **more):
    where = {"data_root": root / "data", "checkpoint_root": root / "checkpoints", "device": "cpu"}
    told = {"max_new_tokens": 8, "restate_history": True}  # as the run was told
    return asking.Generator.load(gream_run.DATASET, model, **where | told | more)


def test_asking_takes_no_ablation_by_default(root):
    put(root, "Generator_no_bonus", started_from=sha256_of_generator(root))
    assert load(root).model.name == "srpo_reasoned"
    shutil.rmtree(step_of("G/9", root).path(a.BY_ADVANTAGE["srpo"]))
    assert load(root).model.name == "generator_reasoned"


def test_asking_refuses_a_form_of_answers_that_the_generator_did_not_learn(made):
    """Thoughts were asked for by another template than that of the rows, and nothing was said."""
    with pytest.raises(InputError, match="--no-restate_history: the generator learned answers the other way"):
        load(made, DIRECT, restate_history=False)


def test_a_list_after_thoughts_is_out_of_date_where_their_form_changed(made):
    for name, follows in ((DIRECT, False), ("generator_reasoned", True)):
        parts = [
            recommending_runs.part_of(step_of("G/9", made, *more), recommending.MODELS[name])
            for more in ((), ("--no-restate_history",))
        ]
        before, after = (one.provenance["settings"] for one in parts)
        assert (before != after) == follows, name


def test_an_answer_says_that_its_list_is_not_that_of_the_tables(made):
    user = step_of("G/9", made).judged_cases("test")[0].user_id
    generator = load(made, DIRECT, beams=11)
    answers = generator.explain_all([user, user])
    assert answers[0] == answers[1] and len(answers[0].ranked) == 10
    assert "not the list of the tables: --beams was 30 there, is 11 here" in answers[0].notes
    target = next(case.target.item_id for case in generator.step.cases("test") if case.user_id == user)
    assert answers[0].notes[0].endswith(f"was {generator.step.catalogue[target].title} ({target})")
    assert load(made, DIRECT).notes == ()
    assert "--length_penalty was 0.0 there, is 1.0 here" in load(made, DIRECT, length_penalty=1.0).notes[0]


def test_asking_refuses_an_adapter_or_ids_that_are_not_those_of_the_tables(root):
    step = step_of("G/9", root)
    ids = step.path(a.SEMANTIC_IDS)
    before = ids.read_text()
    files.write_text(ids, before + "\n")
    with pytest.raises(InputError, match="GREAM_base, which was made with another gream/semantic_ids.json .*; run G"):
        load(root, DIRECT)
    files.write_text(ids, before)
    files.write_text(step.path(adapter("Generator")) / "more.json", "{}")
    with pytest.raises(InputError, match="run GREAM/9_recommend.py again"):
        load(root, DIRECT)


# Where a reply is finished


PIECES = ["<think>", "</think>", "<answer>", "</answer>", TOKEN, "A", "\n", "<thi", "nk>"]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from(["end_of_thoughts", "end_of_answer"]))
def test_where_a_reply_is_finished_does_not_change_when_it_goes_on(pieces, name):
    end_of, found = getattr(recommending, name), None
    for k in range(len(pieces) + 1):
        now = end_of("".join(pieces[:k]))
        assert found is None or now == found
        found = now


def test_an_answer_in_thoughts_that_are_not_closed_is_none():
    assert recommending.end_of_thoughts("<think>\nSo <answer>") is None
    assert recommending.end_of_thoughts("<think>\nSo\n</think> <answer>x") == len("<think>\nSo\n</think> <answer>")
    assert recommending.before_the_answer("<think>\nSo <answer>") == "<think>\nSo <answer>\n</think>\n\n<answer>"
