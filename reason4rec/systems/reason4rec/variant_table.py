"""The variants of a run beside it: a row for each, with its errors and its tests against the full run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reason4rec.data import schema
from reason4rec.data.catalog import STARS
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import TRAIN
from reason4rec.evaluation import ratings
from reason4rec.evaluation.tables import MEDIAN
from reason4rec.run import records
from reason4rec.run.files import Artifact
from reason4rec.systems.reason4rec.ablations import FULL, Variant, folder_of
from reason4rec.systems.reason4rec.artifacts import TEACHER_REASONS, TEST_RATINGS
from reason4rec.systems.reason4rec.distillation import counts_of


def compared(
    folder: Path,
    chosen: Sequence[Variant],
    seed: int,
    scale: tuple[float, float] = STARS,
    predicted: Artifact = TEST_RATINGS,
) -> list[dict]:
    """A row for the full run and each variant: what it changes, the reasons that it accepted, its errors.

    `all` and `warm` are rows of the evaluation's table; `paired` its tests against the full run on all rows; `median`
    has the same three for the medians of the probabilities, against those of the full run. Rows of the tau sweep have a
    `tau` and the errors on all rows beside it. Errors are in the unit of the raw reviews' `scale`, which is named where
    it is not stars.
    """
    full = Variant(FULL, "the finished run")
    folders = {full.name: folder} | {one.name: folder_of(folder, one) for one in chosen}
    frames = {name: schema.read(own, predicted) for name, own in folders.items()}
    targets = frames[full.name]
    frames = {
        name: ratings.aligned(frame, targets, str(folders[name] / predicted.path)) for name, frame in frames.items()
    }
    groups = ratings.groups_of(HistoryIndex(schema.read(folder, TRAIN), None).of_rows(targets))
    runs = {name: [frame] for name, frame in frames.items()}
    found = []
    for of_rule, against in ((runs, FULL), (ratings.medians(runs), f"{FULL}{MEDIAN}")):
        reference = against if against in of_rule else None
        table, paired = ratings.compare(of_rule, targets, groups, seed, reference) if of_rule else ([], [])
        found.append(ratings.in_unit({"table": table, "paired": paired}, scale))
    return [_row(one, folders[one.name], *found, folder) | ratings.unit_of(scale) for one in (full, *chosen)]


def _row(one: Variant, own: Path, result: Mapping, of_medians: Mapping, folder: Path) -> dict:
    row = {"variant": one.name, "changes": one.changes} | counts_of(own)
    errors = _errors(one.name, result)
    if one.name == FULL or one.name.startswith("tau_"):
        row |= {"tau": one.options.get("tau", _tau(folder))} | errors["all"]
    medians = _errors(f"{one.name}{MEDIAN}", of_medians)
    return row | errors | ({"median": medians} if "all" in medians else {})


def _errors(name: str, result: Mapping[str, Iterable[dict]]) -> dict:
    errors = {row["rows"]: row for row in result["table"] if row["model"] == name}
    paired = [row for row in result["paired"] if row["model"] == name and row["rows"] == "all"]
    return errors | {"paired": paired[0] if paired else None}


def as_text(rows: Sequence[dict]) -> str:
    """The comparison for a terminal: errors on all and on warm rows, and the difference to the full run with its p."""
    shown = by_rule(rows)
    width = max(len(row["variant"]) for row in shown)
    lines = [f"{'variant':<{width}}  accepted  MAE all  RMSE all  MAE warm  less full  p (Holm)  changes"]
    for row in shown:
        accepted = f"{row['accepted']:,}" if "accepted" in row else "-"
        errors = [row[rows][name] if row.get(rows) else None for rows, name in _SHOWN]
        all_mae, all_rmse, warm_mae = ["-" if error is None else f"{error:.4f}" for error in errors]
        paired = row["paired"]
        difference = f"{paired['mae_difference']:+.4f}" if paired else "-"
        p = f"{paired['p_corrected']:.4f}" if paired else "-"
        lines.append(
            f"{row['variant']:<{width}}  {accepted:>8}  {all_mae:>7}  {all_rmse:>8}  {warm_mae:>8}  {difference:>9}  "
            f"{p:>8}  {row['changes']}"
        )
    return "\n".join(lines)


_SHOWN = (("all", "mae"), ("all", "rmse"), ("warm", "mae"))


def by_rule(rows: Sequence[dict]) -> list[dict]:
    """The rows of a comparison, each followed by that of its medians where it has them."""
    found = []
    for row in rows:
        found.append(row)
        if "median" in row:
            found.append(row | {"variant": f"{row['variant']}{MEDIAN}"} | row["median"])
    return found


def _tau(folder: Path) -> float | None:
    return records.settings_of(folder / TEACHER_REASONS.path).get("tau")
