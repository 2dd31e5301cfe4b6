"""What is installed and loaded: pinned with hashes, weights as safetensors, and no code from a model's page."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [path for folder in ROOT.glob("[0-3]_*") for path in folder.glob("*.py")]
CODE = [
    *ROOT.glob("*.py"),
    *SCRIPTS,
    *(ROOT / "reason4rec").rglob("*.py"),
    *(ROOT / "tests" / "benchmarks").glob("*.py"),
]
INSTALLING = [
    ROOT / "Dockerfile",
    *ROOT.glob("*.sh"),
    *ROOT.glob("requirements*"),
    *(ROOT / "tests").glob("*.sh"),
    *ROOT.rglob("[0-3]_*/*.sh"),
]
HASH = r"--hash=sha256:[0-9a-f]{64}"
# What reads a pickle with all it may call; artifacts.read_pickle is our own reader.
UNSAFE = {
    f"{module}.{name}"
    for module, names in {
        "torch": ("load",),
        "pickle": ("load", "loads", "Unpickler"),
        "joblib": ("load",),
        "dill": ("load", "loads"),
        "cloudpickle": ("load", "loads"),
        "shelve": ("open",),
        "marshal": ("load", "loads"),
        "pd": ("read_pickle",),
        "pandas": ("read_pickle",),
    }.items()
    for name in names
}


def name_of(path):
    return str(path.relative_to(ROOT))


def pins(path):
    """The pinned packages of a requirements file with their versions; anything else in it is an error."""
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines if line]
    return {re.sub(r"[-_.]+", "-", pin[1]).lower(): pin[2] for pin in found}


def locked():
    """The packages of the lock with their versions and hashes."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / "requirements.lock").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        pin, *hashes = (part.strip() for part in entry.split("\\\n"))
        name, version = re.fullmatch(r"([a-z0-9][a-z0-9-]*)==([^\s;]+)(?: ;.*)?", pin).groups()
        assert name not in found
        found[name] = version, hashes
    return found


def test_every_package_of_the_lock_has_a_version_and_hashes_and_nothing_else_stands_there():
    for name, (_, hashes) in locked().items():
        assert hashes and all(re.fullmatch(HASH, each) for each in hashes), name


def test_every_pinned_package_is_locked_in_the_same_version():
    lock = {name: version for name, (version, _) in locked().items()}
    wanted = pins(ROOT / "requirements.txt")
    assert len(wanted) > 20
    assert {name: lock.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("path", INSTALLING, ids=name_of)
def test_packages_come_from_no_other_place_than_the_users_own_index(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"--(extra-)?index-url|--find-links|--trusted-host|^-[if]\s|git\+|\s@\s+\w+:", text, re.MULTILINE
    )


def calls(path):
    """All calls in a source file: what is called, as text, and its keywords."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: keyword.value for keyword in node.keywords}


def is_constant(value, constant):
    return isinstance(value, ast.Constant) and value.value is constant


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_source_file_reads_a_pickle_with_all_it_may_call_or_runs_code_from_a_models_page(path):
    for called, keywords in calls(path):
        assert called not in UNSAFE, called
        assert not any(is_constant(keywords.get(name), True) for name in ("allow_pickle", "trust_remote_code")), called
        assert not any(is_constant(keywords.get(name), False) for name in ("weights_only", "safe_serialization")), (
            called
        )
        if "trust_remote_code" in keywords:
            assert is_constant(keywords["trust_remote_code"], False), called


def test_a_base_model_is_loaded_from_safetensors_alone_and_runs_no_code_of_its_page():
    found = [
        keywords
        for path in CODE
        for called, keywords in calls(path)
        if called == "AutoModelForCausalLM.from_pretrained" and not path.is_relative_to(ROOT / "tests")
    ]
    # GGUF is read from a package, where its sha256 is the known one; it holds no code either.
    gguf = [keywords for keywords in found if "gguf_file" in keywords]
    assert len(gguf) == 1 and len(found) > 1
    assert all(is_constant(keywords.get("use_safetensors"), True) for keywords in found if keywords not in gguf)


def test_weights_that_come_with_the_code_are_safetensors():
    kinds = {path.suffix for path in (ROOT / "reason4rec").rglob("*") if path.is_file()}
    assert ".safetensors" in kinds
    assert not kinds & {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".npz", ".npy", ".gguf"}


def test_the_state_of_an_unfinished_training_is_read_as_weights_alone():
    """A checkpoint holds the adapter as safetensors; optimizer.pt, scheduler.pt and rng_state.pth are pickles of torch.

    They are read by transformers, in the pinned version always with weights_only=True, which calls nothing that a file
    names but torch's own makers of tensors. Of training_args.bin, which it writes too, nothing is read.
    """
    folder = Path(importlib.util.find_spec("transformers").origin).parent
    loads = [keywords for called, keywords in calls(folder / "trainer.py") if called == "torch.load"]
    assert loads and all(is_constant(keywords.get("weights_only"), True) for keywords in loads)
