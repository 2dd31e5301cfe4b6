"""Draw the three experts: what each learns from, what each reads, and how reviews become a rating.

    python figs/draw_framework.py

Writes figs/framework.png
Needs requirements-dev.txt. The drawing is our own, not the paper's figure.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

# Blue, vermilion and green of Okabe and Ito, which colour-blind readers tell apart, the last two darkened for text.
BLUE, RED, GREEN, GREY = "#0072B2", "#B34700", "#00795A", "#444444"
FILLS = {BLUE: "#E3F0F8", RED: "#FCEBDD", GREEN: "#E0F3EC", GREY: "#FFFFFF"}
INK = "#222222"
WIDTH, HEIGHT, DPI = 18.0, 10.8, 100  # 1,800 x 1,080 pixels; a unit of the axes is an inch
TITLE, TEXT = 23, 19
DASHED, SOLID = (0, (3.5, 1.8)), "solid"  # training, inference

BANDS = (  # bottom, top, tint, name, top of the name
    (5.6, HEIGHT, "#F8F6F1", "Training", 10.55),
    (0.0, 5.6, "#EFF3F6", "Inference", 4.3),
)
TEACHER = "writes summaries, and reasons:\none freely, then up to ten with\nthe true rating as a hint"
FILTER = "accepts the first reason whose\nerror is less than τ above the\nerror without a reason"
REWARD = "learns to rate from real reviews,\nthen predicts the rating with\nand without a reason"
BOXES = (  # middle, width and height, colour, title, texts
    ((3.5, 8.95), (5.0, 1.9), RED, "Teacher (ChatGPT)", TEACHER),
    ((9.0, 8.95), (4.8, 1.9), GREEN, "Reward filter", FILTER),
    ((14.6, 8.95), (4.8, 1.9), GREEN, "Reward model", REWARD),
    (
        (3.5, 5.6),
        (4.3, 2.3),
        BLUE,
        "Summarizer",
        "learns from the teacher's\nsummaries",
        "reads one review, its title\nand its rating",
    ),
    (
        (9.0, 5.6),
        (4.3, 2.3),
        BLUE,
        "Reasoner",
        "learns from the teacher's\naccepted reasons",
        "reads the item's title and\nboth histories",
    ),
    (
        (14.5, 5.6),
        (4.3, 2.3),
        BLUE,
        "Predictor",
        "learns from the Reasoner's\nreasons and true ratings",
        "reads the reason, averages\nand both histories",
    ),
    ((2.3, 1.9), (4.1, 1.6), GREY, "Training reviews", "of the user and of the item,\nearlier than the target"),
    ((6.65, 1.9), (4.1, 1.6), GREY, "Histories", "summaries of the last ten\nreviews on each side"),
    ((11.35, 1.9), (4.1, 1.6), GREY, "Reason", "one paragraph: will the\nuser like the item?"),
    ((15.7, 1.9), (4.1, 1.6), GREY, "Rating", "digits 1 to 5, weighted by\ntheir probabilities"),
)
ARROWS = (  # line, colour, points
    (DASHED, RED, (3.5, 8.0), (3.5, 6.75)),
    (DASHED, RED, (6.0, 8.95), (6.6, 8.95)),
    (DASHED, GREEN, (12.2, 8.95), (11.4, 8.95)),
    (DASHED, GREEN, (9.0, 8.0), (9.0, 6.75)),
    (DASHED, BLUE, (11.15, 6.0), (12.35, 6.0)),
    (SOLID, BLUE, (2.3, 2.7), (2.3, 4.45)),
    (SOLID, BLUE, (5.15, 4.45), (5.15, 2.7)),
    (SOLID, BLUE, (7.6, 2.7), (7.6, 4.45)),
    (SOLID, BLUE, (10.4, 4.45), (10.4, 2.7)),
    (SOLID, BLUE, (12.8, 2.7), (12.8, 4.45)),
    (SOLID, BLUE, (6.65, 1.1), (6.65, 0.4), (13.53, 0.4), (13.53, 4.45)),
    (SOLID, BLUE, (15.7, 4.45), (15.7, 2.7)),
)
LABELS = (  # left end and middle, colour, text
    ((3.7, 7.38), RED, "summaries"),
    ((9.2, 7.38), GREEN, "accepted reasons"),
    ((11.24, 6.35), BLUE, "reasons"),
    ((5.35, 3.6), BLUE, "summaries"),
    ((7.8, 3.6), BLUE, "without ratings"),
    ((8.1, 0.72), BLUE, "with ratings, and both averages"),
)


def draw(axes: Axes) -> None:
    """The whole figure: training above, the experts on the border, inference for one target below."""
    for bottom, top, tint, name, y in BANDS:
        axes.fill_between((0, WIDTH), bottom, top, color=tint, linewidth=0, zorder=0)
        axes.text(0.3, y, name, fontsize=TITLE, color=GREY, va="top", style="italic")
    for (x, y), (width, height), colour, title, *texts in BOXES:
        shape = FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.15"
        )
        shape.set(facecolor=FILLS[colour], edgecolor=colour, linewidth=2.4)
        axes.add_patch(shape)
        top = y + height / 2
        axes.text(x, top - 0.17, title, fontsize=TITLE, fontweight="bold", color=colour, ha="center", va="top")
        for k, text in enumerate(texts):
            axes.text(x, top - 0.66 - 0.82 * k, text, fontsize=TEXT, color=INK, ha="center", va="top")
    for line, colour, *points in ARROWS:
        axes.plot(*zip(*points), color=colour, linewidth=2.8, linestyle=line, solid_joinstyle="miter")
        (x0, y0), (x1, y1) = points[-2:]
        just_before = (x1 - 0.02 * (x1 - x0), y1 - 0.02 * (y1 - y0))
        head = {"arrowstyle": "-|>,head_width=0.4,head_length=0.7", "mutation_scale": 20, "color": colour}
        axes.annotate("", xy=(x1, y1), xytext=just_before, arrowprops=head | {"shrinkA": 0, "shrinkB": 0})
    for (x, y), colour, text in LABELS:
        axes.text(x, y, text, fontsize=TEXT, color=colour, va="center")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("framework.png"), help="file to write")
    out = parser.parse_args().out
    figure = plt.figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    draw(axes)
    figure.savefig(out)


if __name__ == "__main__":
    main()
