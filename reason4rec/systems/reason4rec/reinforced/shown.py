"""What a training of step 2/8 shows, to be published: its settings, its probes, and the watched rewards by step."""

import json
from collections.abc import Mapping
from pathlib import Path

from reason4rec.run import markdown
from reason4rec.run.records import read_record
from reason4rec.systems.reason4rec.artifacts import REASONER_RL

FILE = "reasoner_rl.json"
DRAWN = {
    "reward": "reward",
    "groups/equal": "groups_equal",
    "kl": "kl",
    "completions/mean_length": "tokens",
}
"""What is kept of each step's draws, by its name in the curve."""


def of_training(adapters: Path) -> dict | None:
    """The settings, probes and curve of the adapter that a reward trained; None where there is none with a record."""
    path = adapters / REASONER_RL.path
    record = read_record(path)
    if record is None or not path.exists():
        return None
    entries = json.loads((path / "loss_curve.json").read_text(encoding="utf-8"))
    return {
        "settings": record["made_from"]["settings"],
        "probes": record["made_from"].get("probes", []),
        "watched": [
            {name.removeprefix("watched/"): value for name, value in entry.items()}
            for entry in entries
            if "watched/reward" in entry
        ],
        "drawn": [
            {"step": entry["step"]} | {name: entry[key] for key, name in DRAWN.items() if key in entry}
            for entry in entries
            if "reward" in entry
        ],
    }


def as_table(found: Mapping, of: str) -> str:
    """One of the tables of a training: of its `probes`, or `watched`, of the validation rows by step."""
    first = {"probes": "policy", "watched": "step"}[of]
    rows = found[of]
    counted = ("n",) if of == "probes" else ()
    names = [name for name in rows[0] if name not in (first, "reward", *counted)] if rows else []
    lines = [
        [str(row[first]), *(f"{row[name]:,}" for name in counted), *(f"{row[name]:.3f}" for name in ("reward", *names))]
        for row in rows
    ]
    return markdown.table([first, *counted, "reward", *names], lines)
