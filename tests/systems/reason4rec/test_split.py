"""The validation rows, on which settings are chosen: asked about as the test rows are, in files of their own."""

import json
import runpy
import sys

import numpy as np
import pytest
import served
from helpers import ROOT, complaint, files_in, put_toy_dataset, run_script, step_of

from reason4rec.data import schema
from reason4rec.data.schema import PREDICTION, PROBABILITIES, TEST, TRAIN, VALID
from reason4rec.run import __main__, files, records
from reason4rec.run.cost import Survey
from reason4rec.systems.reason4rec import ablations
from reason4rec.systems.reason4rec import artifacts as a
from reason4rec.systems.reason4rec.pipeline import PIPELINE
from reason4rec.systems.reason4rec.workload import Texts

REASONS, RATINGS = "2_Reasoner/7_generate_reason_for_test.py", "3_Predictor/3_generate_predict_for_test.py"
EVALUATE, ABLATE = "3_Predictor/4_evaluate.py", "3_Predictor/6_ablations.py"
ON_VALID = ("--split", "valid")


@pytest.fixture(scope="module")
def root(base, tmp_path_factory):
    """A root with a toy dataset and the experts that rows are asked with."""
    root = tmp_path_factory.mktemp("split")
    put_toy_dataset(root, summaries=True)
    for name, lm_head in (("Reasoner", False), ("Predictor", True)):
        served.put_adapter(root / "checkpoints" / "Demo_data" / name, base, lm_head, size=0.005)
    return root


def run(script, root, *flags):
    """Runs a numbered script in this process, as its command line would."""
    roots = ("--dataset", "Demo_data", "--data_root", root / "data", "--checkpoint_root", root / "checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, (*roots, *flags))])
        runpy.run_path(str(ROOT / script), run_name="__main__")


@pytest.fixture(scope="module")
def both(root):
    """The folder of the dataset after both splits went through the last steps."""
    folder = root / "data" / "Demo_data"
    for flags in ((), ON_VALID):
        for script in (REASONS, RATINGS):
            run(script, root, "--device", "cpu", "--max_new_tokens", 8, "--limit", 9, *flags)
        run(EVALUATE, root, *flags)
    return folder


def test_the_validation_rows_are_asked_about_and_the_files_of_the_test_rows_stay(root, both):
    for artifact, split in ((a.TEST_RATINGS, TEST), (a.VALID_RATINGS, VALID)):
        rows = schema.read(both, artifact)
        assert rows[["user_id", "item_id"]].equals(schema.read(both, split).head(9)[["user_id", "item_id"]])
        assert np.isfinite(rows[[PREDICTION, *PROBABILITIES]]).all(axis=None)
    before = files_in(both)
    run(REASONS, root, "--device", "cpu", "--max_new_tokens", 8, "--limit", 9)
    run(RATINGS, root, "--device", "cpu", "--max_new_tokens", 8, "--limit", 9, *ON_VALID)
    assert files_in(both) == before


def test_only_the_record_of_validation_rows_names_a_split(both):
    settings = [
        records.read_record(both / one.path)["made_from"]["settings"] for one in (a.TEST_REASONS, a.VALID_REASONS)
    ]
    assert "split" not in settings[0]  # as it was before there was a choice, so nothing is out of date
    assert settings[1]["split"] == "valid"


def test_each_split_has_a_table_of_its_own_rows(both):
    for artifact, split, name in ((a.METRICS, TEST, "test"), (a.VALID_METRICS, VALID, "valid")):
        result = json.loads((both / artifact.path).read_text())
        total = len(schema.read(both, split))
        assert result["settings"]["judged"] == f"9 of {total} {name} rows"
        train, targets = schema.read(both, TRAIN), schema.read(both, split).head(9)
        error = np.abs(targets["ratings"] - train["ratings"].median()).mean()
        row = next(row for row in result["table"] if (row["model"], row["rows"]) == ("global median", "all"))
        assert row["mae"] == pytest.approx(error)


def test_what_is_missing_on_valid_is_named_with_the_option_that_makes_it(tmp_path):
    folder = put_toy_dataset(tmp_path, summaries=True)
    done = run_script(RATINGS, "--dataset", "Demo_data", "--data_root", folder.parent, *ON_VALID)
    assert f"{a.VALID_REASONS.path} is missing: {REASONS} --split valid writes it" in complaint(done)


def test_variants_were_trained_before_it_was_seen_that_the_full_run_has_no_such_rows(tmp_path):
    folder = put_toy_dataset(tmp_path, summaries=True)
    message = complaint(run_script(ABLATE, "--dataset", "Demo_data", "--data_root", folder.parent, *ON_VALID))
    assert f"{RATINGS} --split valid writes it; ablations start from a finished run" in message
    assert not (folder / "ablations").exists()


def test_a_variant_is_asked_about_validation_rows_with_the_adapters_that_test_rows_will_meet(root, both):
    step = step_of("3/6", root, *ON_VALID)
    variant = ablations.variant("without_reasoner")
    given = {spec.name: ablations.options_for(variant, spec, step) for spec in ablations.steps_of(variant, PIPELINE)}
    assert {name for name, options in given.items() if options.get("split") == "valid"} == {"3/3"}
    own = ablations.folder_of(both, variant)
    targets = schema.read(both, a.SUMMARIES).head(9)
    files.write_pickle(both / a.TEACHER_REASONS.path, targets.assign(**{a.TEACHER_REASON: "They will like it."}))
    ablations.place(variant, step)
    assert schema.read(own, VALID).equals(schema.read(both, VALID))
    assert not any((own / one.path).exists() for one in (a.VALID_RATINGS, a.TEST_RATINGS))


@pytest.mark.parametrize("split", [TEST, VALID])
def test_a_dry_run_counts_the_rows_of_the_split(both, split):
    name = "test" if split is TEST else "valid"
    places = ["--data_root", str(both.parent), "--checkpoint_root", str(both.parent / "none")]
    words = ["--system", "reason4rec", "--dataset", "Demo_data", *places, "--only", "2/7", "--split", name]
    given, command = __main__.parse(PIPELINE, words)
    steps = __main__.selected(PIPELINE, given)
    survey = Survey(PIPELINE, steps, lambda step: __main__.handed_on(PIPELINE, step, command, given))
    assert Texts(survey).n_test == len(schema.read(both, split))


def test_the_two_splits_of_these_tests_differ_in_length(both):
    assert len(schema.read(both, TEST)) != len(schema.read(both, VALID))
