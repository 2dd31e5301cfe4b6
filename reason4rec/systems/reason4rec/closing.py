"""What a run of Reason4Rec prints at its end: our row beside the best others, the places of results, what is next."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from reason4rec.data import schema
from reason4rec.evaluation import ratings, tables
from reason4rec.run.options import Resolved
from reason4rec.run.step import Common
from reason4rec.systems.reason4rec.artifacts import CASE_STUDY, METRICS, REASON_QUALITY, TEST_RATINGS, VALID_METRICS
from reason4rec.systems.reason4rec.options import Split


def closing(options: Resolved, command: Callable[[str], str]) -> str:
    """The lines at the end of a run; nothing where there is no evaluation. `command` gives that of a step by name."""
    common = options[Common]
    on_valid = Split in options and options[Split].split == "valid"
    metrics = common.folder / (VALID_METRICS if on_valid else METRICS).path
    if not metrics.exists():
        return ""
    result = ratings.read(metrics)
    places = {
        "table": metrics,
        "reasons, scored": common.folder / REASON_QUALITY.path,
        "page of test rows": common.folder / CASE_STUDY.path,
    }
    lines = [tables.closing(result, result["settings"]["model"]), ""]
    lines += [f"{name}: {path}" for name, path in places.items() if path.exists()]
    flags = " ".join(common.flags)
    lines += [
        f"figures: python figs/draw_results.py {flags}",
        f"next: {command('3/9')} shows which step fails",
        f"      {command('3/6')} shows what each part is worth",
    ]
    if (common.folder / TEST_RATINGS.path).exists():
        first = schema.read(common.folder, TEST_RATINGS).iloc[0]
        python = os.environ.get("PYTHON", "python").removeprefix(f"{Path.cwd()}{os.sep}")
        # With a sign of equality, since an id may begin with a dash.
        words = ["-m", "reason4rec", "explain", *common.flags]
        words += [f"--user={first['user_id']}", f"--item={first['item_id']}"]
        lines += [f"ask:  {shlex.join([python, *words])}"]
    return "\n".join(lines)
