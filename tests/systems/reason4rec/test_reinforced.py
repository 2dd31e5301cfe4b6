"""The Reasoner trained by a reward: its parts, the probes, the targets, and what their prompts may not hold."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import served
from helpers import ROOT, complaint, put_toy_dataset, run_script, step_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_policy_processes import launch

from reason4rec.data import schema
from reason4rec.data.history import Entry, History, HistoryIndex
from reason4rec.errors import InputError
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.prompt import Prompt
from reason4rec.run import files, records
from reason4rec.systems.reason4rec import ablations
from reason4rec.systems.reason4rec import artifacts as a
from reason4rec.systems.reason4rec.pipeline import PIPELINE
from reason4rec.systems.reason4rec.reinforced import probes
from reason4rec.systems.reason4rec.reinforced.options import Reward
from reason4rec.systems.reason4rec.reinforced.reward import (
    copied,
    faithful_to,
    is_endless,
    parts_of,
    recorded_weights,
    states_a_rating,
    weights_of,
)
from reason4rec.systems.reason4rec.reinforced.train import KEYS, prompts_of, targets_of
from reason4rec.training.rollouts import Rollout, scores_of, total

SCRIPT = "2_Reasoner/8_reasoner_rl.sh"
SUMMARY = "Positive Aspects: warm voice, deep bass\nNegative Aspects: slow rhythm and a dull long second half\n"
HISTORY = History((), (Entry("A", 4.0, SUMMARY),), None, 4.0, 0, 1)
SMALL = (
    "--watched",
    3,
    "--rl_targets",
    6,
    "--rl_steps",
    2,
    "--prompts_a_step",
    2,
    "--group",
    3,
    "--completion_tokens",
    16,
)


class Listening:
    """A Predictor that believes what it reads: a reason with `great` means 5, with `bad` 1, none 3."""

    def choice_probabilities(self, prompts, choices, prefix, *_):
        likeliest = [4 if "great" in one.text else 0 if "bad" in one.text else 2 for one in prompts]
        return np.eye(5)[likeliest]


def question(number, reason):
    return Prompt(f"Target {number}. {reason or ''}")


KNOWN = {("warm", "voic"), ("deep", "bass"), ("bass",), ("loud", "drum"), ("long", "half")}


def parts(reward="gain", ratings=(5.0, 1.0), **weights):
    histories, titles = [HISTORY, HISTORY], ["Loud Drums", "Other"]
    faithful = faithful_to(histories, titles, KNOWN)
    options = Reward(reward=reward, **weights)
    return parts_of(options, Listening(), question, np.array(ratings), histories, titles, faithful)


def written(text, number=0, ended=True):
    return Rollout({"number": number}, text, (1, 2), ended)


def named(some, rollouts):
    return dict(zip((part.name for part in some), scores_of(some, rollouts)[0].tolist()))


def test_a_reason_is_worth_what_it_brings_the_predictor_nearer_to_the_rating():
    found = scores_of(
        parts(), [written("a great one"), written("a bad one"), written("a bad one", 1), written("so so")]
    )
    assert found[:, 0].tolist() == [2.0, -2.0, 2.0, 0.0]
    assert scores_of(parts("error"), [written("a great one"), written("a bad one")])[:, 0].tolist() == [0.0, -4.0]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("The user will rate it 4 out of 5, a great one.", "stated"),
        ("Five stars: a great one.", "stated"),
        ("great", "empty"),
        ("", "empty"),
        (f"a great one, {SUMMARY}", "copied"),
        ("it is great and great and " * 20, "endless"),
    ],
)
def test_a_way_to_cheat_costs(text, part):
    found = named(parts(), [written(text)])
    assert found[part] > 0
    assert weights_of(Reward())[part] < 0
    assert total(parts(), scores_of(parts(), [written(text)]))[0] < 2.0


@pytest.mark.parametrize(
    "code",
    [
        "Predicted Rating:\n4",
        "4 of 5",
        "four of five",
        "a strong 4",
        "The answer is 4.",
        "gets 4 points",
        "4",
        "five",
        "(5)",
    ]
    + ["rating４", "☆☆☆☆", "★★", "80%", "Rating - IV", "****", "4.0"],
)
def test_a_rating_in_any_code_went_unpunished(code):
    assert states_a_rating(f"The user will like it: {code}", "Loud Drums", HISTORY)


def test_numbers_that_stand_in_the_histories_state_no_rating():
    history = History((), (Entry("Four Songs", 4.0, "Positive Aspects: 2 discs"),), None, 4.0, 0, 1)
    assert not states_a_rating("Four Songs on 2 discs: no one will be let down, in 1986 or in 2014.", "Other", history)
    assert states_a_rating("Three songs on 2 discs.", "Other", history)


def test_names_and_quantities_that_are_given_cost_a_star():
    """A title of the target, Roman numerals, a percentage of the histories, a thousand."""
    shown = "Positive Aspects: 2 discs, 100% cotton, World War II songs"
    history = History((), (Entry("Led Zeppelin IV", 4.0, shown),), None, 4.0, 0, 1)
    for honest in (
        "Vol. 2 has the 2 discs that this user wants.",
        "As on Led Zeppelin IV, the user will like World War II songs.",
        "It is 100% cotton, as this user wants.",
        "One of 1,000 users would send it back.",
    ):
        assert not states_a_rating(honest, "Vol. 2", history)


def test_a_digit_of_the_histories_let_a_bare_rating_pass():
    history = History((), (Entry("Live", 4.0, "Positive Aspects: 4 songs"),), None, 4.0, 0, 1)
    assert not states_a_rating("The user will like the 4 songs.", "Other", history)
    for rated in ("A strong 4.", "The user will like it: 4", "Expect 4 points.", "It gets 90% from the user."):
        assert states_a_rating(rated, "Other", history)


def test_special_tokens_are_an_end_of_nothing():
    assert is_endless(Rollout({"number": 0}, "The user will like it.", (1, 2), True, special=True))


def test_a_penalty_below_0_was_a_bonus():
    with pytest.raises(InputError, match="--weight_copied -1"):
        weights_of(Reward(weight_copied=-1))
    with pytest.raises(InputError, match="--weight_faithful -1"):
        weights_of(Reward(weight_faithful=-1))


def test_a_reason_that_was_cut_off_is_endless():
    assert is_endless(written("The user", ended=False))
    assert not is_endless(written("The user will like the warm voice."))


def test_an_honest_reason_costs_nothing():
    honest = "This user looks for a warm voice. Others praise the deep bass, so it will please: a great one."
    found = named(parts(), [written(honest)])
    assert found == {"gain": 2.0, "stated": 0, "empty": 0, "endless": 0, "copied": 0, "faithful": 1.0}


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("The warm voice and the deep bass will please.", 1.0),
        ("The warm voice will please, the loud drums will not.", 0.5),
        ("The loud drums will please.", 0.0),
        ("On Loud Drums the warm voice will please.", 1.0),  # a title is given, and no claim
        ("It will please a lot of people.", 0.0),  # 3/7 leaves it out; here silence must earn nothing
        ("", 0.0),
    ],
)
def test_a_reason_is_as_faithful_as_the_share_of_its_aspects_that_its_histories_hold(text, share):
    assert named(parts(), [written(text)])["faithful"] == share


def test_each_reason_is_held_against_the_histories_of_its_own_target():
    other = History((), (Entry("B", 2.0, "Positive Aspects: loud drums\n"),), None, 2.0, 0, 1)
    scores = faithful_to([HISTORY, other], ["A", "B"], KNOWN)
    reason = "The loud drums will please."
    assert scores([written(reason, 1), written(reason, 0), written(reason, 1)]) == [1.0, 0.0, 1.0]


def test_faithfulness_is_measured_and_rewarded_only_where_it_has_a_weight():
    true, false = written("a great warm voice"), written("a great loud drum")
    rewards = total(parts(), scores_of(parts(), [true, false]))
    assert rewards[0] == rewards[1]
    some = parts(weight_faithful=0.5)
    rewards = total(some, scores_of(some, [true, false]))
    assert rewards[0] == rewards[1] + 0.5


def test_records_of_a_reward_before_there_was_faithfulness_stay_valid():
    before = {"gain": 1.0, "stated": -1.0, "empty": -1.0, "endless": -0.5, "copied": -0.5}
    assert recorded_weights(Reward()) == before
    assert recorded_weights(Reward(weight_faithful=0.5)) == before | {"faithful": 0.5}


@given(st.lists(st.sampled_from(["warm", "voice", "deep", "bass", "slow", "x"]), max_size=20))
def test_the_copied_share_is_a_share_and_that_of_a_copy_is_1(some):
    assert 0 <= copied(" ".join(some), HISTORY) <= 1
    assert copied(SUMMARY, HISTORY) == 1
    assert copied("", HISTORY) == 0


def test_the_probes_took_the_lower_of_two_nearest_ratings_where_the_predictor_learned_the_higher():
    found = probes.policies([2.5, 4.5], [HISTORY, HISTORY], ["", ""])
    assert found[probes.ORACLE] == ["The user will find it average.", probes.ALWAYS]
    assert found["states the true rating"] == [f"The user will rate it {star} out of 5." for star in (3, 5)]


def test_a_policy_that_the_reward_prefers_to_honest_reasons_is_named():
    own = ["a great one of its kind", "a bad one of its kind"]
    found = probes.scored(parts(), probes.policies([5.0, 1.0], [HISTORY, HISTORY], own), [0, 1])
    assert [row["policy"] for row in found][0] == probes.OWN
    assert probes.cheats(found) == []
    assert {probes.ORACLE, "copies the user's history"} <= {row["policy"] for row in found}
    naive = [part for part in parts("error") if part.name == "error"]
    own = ["a bad one of its kind", "a great one of its kind"]
    cheating = probes.cheats(probes.scored(naive, probes.policies([5.0, 1.0], [HISTORY, HISTORY], own), [0, 1]))
    assert "another target's" in cheating
    assert "another target's" in probes.as_text(found)


def test_own_reasons_that_had_to_be_stopped_were_scored_as_if_they_had_ended():
    own = ["a great one of its kind", "a bad one of its kind"]
    written = probes.policies([5.0, 1.0], [HISTORY, HISTORY], own)
    ended, stopped = (probes.scored(parts(), written, [0, 1], share) for share in (0.0, 0.5))
    assert stopped[0]["endless"] == 0.5 and stopped[0]["reward"] == ended[0]["reward"] - 0.5 * 0.5
    assert stopped[1:] == ended[1:]


def test_of_a_single_target_the_reason_of_another_one_was_its_own():
    assert "another target's" not in probes.policies([5.0], [HISTORY], ["a great one of its kind"])


@pytest.fixture(scope="module")
def root(base, tmp_path_factory):
    """A root with a toy dataset, its targets and the experts."""
    root = tmp_path_factory.mktemp("reinforced")
    folder = put_toy_dataset(root, summaries=True)
    summaries = schema.read(folder, a.SUMMARIES)
    files.write_pickle(folder / a.REASON_TARGETS.path, summaries.tail(40))
    files.write_pickle(folder / schema.VALID.path, schema.read(folder, schema.TEST))
    for name, lm_head in (("Reasoner", False), ("Predictor", True)):
        path = root / "checkpoints" / "Demo_data" / name
        served.put_adapter(path, base, lm_head, size=0.005)
        more = {"rank": 8, "alpha": 16, "dropout": 0.0, "lm_head": lm_head, "target_modules": []}
        (path / "settings.json").write_text(json.dumps(more | adapter_settings(path)))
    return root


def rl(root, *flags):
    roots = ("--dataset", "Demo_data", "--data_root", root / "data", "--checkpoint_root", root / "checkpoints")
    return run_script(SCRIPT, *roots, "--device", "cpu", *SMALL, *flags)


@pytest.fixture(scope="module")
def trained(root):
    done = rl(root)
    assert done.returncode == 0, done.stderr[-3000:]
    return root / "checkpoints" / "Demo_data" / "Reasoner_rl", done.stdout


def test_the_step_trains_an_adapter_and_keeps_what_the_probes_showed(trained):
    path, output = trained
    record = records.read_record(path)
    assert record["sha256"] == files.sha256(path)
    assert {row["policy"] for row in record["made_from"]["probes"]} >= {probes.OWN, "empty", "another target's"}
    assert record["made_from"]["settings"]["reward"] == recorded_weights(Reward())
    assert all("faithful" in row for row in record["made_from"]["probes"])
    assert record["made_from"]["settings"]["steps"] == 2
    assert set(record["made_from"]["inputs"]) >= {"Reasoner", "Predictor", a.SUMMARIES.path}
    assert "states the true rating" in output
    curve = json.loads((path / "loss_curve.json").read_text())
    drawn = [entry for entry in curve if "reward" in entry]
    assert [entry["step"] for entry in drawn] == [1, 2]
    assert {f"rewards/{name}/mean" for name in weights_of(Reward())} <= drawn[0].keys()
    assert [entry["step"] for entry in curve if "watched/reward" in entry] == [0, 2]
    assert all("watched/faithful" in entry for entry in curve if "watched/reward" in entry)
    assert schema.VALID.path in record["made_from"]["inputs"]


def test_a_second_run_skips_what_is_complete(root, trained):
    again = rl(root)
    assert again.returncode == 0
    assert "complete:" in again.stdout


def test_the_reasons_for_the_test_rows_are_written_by_the_reasoner_that_is_named(root, trained, tmp_path):
    step = step_of("2/7", root, "--reasoner", "Reasoner_rl")
    assert a.REASONER_RL in step.reads
    assert a.REASONER not in step.reads
    assert step.provenance["settings"]["reasoner"] == "Reasoner_rl"
    assert "reasoner" not in step_of("2/7", root).recorded()  # as it was before there was a choice


def test_variants_of_it_change_the_steps_that_read_it(root, trained):
    anew, same = (ablations.variant(name) for name in ("reasoner_rl", "reasoner_rl_same_predictor"))
    assert [spec.name for spec in ablations.steps_of(anew, PIPELINE)] == ["2/7", "3/1", "3/2", "3/3"]
    assert [spec.name for spec in ablations.steps_of(same, PIPELINE)] == ["2/7", "3/3"]
    assert {"reasoner_rl", "reasoner_rl_same_predictor"} <= {
        one.name for one in ablations.chosen((), step_of("3/6", root))
    }


def test_targets_are_training_reviews_that_the_predictor_did_not_learn(root):
    step = step_of("2/8", root, "--rl_targets", 500)
    found, learned = targets_of(step), step.read(a.REASON_TARGETS)
    train = step.read(a.SUMMARIES)
    keys = {tuple(row) for row in found[KEYS].itertuples(index=False)}
    assert keys <= {tuple(row) for row in train[KEYS].itertuples(index=False)}
    assert not keys & {tuple(row) for row in learned[KEYS].itertuples(index=False)}
    assert len(keys) == len(found)


def marked(step):
    """Gives each training review a summary that only it has; the time of the review by its mark."""
    train = step.read(a.SUMMARIES)
    marks = [
        f"Positive Aspects: mark{n}x\nNegative Aspects: None\nUser Preference Elements: None" for n in range(len(train))
    ]
    step.read = lambda artifact: (
        train.assign(**{a.SUMMARY: marks}) if artifact is a.SUMMARIES else PIPELINE.read(step.folder, artifact)
    )
    return {f"mark{n}x": time for n, time in enumerate(train["unixReviewTime"].tolist())}


def leaks(step, times):
    """The numbers of the targets of whom a prompt, the Reasoner's or the Predictor's, shows a review not earlier."""
    rows = targets_of(step)
    asked, question = prompts_of(step, rows, step.histories(rows))
    shown = [re.findall(r"mark\d+x", asked[k].text + question(k, None).text) for k in range(len(rows))]
    assert any(shown)
    return [k for k, found in enumerate(shown) if any(times[one] >= rows["unixReviewTime"][k] for one in found)]


def test_no_prompt_shows_the_target_or_anything_later_and_one_without_a_time_filter_would(root):
    step = step_of("2/8", root, "--rl_targets", 500)
    times = marked(step)
    assert not leaks(step, times)

    def at_any_time(rows):
        index = HistoryIndex(step.read(a.SUMMARIES), a.SUMMARY, 6)
        return [index.of(row.user_id, row.item_id, 2**62) for row in rows.itertuples()]

    step.histories = at_any_time
    assert len(leaks(step, times)) == len(targets_of(step))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(4, 40))
def test_no_prompt_shows_anything_later_whatever_the_times_are(root, seed, distinct):
    step = step_of("2/8", root, "--rl_targets", 500)
    times = marked(step)
    moved = np.random.default_rng(seed).integers(0, distinct, len(times))
    read = step.read
    step.read = lambda artifact: (
        read(artifact).assign(unixReviewTime=moved)
        if artifact is a.SUMMARIES
        else read(artifact).assign(unixReviewTime=-1)
    )
    assert not leaks(step, dict(zip(times, moved.tolist())))


def test_bad_numbers_end_in_one_line(root, trained):
    for flags, said in (
        (("--group", 1), "group 1"),
        (("--temperature", 0), "temperature 0"),
        (("--min_history", 10_000), "min_history"),
        (("--reward", "none"), "--reward"),
    ):
        assert said in complaint(rl(root, "--overwrite", *flags))


def test_the_step_needs_the_predictor_and_says_who_trains_it(root, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "reason4rec.systems.reason4rec.reinforced.train", "--dataset", "Demo_data"]
        + ["--data_root", str(root / "data"), "--checkpoint_root", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "is missing" in complaint(done)


def test_two_processes_do_the_step_with_one_voice(root, trained, tmp_path):
    shutil.copytree(root, tmp_path / "root")
    roots = ("--data_root", tmp_path / "root/data", "--checkpoint_root", tmp_path / "root/checkpoints")
    words = (
        "-m",
        "reason4rec.systems.reason4rec.reinforced.train",
        "--dataset",
        "Demo_data",
        *roots,
        "--device",
        "cpu",
    )
    said, codes = launch(*words, *SMALL, "--overwrite", "--rl_steps", 1, "--watched", 0, "--keep", "last")
    assert codes == [0, 0], said[0][1][-3000:] + said[1][1][-3000:]
    assert said[1][0] == ""
    path = tmp_path / "root/checkpoints/Demo_data/Reasoner_rl"
    assert said[0][0].count("states the true rating") == 1
    assert records.read_record(path)["sha256"] == files.sha256(path)
    assert not list(path.parent.glob(".*"))
    first, second = (records.read_record(one)["made_from"] for one in (trained[0], path))
    assert second["execution"]["processes"] == 2
    assert [row["policy"] for row in first["probes"]] == [row["policy"] for row in second["probes"]]
