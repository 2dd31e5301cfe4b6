"""The tables of an evaluation, for a terminal and as Markdown."""

from collections.abc import Sequence

from reason4rec.run import markdown

ALL_ROWS = ", all rows"
MEDIAN = " (median)"  # after a model's name: the medians of the probabilities whose expectations are its own row
ALL_ARE_WARM = "All of these rows are warm: their user and item each have an earlier review, and at least 5 together."


def as_text(result: dict) -> str:
    """The table, the paired tests and the calibration for a terminal; once where all rows are warm."""
    once = all_are_warm(result["table"])
    table, paired, calibration = (
        [row for row in result[name] if not (once and row["rows"] == "warm")]
        for name in ("table", "paired", "calibration")
    )
    parts = [aligned(_table_cells(table))]
    if once:
        parts.append(ALL_ARE_WARM)
    if paired:
        against = paired[0]["against"]
        parts.append(
            f"MAE less that of {against} on the same rows: above 0 the model is worse than it.\n"
            "p: how often chance alone gives such a difference; corrected for the number of models (Holm).\n"
            + aligned(_paired_cells(paired))
        )
    if calibration:
        parts.append(
            "The most probable rating: its mean probability, how often it is right, and how far the two are apart.\n"
            + aligned(_calibration_cells(calibration))
        )
    return "\n\n".join(parts)


def all_are_warm(table: Sequence[dict]) -> bool:
    """Whether each model has as many warm rows as rows in all."""
    counts: dict[str, dict[str, int]] = {}
    for row in table:
        counts.setdefault(row["model"], {})[row["rows"]] = row["n"]
    return bool(counts) and all(of_model.get("warm") == of_model["all"] for of_model in counts.values())


def closing(result: dict, ours: str, others: int = 3) -> str:
    """Our rows beside those of the best others by MAE, on the warm rows, or on all where none is warm."""
    table = [row for row in result["table"] if row["n"] and not row["model"].endswith(ALL_ROWS)]
    group = "warm" if any(row["rows"] == "warm" for row in table) else "all"
    of_group = [row for row in table if row["rows"] == group]
    of_ours = [row for row in of_group if row["model"] in (ours, f"{ours}{MEDIAN}")]
    best = sorted((row for row in of_group if row not in of_ours), key=lambda row: row["mae"])[:others]
    shown = of_ours + best
    if not shown:
        return "No row was judged."
    number = f"{len(best)} others" if len(best) > 1 else "other"
    what = ["ours"] * (len(shown) > len(best)) + [f"the best {number} by MAE"] * (len(best) > 0)
    head = f"{' and '.join(what)}; lower is better:"
    return f"{head[0].upper()}{head[1:]}\n{aligned(_table_cells(shown))}"


def as_markdown(table: Sequence[dict]) -> str:
    """Rows of the table, or of the paired tests, as Markdown."""
    header, *rows = (_paired_cells if "against" in table[0] else _table_cells)(table)
    return markdown.table(header, rows)


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text in columns: the first two to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        padded = [cell.ljust(w) if k < 2 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(padded))
    return "\n".join(lines)


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
