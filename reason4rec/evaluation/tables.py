"""The tables of an evaluation, for a terminal and as Markdown."""

from collections.abc import Sequence

from reason4rec.run import markdown


def as_text(result: dict) -> str:
    """The table, the paired tests and the calibration for a terminal."""
    parts = [_aligned(_table_cells(result["table"]))]
    if result["paired"]:
        against = result["paired"][0]["against"]
        parts.append(
            f"MAE less that of {against} on the same rows: above 0 the model is worse than it.\n"
            "p: how often chance alone gives such a difference; corrected for the number of models (Holm).\n"
            + _aligned(_paired_cells(result["paired"]))
        )
    if result["calibration"]:
        parts.append(
            "The most probable rating: its mean probability, how often it is right, and how far the two are apart.\n"
            + _aligned(_calibration_cells(result["calibration"]))
        )
    return "\n\n".join(parts)


def as_markdown(table: Sequence[dict]) -> str:
    """Rows of the table, or of the paired tests, as Markdown."""
    header, *rows = (_paired_cells if "against" in table[0] else _table_cells)(table)
    return markdown.table(header, rows)


def _table_cells(table: Sequence[dict]) -> list[list[str]]:
    """Header and rows; columns on seeds and on unusable predictions only where there are any."""
    seeds, unusable = any(row["seeds"] > 1 for row in table), any(row["unusable"] for row in table)
    cells = [["model", "rows", "n", *(["seeds"] if seeds else []), "unusable"]]
    for name in ("MAE", "RMSE"):
        cells[0] += [name, *(["std"] if seeds else []), "95% interval", *([f"{name} usable"] if unusable else [])]
    for row in table:
        line = [row["model"], row["rows"], f"{row['n']:,}"]
        line += [str(row["seeds"])] if seeds else []
        line.append(f"{row['unusable']:,}")
        for name in ("mae", "rmse"):
            line.append(_number(row[name]))
            line += [_number(row[f"{name}_std"])] if seeds else []
            line.append(_interval(row[f"{name}_low"], row[f"{name}_high"]))
            line += [_number(row[f"{name}_usable"])] if unusable else []
        cells.append(line)
    return cells


def _paired_cells(paired: Sequence[dict]) -> list[list[str]]:
    cells = [["model", "rows", "n", "difference", "95% interval", "p", "p corrected"]]
    for row in paired:
        line = [row["model"], row["rows"], f"{row['n']:,}", f"{row['mae_difference']:+.4f}"]
        cells.append([*line, _interval(row["low"], row["high"], "+"), _number(row["p"]), _number(row["p_corrected"])])
    return cells


def _calibration_cells(rows: Sequence[dict]) -> list[list[str]]:
    cells = [["model", "rows", "n", "probability", "right", "apart (ECE)", "Brier", "log loss"]]
    for row in rows:
        means = [
            sum(b["n"] * b[name] for b in row["bins"]) / row["n"] if row["n"] else None
            for name in ("probability", "right")
        ]
        numbers = [*means, row["ece"], row["brier"], row["log_loss"]]
        cells.append([row["model"], row["rows"], f"{row['n']:,}", *map(_number, numbers)])
    return cells


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "-" if low is None else f"{low:{sign}.4f} to {high:{sign}.4f}"


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    """Names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        padded = [cell.ljust(w) if k < 2 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(padded))
    return "\n".join(lines)
