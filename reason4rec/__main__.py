"""What there is to do from a shell.

python -m reason4rec            lists it, and the finished runs that can be asked
python -m reason4rec explain --dataset Demo_data --user ID --item ID
"""

import difflib
import importlib
import sys
from typing import NamedTuple

from reason4rec.errors import InputError
from reason4rec.front.finished import finished_runs
from reason4rec.run.commands import guarded


class Command(NamedTuple):
    """A command: what it does, and the function that gets the words after its name."""

    what: str
    function: str

    def __call__(self, words: list[str]) -> None:
        module, _, name = self.function.rpartition(".")
        getattr(importlib.import_module(module), name)(words)


COMMANDS = {
    "run": Command("run the steps of a system in their order, as run_all.sh does", "reason4rec.run.__main__.command"),
    "explain": Command("the experts' rating of one item by one user, and why", "reason4rec.front.asking.explain"),
    "rank": Command("several items for one user, best first", "reason4rec.front.asking.rank"),
    "recommend": Command("items that a user has not reviewed, best first", "reason4rec.front.asking.recommend"),
    "serve": Command("a page and an API that answer the same questions", "reason4rec.front.serve.serve"),
    "card": Command("a model card beside an adapter, and its upload", "reason4rec.systems.reason4rec.model_card.card"),
}


def main() -> None:
    """Runs the command that the words name; without one, lists what there is."""
    guarded(lambda: _run(sys.argv[1:]))


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return
    name, *rest = words
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f", did you mean {near[0]}?" if near else f": there are {', '.join(COMMANDS)}"
        raise InputError(f"no command {ascii(name)[:40]}{hint}")
    COMMANDS[name](rest)


def overview() -> str:
    """The commands, and the datasets here whose experts can be asked."""
    lines = ["python -m reason4rec COMMAND [OPTION ...]", ""]
    lines += [f"  {name:<10} {command.what}" for name, command in COMMANDS.items()]
    lines += ["", "COMMAND --help lists its options.", ""]
    found = finished_runs()
    if found:
        lines.append(f"Finished runs here: {', '.join(found)}")
        lines.append(f"  python -m reason4rec serve --dataset {found[0]}")
    else:
        lines.append("No finished run here yet. In a clone, `bash run_all.sh` makes that of the demo.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
