"""The picture of what each reward teaches, in the manner of `evaluation.figures`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reason4rec.evaluation.figures import COLOURS, GREY, STYLE, WIDTH
from reason4rec.systems.twice_rec.rewards import NAMES_TARGET

SMOOTHED = 5  # steps of a mean, since each step has other prompts
COLOUR_OF = {"mended": COLOURS["ours"], "faithful": COLOURS["variant of ours"], "match": COLOURS["trees"]}
MARKER_OF = {"mended": "o", "faithful": "s", "match": "D"}


@STYLE
def hits_and_popularity(result: dict, dataset: str) -> Figure:
    """Hits against popularity: of the draws by step on the left, of the ranks of the test in the end on the right."""
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    settings = result["settings"]
    figure.suptitle(f"{dataset}: what each reward teaches, {len(settings['seeds'])} seeds", x=0.012, ha="left")
    left, right = figure.subplots(1, 2)
    for reward in settings["rewards"]:
        runs = [one for one in result["by_step"] if one["reward"] == reward]
        _path(left, reward, *(_mean_of(runs, name) for name in ("popularity", NAMES_TARGET)))
    left.set_title("Draws on training cases, first (hollow) to last step", loc="left")
    left.set(xlabel="popularity of the named item (0.5: chance)", ylabel="share of draws that name the target")
    _ends(right, result)
    right.set_title(f"Ranks of n = {settings['cases']:,} test cases, in the end", loc="left")
    right.set(xlabel="popularity of the item ranked first", ylabel="HR@1")
    left.legend(loc="best")
    return figure


def _mean_of(runs: Sequence[dict], name: str) -> np.ndarray:
    """(steps,) the mean over runs of what was logged at each step, smoothed."""
    values = np.mean([one[name] for one in runs], axis=0)
    width = min(SMOOTHED, len(values))
    return np.convolve(values, np.ones(width) / width, mode="valid")


def _path(panel: Axes, reward: str, x: np.ndarray, y: np.ndarray) -> None:
    colour, marker = COLOUR_OF[reward], MARKER_OF[reward]
    panel.plot(x, y, color=colour, linewidth=1.4, alpha=0.7)
    panel.plot(x[:1], y[:1], marker, color=colour, markerfacecolor="white", markersize=8)
    panel.plot(x[-1:], y[-1:], marker, color=colour, markersize=8, label=reward)


def _ends(panel: Axes, result: dict) -> None:
    hits = {row["model"]: row for row in result["ranks"] if row["metric"] == "HR@1"}
    for top in result["top"]:
        row, name = hits[top["model"]], top["model"]
        colour, marker = COLOUR_OF.get(name, GREY), MARKER_OF.get(name, "^" if name == "SASRec" else "v")
        panel.vlines(top["value"], row["low"], row["high"], color=colour, linewidth=1.5, alpha=0.6)
        panel.hlines(row["value"], top["low"], top["high"], color=colour, linewidth=1.5, alpha=0.6)
        panel.plot(top["value"], row["value"], marker, color=colour, markersize=8)
        panel.annotate(name, (top["value"], row["value"]), xytext=(7, 6), textcoords="offset points", color=colour)
