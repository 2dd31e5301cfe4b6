"""Tables as Markdown."""

from collections.abc import Mapping, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A table of a header and rows of as many cells, each shown as `str` shows it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def interval(row: Mapping | None) -> str:
    """A row's `value` with its interval from `low` to `high`, as a cell; a dash where there is no value."""
    if row is None or row["value"] is None:
        return "-"
    return f"{row['value']:.3f}{brackets(row['low'], row['high'], '.3f')}"


def brackets(low: float | None, high: float | None, form: str) -> str:
    """An interval to stand behind its value, each end in `form`; nothing where there is none, as for a single user."""
    return "" if low is None else f" [{low:{form}}, {high:{form}}]"
