"""Where the project lies, and what a path on a command line means.

A relative path of the user's means the folder that the user stands in. The project's own files, such as the demo's
base model, are found from the project's place, wherever it is started from. That place is a clone; where the package
alone is installed, only what lies in the package is the project's.
"""

import os
from pathlib import Path

from reason4rec.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
IS_CLONE = (ROOT / "run_all.sh").is_file()  # beside an installed package lie other packages
PACKAGE = __name__.partition(".")[0]


def own(name: str) -> Path:
    """A file or folder of the project: as it is written from the project's root, with the whole path from elsewhere.

    One that an installed package does not hold, such as the default data root, is that of the folder that the user
    stands in.
    """
    return ROOT / name if _is_ours(name) and Path.cwd() != ROOT else Path(name)


def find(name: str | Path) -> Path:
    """What a path names: from the folder that the user stands in, or else a file of the project; it may not exist."""
    path = Path(name)
    if path.exists() or path.is_absolute() or not _is_ours(path) or not (ROOT / path).exists():
        return path
    return ROOT / path


def check_clone(what: str) -> None:
    """InputError where the package is installed without the clone that `what` needs."""
    if not IS_CLONE:
        raise InputError(
            f"{what} are files of the repository, and only the package is installed here ({ROOT / PACKAGE}): clone the "
            f"repository and start it from there"
        )


def python_path() -> dict[str, str]:
    """The variable with which another process of this interpreter finds the package; none where it is installed."""
    if not IS_CLONE:
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}


def _is_ours(name: str | Path) -> bool:
    return IS_CLONE or Path(name).parts[:1] == (PACKAGE,)
