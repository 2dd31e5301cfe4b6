"""The installed package: what the wheel holds, that it works away from the clone, and what the Dockerfile relies on."""

import configparser
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import HeaderParser

import pytest
from helpers import ROOT, complaint

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
FILES = {path.name for path in ROOT.glob("requirements*.txt")}


def in_git(folder):
    """The files that git knows in a folder of the clone, by path from its root."""
    done = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a clone of git")
    return done.stdout.splitlines()


def pins(*names):
    """The lines of requirements files that name a package."""
    lines = [line.strip() for name in names for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return sorted(line for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built without a download from what git knows."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in in_git("."):
        if name.startswith("reason4rec/") or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", out, source], check=True, timeout=300)
    (path,) = out.glob("*.whl")
    return path


def metadata(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (one for one in archive.namelist() if one.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The bin folder of an environment that has the package alone, and sees all others where they are."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True, timeout=120)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return folder / "bin"


def run(command, folder, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "REASON4REC_"))}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=kept | more, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set(in_git("reason4rec"))


@pytest.mark.slow
def test_a_wheel_asks_for_the_versions_of_the_requirements_files(wheel):
    found = HeaderParser().parsestr(metadata(wheel, "METADATA"))
    assert found["License-Expression"] == "Apache-2.0" and found["Requires-Python"] == ">=3.11"
    asked = [one.partition(";")[::2] for one in found.get_all("Requires-Dist")]
    by_extra = {name: [] for name in ("", *found.get_all("Provides-Extra"))}
    for pin, condition in asked:
        extra = re.fullmatch(r' extra == "(\w+)"', condition)
        by_extra[extra[1] if extra else ""].append(pin)
    assert sorted(by_extra.pop("")) == pins("requirements.txt")
    assert {extra: sorted(one) for extra, one in by_extra.items()} == {
        extra: pins(*one["file"]) for extra, one in EXTRAS.items()
    }
    scripts = configparser.ConfigParser()
    scripts.read_string(metadata(wheel, "entry_points.txt"))
    assert dict(scripts["console_scripts"]) == {"reason4rec": "reason4rec.__main__:main"}


def test_every_requirements_file_is_an_extra_and_a_list_that_setuptools_reads():
    """It reads no -r lines: a package of such a name would be asked for."""
    assert {"gpu", "dev", "serve", "baselines", "smollm2"} == set(EXTRAS)
    named = {name for extra in EXTRAS.values() for name in extra["file"]} | {"requirements.txt"}
    assert named == FILES
    for name in FILES:
        assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", line) for line in pins(name)), name


@pytest.mark.slow
def test_the_installed_package_works_in_an_empty_folder(environment, tmp_path):
    listed = run([environment / "reason4rec"], tmp_path)
    assert listed.returncode == 0 and "explain" in listed.stdout, listed.stderr
    program = """
import pathlib, sys
import reason4rec
from reason4rec.llm.known_bases import located
from reason4rec.llm.tokens import load_tokenizer
from reason4rec.run import project
from reason4rec.run.step import Common
from reason4rec.systems.reason4rec.prompts import FOLDER
packages = pathlib.Path(reason4rec.__file__).resolve().parents[1]
assert packages.is_relative_to(sys.prefix) and not project.IS_CLONE, packages
assert not reason4rec.is_command
assert located("reason4rec/demo/base") == packages / "reason4rec/demo/base"
load_tokenizer("reason4rec/demo/base")
# Beside it lie other packages, which are no files of this project.
(beside,) = packages.glob("reason4rec-*.dist-info")
assert project.find(beside.name) == pathlib.Path(beside.name)
assert project.own("0_Data") == pathlib.Path("0_Data")
common = Common(dataset="My_data")
assert (str(common.folder), str(common.adapters)) == ("0_Data/My_data", "checkpoints/My_data")
assert len(list(FOLDER.glob("*.txt"))) == 8
"""
    done = run([environment / "python", "-c", program], tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_needs_a_clone_says_so_where_the_package_is_installed(environment, tmp_path):
    done = run([environment / "python", "-m", "reason4rec.run", "--system", "reason4rec"], tmp_path)
    assert "clone the repository" in complaint(done)
    done = run([environment / "python", "-m", "reason4rec.systems.reason4rec.report"], tmp_path)
    assert "clone the repository" in complaint(done)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_step_of_the_installed_package_names_files_of_the_folder_that_the_user_stands_in(environment, tmp_path):
    words = ("--adapter", "Predictor", "--dataset", "Demo_data", "--device", "cpu")
    done = run([environment / "python", "-m", "reason4rec.systems.reason4rec.train", *words], tmp_path)
    assert complaint(done).startswith("0_Data/Demo_data/Predictor_train_instruct.pkl is missing")


@pytest.mark.slow
def test_a_console_script_without_what_it_needs_was_a_traceback(environment, tmp_path):
    """With -S the interpreter sees no packages: only the script's own is put on the path."""
    (packages,) = environment.parent.glob("lib/python*/site-packages")
    program = (
        f"import runpy, sys; sys.path.insert(0, {str(packages)!r}); sys.argv = [{str(environment / 'reason4rec')!r}]; "
        f"runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    said = complaint(run([environment / "python", "-S", "-c", program], tmp_path))
    assert "lacks" in said and "install the package" in said and "requirements.txt" not in said


def test_the_image_is_built_from_files_that_are_there_and_runs_as_no_root():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {word for word, _ in lines} <= {
        "FROM",
        "RUN",
        "COPY",
        "USER",
        "WORKDIR",
        "ENV",
        "EXPOSE",
        "ENTRYPOINT",
        "CMD",
    }
    sources = [one for word, rest in lines if word == "COPY" for one in rest.split()[:-1]]
    let_in = [
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    ]
    known = {path for pattern in sources for path in ROOT.glob(pattern)}
    for pattern in sources:
        assert list(ROOT.glob(pattern)), pattern
    for path in known:
        assert any(fnmatch.fnmatch(path.name, one) for one in let_in), path
    # All that the build of the package reads.
    project = PROJECT["project"]
    needed = {project["readme"], *project["license-files"], "pyproject.toml", "reason4rec", "requirements.lock", *FILES}
    assert needed <= {path.name for path in known}
    for extra in re.findall(r"/src\[([\w,]+)\]", text):
        assert set(extra.split(",")) <= set(EXTRAS)
    for name in re.findall(r"-r /src/(\S+)", text):
        assert (ROOT / name).is_file()
    user = next(place for place, (word, rest) in enumerate(lines) if word == "USER" and rest != "root")
    assert all(word != "USER" for word, _ in lines[user + 1 :])
    assert [rest for word, rest in lines if word == "ENTRYPOINT"] == ['["reason4rec"]']
    assert "0.0.0.0" in next(rest for word, rest in lines if word == "CMD")
