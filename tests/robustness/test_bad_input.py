"""Bad input to the real scripts: one line that says what to do, exit code 2, and everything else as it was."""

import ctypes
import errno
import json
import os
import pickle
import resource
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_kill
from helpers import complaint, files_in, put_toy_dataset, run_script, serving
from test_kill import CASES

from reason4rec.data import schema
from reason4rec.data.schema import TEST, TRAIN, VALID
from reason4rec.demo.stand_in import Server
from reason4rec.errors import InputError
from reason4rec.llm import adapters
from reason4rec.run import files, records
from reason4rec.run.step import Common, parse
from reason4rec.systems.reason4rec import artifacts
from reason4rec.systems.reason4rec import facts as facts_of
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, REWARD_TARGETS, SUMMARIES, SUMMARY
from reason4rec.systems.reason4rec.pipeline import PIPELINE

DISTILL = "1_Summarizer/1_distilling_aspect_preference_summary.py"
SAMPLE = "2_Reasoner/1_sample_train_data.py"
PREPROCESS = "0_Data/2_preprocess.py"
KEY = "sk-PWXZQ-nvkqz"
NO_MOUNTS = 77
PAGE = 4096

forks, prepared = test_kill.forks, test_kill.prepared


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A root with splits and summaries, and with the samples that one step made of them."""
    root = tmp_path_factory.mktemp("ready")
    put_toy_dataset(root, summaries=True)
    done = step(root, SAMPLE)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def root(ready, tmp_path):
    """A copy of it that a test may damage."""
    return shutil.copytree(ready, tmp_path / "root")


def step(root, script, *args, **options):
    roots = ("--data_root", root / "data", "--checkpoint_root", root / "checkpoints")
    return run_script(script, "--dataset", "Demo_data", *roots, *args, **options)


def refused(root, script, *args, **options):
    """The complaint of a step that must have left every file as it was, but for its cache of replies."""
    before = files_in(root)
    message = complaint(step(root, script, *args, **options))
    after = {name: content for name, content in files_in(root).items() if "/cache/" not in name}
    assert after == before
    return message


def at(root, artifact):
    return root / "data" / "Demo_data" / artifact.path


def changed(frame, column, value):
    """The frame with one value of row 7 changed."""
    values = frame[column].astype(object).tolist()
    values[7] = value
    return frame.assign(**{column: pd.Series(values, index=frame.index).infer_objects()})


def test_an_unknown_dataset_is_refused_with_those_that_are_known(root):
    message = refused(root, DISTILL, "--dataset", "Nope")
    assert "no dataset 'Nope'" in message
    assert "Music_data" in message
    assert "0_Data/2_preprocess.py" in message


OUTSIDE = ["../x", "a/b", "/etc", "", ".", "..", "a\\b", "./a", "a/"]
OUTSIDE += ["a\nb", "a\tb", "\x1b[2J", "a\0b", "\u202eb", "\udcff"]


@pytest.mark.parametrize("name", OUTSIDE, ids=ascii)
def test_a_name_of_a_dataset_that_leads_out_of_the_data_root_was_followed(tmp_path, name):
    spec = PIPELINE["1/1"]
    with pytest.raises(InputError) as error:
        parse(PIPELINE, spec, [f"--dataset={name}", f"--data_root={tmp_path / 'data'}"])
    message = str(error.value)
    assert message.startswith(f"--dataset {ascii(name)} is not the name of a folder") and message.isprintable()
    common = Common(dataset=name, checkpoint_root=tmp_path)
    for place in ("folder", "adapters"):
        with pytest.raises(InputError, match="--dataset"):
            getattr(common, place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["Music_data", "a b", "été", "...", "a.b", "-x", "~"])
def test_any_other_name_is_that_of_a_folder_in_the_data_root(tmp_path, name):
    assert Common(dataset=name, data_root=tmp_path).folder == tmp_path / name


@pytest.mark.parametrize("script", [DISTILL, PREPROCESS, "1_Summarizer/3_summarizer_train.sh", "figs/draw_results.py"])
def test_a_script_that_is_given_such_a_name_ends_in_one_line(root, script):
    flags = ("--dataset", "../data/Demo_data", "--data_root", root / "data", "--checkpoint_root", root / "checkpoints")
    before = files_in(root)
    assert "'../data/Demo_data' is not the name of a folder" in complaint(run_script(script, *flags))
    assert files_in(root) == before


@pytest.mark.parametrize(
    ("script", "flags", "fault"),
    [
        ("3_Predictor/5_baselines.py", ("--model", "../../x"), "--model ../../x: no such baseline"),
        ("3_Predictor/6_ablations.py", ("--variants", "../x"), "--variants: no ../x"),
        ("3_Predictor/6_ablations.py", ("--variants", "tau_0.3\n"), "--variants: no tau_0.3"),
        ("3_Predictor/6_ablations.py", ("--variants", "tau_ 0.3"), "--variants: no tau_ 0.3"),
        ("3_Predictor/6_ablations.py", ("--variants", "history_1_0"), "--variants: no history_1_0"),
        ("3_Predictor/4_evaluate.py", ("--also", "../x=../../none.pkl"), "none.pkl is missing"),
    ],
)
def test_a_name_that_an_output_would_have_cannot_lead_out_of_the_folder(root, script, flags, fault):
    assert fault in refused(root, script, *flags)


def test_a_name_in_the_facts_of_a_dataset_cannot_lead_out_of_the_data_root(root):
    path = root / "data" / "New" / "dataset.json"
    path.parent.mkdir()
    path.write_text('{"name": "../../outside", "product_class": "x", "tau": 0.1}')
    with pytest.raises(InputError, match=r"dataset\.json: the name .*outside' is not the name of a folder"):
        facts_of.write(facts_of.get("New", root / "data"), root / "data")
    assert not (root.parent / "outside").exists()


@pytest.mark.parametrize("facts", ["{", "[]", '{"name": "New", "product_class": "x", "depth": 1}'])
def test_a_new_datasets_damaged_facts_are_named(root, facts):
    path = root / "data" / "New" / "dataset.json"
    path.parent.mkdir()
    path.write_text(facts)
    assert refused(root, DISTILL, "--dataset", "New").startswith(f"{path}: not the facts of a dataset")


@pytest.mark.parametrize(
    ("script", "missing", "writer"),
    [
        (DISTILL, TRAIN, PREPROCESS),
        ("1_Summarizer/2_construct_summarizer_train_data.py", artifacts.TEACHER_SUMMARIES, DISTILL),
        ("1_Summarizer/4_summarizer_generation.py", TRAIN, PREPROCESS),
        (SAMPLE, SUMMARIES, "1_Summarizer/4_summarizer_generation.py"),
        ("2_Reasoner/2_construct_reward_train_data.py", REWARD_TARGETS, SAMPLE),
        ("2_Reasoner/4_distilling_possible_reason.py", REASON_TARGETS, SAMPLE),
        ("3_Predictor/4_evaluate.py", TRAIN, PREPROCESS),
    ],
)
def test_a_missing_input_is_named_with_the_script_that_writes_it(tmp_path, script, missing, writer):
    message = refused(tmp_path, script)
    assert message.startswith(f"{at(tmp_path, missing)} is missing")
    assert writer in message


@pytest.mark.parametrize(
    ("script", "adapter", "trainer"),
    [
        ("1_Summarizer/4_summarizer_generation.py", "Summarizer", "1_Summarizer/3_summarizer_train.sh"),
        ("2_Reasoner/4_distilling_possible_reason.py", "reason_reward_model", "2_Reasoner/3_reward_model_train.sh"),
    ],
)
def test_an_untrained_expert_is_named_with_the_script_that_trains_it(root, script, adapter, trainer):
    if adapter == "Summarizer":
        # Summaries that a person put there would be kept, and no Summarizer be needed.
        at(root, SUMMARIES).unlink()
    message = refused(root, script)
    assert message.startswith(f"{root / 'checkpoints' / 'Demo_data' / adapter} is missing")
    assert trainer in message


@pytest.mark.parametrize("settings", [None, "", "{"])
def test_an_adapter_without_its_settings_is_to_be_trained_again(tmp_path, settings):
    if settings is not None:
        (tmp_path / "settings.json").write_text(settings)
    with pytest.raises(InputError, match="settings.json: cannot be read .*; train the adapter again"):
        adapters.adapter_settings(tmp_path)


DAMAGES = {
    "a column is missing": (lambda f: f.drop(columns="title"), "no column title"),
    "a text is NaN": (lambda f: changed(f, "reviews", np.nan), "column reviews is empty (NaN) in row 7"),
    "a summary is None": (lambda f: changed(f, SUMMARY, None), f"column {SUMMARY} is empty (NaN) in row 7"),
    "a rating is NaN": (lambda f: changed(f, "ratings", np.nan), "column ratings is empty (NaN) in row 7"),
    "a rating is 7": (lambda f: changed(f, "ratings", 7.0), "rating 7.0 in row 7 is outside 1 to 5"),
    "ratings are words": (lambda f: changed(f, "ratings", "good"), "column ratings holds 'good' in row 7"),
    "an id has a fraction": (lambda f: changed(f, "user_id", 1.5), "column user_id holds 1.5 in row 7"),
    "a time is a truth value": (
        lambda f: changed(f, "unixReviewTime", True),
        "column unixReviewTime holds True in row 7",
    ),
    "a text is a set": (lambda f: changed(f, SUMMARY, {"a"}), f"column {SUMMARY} holds a set in row 7"),
    "the frame is empty": (lambda f: f.head(0), "the table is empty"),
    "the frame is a list": (lambda f: [{"messages": []}], "expected a table, found a list"),
    "the frame is a number": (lambda f: 3, "expected a table, found a int"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_named_with_its_fault_when(root, damage):
    change, fault = DAMAGES[damage]
    path = at(root, SUMMARIES)
    path.write_bytes(pickle.dumps(change(files.read_pickle(path)), protocol=5))
    message = refused(root, SAMPLE)
    assert message.startswith(str(path))
    assert fault in message


def test_a_row_that_is_repeated_is_read_once_and_said_once(root):
    path = at(root, SUMMARIES)
    frame = files.read_pickle(path)
    path.write_bytes(pickle.dumps(pd.concat([frame, frame.iloc[[3, 4]]], ignore_index=True), protocol=5))
    done = step(root, SAMPLE, "--overwrite")
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1 and str(path) in notes[0] and f"2 of {len(frame) + 2:,} rows repeat" in notes[0]


@pytest.mark.parametrize("keep", [0, 200, -1])
def test_a_truncated_pickle_is_refused(root, keep):
    path = at(root, SUMMARIES)
    path.write_bytes(path.read_bytes()[:keep])
    assert refused(root, SAMPLE).startswith(f"{path}: not a whole pickle of plain data")


class Foreign:
    """Runs a command when it is unpickled without care."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_foreign_pickle_is_refused_and_does_not_run(root):
    path, proof = at(root, SUMMARIES), root / "it-ran"
    path.write_bytes(pickle.dumps(Foreign(f"touch '{proof}'")))
    message = refused(root, SAMPLE)
    assert "posix.system" in message
    assert "open no pickle that you do not trust" in message
    assert not proof.exists()


def put_dump(root, **change):
    """A raw dump of 40 reviews, the eighth of them changed; its path."""
    lines = json_lines(40)
    lines[7] = json.dumps(json.loads(lines[7]) | change)
    path = root / "reviews.json"
    path.write_text("\n".join(lines))
    return path


def json_lines(count):
    """Raw reviews of as many items."""
    return [
        json.dumps({"reviewerID": "u", "asin": f"i{count}-{k}", "overall": 4, "reviewText": "x", "unixReviewTime": k})
        for k in range(count)
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"overall": 7.0}, "no rating of 1 to 5 as overall, but '7.0'"),
        ({"overall": "good"}, "no rating of 1 to 5 as overall, but 'good'"),
        ({"unixReviewTime": "yesterday"}, "no time as unixReviewTime, but 'yesterday'"),
        ({"reviewerID": None}, "no reviewerID or user_id"),
        ({"asin": ["B1"]}, "no parent_asin or asin"),
    ],
)
def test_a_raw_review_at_fault_is_named(root, change, fault):
    path = put_dump(root, **change)
    message = refused(root, PREPROCESS, "--reviews", path, "--core", 1, "--overwrite")
    assert message.startswith(f"{path}: 1 of 40 lines are broken (line 8: {fault}")
    assert "more than 1 in 1,000" in message


def test_one_broken_line_in_a_thousand_is_noted_and_kept_out(root):
    path = put_dump(root, overall="good")
    path.write_text("\n".join([*path.read_text().splitlines(), *json_lines(960)]))
    done = step(root, PREPROCESS, "--reviews", path, "--core", 1, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert f"note: {path}: 1 of 1,000 lines are broken (line 8: no rating" in done.stdout
    assert sum(len(files.read_pickle(at(root, part))) for part in (TRAIN, VALID, TEST)) == 999


def test_half_a_character_in_a_raw_review_is_no_error(root):
    path = put_dump(root, reviewText="a \ud83d b")
    done = step(root, PREPROCESS, "--reviews", path, "--core", 1, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert pd.read_pickle(at(root, TRAIN))["reviews"].iloc[7] == "a ? b"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "{'a': 1}\nnot a record\n",
            "2 of 2 lines are broken (line 1: no reviewerID or user_id, line 2: not a record)",
        ),
        *(
            (text, "no JSON lines, Python literals or CSV with these fields")
            for text in ("[" * 50_000, "{[]: 1}\n", "")
        ),
        ("reviewerID,asin\nu,i\n", "no JSON lines, Python literals or CSV with these fields"),
    ],
)
def test_a_raw_dump_that_is_none_is_refused(root, text, fault):
    path = root / "reviews.json"
    path.write_text(text)
    assert refused(root, PREPROCESS, "--reviews", path, "--overwrite").startswith(f"{path}: {fault}")


@pytest.mark.parametrize("columns", ["user=UserId", "user_id"])
def test_names_of_columns_that_are_none_are_refused(root, columns):
    message = refused(root, PREPROCESS, "--reviews", put_dump(root), "--columns", columns, "--overwrite")
    assert message.startswith("--columns: ")
    assert "user_id, item_id, ratings, reviews, unixReviewTime, title" in message


@pytest.mark.parametrize("at_byte", [40, 2000])
def test_a_gzipped_dump_with_wrong_bytes_in_its_middle_is_refused(root, at_byte):
    path = root / "reviews.json.gz"
    content = bytearray(path.read_bytes())
    content[at_byte : at_byte + 20] = b"\xff" * 20
    path.write_bytes(content)
    message = refused(root, PREPROCESS, "--reviews", path, "--overwrite")
    assert message.startswith(f"{path}: ")
    assert "fetch it again" in message


def test_a_core_that_leaves_nothing_is_refused(root):
    assert "smaller --core" in refused(root, PREPROCESS, "--reviews", put_dump(root), "--core", 50, "--overwrite")


def test_a_raw_dump_that_nothing_is_known_of_is_asked_for(root):
    new = ("--dataset", "New", "--product_class", "Thing")
    assert refused(root, PREPROCESS, *new).startswith("--reviews: no public files of New are known")
    assert "0_Data/3_make_demo_data.py writes it" in refused(root, PREPROCESS, "--overwrite")


@pytest.mark.parametrize("name", ["none.json.gz", "a folder"])
def test_a_raw_dump_that_is_not_there_is_named(root, name):
    (root / "a folder").mkdir()
    assert str(root / name) in refused(root, PREPROCESS, "--reviews", root / name, "--overwrite")


def ask_flags(limit=5):
    return ("--teacher_model", "stand-in", "--retries", 0, "--limit", limit)


def test_a_missing_key_is_said_with_its_variable(root):
    assert "OPENAI_API_KEY" in refused(root, DISTILL, *ask_flags())


def test_a_wrong_key_is_said_without_the_key(root):
    with serving(Server(0, key="another")) as server:
        environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.address}
        done = step(root, DISTILL, *ask_flags(), env=environment)
    assert "OPENAI_API_KEY" in complaint(done)
    assert "PWXZQ" not in done.stdout + done.stderr
    assert all(b"PWXZQ" not in content for content in files_in(root).values())


def test_a_dead_teacher_is_named_by_its_address_without_a_password_in_it(root):
    with serving(Server(0)) as server:
        address = server.address
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": address.replace("//", "//user:PWXZQ@")}
    done = step(root, DISTILL, *ask_flags(), env=environment)
    assert f"the teacher at {address} cannot be reached" in complaint(done)
    assert "PWXZQ" not in done.stdout + done.stderr


def test_cuda_without_cuda_is_refused_before_anything_else(root):
    message = refused(root, "1_Summarizer/3_summarizer_train.sh", "--device", "cuda")
    assert "--device cuda: no CUDA device" in message
    assert "--device cpu" in message


def full_disk(at_bytes):
    """Lets no file of the process grow beyond a size: writes then fail as they do where the disk is full."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, at_bytes))}


@pytest.mark.parametrize("at_bytes", [0, 4_000])
def test_a_full_disk_is_one_complaint_and_leaves_earlier_outputs(root, at_bytes):
    flags = ("--reviews", root / "reviews.json.gz", "--core", 1, "--overwrite")
    message = refused(root, PREPROCESS, *flags, **full_disk(at_bytes))
    assert "free the disk" in message
    done = step(root, PREPROCESS, *flags)
    assert done.returncode == 0, done.stderr
    for artifact in (TRAIN, VALID, TEST):
        assert records.read_record(at(root, artifact))["sha256"] == files.sha256(at(root, artifact))


def test_a_disk_that_fills_up_while_the_teacher_speaks_keeps_what_fits_and_the_rerun_goes_on(root):
    with serving(Server(0)) as server:
        environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.address}
        message = refused(root, DISTILL, *ask_flags(80), env=environment, **full_disk(20_000))
        assert "replies.sqlite" in message
        assert "free the disk" in message
        done = step(root, DISTILL, *ask_flags(80), env=environment)
    assert done.returncode == 0, done.stderr
    assert len(schema.read(root / "data" / "Demo_data", artifacts.TEACHER_SUMMARIES)) == 80
    assert "kept replies 0" not in done.stdout


def mount(source, target, kind, flags, options=""):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), str(target).encode(), kind.encode(), flags, options.encode()):
        raise OSError(ctypes.get_errno(), "mount")


def with_mounts_of_its_own():
    """Lets this process mount what no other sees; it ends with NO_MOUNTS where that is not allowed."""
    newns, newuser, private, recursive = 0x20000, 0x10000000, 1 << 18, 1 << 14
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(newns | (newuser if uid else 0)):
        os._exit(NO_MOUNTS)
    try:
        if uid:
            for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
                Path(f"/proc/self/{name}").write_text(text)
        mount("none", "/", "none", private | recursive)
    except OSError:
        os._exit(NO_MOUNTS)


def code_of(script, flags):
    """The exit code of a script that is run in this process."""
    sys.argv = [script, *flags]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def on_a_full_disk(root, free, script, flags):
    """Runs a step where so many bytes are free, sees that it left all as it was, makes room and runs it again."""
    with_mounts_of_its_own()
    kept = files_in(root)
    try:
        mount("tmpfs", root, "tmpfs", 0, "size=64m")
    except OSError:
        os._exit(NO_MOUNTS)
    for name, content in kept.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    ballast = root / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, PAGE):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
        file.truncate(file.tell() - free)
    code = code_of(script, flags)
    print(f"ended with {code}", flush=True)
    after = files_in(root)
    del after["ballast"]
    if code == 2:
        places = ("/cache/", ".training/", ".preprocess/")
        after = {name: content for name, content in after.items() if not any(place in name for place in places)}
        changed = [name for name in kept.keys() | after.keys() if kept.get(name) != after.get(name)]
        assert [name for name in changed if "/cache/" not in name] == []
        ballast.unlink()
        print("AGAIN", flush=True)
        code = code_of(script, flags)
    sys.exit(code)


def on_a_disk_that_cannot_be_written(root, script, flags):
    """Runs a step whose folders can only be read."""
    with_mounts_of_its_own()
    bind, remount, read_only = 1 << 12, 1 << 5, 1
    try:
        mount(str(root), root, "none", bind)
        mount(str(root), root, "none", bind | remount | read_only)
    except OSError:
        os._exit(NO_MOUNTS)
    sys.exit(code_of(script, flags))


def ready_for(case, prepared, base, tmp_path):
    """A copy of the prepared root without what the step writes, and the step's flags for it."""
    root = shutil.copytree(prepared, tmp_path / "root")
    for output in case.writes:
        for path in (root / output, records.record_path(root / output)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    flags = [flag.replace("ROOT", str(root)).replace("BASE", base) for flag in case.flags]
    return root, [*test_kill.roots(root), *flags]


def said_by(forks, call, *args, log, **options):
    """The exit code and the words of a fork; skipped where the tests may not mount."""
    code, _ = forks.run(call, *args, log=log, **options)
    if code == NO_MOUNTS:
        pytest.skip("mounts are not allowed here")
    return code, log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 3 * PAGE, 40 * PAGE])
@pytest.mark.parametrize("name", CASES)
def test_a_full_disk_ends_every_step_in_one_line_and_with_room_again_it_goes_on(
    name, free, prepared, base, forks, tmp_path
):
    case = CASES[name]
    root, flags = ready_for(case, prepared, base, tmp_path)
    with serving(Server(0)) as server:
        environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.address}
        code, said = said_by(
            forks, on_a_full_disk, root, free, case.script, flags, log=tmp_path / "log", env=environment
        )
    assert code == 0, said[-5_000:]
    assert "Traceback" not in said
    if "ended with 0" not in said:
        lines = [line for line in said.partition("ended with 2")[0].splitlines() if "error: " in line]
        assert len(lines) == 1 and "free the disk" in lines[0], said[-5_000:]
        # The trainer's library does not say where a checkpoint of its own could not be written.
        assert str(root) in lines[0] or name == "training", said[-5_000:]


@pytest.mark.parametrize("free", range(12))
def test_a_disk_that_is_full_at_the_table_or_at_its_record_leaves_neither(free, prepared, base, forks, tmp_path):
    case = CASES["teacher summaries"]
    root, flags = ready_for(case, prepared, base, tmp_path)
    with serving(Server(0)) as server:
        environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.address}
        options = {"log": tmp_path / "log", "env": environment}
        assert forks.run(case.script, *flags, **options)[0] == 0
        (root / case.writes[0]).unlink()
        records.record_path(root / case.writes[0]).unlink()
        code, said = said_by(forks, on_a_full_disk, root, free * PAGE, case.script, flags, **options)
    assert code == 0, said[-5_000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_folders_that_can_only_be_read_end_every_step_in_one_line(name, prepared, base, forks, tmp_path):
    case = CASES[name]
    root, flags = ready_for(case, prepared, base, tmp_path)
    code, said = said_by(
        forks,
        on_a_disk_that_cannot_be_written,
        root,
        case.script,
        flags,
        log=tmp_path / "log",
        env={"OPENAI_API_KEY": KEY},
    )
    lines = [line for line in said.splitlines() if "error: " in line]
    assert code == 2 and len(lines) == 1 and "Traceback" not in said, said[-5_000:]
    assert str(root) in lines[0] and os.strerror(errno.EROFS) in lines[0]


def test_requests_for_a_batch_end_in_one_line_and_code_3_and_ask_nobody(root, tmp_path):
    requests = tmp_path / "requests.jsonl"
    flags = ("--teacher_model", "stand-in", "--limit", 5, "--batch_export", requests)
    done = step(root, DISTILL, *flags, env={"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
    assert done.returncode == 3, done.stderr
    assert f"5 requests written to {requests}; send them as a batch" in done.stdout
    assert "--batch_import REPLIES" in done.stdout
    assert len(requests.read_text().splitlines()) == 5
    assert not at(root, artifacts.TEACHER_SUMMARIES).exists()


def test_a_data_root_below_a_file_is_named(root):
    (root / "file").touch()
    message = complaint(step(root, DISTILL, "--data_root", root / "file" / "data"))
    assert str(root / "file") in message


@pytest.mark.parametrize("content", [b"no table of replies" * 400, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_cache_that_is_no_cache_is_named(root, content):
    path = root / "data" / "Demo_data" / "cache" / "replies.sqlite"
    path.parent.mkdir()
    path.write_bytes(content)
    message = complaint(step(root, DISTILL, *ask_flags(), env={"OPENAI_API_KEY": KEY}))
    assert str(path) in message
    assert path.read_bytes() == content


def put_template(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("summarizer", "Read {reviewz}", "reviewz"),
        ("summarizer", "Read {review", "summarizer.txt"),
        ("other", "Read {review}", "summarizer.txt"),
    ],
)
def test_a_prompt_template_at_fault_is_named(root, name, text, fault):
    folder = put_template(root / "prompts", name, text)
    message = refused(root, DISTILL, *ask_flags(), "--prompts", folder, env={"OPENAI_API_KEY": KEY})
    assert fault in message


def test_a_folder_without_templates_is_named(root):
    message = refused(root, DISTILL, *ask_flags(), "--prompts", root / "none", env={"OPENAI_API_KEY": KEY})
    assert str(root / "none") in message


@pytest.mark.parametrize(
    ("script", "flags", "said"),
    [
        (SAMPLE, ("--frobnicate", "1"), "unknown option --frobnicate"),
        (SAMPLE, ("--over",), "unknown option --over, did you mean --overwrite?"),
        (SAMPLE, ("--limit", "0"), "0 is not at least 1"),
        (DISTILL, ("--requests_at_once", "0"), "0 is not at least 1"),
        (PREPROCESS, ("--core", "0"), "0 is not at least 1"),
        ("reason4rec/systems/reason4rec/train.py", ("--adapter", "Nobody"), "invalid choice: 'Nobody'"),
    ],
)
def test_a_wrong_flag_is_refused_with_the_usage(root, script, flags, said):
    before = files_in(root)
    environment = {"PYTHONPATH": "."} if script.startswith("reason4rec/") else None
    done = step(root, script, *flags, env=environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert files_in(root) == before
