"""Pictures of Reason4Rec alone, in the manner of `evaluation.figures`."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reason4rec.evaluation.figures import OURS, STYLE, WIDTH


@STYLE
def tau_curve(rows: Sequence[dict]) -> Figure:
    """MAE, and the share of targets with an accepted reason: those rows of `results/ablations.json` that have both."""
    rows = sorted(rows, key=lambda row: row["tau"])
    places = range(len(rows))
    figure = Figure(figsize=(WIDTH, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    for x, row in zip(places, rows):
        if row.get("mae_low") is not None:
            top.vlines(x, row["mae_low"], row["mae_high"], color=OURS, linewidth=2.5)
    top.plot(places, [row["mae"] for row in rows], "o-", color=OURS, linewidth=1.5, markersize=8)
    top.set(ylabel=f"MAE ({rows[0].get('unit', 'stars')})")
    top.set_title("Error with its 95% interval", loc="left")
    bottom.bar(places, [row["accepted"] / row["targets"] for row in rows], color="#7FB8D8", width=0.6)
    for x, row in zip(places, rows):
        bottom.text(x, row["accepted"] / row["targets"], f"{row['accepted']:,}", ha="center", va="bottom")
    bottom.yaxis.set_major_formatter(PercentFormatter(1.0))
    bottom.set(ylim=(0, 1.12), yticks=(0, 0.25, 0.5, 0.75, 1.0))
    bottom.set_title(f"Accepted reasons, of {max(row['targets'] for row in rows):,} targets", loc="left")
    bottom.set_xticks(places, [f"{row['tau']:g}" for row in rows])
    bottom.set(xlabel="tau (higher accepts more)", xlim=(-0.6, max(len(rows), 3) - 0.4))
    for panel in (top, bottom):
        panel.grid(axis="x", visible=False)
    return figure
