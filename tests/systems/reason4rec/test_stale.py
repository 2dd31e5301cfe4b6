"""What was made from other files than those that are there, or otherwise than it is read: left out or refused."""

import shutil

import pytest
from helpers import complaint, put_toy_dataset, run_script, step_of

from reason4rec.data import schema
from reason4rec.data.schema import KEYS, PREDICTION, TEST, VALID
from reason4rec.errors import InputError
from reason4rec.run import files, records
from reason4rec.run.staleness import free_to_change, why_old
from reason4rec.systems.reason4rec import artifacts as a
from reason4rec.systems.reason4rec import diagnosis, predictions, report
from reason4rec.systems.reason4rec.pipeline import PIPELINE

SETTINGS = '{"base_model": "none", "base_sha256": "none", "max_length": 64}'
ON_VALID = ("--split", "valid")


def put(root, name, content, *words):
    """Puts what a step writes, with a record of the inputs that are there now, whatever it is worth."""
    step = step_of(name, root, *words)
    inputs = {one.path: files.sha256(step.path(one)) for one in step.reads}
    made_from = {"inputs": inputs, "settings": step.recorded(), "by": {"step": name}}
    for artifact, path in zip(step.spec.writes_with(step), step.outputs):
        if artifact.adapter:
            shutil.rmtree(path, ignore_errors=True)
            files.write_text(path / "settings.json", SETTINGS)
            files.write_text(path / "weights", content)
            records.write_record(path, made_from, files.sha256(path))
        else:
            columns = {name: content for name in artifact.columns if name not in schema.REVIEW_COLUMNS}
            numbers = {name: 4.0 for name in columns if name == PREDICTION}
            rows = schema.read(step.folder, VALID if words else TEST)
            records.write_recorded(path, rows.assign(made=content, **columns | numbers), made_from)


@pytest.fixture
def root(tmp_path):
    """A dataset with the files of a whole run, each made from those before it."""
    put_toy_dataset(tmp_path, summaries=True)
    for name in ("2/1", "2/2", "2/3", "2/4", "2/5", "2/6", "2/7", "3/1", "3/2", "3/3"):
        put(tmp_path, name, "first")
    for name in ("2/7", "3/3"):
        put(tmp_path, name, "first", *ON_VALID)
    return tmp_path


def refusal(name, root, *words):
    with pytest.raises(InputError) as refused:
        step_of(name, root, *words).check_inputs()
    return str(refused.value)


def test_a_run_that_is_whole_is_refused_nowhere(root):
    for name in ("2/3", "2/7", "2/8", "3/1", "3/3", "3/4", "3/7", "3/8", "3/9"):
        step_of(name, root).check_inputs()
    assert a.TEST_RATINGS in predictions.files_of(step_of("3/4", root)).values()
    assert set(diagnosis.rated_splits(step_of("3/9", root))) == {a.TEST_RATINGS, a.VALID_RATINGS}


def test_a_new_reasoner_left_the_old_test_reasons_to_the_predictor(root):
    put(root, "2/6", "second")
    for name in ("3/1", "3/2"):
        put(root, name, "second")
    told = refusal("3/3", root)
    assert "reason_for_test_by_reasoner.pkl is out of date: it was made with another Reasoner" in told
    assert "run 2_Reasoner/7_generate_reason_for_test.py again" in told
    put(root, "2/7", "second")
    step_of("3/3", root).check_inputs()


def test_the_first_step_to_run_is_named(root):
    put(root, "2/5", "second")
    told = refusal("3/3", root)
    assert "it goes back to Reasoner, which was made with another Reasoner_train_instruct.pkl" in told
    assert "run 2_Reasoner/6_reasoner_train.sh again" in told


def test_ratings_of_an_older_predictor_stood_in_the_table(root, capsys):
    put(root, "3/2", "second")
    assert predictions.files_of(step_of("3/4", root)) == {}
    assert "rating_for_test_by_predictor.pkl: left out: it was made with another Predictor" in capsys.readouterr().out
    for name in ("3/8", "3/9"):
        assert "run 3_Predictor/3_generate_predict_for_test.py again" in refusal(name, root)
    done = run_script("3_Predictor/6_ablations.py", *places(root), "--variants", "tau_0.2")
    assert "run 3_Predictor/3_generate_predict_for_test.py again" in complaint(done)


def places(root):
    return ("--dataset", "Demo_data", "--data_root", root / "data", "--checkpoint_root", root / "checkpoints")


def test_the_diagnosis_read_ratings_of_an_older_predictor_on_the_validation_rows(root, capsys):
    put(root, "3/2", "second")
    put(root, "3/3", "second")
    assert diagnosis.rated_splits(step_of("3/9", root)) == [a.TEST_RATINGS]
    assert "run 3_Predictor/3_generate_predict_for_test.py --split valid again" in capsys.readouterr().out


def test_targets_that_were_drawn_anew_are_among_those_that_the_predictor_learned(root):
    put(root, "2/1", "second")
    told = refusal("2/8", root)
    assert "Reasoner is out of date: it goes back to" in told and "than the one that is there; run 2_Reasoner/" in told


def test_a_predictor_that_learned_the_reasons_of_2_8_put_those_out_of_date(root):
    put(root, "2/8", "first")
    trained = ("--reasoner", "Reasoner_rl")
    put(root, "3/1", "second", *trained)
    put(root, "3/2", "second")
    step_of("2/7", root, *trained).check_inputs()
    put(root, "2/6", "second")
    assert "Reasoner_rl is out of date: it was made with another Reasoner" in refusal("2/7", root, *trained)


def test_what_was_put_there_by_hand_is_taken_as_it_is(root):
    put(root, "2/6", "second")
    step = step_of("3/3", root)
    records.record_path(step.path(a.TEST_REASONS)).unlink()
    for name in ("3/1", "3/2"):
        put(root, name, "second")
    step.check_inputs()
    files.write_text(step.path(a.REASONER) / "weights", "of somebody else")
    assert why_old(PIPELINE, step.path, a.REASONER) == ""


@pytest.mark.parametrize("name", ["2/4", "2/7", "2/8", "3/1", "3/3", "3/7", "3/8", "3/9"])
def test_histories_of_another_length_were_taken_without_a_word(root, name):
    told = refusal(name, root, "--history_length", "2")
    assert "was made with --history_length" in told and "pass the same here, or run " in told


def test_other_templates_or_another_mode_were_taken_without_a_word(root, tmp_path):
    shutil.copytree(step_of("3/3", root).templates, tmp_path / "own")
    with (tmp_path / "own" / "predictor.txt").open("a") as file:
        file.write("Be brief.")
    assert "give their folder as --prompts" in refusal("3/3", root, "--prompts", tmp_path / "own")
    assert "was made with --predictor_mode reasoned" in refusal("3/3", root, "--predictor_mode", "direct")


def test_a_policy_of_another_predictor_is_trained_anew_and_one_that_the_predictor_learned_from_is_not(root):
    put(root, "2/8", "first")
    step = step_of("2/8", root)
    free = free_to_change(PIPELINE, step.path, a.REASONER_RL)
    assert free == [] and why_old(PIPELINE, step.path, a.REASONER_RL) == ""
    put(root, "3/2", "second")
    assert "was made with another Predictor" in why_old(PIPELINE, step.path, a.REASONER_RL)
    put(root, "2/8", "second")
    put(root, "3/1", "third", "--reasoner", "Reasoner_rl")
    put(root, "3/2", "third")
    assert free_to_change(PIPELINE, step.path, a.REASONER_RL) == ["Predictor"]
    assert why_old(PIPELINE, step.path, a.REASONER_RL) == why_old(PIPELINE, step.path, a.PREDICTOR) == ""


def test_the_rows_of_another_predictor_say_nothing_of_one_that_was_put_there_by_hand(root):
    record = records.record_path(step_of("3/3", root).path(a.PREDICTOR))
    record.unlink()
    put(root, "2/7", "first", "--history_length", "3")
    step_of("3/3", root, "--history_length", "3").check_inputs()


def test_a_file_put_over_one_of_a_trial_was_refused_for_the_record_that_the_trial_left(root):
    step = step_of("2/5", root, "--history_length", "3")
    rows = files.read_pickle(step.path(a.TEACHER_REASONS))
    files.write_pickle(step.path(a.TEACHER_REASONS), rows[1:])
    step.check_inputs()


def test_ratings_of_another_seed_that_were_moved_among_the_predictions_are_taken(root):
    step = step_of("3/4", root)
    source, path = step.path(a.TEST_RATINGS), step.path(a.predictions_of("Reason4Rec@43"))
    path.parent.mkdir(exist_ok=True)
    for of in (lambda one: one, records.record_path):
        shutil.move(of(source), of(path))
    put(root, "3/2", "second")
    put(root, "3/3", "second")
    assert len(predictions.files_of(step_of("3/4", root))) == 2


def test_a_file_of_the_same_name_elsewhere_passed_for_that_of_the_dataset(root, tmp_path):
    other = tmp_path / "Second" / a.TEACHER_SUMMARIES.path
    rows = schema.read(step_of("1/5", root).folder, TEST).assign(**{a.TEACHER_SUMMARY: "a"})
    for place in (other, step_of("1/5", root).path(a.TEACHER_SUMMARIES)):
        files.write_pickle(place, rows if place is other else rows[1:])
    part = step_of("1/5", root).part([other], [a.SUMMARY_QUALITY], {})
    part.write(a.SUMMARY_QUALITY, {"table": []})
    assert why_old(PIPELINE, part.path, a.SUMMARY_QUALITY) == ""


def test_other_templates_than_those_of_the_summarizer_were_taken_without_a_word(root, tmp_path):
    for name in ("1/1", "1/2", "1/3"):
        put(root, name, "first")
    shutil.copytree(step_of("1/4", root).templates, tmp_path / "own")
    with (tmp_path / "own" / "summarizer.txt").open("a") as file:
        file.write("Be brief.")
    step_of("1/4", root).check_inputs()
    for name in ("1/2", "1/4"):
        assert "give their folder as --prompts" in refusal(name, root, "--prompts", tmp_path / "own")


def test_results_of_an_older_table_were_published(root, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FOLDER", tmp_path / "published")
    done = run_script("3_Predictor/4_evaluate.py", *places(root))
    assert done.returncode == 0, done.stderr
    folders = root / "data" / "Demo_data", root / "checkpoints" / "Demo_data"
    report.publish(*folders, "Demo_data", None)
    put(root, "3/3", "second")
    with pytest.raises(InputError, match="metrics.json is out of date.* run 3_Predictor/4_evaluate.py again"):
        report.publish(*folders, "Other_data", None)
    assert not (tmp_path / "published" / "Other_data").exists()


def test_a_variant_of_an_older_run_stood_in_the_table(root, capsys):
    step = step_of("3/6", root)
    rows = schema.read(step.folder, TEST)[[*KEYS, "ratings"]].assign(**{PREDICTION: 3.0})
    inputs = {a.TEST_RATINGS.path: files.sha256(step.path(a.TEST_RATINGS))}
    path = step.path(a.predictions_of("tau_0.2"))
    records.write_recorded(path, rows, {"inputs": inputs, "settings": {}, "by": {"step": "3/6"}})
    assert "tau 0.2" in predictions.files_of(step_of("3/4", root))
    put(root, "3/3", "second")
    assert "tau 0.2" not in predictions.files_of(step_of("3/4", root))
    assert "run 3_Predictor/6_ablations.py again" in capsys.readouterr().out
