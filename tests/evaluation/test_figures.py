"""Figures of result files: they hold the numbers, can be read at README's width, and are the same every time."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, complaint, run_script
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from matplotlib.text import Text

from reason4rec.data.history import History
from reason4rec.data.schema import PREDICTION, PROBABILITIES
from reason4rec.evaluation import figures
from reason4rec.evaluation import ratings as ratings_module
from reason4rec.systems.reason4rec import ablations, baseline_runs, baselines
from reason4rec.systems.reason4rec.artifacts import ABLATIONS, METRICS
from reason4rec.systems.reason4rec.experts import EXPERTS
from reason4rec.systems.reason4rec.figures import kind_of, tau_curve
from reason4rec.systems.reason4rec.predictions import prediction_files

SCRIPT = "figs/draw_results.py"
OURS, NAME = "Reason4Rec (demo model: not meaningful)", "Demo_data"
MODELS = [OURS, "global mean", "user mean", "item mean", "user + item bias", "matrix factorization"]
MODELS += ["deepconn", "narre", "gradient boosting", "zero shot", "direct", "without the item's history and averages"]
TAUS = [{"variant": "no reason", "mae": 0.7}, {"variant": "full", "tau": 0.1, "mae": 0.7}] + [
    {"variant": f"tau {tau}", "tau": tau, "accepted": k, "targets": 12_000, "mae": 0.6, "mae_low": 0.5, "mae_high": 0.7}
    for k, tau in zip((9_999, 11_000, 12_000, 4_000, 7_500), (0.1, 0.2, 0.5, 0.0, 0.05))
]


def result_of(models, n=400, warm=200):
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


# As a model that hardly knows one row from another has them, and one of many rows, and one of few in each.
CLOSE = [(0.28, 24_400), (0.314, 2_330), (0.45, 30), (0.501, 9_999), (0.599, 1_000), (0.6, 29), (0.99, 29)]


def with_bins(result, bins):
    """The result with these bins for every model: each mean probability and its rows, half of them right."""
    made = [{"from": round(p, 1), "n": n, "probability": p, "right": 0.5} for p, n in bins]
    return result | {"calibration": [row | {"bins": made} for row in result["calibration"]]}


def older(result):
    """The result as it was written before the errors by history had intervals."""
    rows = [{key: row[key] for key in row if key not in ("mae_low", "mae_high")} for row in result["by_history"]]
    return result | {"by_history": rows}


def curve(steps):
    return [{"step": k + 1, "epoch": 0.1 * k, "loss": 2.0 / (k + 1)} for k in range(steps)]


def drawn():
    """Every figure, with long names and many models, and with as little as there can be."""
    many, one = result_of(MODELS), result_of(["Reason4Rec", "global mean"], n=12, warm=12)
    return {
        "models": figures.errors_by_model(many, NAME, kind_of),
        "models_all_warm": figures.errors_by_model(one, NAME, kind_of),
        "history": figures.errors_by_history(many, NAME, kind_of),
        "history_one": figures.errors_by_history(older(many), NAME, kind_of),
        "calibration": figures.calibration(many, NAME, kind_of),
        "calibration_one": figures.calibration(one, NAME, kind_of),
        "calibration_close": figures.calibration(with_bins(many, CLOSE), NAME, kind_of),
        "tau": tau_curve(TAUS[2:], NAME),
        "tau_one": tau_curve([TAUS[2] | {"mae_low": None, "mae_high": None}], NAME),
        "training": figures.training_losses({name: curve(3_000) for name in EXPERTS}, NAME),
        "training_one": figures.training_losses({"Reasoner": curve(1)}, NAME),
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


@pytest.mark.parametrize(
    "name", [*KINDS, "models_all_warm", "calibration_close", *(f"{kind}_one" for kind in KINDS[1:])]
)
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


def points_of(axes):
    """By its label the points of each line of a panel."""
    return {line.get_label().replace("\n", " "): line for line in axes.lines}


def test_every_figure_has_the_name_of_its_dataset_and_every_axis_a_unit(saved):
    for name, figure in saved[1].items():
        assert NAME in figure.get_suptitle(), name
        labels = [axis.get_label_text() for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
        assert any(re.search("MAE|loss|share|right", label) for label in labels), name
        for label in labels:
            assert ("stars" in label) or not re.search("MAE|tau|^rating", label), label
            assert ("nats" in label) or "loss" not in label, label


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


def test_a_few_warm_rows_are_no_panel():
    figure = figures.errors_by_model(result_of(["Reason4Rec", "global mean"], warm=figures.FEWEST - 1), NAME, kind_of)
    assert [axes.get_title("left") for axes in figure.axes] == ["All rows (n = 400)"]


def test_ablations_looked_like_baselines_in_the_figure_of_all_models():
    models = ["Reason4Rec", "without rewards", "tau -0.2", "history 5", "gradient boosting", "narre", "global mean"]
    axes = figures.errors_by_model(result_of(models), NAME, kind_of).axes[0]
    colour = {label.get_text(): label.get_color() for label in axes.get_yticklabels()}
    assert colour["without rewards"] == colour["tau -0.2"] == colour["history 5"]
    assert len({colour[name] for name in models if name not in ("tau -0.2", "history 5")}) == 5


def test_a_colour_means_one_kind_of_model_in_every_figure_and_no_two_lines_look_the_same():
    models = ["Reason4Rec", "without rewards", "tau -0.2", "user + item bias", "gradient boosting classes"]
    result = result_of(models)
    found = [
        figures.errors_by_history(result, NAME, kind_of).axes[0],
        figures.calibration(result, NAME, kind_of).axes[-1],
    ]
    look = figures.looks(result, kind_of)
    for axes in found:
        drawn = points_of(axes)
        assert len(drawn) >= 4
        for model, line in drawn.items():
            assert (line.get_color(), line.get_marker()) == (look[model].colour, look[model].marker), model
    assert len({(one.colour, one.marker, one.median) for one in look.values()}) == len(look)
    tau = tau_curve([TAUS[2], TAUS[3] | {"variant": "full"}], NAME).axes[0]
    assert [line.get_color() for line in tau.lines[1:]] == [look["tau -0.2"].colour, look["Reason4Rec"].colour]


def put_predictions(folder, names):
    """The folder, with an empty file of predictions by each name."""
    (folder / "predictions").mkdir()
    for name in names:
        (folder / "predictions" / f"{name}.pkl").touch()
    return folder


def test_every_baseline_and_every_variant_has_a_kind(tmp_path):
    names = [*baselines.LEARNED, *baseline_runs.ASKED, *ablations.FIXED, "tau_0.05", "draws_3"]
    shown = prediction_files(put_predictions(tmp_path, names), "Reason4Rec")
    kinds = {name: kind_of(name) for name in shown}
    assert len(kinds) == len(names)
    assert set(kinds.values()) <= set(figures.COLOURS) - {"ours", "other"}
    assert kind_of("some model of yours") == "other"


def test_rows_that_are_all_warm_are_drawn_once(saved):
    figure = saved[1]["models_all_warm"]
    assert [axes.get_title("left") for axes in figure.axes] == ["All rows, all of them warm (n = 12)"]


def test_the_history_figure_shows_our_model_and_the_five_best_others_side_by_side(saved):
    result, axes = result_of(MODELS), saved[1]["history"].axes[0]
    mae = {row["model"]: row["mae"] for row in result["table"] if row["rows"] == "all"}
    best = [OURS, *sorted(set(mae) - {OURS}, key=mae.get)[:5]]
    lines = points_of(axes)
    assert list(lines) == best
    groups = figures.history_groups(result)
    ends = {tuple(one.get_segments()[0].flatten().round(9)) for one in axes.collections}
    for model, line in lines.items():
        rows = [row for row in result["by_history"] if (row["model"], row["rows"]) == (model, "all")]
        rows = [row for row in rows if row["history"] in groups]
        assert line.get_ydata().tolist() == [row["mae"] for row in rows]
        for x, row in zip(line.get_xdata(), rows):
            assert tuple(np.round([x, row["mae_low"], x, row["mae_high"]], 9)) in ends
    places = [round(float(x), 6) for line in lines.values() for x in line.get_xdata()]
    assert len(set(places)) == len(places)


def test_two_rows_drew_a_line_from_0_to_1():
    result = result_of(["Reason4Rec", "global mean"], n=400, warm=0)
    rows = [row | {"n": 2 if row["history"] == "0" else row["n"]} for row in result["by_history"]]
    axes = figures.errors_by_history(result | {"by_history": rows}, NAME, kind_of).axes[0]
    groups = [label.get_text() for label in axes.get_xticklabels()]
    assert groups and not any(group.startswith("0") for group in groups)
    assert "0 (n = 2)" in axes.get_xlabel()
    bins = [(0.3, figures.FEWEST - 1), (0.5, figures.FEWEST)]
    panel = figures.calibration(with_bins(result_of(MODELS), bins), NAME, kind_of).axes[0]
    assert panel.lines[-1].get_xdata().tolist() == [0.5]
    assert any(text.get_text().startswith(f"{figures.FEWEST - 1} rows") for text in panel.texts)


def test_a_result_file_from_before_history_had_intervals_is_drawn_without_and_says_so(saved):
    axes = saved[1]["history_one"].axes[0]
    assert not axes.collections
    assert "without intervals" in axes.get_title("left")
    assert "with 95% intervals" in saved[1]["history"].axes[0].get_title("left")


def test_every_point_of_the_calibration_has_wilsons_interval_and_its_count(saved):
    from scipy.stats import binomtest

    result, figure = result_of(MODELS), saved[1]["calibration"]
    bins = next(row for row in result["calibration"] if (row["model"], row["rows"]) == (OURS, "all"))["bins"]
    bins = [one for one in bins if one["n"] >= figures.FEWEST]
    panel = figure.axes[0]
    assert len(bins) == len(panel.collections) > 1
    for one, line in zip(bins, panel.collections):
        expected = binomtest(round(one["right"] * one["n"]), one["n"]).proportion_ci(method="wilson")
        assert line.get_segments()[0][:, 1] == pytest.approx([expected.low, expected.high])
    texts = [text.get_text() for text in panel.texts]
    assert all(f"{one['n']:,}" in texts for one in bins)


def test_rows_of_several_seeds_count_once_in_an_interval():
    result = with_bins(result_of(["Reason4Rec", "global mean"]), [(0.5, 3 * figures.FEWEST)])
    result["table"] = [row | {"seeds": 3} for row in result["table"]]
    panel = figures.calibration(result, NAME, kind_of).axes[0]
    assert panel.collections[0].get_segments()[0][:, 1] == pytest.approx(figures.wilson(0.5, figures.FEWEST))
    assert str(figures.FEWEST) in [text.get_text() for text in panel.texts]


def test_the_title_of_a_training_says_where_its_loss_starts_and_ends():
    near_zero = [{"step": k + 1, "loss": 0.0004 / (k + 1)} for k in range(10)]
    figure = figures.training_losses({"reason_reward_model": near_zero, "Reasoner": []}, NAME)
    assert figure.axes[0].get_title("left") == "Reason reward model: 0.0004 to 0.00004"


def test_tau_is_drawn_in_its_order_with_the_share_of_accepted_reasons(saved):
    top, bottom = saved[1]["tau"].axes
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["0", "0.05", "0.1", "0.2", "0.5"]
    assert [bar.get_height() for bar in bottom.patches] == [k / 12_000 for k in (4_000, 7_500, 9_999, 11_000, 12_000)]
    assert len(top.collections) == 5


def test_tau_was_drawn_in_stars_although_the_ratings_are_on_another_scale():
    in_stars, in_points = (tau_curve([TAUS[2] | unit], NAME) for unit in ({}, ratings_module.unit_of((0.0, 10.0))))
    assert in_stars.axes[0].get_ylabel() == "MAE (stars)"
    assert in_points.axes[0].get_ylabel() == "MAE (ratings of 0 to 10)"


def test_the_script_draws_what_is_there_and_says_what_is_not(tmp_path):
    folder, out = tmp_path / "data" / "Demo_data", tmp_path / "figs"
    flags = ["--dataset", "Demo_data", "--data_root", tmp_path / "data", "--checkpoint_root", tmp_path / "ck"]

    def names(done, word):
        assert done.returncode == 0, done.stderr
        lines = [line.split(": ", 1)[1] for line in done.stdout.splitlines() if line.startswith(f"{word}: ")]
        return [line.split(".png")[0].rsplit("Demo_data_")[1] for line in lines]

    done = run_script(SCRIPT, *flags)
    assert names(done, "not drawn") == ["models", "history", "calibration", "tau", "training"]
    assert not folder.exists()

    (folder / "results").mkdir(parents=True)
    (tmp_path / "ck" / "Demo_data" / "Reasoner").mkdir(parents=True)
    (folder / METRICS.path).write_text(json.dumps(result_of(["Reason4Rec", "global mean"])))
    (folder / ABLATIONS.path).write_text(json.dumps(TAUS))
    (tmp_path / "ck" / "Demo_data" / "Reasoner" / "loss_curve.json").write_text(json.dumps(curve(9)))
    done = run_script(SCRIPT, *flags)
    assert names(done, "drawn") == ["models", "history", "calibration", "tau", "training"]
    assert names(done, "not drawn") == []
    assert len(list((folder / "results" / "figures").iterdir())) == 5

    (folder / ABLATIONS.path).write_text("{")
    message = complaint(run_script(SCRIPT, *flags, "--out", out))
    assert message.startswith(f"{folder / ABLATIONS.path}: cannot be drawn")
    assert not out.exists()


def test_the_figures_of_a_run_replaced_the_published_ones(tmp_path):
    before = {path: path.read_bytes() for path in (ROOT / "figs").glob("*.png")}
    folder, published, out = tmp_path / "data" / "Demo_data", tmp_path / "results" / "Demo_data", tmp_path / "figs"
    for place in (folder / "results", published):
        place.mkdir(parents=True)
        (place / "metrics.json").write_text(json.dumps(result_of(["Reason4Rec", "global mean"])))
    flags = ["--dataset", "Demo_data", "--data_root", tmp_path / "data", "--checkpoint_root", tmp_path / "ck"]
    assert run_script(SCRIPT, *flags).returncode == 0
    assert {path: path.read_bytes() for path in (ROOT / "figs").glob("*.png")} == before
    assert run_script(SCRIPT, *flags, "--results", published, "--out", out).returncode == 0
    drawn = {path.name: path.read_bytes() for path in out.iterdir()}
    assert drawn == {path.name: path.read_bytes() for path in (folder / "results" / "figures").iterdir()}
    assert len(drawn) == 3
