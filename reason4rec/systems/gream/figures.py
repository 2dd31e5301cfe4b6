"""The picture of the comparison, in the manner of `evaluation.figures`."""

from matplotlib.figure import Figure

from reason4rec.evaluation.figures import COLOURS, STYLE, WIDTH
from reason4rec.systems.gream.full_ranking import CHANCE, ITEM_KNN, POPULARITY, SASREC

DRAWN = ("Recall@10", "NDCG@10")
COLOUR_OF = {
    CHANCE: COLOURS["other"],
    POPULARITY: COLOURS["average or bias"],
    ITEM_KNN: COLOURS["trees"],
    SASREC: COLOURS["factors or networks"],
}


@STYLE
def recalls(result: dict, dataset: str) -> Figure:
    """Recall@10 and NDCG@10 of each model over the whole catalogue with their intervals, the first model on top."""
    models = list(dict.fromkeys(row["model"] for row in result["ranks"]))
    figure = Figure(figsize=(WIDTH, 1.6 + 0.4 * len(models)), layout="constrained")
    settings = result["settings"]
    title = f"{dataset}: n = {settings['cases']:,} cases, ranked among {settings['items']:,} items"
    figure.suptitle(title, x=0.012, ha="left")
    for panel, metric in zip(figure.subplots(1, len(DRAWN), sharey=True), DRAWN):
        for row in (row for row in result["ranks"] if row["metric"] == metric):
            place, colour = models.index(row["model"]), COLOUR_OF.get(row["model"], COLOURS["ours"])
            if row["low"] is not None:
                panel.hlines(place, row["low"], row["high"], color=colour, linewidth=2, alpha=0.6)
            panel.plot(row["value"], place, "o", color=colour, markersize=8)
        panel.set_title(metric, loc="left")
        panel.set_xlim(left=0)
        panel.grid(axis="y", visible=False)
    panel.set_yticks(range(len(models)), models)
    panel.invert_yaxis()
    return figure
