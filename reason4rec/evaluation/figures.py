"""Pictures of the result files: each function takes what a file holds and returns a matplotlib figure.

A colour means one kind of model in every figure, a marker one model of that kind; a hollow marker and a dashed line
are the medians of a model's probabilities. The colours are close to those of Okabe and Ito, which colour-blind readers
tell apart, and dark enough for text. A figure is 9 inches wide and saved at 200 dots an inch, so that its text can be
read at half that size in README. A number over fewer than `FEWEST` rows is not drawn: with two rows it is as likely to
be 0 as 1. Our decision.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from reason4rec.evaluation.metrics import RATING_VALUES
from reason4rec.evaluation.ratings import ALL_ROWS, HISTORY
from reason4rec.evaluation.tables import MEDIAN

WIDTH, DPI = 9.0, 200
FEWEST = 30  # rows behind a number that is drawn
ROOM = 0.11  # of probability, between two counts that stand beside one another
OURS, GREY = "#0072B2", "#767676"
# By the kind of a model; a kind that is not here has the colour of "other".
COLOURS = {
    "ours": OURS,
    "variant of ours": "#C04F00",
    "untrained language model": "#222222",
    "trees": "#008060",
    "factors or networks": "#B0578D",
    "average or bias": "#6B6B6B",
    "other": "#8A6A00",
}
MARKERS = "osD^vPX"
DASHES = ("-", (0, (6, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (1, 1.2)))
STYLE = matplotlib.rc_context(
    {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
        "font.size": 12,
        "axes.titlesize": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.grid": True,
        "axes.axisbelow": True,
        "figure.titlesize": 13.5,
        "figure.titleweight": "bold",
        "grid.color": "#E4E4E4",
        "legend.frameon": False,
    }
)

KindOf = Callable[[str], str]
"""The kind of a model that is not ours, one of `COLOURS`, from its name as a table shows it, without `MEDIAN`."""


@dataclass(frozen=True)
class Look:
    """How a model is drawn in every figure of one result file."""

    kind: str
    marker: str
    line: str | tuple
    median: bool

    @property
    def colour(self) -> str:
        """The colour of its kind."""
        return COLOURS[self.kind]

    @property
    def of_marker(self) -> dict[str, object]:
        """What matplotlib has to know to draw its marker."""
        fill = "white" if self.median else self.colour
        return {"marker": self.marker, "color": self.colour, "markerfacecolor": fill, "markeredgewidth": 1.8}


def looks(result: dict, kind_of: KindOf) -> dict[str, Look]:
    """How each model of the result's table is drawn: the markers of a kind in the order of the table."""
    found: dict[str, Look] = {}
    of_kind: dict[str, list[str]] = {}
    for row in result["table"]:
        model = row["model"].removesuffix(ALL_ROWS)
        base = model.removesuffix(MEDIAN)
        kind = "ours" if base == result["settings"]["model"] else kind_of(base)
        kind = kind if kind in COLOURS else "other"
        models = of_kind.setdefault(kind, [])
        if base not in models:
            models.append(base)
        place, median = models.index(base), model != base
        line = (0, (2.5, 1.5)) if median else DASHES[place % len(DASHES)]
        found[model] = Look(kind, MARKERS[place % len(MARKERS)], line, median)
    return found


@STYLE
def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


@STYLE
def errors_by_model(result: dict, dataset: str, kind_of: KindOf) -> Figure:
    """MAE and its 95% interval for every model, the best on top, on all and on warm rows of `results/metrics.json`.

    A group of fewer than `FEWEST` rows is left out, unless there is no other.
    """
    table = [row for row in result["table"] if row["n"] and not row["model"].endswith(ALL_ROWS)]
    groups = {rows: {row["model"]: row for row in table if row["rows"] == rows} for rows in ("all", "warm")}
    counts = {rows: next(iter(of_model.values()))["n"] for rows, of_model in groups.items() if of_model}
    if counts["all"] == counts.get("warm"):
        del counts["all"]
    if counts.get("warm", FEWEST) < FEWEST and len(counts) > 1:
        del counts["warm"]
    by_error = groups[list(counts)[-1]]
    models, look = sorted(by_error, key=lambda model: by_error[model]["mae"], reverse=True), looks(result, kind_of)
    figure = _figure(1.9 + 0.36 * len(models), f"{dataset}: error of every model")
    panels = figure.subplots(1, len(counts), sharex=True, sharey=True, squeeze=False)[0]
    for panel, (rows, n) in zip(panels, counts.items()):
        for y, model in enumerate(models):
            row = groups[rows][model]
            if row["mae_low"] is not None:
                panel.hlines(y, row["mae_low"], row["mae_high"], color=look[model].colour, linewidth=2.5)
            panel.plot(row["mae"], y, markersize=8, **look[model].of_marker | {"marker": "o"})
        panel.set_title(f"{_rows(rows, counts)} (n = {n:,})", loc="left")
        panel.set(ylim=(-0.6, len(models) - 0.4), xlabel=f"MAE ({_unit(result)}), 95% interval")
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(models)), [_wrapped(model, 34) for model in models])
    for label, model in zip(panels[0].get_yticklabels(), models):
        label.set(color=look[model].colour, fontweight="bold" if look[model].kind == "ours" else "normal")
    for panel in panels[1:]:
        panel.tick_params(axis="y", length=0)
    kinds = {look[model].kind for model in models}
    of_kinds = [Line2D([], [], color=COLOURS[kind], marker="o", linewidth=2.5, label=kind) for kind in COLOURS]
    handles = [handle for handle in of_kinds if handle.get_label() in kinds]
    if any(look[model].median for model in models):
        hollow = {"markerfacecolor": "white", "markeredgewidth": 1.8, "linewidth": 0, "label": "median of its p1 to p5"}
        handles.append(Line2D([], [], color=GREY, marker="o", **hollow))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def history_groups(result: dict) -> dict[str, int]:
    """The groups of test rows by length of history that are large enough to draw, in order, each with its n."""
    n = {row["history"]: row["n"] for row in result["by_history"] if row["rows"] == "all"}
    return {name: n[name] for name in HISTORY.values() if n.get(name, 0) >= FEWEST}


@STYLE
def errors_by_history(result: dict, dataset: str, kind_of: KindOf) -> Figure:
    """MAE by the number of earlier reviews of user and item together, for our model and the five best others.

    The models stand beside one another in a group, so that none hides another. A file from before by_history had
    intervals is drawn without them, and the figure says so.
    """
    rows, n = [row for row in result["by_history"] if row["rows"] == "all"], history_groups(result)
    groups, look = list(n), looks(result, kind_of)
    figure = _figure(6.0, f"{dataset}: error by length of history")
    axes = figure.subplots()
    models = _chosen(result, {row["model"] for row in rows}, "mae", 6)
    intervals = any(row.get("mae_low") is not None for row in rows)
    for k, model in enumerate(models):
        of_model = [row for row in rows if row["model"] == model and row["history"] in n]
        beside = 0.11 * (k - (len(models) - 1) / 2)
        x = [groups.index(row["history"]) + beside for row in of_model]
        ends = [(place, row) for place, row in zip(x, of_model) if row.get("mae_low") is not None]
        for place, row in ends:
            axes.vlines(place, row["mae_low"], row["mae_high"], color=look[model].colour, linewidth=1.6)
        _line(axes, look[model], x, [row["mae"] for row in of_model], _wrapped(model))
    few = {row["history"]: row["n"] for row in rows if row["history"] not in n}
    left_out = ", ".join(f"{name} (n = {few[name]})" for name in HISTORY.values() if name in few)
    note = f"\nnot drawn, fewer than {FEWEST} test rows: {left_out}" if few else ""
    axes.set_xticks(range(len(groups)), [f"{name}\nn = {count:,}" for name, count in n.items()])
    axes.set(xlabel=f"earlier reviews of user and item together{note}", xlim=(-0.5, len(groups) - 0.5))
    axes.set(ylabel=f"MAE ({_unit(result)})")
    title = "with 95% intervals" if intervals else "without intervals: the result file holds none by history"
    axes.set_title(f"All rows, {title}", loc="left")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@STYLE
def calibration(result: dict, dataset: str, kind_of: KindOf) -> Figure:
    """How often the most probable rating is right against its probability, and the distributions over the ratings.

    All rows; our model and the three others with the lowest log loss, a panel each, with Wilson's 95% intervals and
    the n of each point. Of several seeds a row counts once: n is over the number of seeds. The last panel has the log
    loss of always saying the shares of the true ratings, which knows no row from another and has no ECE.
    """
    rows = {row["model"]: row for row in result["calibration"] if row["rows"] == "all" and row["n"]}
    models, look = _chosen(result, rows, "log_loss", 4), looks(result, kind_of)
    seeds = {row["model"]: row["seeds"] for row in result["table"] if row["rows"] == "all"}
    of_models = ceil(len(models) / 2)
    high = of_models + (len(models) % 2 == 0)
    figure = _figure(1.2 + 2.55 * high, f"{dataset}: calibration, all rows")
    grid = figure.add_gridspec(high, 2)
    for k, model in enumerate(models):
        panel = figure.add_subplot(grid[k // 2, k % 2])
        _reliability(panel, look[model], rows[model]["bins"], seeds.get(model, 1))
        name = _wrapped(model, 42)
        panel.set_title(f"{name}\nECE {rows[model]['ece']:.3f}, log loss {rows[model]['log_loss']:.2f}", loc="left")
        if k >= len(models) - 2:
            panel.set_xlabel("probability of the most probable rating")
        if k % 2 == 0:
            panel.set_ylabel("how often it is right")
    right = figure.add_subplot(grid[of_models, :] if len(models) % 2 == 0 else grid[of_models - 1, 1])
    true = np.array(rows[models[0]]["true"])
    right.bar(RATING_VALUES, true, color="#D9D9D9", width=0.8, label="true ratings")
    for k, model in enumerate(models):
        beside = RATING_VALUES + 0.16 * (k - (len(models) - 1) / 2)
        style = look[model].of_marker | {"linewidth": 0, "markersize": 7, "clip_on": False}
        right.plot(beside, rows[model]["predicted"], label=_wrapped(model, 40), **style)
    right.yaxis.set_major_locator(MaxNLocator(4))
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set(xlabel="rating (stars)", xticks=RATING_VALUES, ylabel="share of rows")
    entropy = -float(true[true > 0] @ np.log(true[true > 0]))
    right.set_title(f"Share of each rating. Always saying\nthe true shares: log loss {entropy:.2f}", loc="left")
    right.grid(axis="x", visible=False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@STYLE
def training_losses(curves: dict[str, list[dict]], dataset: str) -> Figure:
    """The loss of each step of the trainings, from `loss_curve.json` by adapter; the thick line is a running mean.

    A title has the first loss and the last mean: a training that starts near 0 has little to learn. An adapter
    without a curve is shown as not trained.
    """
    figure = _figure(6.4, f"{dataset}: loss of each training")
    panels = list(figure.subplots(-(-len(curves) // 2), 2).flat)
    for panel in panels[len(curves) :]:
        panel.remove()
    for panel, (adapter, curve) in zip(panels, curves.items()):
        name = adapter.replace("_", " ")
        name = f"{name[0].upper()}{name[1:]}"
        if not curve:
            panel.set_title(name, loc="left")
            panel.text(0.5, 0.5, "not trained", ha="center", va="center", color=GREY, transform=panel.transAxes)
            panel.set(xticks=(), yticks=())
            continue
        steps, losses = np.array([[entry["step"], entry["loss"]] for entry in curve]).T
        single = {"marker": "o"} if len(steps) == 1 else {}
        panel.plot(steps, losses, color="#9CC9E3", linewidth=1.0, **single)
        window = max(1, len(losses) // 20)
        mean = np.convolve(losses, np.ones(window) / window, mode="valid")
        middle = window // 2
        panel.plot(steps[middle : middle + len(mean)], mean, color=OURS, linewidth=2.2)
        panel.set_title(f"{name}: {_short(losses[0])} to {_short(mean[-1])}", loc="left")
        panel.set(xlabel="optimizer step", ylabel="loss (nats a token)", xlim=(0, 1.05 * steps[-1]), ylim=(0, None))
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure


def wilson(share: float, n: float) -> tuple[float, float]:
    """The ends of Wilson's 95% interval of a share of n rows, 0 to 1."""
    z = 1.959964
    middle, half = share + z**2 / (2 * n), z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def _figure(height: float, title: str) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=0.012, ha="left")
    return figure


def _reliability(panel: Axes, look: Look, bins: Sequence[dict], seeds: int) -> None:
    """The points of one model with intervals, and below them how many rows each stands for."""
    panel.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1.2)
    panel.axhline(0, color=GREY, linewidth=0.8)
    enough = [(one["probability"], one["right"], one["n"] / seeds) for one in bins if one["n"] / seeds >= FEWEST]
    last, raised = -1.0, True
    for x, share, n in enough:
        panel.vlines(x, *wilson(share, n), color=look.colour, linewidth=1.8)
        raised = not raised if x - last < ROOM else True
        last = x
        count = f"{n:,.0f}" if n < 9_999.5 else f"{n / 1_000:,.0f}k"
        panel.text(x, -0.14 if raised else -0.34, count, ha="center", va="center", fontsize=10.5)
    if enough:
        _line(panel, look, *zip(*[(x, share) for x, share, _ in enough]))
        panel.text(0.155, -0.14, "n", va="center", fontsize=10.5)
    few = sum(one["n"] / seeds for one in bins) - sum(n for *_, n in enough)
    if few >= 0.5:
        where = {"ha": "left", "va": "top", "transform": panel.transAxes, "fontsize": 10.5, "color": GREY}
        rows = "row" if round(few) == 1 else "rows"
        panel.text(0.02, 0.99, f"{few:,.0f} {rows} in small bins not drawn", **where)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    panel.set(xlim=(0.15, 1.05), ylim=(-0.47, 1.25), yticks=(0, 0.25, 0.5, 0.75, 1.0))


def _rows(rows: str, counts: dict[str, int]) -> str:
    if len(counts) == 1 and rows == "warm":
        return "All rows, all of them warm"
    return f"{rows.capitalize()} rows"


def _unit(result: dict) -> str:
    return result["settings"].get("unit", "stars")


def _chosen(result: dict, models: Sequence[str], by: str, most: int) -> list[str]:
    """Our model first if it is among the models, then the others with the lowest number, at most so many in all."""
    numbers = result["calibration"] if by == "log_loss" else result["table"]
    value = {row["model"]: row[by] for row in numbers if row["rows"] == "all" and row["model"] in models}
    ours = result["settings"]["model"]
    return sorted(value, key=lambda model: (model.removesuffix(MEDIAN) != ours, model != ours, value[model]))[:most]


def _short(loss: float) -> str:
    """A loss with two digits that count, never as a power of ten."""
    return "0" if loss <= 0 else np.format_float_positional(loss, precision=2, fractional=False, trim="-")


def _wrapped(name: str, width: int = 26) -> str:
    return textwrap.fill(name, width)


def _line(axes: Axes, look: Look, x: Sequence[float], y: Sequence[float], label: str | None = None) -> None:
    width = 2.4 if look.kind == "ours" else 1.4
    axes.plot(x, y, linestyle=look.line, linewidth=width, markersize=7, label=label, **look.of_marker)
