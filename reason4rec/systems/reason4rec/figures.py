"""Pictures of Reason4Rec alone, in the manner of `evaluation.figures`, and the kinds of the models beside it."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reason4rec.evaluation.figures import COLOURS, GREY, STYLE, WIDTH
from reason4rec.evaluation.metrics import DAMPED_BIAS
from reason4rec.evaluation.ratings import SIMPLE
from reason4rec.systems.reason4rec.ablations import FULL, is_variant

KINDS = dict.fromkeys((*SIMPLE.values(), DAMPED_BIAS, "prompt averages"), "average or bias")
KINDS |= dict.fromkeys(("zero shot", "zero shot reasoned", "zero shot teacher"), "untrained language model")
KINDS |= dict.fromkeys(("matrix factorization", "narre"), "factors or networks")


def kind_of(model: str) -> str:
    """The kind of a model beside ours, from its name as a table shows it; "other" for one that is not of 3/5 or 3/6."""
    if is_variant(model):
        return "variant of ours"
    return "trees" if model.startswith("gradient boosting") else KINDS.get(model, "other")


@STYLE
def tau_curve(rows: Sequence[dict], dataset: str) -> Figure:
    """MAE, and the share of targets with an accepted reason: those rows of `results/ablations.json` that have both."""
    rows = sorted(rows, key=lambda row: row["tau"])
    places = range(len(rows))
    colours = [COLOURS["ours" if row.get("variant") == FULL else "variant of ours"] for row in rows]
    figure = Figure(figsize=(WIDTH, 5.8), layout="constrained")
    figure.suptitle(f"{dataset}: how strict the reward filter is", x=0.012, ha="left")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(places, [row["mae"] for row in rows], color=GREY, linewidth=1.2)
    for x, row, colour in zip(places, rows, colours):
        if row.get("mae_low") is not None:
            top.vlines(x, row["mae_low"], row["mae_high"], color=colour, linewidth=2.5)
        top.plot(x, row["mae"], "o", color=colour, markersize=8)
    top.set(ylabel=f"MAE ({rows[0].get('unit', 'stars')})")
    judged = f"on n = {rows[0]['n']:,} test rows, " if "n" in rows[0] else ""
    top.set_title(f"Error {judged}with its 95% interval", loc="left")
    for x, row, colour in zip(places, rows, colours):
        share = row["accepted"] / row["targets"]
        bottom.bar(x, share, color=colour, alpha=0.55, width=0.6)
        bottom.text(x, share, f"{row['accepted']:,}", ha="center", va="bottom")
    bottom.yaxis.set_major_formatter(PercentFormatter(1.0))
    bottom.set(ylim=(0, 1.15), yticks=(0, 0.25, 0.5, 0.75, 1.0), ylabel="share of targets")
    bottom.set_title(f"Accepted reasons, of {max(row['targets'] for row in rows):,} targets", loc="left")
    names = [f"{row['tau']:g}{' (the run)' if row.get('variant') == FULL else ''}" for row in rows]
    bottom.set_xticks(places, names)
    bottom.set(xlabel="tau (stars; a higher one accepts more)", xlim=(-0.6, max(len(rows), 3) - 0.4))
    for panel in (top, bottom):
        panel.grid(axis="x", visible=False)
    return figure
