"""What a run of TWiCE-Rec prints at its end: the table, the places of results, what is next."""

from collections.abc import Callable

from reason4rec.run.options import Resolved
from reason4rec.run.step import Common
from reason4rec.systems.twice_rec import evaluation
from reason4rec.systems.twice_rec.artifacts import CASE_STUDY, METRICS, QUALITY, VALID_METRICS
from reason4rec.systems.twice_rec.options import Split


def closing(options: Resolved, command: Callable[[str], str]) -> str:
    """The lines at the end of a run; nothing where there is no evaluation. `command` gives that of a step by name."""
    common = options[Common]
    on_valid = Split in options and options[Split].split == "valid"
    metrics = common.folder / (VALID_METRICS if on_valid else METRICS).path
    if not metrics.exists():
        return ""
    places = {"table": metrics, "rationales": common.folder / QUALITY.path, "page": common.folder / CASE_STUDY.path}
    return "\n".join(
        [
            evaluation.as_text(evaluation.read(metrics)),
            "",
            *(f"{name}: {path}" for name, path in places.items() if path.exists()),
            f"next: {command('T/12')} shows what each reward teaches",
        ]
    )
