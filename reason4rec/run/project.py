"""Where the project lies, and what a path on a command line means.

A relative path of the user's means the folder that the user stands in. The project's own files, such as the demo's
base model, are found from the project's place, wherever it is started from.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def own(name: str) -> Path:
    """A file or folder of the project: as it is written from the project's root, with the whole path from elsewhere."""
    return Path(name) if Path.cwd() == ROOT else ROOT / name


def find(name: str | Path) -> Path:
    """What a path names: from the folder that the user stands in, or else a file of the project; it may not exist."""
    path = Path(name)
    return path if path.exists() or path.is_absolute() or not (ROOT / path).exists() else ROOT / path
