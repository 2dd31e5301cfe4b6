"""Variants of a finished run: one thing differs, the rest is shared, and nothing of the full run is touched."""

import json
import shutil

import numpy as np
import pytest
from helpers import complaint, files_in, put_toy_dataset, run_script, step_of

from reason4rec.data import catalog, schema
from reason4rec.data.history import Entry, History
from reason4rec.errors import InputError
from reason4rec.evaluation import metrics
from reason4rec.llm.local import load
from reason4rec.run import files, options, records
from reason4rec.run import step as run
from reason4rec.systems.reason4rec import ablations, distillation, facts, predictor_modes, prompts, variant_table
from reason4rec.systems.reason4rec.artifacts import (
    REASON,
    REASON_TARGETS,
    REWARD_TARGETS,
    SUMMARIES,
    SUMMARY,
    TEACHER_REASON,
    TEACHER_REASONS,
    TEST_RATINGS,
    TEST_REASONS,
)
from reason4rec.systems.reason4rec.options import sha256_of_templates
from reason4rec.systems.reason4rec.pipeline import PIPELINE

SCRIPT = "3_Predictor/6_ablations.py"
DATASET = facts.KNOWN[catalog.DEMO]


@pytest.fixture
def finished(tmp_path):
    """A dataset with the targets, reasons and reward model of a finished run; its folder and its checkpoints."""
    folder = put_toy_dataset(tmp_path, summaries=True)
    targets = schema.read(folder, SUMMARIES).head(20)
    for artifact in (REWARD_TARGETS, REASON_TARGETS):
        files.write_pickle(folder / artifact.path, targets)
    files.write_pickle(folder / TEACHER_REASONS.path, targets.assign(**{TEACHER_REASON: "They will like it."}))
    checkpoints = tmp_path / "checkpoints" / catalog.DEMO
    (checkpoints / "reason_reward_model").mkdir(parents=True)
    (checkpoints / "reason_reward_model" / "settings.json").write_text("{}")
    (checkpoints / "Reasoner_rl").mkdir()
    return folder, checkpoints


def placed(finished, name):
    ablations.place(ablations.variant(name), step_of("3/6", finished[0].parent.parent))
    return finished[0] / "ablations" / name


def put_record(path, inputs=None, **settings):
    """Puts a record beside a file that is there or not, as if a step had made it with these settings."""
    content = files.sha256(path) if path.exists() else ""
    record = {"sha256": content, "made_from": {"inputs": inputs or {}, "settings": settings}}
    files.write_text(records.record_path(path), json.dumps(record))


@pytest.mark.parametrize("name", [*ablations.FIXED, "tau_0.3", "tau_-0.1", "history_2", "draws_0"])
def test_a_variant_shares_what_it_does_not_change_and_leaves_the_full_run_alone(finished, name):
    (finished[1] / "Predictor").mkdir()
    before = files_in(finished[0])
    own = placed(finished, name)
    for artifact in (schema.TRAIN, schema.TEST):
        assert schema.read(own, artifact).equals(schema.read(finished[0], artifact))
    summaries = schema.read(own, SUMMARIES)
    shown = summaries["reviews"] if name == "without_summarizer" else schema.read(finished[0], SUMMARIES)[SUMMARY]
    assert summaries[SUMMARY].tolist() == shown.tolist()
    assert {path: content for path, content in files_in(finished[0]).items() if "ablations/" not in path} == before


def test_a_variant_has_the_facts_of_the_dataset_but_those_it_changes(finished):
    def known(name):
        placed(finished, name)
        return facts.get(name, finished[0] / "ablations")

    assert (known("tau_0.3").tau, known("tau_0.3").history_length) == (0.3, DATASET.history_length)
    assert (known("history_2").tau, known("history_2").history_length) == (DATASET.tau, 2)
    assert known("without_rewards").tau > 4
    assert known("draws_3").recipes == DATASET.recipes


def test_a_variant_has_the_history_length_and_tau_that_the_full_run_was_given(finished):
    """It had those of the dataset, so that it differed from the full run in more than one thing."""
    for artifact, given in ((TEST_RATINGS, {"history_length": 5}), (TEACHER_REASONS, {"tau": 0.05})):
        put_record(artifact.within(finished[0]), **given)
    for name, expected in (("draws_3", (5, 0.05)), ("history_2", (2, 0.05)), ("tau_0.3", (5, 0.3))):
        placed(finished, name)
        found = facts.get(name, finished[0] / "ablations")
        assert (found.history_length, found.tau) == expected


def test_a_variant_asks_the_teacher_that_the_full_run_asked_unless_another_is_given(finished):
    """After a run with the rule teacher the variants asked the default one, which costs money."""
    asked = {"teacher_model": "rules", "teacher_server": "rule teacher", "draws": 3, "prompts": "0" * 64, "limit": None}
    put_record(TEACHER_REASONS.within(finished[0]), **asked)

    def options(name, *given):
        step = step_of("3/6", finished[0].parent.parent, *given)
        return ablations.options_for(ablations.variant(name), PIPELINE["2/4"], step)

    found = options("tau_0.3")
    assert (found["teacher_model"], found["draws"]) == ("rules", 3)
    assert "prompts" not in found and "teacher_server" not in found
    assert options("tau_0.3", "--teacher_model", "other")["teacher_model"] == "other"
    assert options("draws_1")["draws"] == 1


def rated(finished, *given, **settings):
    """The ablations of a run whose ratings were made with these settings, with options given to them."""
    put_predicted(finished[0], 1)
    put_record(finished[0] / TEST_RATINGS.path, **settings)
    return ablations.of_run(step_of("3/6", finished[0].parent.parent, *given))


def test_variants_had_another_seed_and_limit_than_the_run_that_they_differ_from(finished):
    """Without --limit all steps of the variants of a trial ran whole, and then the comparison refused their rows."""
    common = rated(finished, seed=7, limit=9).common
    assert (common.seed, common.limit) == (7, 9)
    assert rated(finished, "--seed", 3, "--limit", 9, seed=7, limit=9).common.seed == 3
    put_record(TEACHER_REASONS.within(finished[0]), seed=8, limit=20)
    for given, seeds in (((), (8, 7)), (("--seed", 3), (3, 3))):
        step = rated(finished, *given, seed=7, limit=9)
        found = [ablations.options_for(ablations.variant("tau_0.3"), PIPELINE[name], step) for name in ("2/4", "3/3")]
        assert [(one["seed"], one["limit"]) for one in found] == list(zip(seeds, (20, 9)))


def put_made(finished, name):
    """Puts what the steps of a variant make, with records of what they would be made from now."""
    step = rated(finished, seed=7, limit=9)
    one = ablations.variant(name)
    placed(finished, name)
    for spec in ablations.steps_of(one, PIPELINE):
        own = run.step_of(PIPELINE, spec, options.words(ablations.options_for(one, spec, step)))
        (path,) = own.outputs
        if spec.adapter:
            files.write_text(path / "settings.json", "{}")
            records.write_record(path, own.provenance, files.sha256(path))
        else:
            rows = [{"messages": [{"role": who, "content": "5"} for who in ("user", "assistant")]}]
            predicted = schema.read(finished[0], TEST_RATINGS)
            records.write_recorded(path, rows if spec.name == "3/1" else predicted, own.provenance)


def test_variants_of_an_older_run_were_tested_against_the_new_one(finished, base, capsys):
    (finished[1] / "Predictor").mkdir()
    (finished[1] / "Predictor" / "settings.json").write_text(json.dumps(SETTINGS | {"base_model": str(base)}))
    put_made(finished, "without_reasoner")
    step = rated(finished, seed=7, limit=9)

    def names(step, *made):
        return [one.name for one in ablations.finished(step, made)]

    assert names(step) == ["without_reasoner"] and not capsys.readouterr().out
    assert names(rated(finished, seed=7, limit=10)) == []
    assert "without_reasoner is not of this run (3/1: limit changed); --variants" in capsys.readouterr().out
    step = rated(finished, seed=7, limit=9)
    path = finished[0] / TEACHER_REASONS.path
    before = path.read_bytes()
    files.write_pickle(path, files.read_pickle(path).head(3))
    assert names(step) == [] and names(step, "without_reasoner") == ["without_reasoner"]
    path.write_bytes(before)
    assert names(step) == ["without_reasoner"]
    (finished[1] / "Predictor" / "settings.json").write_text(
        json.dumps(SETTINGS | {"base_model": str(base), "lr": 1e-3})
    )
    capsys.readouterr()
    assert names(step) == [] and "(3/2: lr changed)" in capsys.readouterr().out
    put_record(finished[0] / TEST_RATINGS.path, seed=7, limit=9, history_length=5)
    assert names(step) == [] and "(3/1: history_length changed)" in capsys.readouterr().out


@pytest.mark.parametrize(("limit", "had"), [(None, "without --limit"), (20, "with --limit 20")])
def test_rows_that_a_limited_variant_lacks_counted_as_its_largest_errors(finished, limit, had):
    with pytest.raises(InputError, match=f"--limit 9: .* was made {had}.* leave it out"):
        rated(finished, "--limit", 9, seed=42, limit=limit)


def test_variants_were_asked_with_other_templates_than_the_full_run(finished, tmp_path):
    shipped = sha256_of_templates(prompts.FOLDER)
    assert rated(finished, prompts=shipped).templates == prompts.FOLDER
    with pytest.raises(InputError, match="other prompt templates than .* give their folder as --prompts"):
        rated(finished, prompts="0" * 64)
    shutil.copytree(prompts.FOLDER, tmp_path / "own")
    (tmp_path / "own" / "predictor.txt").write_text("{title}")
    own = tmp_path / "own"
    assert rated(finished, "--prompts", own, prompts=sha256_of_templates(own)).templates == own


def test_placing_a_variant_again_changes_nothing(finished):
    own = placed(finished, "without_summarizer")
    before = files_in(own)
    assert files_in(placed(finished, "without_summarizer")) == before


@pytest.mark.parametrize("name", ["tau", "tau_x", "history_-1", "history_2.5", "draws_", "without_users", ""])
def test_an_unknown_variant_is_refused_with_those_there_are(name):
    with pytest.raises(InputError, match="without_summarizer.*tau_X, history_N and draws_N"):
        ablations.variant(name)


def test_what_the_full_run_lacks_is_named(finished):
    (finished[0] / REASON_TARGETS.path).unlink()
    with pytest.raises(InputError, match=r"train_12000\.pkl is missing: 2_Reasoner/1_sample_train_data\.py"):
        placed(finished, "tau_0.3")
    with pytest.raises(InputError, match="reason_reward_model is missing: 2_Reasoner/3_reward"):
        elsewhere = ("--checkpoint_root", finished[1] / "elsewhere")
        ablations.place(ablations.variant("tau_0.3"), step_of("3/6", finished[0].parent.parent, *elsewhere))


def test_a_run_that_is_not_finished_is_refused_in_one_line(tmp_path):
    folder = put_toy_dataset(tmp_path)
    done = run_script(SCRIPT, "--dataset", "Demo_data", "--data_root", folder.parent, "--variants", "without_reasoner")
    assert "ablations start from a finished run" in complaint(done)


SETTINGS = {
    "base_model": "b",
    "max_length": 9,
    "rank": 16,
    "alpha": 32,
    "dropout": 0.1,
    "lr": 1e-4,
    "warmup": 100,
    "epochs": 2,
    "batch_size": 8,
    "lm_head": False,
    "gradient_accumulation": 2,
}


def test_an_adapter_is_trained_as_the_full_runs_was():
    given = ablations.training_options(SETTINGS | {"engine": "transformers", "seed": 42, "schedule": "linear"})
    assert given == SETTINGS


@pytest.mark.parametrize(("name", "as_trained"), [("one_step", "Reasoner"), ("rating_first", "Reasoner")])
def test_one_step_and_rating_first_kept_the_predictors_rank_alpha_dropout_and_warm_up(finished, name, as_trained):
    """Only learning rate, epochs, batch and head were handed on: the ablation that ran was not the one described."""
    for expert, rank in (("Reasoner", 16), ("Predictor", 8), ("reason_reward_model", 4)):
        folder = finished[1] / expert
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(SETTINGS | {"rank": rank, "warmup": rank, "alpha": 2 * rank}))
    step = step_of("3/6", finished[0].parent.parent)
    given = ablations.options_for(ablations.variant(name), step.pipeline["3/2"], step)
    assert {key: given[key] for key in ("rank", "alpha", "warmup", "dropout")} == {
        "rank": 16,
        "alpha": 32,
        "warmup": 16,
        "dropout": 0.1,
    }
    other = ablations.options_for(ablations.variant("tau_0.3"), step.pipeline["3/2"], step)
    assert other["rank"] == 8


def test_a_variant_trains_an_adapter_further_from_what_the_full_run_did(finished):
    """A new Reasoner beside one that had learned published texts first would be another comparison."""
    for expert, more in (("Reasoner", {"start_from": "elsewhere/Reasoner"}), ("Predictor", {})):
        folder = finished[1] / expert
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(SETTINGS | more))
    step = step_of("3/6", finished[0].parent.parent)
    given = {
        name: ablations.options_for(ablations.variant(variant), step.pipeline[name], step)
        for variant, name in (("tau_0.3", "2/6"), ("tau_0.3", "3/2"), ("one_step", "3/2"))
    }
    assert {name: options.get("start_from") for name, options in given.items()} == {
        "2/6": "elsewhere/Reasoner",
        "3/2": None,
    }


STEPS = {
    "without_summarizer": "2/2 2/3 2/4 2/5 2/6 2/7 3/1 3/2 3/3",
    "without_reasoner": "3/1 3/2 3/3",
    "without_rewards": "2/4 2/5 2/6 2/7 3/1 3/2 3/3",
    "one_step": "3/1 3/2 3/3",
    "tau_0.3": "2/4 2/5 2/6 2/7 3/1 3/2 3/3",
    "history_2": "2/2 2/3 2/4 2/5 2/6 2/7 3/1 3/2 3/3",
    "draws_0": "2/4 2/5 2/6 2/7 3/1 3/2 3/3",
}


@pytest.mark.parametrize("name", STEPS)
def test_a_variant_runs_the_steps_that_its_change_puts_out_of_date_and_no_other(name):
    steps = ablations.steps_of(ablations.variant(name), PIPELINE)
    assert [spec.name for spec in steps] == STEPS[name].split()


def test_a_row_counts_the_accepted_reasons_of_its_own_folder(finished):
    assert distillation.counts_of(finished[0]) == {"targets": 20, "accepted": 20}
    assert distillation.counts_of(finished[0] / "nowhere") == {}
    assert json.dumps(distillation.counts_of(finished[0]))


def test_the_accepted_share_of_limited_reasons_was_one_of_all_targets(finished):
    path, source = (finished[0] / one.path for one in (TEACHER_REASONS, REASON_TARGETS))
    files.write_pickle(path, files.read_pickle(path).head(6))
    inputs = {source.name: files.sha256(source)}
    for limit, targets in ((8, 8), (None, 20), (50, 20)):
        put_record(path, inputs, limit=limit)
        assert distillation.counts_of(finished[0]) == {"targets": targets, "accepted": 6}
    put_record(path, {source.name: "0" * 64}, limit=None)
    assert distillation.counts_of(finished[0]) == {}


def test_variants_that_trained_a_reasoner_of_their_own_had_reasons_of_another(finished):
    rows = PIPELINE["3/1"].writes[0].within(finished[0])
    for path in (TEST_REASONS.within(finished[0]), rows):
        put_record(path, reasoner="Reasoner_rl")
    step = step_of("3/6", finished[0].parent.parent)

    def reasoners(name):
        one = ablations.variant(name)
        return [ablations.options_for(one, PIPELINE[spec], step).get("reasoner") for spec in ("2/7", "3/1")]

    assert reasoners("tau_0.3") == [None, None]
    assert reasoners("reasoner_rl") == ["Reasoner_rl", "Reasoner_rl"]
    placed(finished, "tau_0.3")
    read = ablations.inputs_of(ablations.variant("tau_0.3"), step)
    assert "Reasoner_rl" not in [one.path for one in read]


@pytest.mark.parametrize("form", ["one_step", "rating_first"])
def test_a_predictor_that_writes_its_reason_gives_the_probabilities_at_its_rating(base, form):
    model = load(base, None, device="cpu", max_length=1024)
    history = History((Entry("Old Album", 4.0, "Positive Aspects: mood"),), (), 4.0, None)
    asked = [
        predictor_modes.question(form, "Album", title, history, "", prompts.FOLDER)
        for title in ("Paper Rain", "Neon Storm")
    ]
    replies = [f"Predicted Rating: 4.0\nIt fits {k}." for k in range(2)]
    if form == "one_step":
        replies = [f"It fits {k}.\nPredicted Rating: 4.0" for k in range(2)]
    model.generate = lambda *_, **__: replies
    probabilities, written = predictor_modes.predict(form, model, asked, 16)
    assert written == ["It fits 0.", "It fits 1."]
    said = [f"{text}\n" for text in written] if form == "one_step" else None
    expected = model.choice_probabilities(asked, prompts.RATINGS, prompts.RATING_PREFIX, said)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def put_predicted(folder, seed):
    """Puts predicted ratings of the test rows, whose probabilities are drawn, and returns them with the ratings."""
    frame = schema.read(folder, schema.TEST)
    drawn = np.random.default_rng(seed).dirichlet(np.ones(5) / 2, len(frame))
    frame[list(schema.PROBABILITIES)] = drawn
    frame = frame.assign(**{REASON: "They will like it.", schema.PREDICTION: metrics.expected_rating(drawn)})
    files.write_pickle(folder / TEST_RATINGS.path, frame)
    return frame["ratings"].to_numpy(dtype=float), drawn


@pytest.mark.parametrize("scale", [catalog.STARS, (0.0, 10.0)])
def test_a_variant_is_compared_with_the_full_run_under_the_same_rule_in_the_unit_of_the_reviews(finished, scale):
    own, unit = placed(finished, "tau_0.3"), (scale[1] - scale[0]) / 4
    ratings, of_full = put_predicted(finished[0], 1)
    _, of_variant = put_predicted(own, 2)
    full, variant = variant_table.compared(finished[0], [ablations.variant("tau_0.3")], 42, scale)

    def mae(rule, drawn):
        return np.abs(rule(drawn) - ratings).mean() * unit

    for found, rule in ((variant, metrics.expected_rating), (variant["median"], metrics.median_rating)):
        assert found["all"]["mae"] == pytest.approx(mae(rule, of_variant))
        difference = mae(rule, of_variant) - mae(rule, of_full)
        assert found["paired"]["mae_difference"] == pytest.approx(difference)
        assert found["paired"]["low"] <= difference <= found["paired"]["high"]
    assert full["median"]["all"]["mae"] == pytest.approx(mae(metrics.median_rating, of_full))
    assert full["paired"] is None and full["median"]["paired"] is None
    assert variant.get("unit") == (None if scale == catalog.STARS else "ratings of 0 to 10")
    text = variant_table.as_text([full, variant])
    assert [line.split("  ")[0] for line in text.splitlines()[1:]] == [
        *("full", "full (median)", "tau_0.3", "tau_0.3 (median)")
    ]


def test_predictions_without_probabilities_have_no_second_row(finished):
    put_predicted(finished[0], 1)
    path = finished[0] / TEST_RATINGS.path
    files.write_pickle(path, files.read_pickle(path).drop(columns=list(schema.PROBABILITIES)))
    (row,) = variant_table.compared(finished[0], [], 42)
    assert "median" not in row and row["all"]["mae"] == row["mae"]
