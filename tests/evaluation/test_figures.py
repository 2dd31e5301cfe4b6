"""Figures of result files: they hold the numbers, can be read at README's width, and are the same every time."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import complaint, run_script
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from matplotlib.text import Text

from reason4rec.data.history import History
from reason4rec.data.schema import PREDICTION, PROBABILITIES
from reason4rec.evaluation import figures
from reason4rec.evaluation import ratings as ratings_module
from reason4rec.systems.reason4rec.artifacts import ABLATIONS, METRICS
from reason4rec.systems.reason4rec.experts import EXPERTS
from reason4rec.systems.reason4rec.figures import tau_curve

SCRIPT = "figs/draw_results.py"
OURS = "Reason4Rec (demo model: not meaningful)"
MODELS = [OURS, "global mean", "user mean", "item mean", "user + item bias", "matrix factorization"]
MODELS += ["deepconn", "narre", "gradient boosting", "zero shot", "direct", "without the item's history and averages"]
TAUS = [{"variant": "no reason", "mae": 0.7}, {"variant": "full", "tau": 0.1, "mae": 0.7}] + [
    {"variant": f"tau {tau}", "tau": tau, "accepted": k, "targets": 12_000, "mae": 0.6, "mae_low": 0.5, "mae_high": 0.7}
    for k, tau in zip((9_999, 11_000, 12_000, 4_000, 7_500), (0.1, 0.2, 0.5, 0.0, 0.05))
]


def result_of(models, n=120, warm=60):
    """Results of made-up models, the first a little better than the next; all but the last with probabilities."""
    rng = np.random.default_rng(1)
    ratings = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], n, p=[0.05, 0.05, 0.1, 0.3, 0.5])
    targets = pd.DataFrame({"user_id": rng.integers(0, 40, n), "ratings": ratings})
    counts = [(rng.integers(5, 90), 5) if k < warm else (0, rng.integers(0, 9)) for k in range(n)]
    runs = {}
    for k, model in enumerate(models):
        frame = pd.DataFrame({PREDICTION: ratings + rng.normal(0, 0.4 + 0.1 * k, n)})
        if k < len(models) - 1:
            frame[list(PROBABILITIES)] = rng.dirichlet([0.5, 0.5, 1, 2, 3], n)
        runs[model] = [frame]
    result = ratings_module.evaluate(
        runs, targets, [History((), (), None, None, *pair) for pair in counts], models[0], 1
    )
    return result | {"settings": {"model": models[0]}}


def curve(steps):
    return [{"step": k + 1, "epoch": 0.1 * k, "loss": 2.0 / (k + 1)} for k in range(steps)]


def drawn():
    """Every figure, with long names and many models, and with as little as there can be."""
    many, one = result_of(MODELS), result_of(["Reason4Rec", "global mean"], n=12, warm=12)
    return {
        "models": figures.errors_by_model(many),
        "models_all_warm": figures.errors_by_model(one),
        "history": figures.errors_by_history(many),
        "history_one": figures.errors_by_history(one),
        "calibration": figures.calibration(many),
        "calibration_one": figures.calibration(one),
        "tau": tau_curve(TAUS[2:]),
        "tau_one": tau_curve([TAUS[2] | {"mae_low": None, "mae_high": None}]),
        "training": figures.training_losses({name: curve(3_000) for name in EXPERTS}),
        "training_one": figures.training_losses({"Reasoner": curve(1)}),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    found = drawn()
    for name, figure in found.items():
        figure.dpi = figures.DPI
        FigureCanvasAgg(figure)
        figures.save(figure, folder / f"{name}.png")
    return folder, found


def texts_of(figure):
    """The texts that are to be seen, and the pixels from left to right and from bottom to top of each."""
    renderer = figure.canvas.get_renderer()
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = {text: text.get_window_extent(renderer) for text in texts}
    # Labels of ticks outside the axes are never drawn.
    canvas = figure.bbox
    ticks = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not (axis.get_view_interval()[0] <= tick.get_loc() <= axis.get_view_interval()[1])
    }
    return canvas, {text: box for text, box in boxes.items() if text not in ticks and box.width > 0}


KINDS = ("models", "history", "calibration", "tau", "training")


@pytest.mark.parametrize("name", [*KINDS, "models_all_warm", *(f"{kind}_one" for kind in KINDS[1:])])
def test_no_text_is_cut_small_or_over_another(saved, name):
    canvas, boxes = texts_of(saved[1][name])
    assert len(boxes) >= 5
    for text, box in boxes.items():
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= canvas.x1 and box.y1 <= canvas.y1, text
        assert text.get_fontsize() / 72 * 900 / figures.WIDTH >= 14, text
    placed = list(boxes.items())
    for k, (text, box) in enumerate(placed):
        for other, of_other in placed[k + 1 :]:
            wide = min(box.x1, of_other.x1) - max(box.x0, of_other.x0)
            high = min(box.y1, of_other.y1) - max(box.y0, of_other.y0)
            assert wide <= 0 or high <= 0, f"{text} lies over {other}"


def test_a_figure_is_twice_as_wide_as_readme_and_the_same_every_time(saved, tmp_path):
    folder, _ = saved
    for name, figure in drawn().items():
        figures.save(figure, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes() == (folder / f"{name}.png").read_bytes(), name
        height, width, _ = imread(folder / f"{name}.png").shape
        assert width == 1_800 and 300 <= height <= 1_800


def test_the_best_model_is_on_top_and_every_interval_is_drawn(saved):
    result, figure = result_of(MODELS), saved[1]["models"]
    mae = {row["model"]: row["mae"] for row in result["table"] if row["rows"] == "warm"}
    names = [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()]
    assert names == sorted(mae, key=mae.get, reverse=True)
    for axes, rows in zip(figure.axes, ("all", "warm")):
        of_rows = {row["model"]: row for row in result["table"] if row["rows"] == rows}
        points = [line.get_xdata()[0] for line in axes.lines]
        ends = [line.get_segments()[0][:, 0].tolist() for line in axes.collections]
        assert points == [of_rows[name]["mae"] for name in names]
        assert ends == [[of_rows[name]["mae_low"], of_rows[name]["mae_high"]] for name in names]


def test_rows_that_are_all_warm_are_drawn_once(saved):
    figure = saved[1]["models_all_warm"]
    assert [axes.get_title() for axes in figure.axes] == ["All rows, all of them warm (n = 12)"]


def test_the_history_figure_shows_our_model_and_the_six_best_others(saved):
    result, figure = result_of(MODELS), saved[1]["history"]
    mae = {row["model"]: row["mae"] for row in result["table"] if row["rows"] == "all"}
    best = [OURS, *sorted(set(mae) - {OURS}, key=mae.get)[:6]]
    lines = {line.get_label().replace("\n", " "): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert list(lines) == best
    for model, values in lines.items():
        rows = [row for row in result["by_history"] if (row["model"], row["rows"]) == (model, "all")]
        assert values == [row["mae"] for row in rows]


def test_tau_is_drawn_in_its_order_with_the_share_of_accepted_reasons(saved):
    top, bottom = saved[1]["tau"].axes
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["0", "0.05", "0.1", "0.2", "0.5"]
    assert [bar.get_height() for bar in bottom.patches] == [k / 12_000 for k in (4_000, 7_500, 9_999, 11_000, 12_000)]
    assert len(top.collections) == 5


def test_tau_was_drawn_in_stars_although_the_ratings_are_on_another_scale():
    in_stars, in_points = (tau_curve([TAUS[2] | unit]) for unit in ({}, ratings_module.unit_of((0.0, 10.0))))
    assert in_stars.axes[0].get_ylabel() == "MAE (stars)"
    assert in_points.axes[0].get_ylabel() == "MAE (ratings of 0 to 10)"


def test_the_script_draws_what_is_there_and_says_what_is_not(tmp_path):
    folder, out = tmp_path / "data" / "Demo_data", tmp_path / "figs"
    flags = ["--dataset", "Demo_data", "--data_root", tmp_path / "data", "--checkpoint_root", tmp_path / "ck"]

    def names(done, word):
        assert done.returncode == 0, done.stderr
        lines = [line.split(": ", 1)[1] for line in done.stdout.splitlines() if line.startswith(f"{word}: ")]
        return [line.split(".png")[0].rsplit("Demo_data_")[1] for line in lines]

    done = run_script(SCRIPT, *flags, "--out", out)
    assert names(done, "not drawn") == ["models", "history", "calibration", "tau", "training"]
    assert not out.exists()

    (folder / "results").mkdir(parents=True)
    (tmp_path / "ck" / "Demo_data" / "Reasoner").mkdir(parents=True)
    (folder / METRICS.path).write_text(json.dumps(result_of(["Reason4Rec", "global mean"])))
    (folder / ABLATIONS.path).write_text(json.dumps(TAUS))
    (tmp_path / "ck" / "Demo_data" / "Reasoner" / "loss_curve.json").write_text(json.dumps(curve(9)))
    done = run_script(SCRIPT, *flags, "--out", out)
    assert names(done, "drawn") == ["models", "history", "calibration", "tau", "training"]
    assert names(done, "not drawn") == []
    assert len(list(out.iterdir())) == 5

    (folder / ABLATIONS.path).write_text("{")
    message = complaint(run_script(SCRIPT, *flags, "--out", out))
    assert message.startswith(f"{folder / ABLATIONS.path}: cannot be drawn")
