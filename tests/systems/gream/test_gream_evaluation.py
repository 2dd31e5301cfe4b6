"""Lists over the whole catalogue against known answers; invalid, short and repeated lists; Pass@k by simulation."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, run_script

from reason4rec.data.sequences import Case, Event, cases
from reason4rec.errors import InputError
from reason4rec.evaluation.figures import save
from reason4rec.systems.gream import evaluation, figures, full_ranking, item_knn
from reason4rec.systems.gream.evaluation import Judged, evaluate, hits_of, listed, pass_at
from reason4rec.systems.gream.full_ranking import baselines, rank, training_part

ITEMS = [f"I{k}" for k in range(1, 16)]


def case(user, history, target):
    return Case(user, tuple(Event(one, None, "") for one in history), Event(target, None, ""))


ON = Judged(
    [case("u", ["I1", "I2"], "I3"), case("v", ["I4"], "I5"), case("w", ["I6"], "I7")], ITEMS, np.arange(15.0, 0, -1)
)


def lists(**by_user):
    rows = [
        (user, place, item, -float(place)) for user, items in by_user.items() for place, item in enumerate(items, 1)
    ]
    return pd.DataFrame(rows, columns=evaluation.LIST_COLUMNS)


def draws(columns=evaluation.DRAW_COLUMNS, **by_user):
    rows = [(user, k, item) for user, items in by_user.items() for k, item in enumerate(items)]
    return pd.DataFrame(rows, columns=columns)


def world(users=60, items=15, seed=0):
    """Sequences of users who go round a ring of items, which item-kNN and no counting finds."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        start = int(rng.integers(items))
        rows += [(f"u{user}", f"I{(start + k) % items + 1}", k, np.nan, "") for k in range(6)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "position", "ratings", "reviews"])


def test_what_a_list_says_is_ranked_without_the_history_and_what_is_no_item_keeps_its_place():
    frame = lists(u=["I1", "I9", "", "I9", "I3"], v=[None, "I5"], w=["I9", "nothing", "I7x"])
    found, shares = listed(frame, ON, "file")
    assert found.lists == [("I9", None, "I3"), (None, "I5"), ("I9", None, None)]
    assert found.ranks.tolist() == [[3, 3], [2, 2], [16, 16]]
    assert shares == {"invalid": 4 / 10, "in_history": 1 / 10}


def test_a_list_is_read_by_its_places_and_ends_at_ten():
    long = [one for one in ITEMS if one not in ("I4", "I5")]
    frame = lists(u=["I3"], v=[*long[:9], "I5"], w=[*[one for one in ITEMS if one not in ("I6", "I7")][:10], "I7"])
    found, _ = listed(frame.sample(frac=1, random_state=1), ON, "file")
    assert found.ranks[:, 0].tolist() == [1, 10, 16]
    assert [len(one) for one in found.lists] == [1, 10, 10]


def test_a_miss_is_a_miss_even_where_the_catalogue_is_smaller_than_a_list():
    small = Judged(ON.cases, ITEMS[:7], np.ones(7))
    found, _ = listed(lists(u=["I4"], v=["I1"], w=["I1"]), small, "file")
    assert evaluation.ranking.metrics(found.ranks, ["Recall@10"])["Recall@10"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (lists(u=["I3"], v=["I5"]), "file: user w is not in it"),
        (pd.concat([lists(u=["I3"], v=["I5"], w=["I7"]), lists(u=["I3"])]), "user u has place 1 twice, again in row 3"),
        (lists(u=["I3"]).drop(columns="place"), "no column place"),
    ],
)
def test_a_table_that_does_not_fit_the_cases_is_told(frame, said):
    with pytest.raises(InputError, match=said):
        listed(frame, ON, "file")


def test_item_knn_is_the_cosine_of_who_chose_both():
    similar = item_knn.similarities([np.array([1, 2]), np.array([1, 2, 3]), np.array([1]), np.array([4])], 5).toarray()
    expected = np.zeros((5, 5))
    expected[0, 1] = expected[1, 0] = 2 / np.sqrt(3 * 2)
    expected[0, 2] = expected[2, 0] = 1 / np.sqrt(3 * 1)
    expected[1, 2] = expected[2, 1] = 1 / np.sqrt(2 * 1)
    assert similar == pytest.approx(expected)
    shrunk = item_knn.similarities([[1, 2], [1, 2, 3], [1], [4]], 5, shrink=2).toarray()
    assert shrunk[0, 1] == pytest.approx(2 / (np.sqrt(3 * 2) + 2))
    scores = item_knn.score(item_knn.similarities([[1, 2], [1, 2, 3], [1], [4]], 5), [[1, 2], [5]])
    assert scores == pytest.approx(np.stack([expected[0] + expected[1], np.zeros(5)]))


def test_models_that_score_everything_leave_the_history_out():
    """The history has the highest scores, and the target comes right after it."""
    asked = [case("u", ["I3", "I1"], "I2"), case("v", ["I15"], "I14")]
    scores = np.array([[9, 5, 9, *[0.0] * 12], [*np.arange(14.0), 99]])
    found = rank(lambda histories: scores, asked, ITEMS)
    assert found.ranks.tolist() == [[1, 1], [1, 1]]
    assert found.lists[0] == ("I2", *ITEMS[3:12])
    assert found.lists[1] == tuple(reversed(ITEMS[4:14]))


def test_ties_are_shared_and_chance_is_chance(monkeypatch):
    monkeypatch.setattr(full_ranking, "AT_ONCE", 2)
    asked = [case(str(k), ITEMS[:5], target) for k, target in enumerate(ITEMS[5:10])]
    found = rank(lambda histories: np.zeros((len(histories), 15)), asked, ITEMS)
    assert found.ranks.tolist() == [[1, 10]] * 5
    assert evaluation.ranking.metrics(found.ranks, ["Recall@5"])["Recall@5"] == pytest.approx(0.5)


def test_a_catalogue_without_enough_items_gives_shorter_lists():
    found = rank(lambda histories: np.zeros((1, 15)), [case("u", ITEMS[:9], "I10")], ITEMS)
    assert found.lists == [tuple(ITEMS[9:])]


def test_a_score_that_is_not_a_number_is_told():
    with pytest.raises(InputError, match="^mine: the score"):
        rank(lambda histories: np.full((1, 15), np.nan), [case("u", ["I1"], "I10")], ITEMS, "mine")


def test_the_baselines_are_made_from_the_training_part_and_find_a_ring():
    frame = world()
    training = training_part(frame, ITEMS)
    assert all(len(one) == 4 for one in training)
    asked = cases(frame, "test")
    found = baselines(training, asked, ITEMS, shrink=0)
    assert list(found) == ["chance", "popularity", "item-kNN"]
    of = {name: evaluation.ranking.metrics(one.ranks, ["Recall@5"])["Recall@5"].mean() for name, one in found.items()}
    assert of["chance"] == pytest.approx(0.5)
    assert of["item-kNN"] > 0.9 > 0.65 > of["popularity"]


def test_the_shrinkage_is_the_best_on_validation_cases():
    """Two rare items that one user chose both had a cosine of 1, more than two that forty of fifty users chose both."""
    together = [np.array([1, 2])] * 40 + [np.array([1, 3])] * 10 + [np.array([1, 4])]
    asked = [case("u", ["I1"], "I2")]
    lonely = [np.array([one, 2 + one % 3]) for one in range(6, 15)]
    assert full_ranking.best_shrink([*together, *lonely], asked, ITEMS) == 0
    rare = [np.array([5, 6]), np.array([7, 8])]
    common = [np.array([1, 2, 9 + k % 4]) for k in range(40)] + [np.array([2, 13])] * 60
    asked = [case("u", ["I1", "I5"], "I2")]
    assert full_ranking.best_shrink([*common, *rare], asked, ITEMS) == 10


def test_sasrec_stands_beside_them_where_it_is_trained(tmp_path):
    from reason4rec.systems.twice_rec import sasrec
    from reason4rec.systems.twice_rec.sasrec_recipe import Recipe

    model = sasrec.SasRec(15, Recipe(width=8, heads=1, blocks=1, longest=6))
    sasrec.save(model, tmp_path)
    frame = world(users=5)
    asked = cases(frame, "test")
    found = baselines(training_part(frame, ITEMS), asked, ITEMS, 10, tmp_path)["SASRec"]
    histories = [[int(event.item_id[1:]) for event in one.history] for one in asked]
    scores = sasrec.catalogue_scores(model, histories)
    for one, of_case, ranks in zip(asked, scores, found.ranks):
        left = [k for k in range(15) if ITEMS[k] not in {event.item_id for event in one.history}]
        of_target = of_case[ITEMS.index(one.target.item_id)]
        assert ranks[0] == 1 + sum(of_case[k] > of_target for k in left)


def test_a_sasrec_of_another_catalogue_is_told(tmp_path):
    """It ended in an index out of bounds."""
    from reason4rec.systems.twice_rec import sasrec
    from reason4rec.systems.twice_rec.sasrec_recipe import Recipe

    sasrec.save(sasrec.SasRec(14, Recipe(width=8, heads=1, blocks=1, longest=6)), tmp_path)
    frame = world(users=5)
    with pytest.raises(InputError, match="scores 14 items, and there are 15; train SASRec again"):
        baselines(training_part(frame, ITEMS), cases(frame, "test"), ITEMS, 10, tmp_path)


def test_pass_at_k_is_the_chance_that_k_of_the_draws_hit():
    rng = np.random.default_rng(0)
    right = np.arange(10) < np.array([[0], [1], [3], [10]])
    for k in (1, 5, 10):
        drawn = [right[:, rng.permutation(10)[:k]].any(axis=1) for _ in range(4000)]
        assert pass_at(right, k) == pytest.approx(np.mean(drawn, axis=0), abs=0.03)
    assert pass_at(right, 10).tolist() == [0, 1, 1, 1]


def test_draws_are_counted_as_they_are():
    frame = draws(u=["I9", "I3", "I9", "I9", "I9", "I9"], v=["", None, "x", "I5", "I5", "I8"], w=["I9"] * 6)
    found = hits_of("reasoned", frame, ON, "file", 0)
    assert [one["k"] for one in found["pass"]] == [1, 5]
    assert found["pass"][0]["value"] == pytest.approx((1 / 6 + 2 / 6) / 3)
    assert found["invalid"] == pytest.approx(3 / 18)
    assert found["distinct"] == pytest.approx((2 + 2 + 1) / 3)


def test_users_with_other_numbers_of_draws_are_told():
    with pytest.raises(InputError, match="user v has 1 draws, others 2"):
        hits_of("reasoned", draws(u=["I1", "I2"], v=["I1"], w=["I1", "I1"]), ON, "file", 0)


@pytest.fixture(scope="module")
def result():
    frame = world(users=200)
    asked = cases(frame, "test")
    training = training_part(frame, ITEMS)
    on = Judged(asked, ITEMS, np.bincount(np.concatenate(training), minlength=16)[1:])
    right = {one.user_id: [one.target.item_id, "I99"] for one in asked}
    half = {user: items if k % 2 else ["I99", *items] for k, (user, items) in enumerate(right.items())}
    tables = {"direct": (lists(**right), "a"), "reasoned": (lists(**half), "b")}
    drawn = {"reasoned": (draws(**right), "c")}
    return evaluate(on, baselines(training, asked, ITEMS, 0), tables, drawn, "direct", 1, {"split": "test"})


def test_a_result_has_rows_with_intervals_and_tests_that_are_corrected(result):
    assert json.loads(json.dumps(result)) == result
    rows = {(row["metric"], row["model"]): row for row in result["ranks"]}
    assert {metric for metric, _ in rows} == set(evaluation.METRICS)
    assert rows["Recall@1", "direct"]["value"] == 1
    reasoned = rows["Recall@1", "reasoned"]
    assert reasoned["value"] == 0.5
    assert reasoned["low"] < 0.5 < reasoned["high"]
    assert reasoned["difference"] == -0.5
    assert reasoned["p"] <= reasoned["p_corrected"] < 0.01
    assert rows["NDCG@10", "reasoned"]["value"] == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert rows["Recall@5", "chance"]["value"] == pytest.approx(0.5)
    assert result["draws"][0]["pass"][0]["value"] == 0.5
    contents = {row["model"]: row for row in result["lists"]}
    assert contents["direct"]["invalid"] == 0.5
    assert "invalid" not in contents["popularity"]
    assert contents["direct"]["length"] == 1
    assert contents["popularity"]["first"]["value"] > 0.9
    assert "chance" not in contents
    assert contents["item-kNN"]["length"] == 10
    assert result["settings"]["split"] == "test"


def test_a_result_is_shown_with_each_of_its_rows(result):
    text = evaluation.as_text(result)
    for name in ("chance", "popularity", "item-kNN", "direct", "reasoned", "Recall@10", "NDCG@5", "Pass@1"):
        assert name in text
    assert "MRR" not in text
    assert "Pass@5" not in text
    without = evaluation.as_text(result | {"draws": []})
    assert "Pass@" not in without


def test_the_picture_shows_each_model_at_its_value(result, tmp_path):
    figure = figures.recalls(result, "Toy")
    models = list(dict.fromkeys(row["model"] for row in result["ranks"]))
    for panel, metric in zip(figure.axes, figures.DRAWN):
        found = {models[int(line.get_ydata()[0])]: line.get_xdata()[0] for line in panel.get_lines()}
        assert found == {row["model"]: row["value"] for row in result["ranks"] if row["metric"] == metric}
    save(figure, tmp_path / "toy.png")
    assert [one.get_text() for one in figure.axes[0].get_yticklabels()] == models


def test_pictures_of_published_results_are_drawn_and_missing_results_named(tmp_path):
    published = ROOT / "results/gream/Demo_sequences"
    words = ("--dataset", "Demo_sequences", "--data_root", tmp_path, "--out", tmp_path)
    result = run_script("figs/draw_sequences.py", *words, "--results", published)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "Demo_sequences_gream_recalls.png").stat().st_size > 1000
    missing = published / "twice_rec_rewards.json"
    assert f"{missing}, which TWiCE_Rec/12_compare_rewards.py writes" in result.stdout
    assert run_script("figs/draw_sequences.py", "--dataset", "a/b").returncode == 2


def test_a_row_that_is_not_there_cannot_be_compared_with():
    with pytest.raises(InputError, match="--against nobody"):
        evaluate(ON, {}, {"direct": (lists(u=["I3"], v=["I5"], w=["I7"]), "a")}, {}, "nobody", 0, {})
