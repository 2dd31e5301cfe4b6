"""Reason4Rec: a rating is predicted by three experts that reason first."""

import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.asking.questions import Answer, Question, Review
    from reason4rec.systems.reason4rec.asking.recommender import Recommender

__all__ = ["Answer", "Question", "Recommender", "Review"]

# Without these nothing runs; of the others, the step that needs one names it.
NEEDED = ("duckdb", "httpx2", "numpy", "openai", "pandas", "pydantic", "torch", "tqdm", "transformers", "yaml")


def _is_command() -> bool:
    """Whether this process is one of the project's own commands, and not a program that imports it."""
    script = Path(sys.argv[0] if sys.argv else "")
    own, packages = Path(__file__).resolve().parents[1], Path(sys.prefix).resolve()
    inside = script.is_file() and script.resolve().is_relative_to(own) and not script.resolve().is_relative_to(packages)
    return str(script) == "-m" or inside


def _interrupted(kind: type, error: BaseException, traceback: object) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted before anything was done", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


is_command = _is_command()
if is_command:
    sys.excepthook = _interrupted  # libraries take seconds to load
if absent := [name for name in NEEDED if find_spec(name) is None]:
    message = (
        f"{sys.executable} lacks {', '.join(absent)}: use the interpreter that has them, or install them: "
        "python -m pip install -r requirements.txt"
    )
    if not is_command:
        raise ImportError(message)
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)

# A thread that spins while it waits for others keeps a busy neighbour's core from them: a step of 47 s took 1,156 s. A
# short spin costs an idle machine nothing (tests/benchmarks/threads.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# At each start on a CPU, bitsandbytes warns of a kernel package that it does without.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def __getattr__(name: str) -> object:
    """The names of the front door, loaded when they are wanted: a step that asks nothing does not wait for them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reason4rec.systems.reason4rec.asking import questions, recommender

    return recommender.Recommender if name == "Recommender" else getattr(questions, name)
