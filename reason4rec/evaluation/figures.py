"""Pictures of the result files: each function takes what a file holds and returns a matplotlib figure.

Colours are those of Okabe and Ito, which colour-blind readers tell apart, and each model has a marker of its own too.
A figure is 9 inches wide and saved at 200 dots an inch, so that its text can be read at half that size in README.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from reason4rec.evaluation.metrics import RATING_VALUES
from reason4rec.evaluation.ratings import ALL_ROWS, HISTORY
from reason4rec.evaluation.tables import MEDIAN

WIDTH, DPI = 9.0, 200
OURS, GREY, INK = "#0072B2", "#767676", "#222222"
COLOURS = (OURS, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
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
        "grid.color": "#E4E4E4",
        "legend.frameon": False,
    }
)


@STYLE
def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


@STYLE
def errors_by_model(result: dict) -> Figure:
    """MAE and its 95% interval for every model, the best on top, on all and on warm rows of `results/metrics.json`."""
    table = [row for row in result["table"] if row["n"] and not row["model"].endswith(ALL_ROWS)]
    groups = {rows: {row["model"]: row for row in table if row["rows"] == rows} for rows in ("all", "warm")}
    counts = {rows: next(iter(of_model.values()))["n"] for rows, of_model in groups.items() if of_model}
    if counts["all"] == counts.get("warm"):
        del counts["all"]
    models = sorted(groups[list(counts)[-1]], key=lambda model: groups[list(counts)[-1]][model]["mae"], reverse=True)
    figure = Figure(figsize=(WIDTH, 1.1 + 0.42 * len(models)), layout="constrained")
    panels = figure.subplots(1, len(counts), sharex=True, sharey=True, squeeze=False)[0]
    for panel, (rows, n) in zip(panels, counts.items()):
        for y, model in enumerate(models):
            row = groups[rows][model]
            colour = _colour(model, result)
            if row["mae_low"] is not None:
                panel.hlines(y, row["mae_low"], row["mae_high"], color=colour, linewidth=2.5)
            panel.plot(row["mae"], y, "o", color=colour, markersize=8)
        panel.set(title=f"{_rows(rows, counts)} (n = {n:,})", ylim=(-0.6, len(models) - 0.4))
        panel.set_xlabel("MAE and its 95% interval")
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(models)), [_wrapped(model) for model in models])
    for label, model in zip(panels[0].get_yticklabels(), models):
        label.set(color=_colour(model, result), fontweight="bold" if _is_ours(model, result) else "normal")
    for panel in panels[1:]:
        panel.tick_params(axis="y", length=0)
    return figure


@STYLE
def errors_by_history(result: dict) -> Figure:
    """MAE by the number of earlier reviews of user and item together, for our model and the six best others."""
    rows = [row for row in result["by_history"] if row["rows"] == "all"]
    lengths = [name for name in HISTORY.values() if name in {row["history"] for row in rows}]
    n = {row["history"]: row["n"] for row in rows}
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    axes = figure.subplots()
    for k, model in enumerate(_chosen(result, {row["model"] for row in rows}, "mae", len(COLOURS))):
        error = {row["history"]: row["mae"] for row in rows if row["model"] == model}
        _line(axes, k, [lengths.index(name) for name in error], list(error.values()), _wrapped(model))
    axes.set_xticks(range(len(lengths)), [f"{name}\nn = {n[name]:,}" for name in lengths])
    axes.set(xlabel="earlier reviews of user and item together", xlim=(-0.3, len(lengths) - 0.7))
    axes.set(ylabel=f"MAE ({result['settings'].get('unit', 'stars')})")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@STYLE
def calibration(result: dict) -> Figure:
    """How often the most probable rating is right against its probability, and the distributions over the ratings.

    All rows; our model and the three others with the lowest log loss.
    """
    rows = {row["model"]: row for row in result["calibration"] if row["rows"] == "all" and row["n"]}
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    models = _chosen(result, rows, "log_loss", 4)
    left.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1.2)
    true = rows[models[0]]["true"]
    right.bar(RATING_VALUES, true, color="#D9D9D9", width=0.8, label="true ratings")
    for k, model in enumerate(models):
        bins = rows[model]["bins"]
        label = _wrapped(f"{model}: ECE {rows[model]['ece']:.3f}", 40)
        _line(left, k, [b["probability"] for b in bins], [b["right"] for b in bins], label)
        beside = RATING_VALUES + 0.16 * (k - (len(models) - 1) / 2)
        right.plot(beside, rows[model]["predicted"], MARKERS[k], color=COLOURS[k], markersize=7, clip_on=False)
    for panel in (left, right):
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.xaxis.set_major_formatter(PercentFormatter(1.0))
    left.set(xlim=(0.15, 1.03), ylim=(-0.03, 1.03), xlabel="probability of the most probable rating")
    left.set_title("How often it is right", loc="left")
    right.set(xlabel="rating", xticks=RATING_VALUES)
    right.set_title("Share of each rating", loc="left")
    right.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@STYLE
def training_losses(curves: dict[str, list[dict]]) -> Figure:
    """The loss of each step of the trainings, from `loss_curve.json` by adapter; the thick line is a running mean.

    An adapter without a curve is shown as not trained.
    """
    figure = Figure(figsize=(WIDTH, 6.0), layout="constrained")
    panels = list(figure.subplots(-(-len(curves) // 2), 2).flat)
    for panel in panels[len(curves) :]:
        panel.remove()
    for panel, (adapter, curve) in zip(panels, curves.items()):
        name = adapter.replace("_", " ")
        panel.set_title(f"{name[0].upper()}{name[1:]}", loc="left")
        if not curve:
            panel.text(0.5, 0.5, "not trained", ha="center", va="center", color=GREY, transform=panel.transAxes)
            panel.set(xticks=(), yticks=())
            continue
        steps, losses = np.array([[entry["step"], entry["loss"]] for entry in curve]).T
        panel.plot(steps, losses, color="#9CC9E3", linewidth=1.0)
        window = max(1, len(losses) // 20)
        mean = np.convolve(losses, np.ones(window) / window, mode="valid")
        middle = window // 2
        panel.plot(steps[middle : middle + len(mean)], mean, color=OURS, linewidth=2.2)
        panel.set(xlabel="step", ylabel="loss", ylim=(0, None))
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure


def _is_ours(model: str, result: dict) -> bool:
    return model.removesuffix(MEDIAN) == result["settings"]["model"]


def _colour(model: str, result: dict) -> str:
    return OURS if _is_ours(model, result) else INK


def _rows(rows: str, counts: dict[str, int]) -> str:
    if len(counts) == 1 and rows == "warm":
        return "All rows, all of them warm"
    return f"{rows.capitalize()} rows"


def _chosen(result: dict, models: Sequence[str], by: str, most: int) -> list[str]:
    """Our model first if it is among the models, then the others with the lowest number, at most so many in all."""
    numbers = result["calibration"] if by == "log_loss" else result["table"]
    value = {row["model"]: row[by] for row in numbers if row["rows"] == "all" and row["model"] in models}
    ours = result["settings"]["model"]
    return sorted(value, key=lambda model: (not _is_ours(model, result), model != ours, value[model]))[:most]


def _wrapped(name: str, width: int = 26) -> str:
    return textwrap.fill(name, width)


def _line(axes: Axes, k: int, x: Sequence[float], y: Sequence[float], label: str) -> None:
    width = 2.6 if k == 0 else 1.6
    axes.plot(x, y, marker=MARKERS[k], color=COLOURS[k], linewidth=width, markersize=7, label=label)
