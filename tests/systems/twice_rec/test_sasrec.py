"""SASRec scores a history by itself and in order, learns what follows what, and is the same after a kill."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from reason4rec.errors import InputError
from reason4rec.systems.twice_rec import sasrec, sasrec_training
from reason4rec.systems.twice_rec.popularity import beats, places, popularity
from reason4rec.systems.twice_rec.sasrec import SasRec
from reason4rec.systems.twice_rec.sasrec_recipe import LOSSES, Recipe
from reason4rec.systems.twice_rec.sasrec_training import Valid, train

N_ITEMS = 12
SMALL = Recipe(width=16, blocks=1, heads=2, dropout=0.1, longest=8, lr=1e-2, batch=16, epochs=12, patience=12)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = SasRec(N_ITEMS, Recipe(width=16, longest=6))
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)  # larger than at the start, where all scores are near 0
        made.items.weight[0] = 0
    return made


def circle(n=60, length=7, seed=0):
    """Training histories in which each item is followed by the next one round a circle, and valid cases of them."""
    starts = np.random.default_rng(seed).integers(0, N_ITEMS, n)
    whole = (starts[:, None] + np.arange(length)) % N_ITEMS + 1
    histories, targets = [row[: length - 1 - k % 3].tolist() for k, row in enumerate(whole)], []
    for history in histories:
        targets.append(history[-1] % N_ITEMS + 1)
    others = np.array([[(target + k) % N_ITEMS + 1 for k in (2, 4, 6)] for target in targets])
    return histories, Valid(histories, np.array(targets), np.column_stack([others, targets]))


def trained(recipe=SMALL, seed=0, **options):
    histories, valid = circle()
    return train(histories, valid, N_ITEMS, recipe, seed, **options)


# Scoring.


def test_a_history_scores_the_same_alone_and_padded_among_longer_ones(model):
    histories = [[3], [5, 1], [2, 7, 9, 11, 4], [1, 2, 3, 4, 5, 6], [6, 12]]
    together = sasrec.catalogue_scores(model, histories)
    for history, scores in zip(histories, together):
        assert sasrec.catalogue_scores(model, [history])[0] == pytest.approx(scores, abs=1e-5)
    assert np.abs(np.diff(together, axis=0)).min(axis=1).max() < np.abs(np.diff(together, axis=0)).max()


def test_no_state_sees_a_later_item_and_every_state_sees_the_order(model):
    model.eval()
    with torch.no_grad():
        states = model(torch.tensor([[0, 3, 4, 5, 6], [0, 3, 4, 5, 9], [0, 4, 3, 5, 6]]))
    assert states[0, :4].allclose(states[1, :4], atol=1e-6)
    assert not states[0, 4].allclose(states[1, 4], atol=1e-2)
    assert not states[0, 4].allclose(states[2, 4], atol=1e-2)


def test_candidates_score_what_they_score_in_the_catalogue_and_only_the_last_items_count(model):
    histories = [np.array([2, 7, 9]), [4, 3, 2, 1, 5, 6, 7, 8]]
    candidates = np.array([[1, 12, 4], [3, 3, 9]])
    scores, of_all = sasrec.score(model, histories, candidates), sasrec.catalogue_scores(model, histories)
    assert of_all.shape == (2, N_ITEMS)
    assert scores == pytest.approx(np.take_along_axis(of_all, candidates - 1, axis=1), abs=1e-5)
    assert sasrec.score(model, [[2, 1, 5, 6, 7, 8]], candidates[1:]) == pytest.approx(scores[1:], abs=1e-5)


def test_many_histories_are_scored_in_parts(model, monkeypatch):
    histories = [[k % N_ITEMS + 1, (3 * k) % N_ITEMS + 1][: 1 + k % 2] for k in range(11)]
    candidates = np.arange(22).reshape(11, 2) % N_ITEMS + 1
    at_once = sasrec.score(model, histories, candidates)
    monkeypatch.setattr(sasrec, "AT_ONCE", 4)
    assert sasrec.score(model, histories, candidates) == pytest.approx(at_once, abs=1e-5)


@pytest.mark.parametrize(
    ("histories", "candidates", "message"),
    [
        ([[1], []], [[1], [2]], "number 1 has no item"),
        ([[1, 0]], [[1]], "histories: 0 is no item"),
        ([[1, 13]], [[1]], "histories: 13 is no item; items are numbered from 1 to 12"),
        ([[1]], [[0]], "candidates: 0 is no item"),
        ([], np.zeros((0, 1)), "there are none"),
    ],
)
def test_what_cannot_be_scored_is_refused(model, histories, candidates, message):
    with pytest.raises(InputError, match=message):
        sasrec.score(model, histories, candidates)


def test_the_share_of_items_is_1_for_popularity_and_falls_as_users_differ():
    rng = np.random.default_rng(0)
    of_items, of_both = rng.normal(size=(1, 400)), rng.normal(size=(300, 400))
    assert sasrec.spread([np.repeat(of_items, 300, axis=0)])[1] == pytest.approx(1)
    assert sasrec.spread([of_items + of_both])[1] == pytest.approx(0.5, abs=0.05)
    assert sasrec.spread([of_both])[1] < 0.02


def test_means_and_share_needed_the_scores_of_all_users_at_once():
    scores = np.random.default_rng(0).normal(40, 2, size=(300, 50)) + np.arange(50)
    means, share = sasrec.spread(iter(np.split(scores, [70, 71, 200])))
    assert means == pytest.approx(scores.mean(axis=0))
    assert share == pytest.approx(scores.mean(axis=0).var() / scores.var())


def test_the_place_of_an_item_by_counts_is_the_share_of_others_that_were_chosen_less_often():
    assert places(np.array([[3, 0, 3, 9, 1], [2, 2, 2, 2, 2]])).tolist() == [[0.625, 0, 0.625, 1, 0.25], [0.5] * 5]


# Training.


@pytest.mark.parametrize("loss", LOSSES)
def test_what_follows_what_is_learned_and_beats_popularity(loss):
    recipe = Recipe(width=16, blocks=1, dropout=0.1, lr=2e-2, batch=16, epochs=25, patience=25, loss=loss)
    histories, valid = circle()
    model, curve = trained(recipe)
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]
    assert max(row["HR@1"] for row in curve) > 0.9
    unseen, of_unseen = circle(seed=9)
    scores = sasrec.score(model, unseen, of_unseen.candidates)
    assert (scores.argmax(axis=1) == 3).mean() > 0.9
    assert popularity(histories, N_ITEMS).sum() == sum(map(len, histories))


def test_the_model_is_that_of_the_best_epoch_and_training_stops_after_it():
    recipe = Recipe(width=16, blocks=1, lr=3e-2, batch=16, epochs=40, patience=3)
    histories, valid = circle()
    model, curve = trained(recipe)
    found = [row["NDCG@10"] for row in curve]
    assert len(curve) == min(40, found.index(max(found)) + 1 + 3)
    assert [row["epoch"] for row in curve] == list(range(1, len(curve) + 1))
    again = Valid(histories, valid.targets, valid.candidates)
    columns = np.full(len(histories), 3)
    scores = sasrec.score(model, again.histories, again.candidates)
    ranks = sasrec_training.ranking.ranks(scores, columns)
    assert sasrec_training.ranking.metrics(ranks)["NDCG@10"].mean() == pytest.approx(max(found))


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_one_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    (first, curve), (again, same), (other, _) = trained(seed=1), trained(seed=1), trained(seed=2)
    assert torch.random.get_rng_state().equal(before)
    assert curve == same
    assert all(one.equal(two) for one, two in zip(first.parameters(), again.parameters()))
    assert not first.catalogue.equal(other.catalogue)


def test_a_training_that_was_killed_goes_on_and_ends_with_the_same_bytes(tmp_path):
    class KilledError(Exception):
        pass

    def kill(row):
        if row["epoch"] == 5:
            raise KilledError

    whole, curve = trained()
    with pytest.raises(KilledError):
        trained(scratch=tmp_path / "scratch", log=kill)
    epochs = []
    resumed, same = trained(scratch=tmp_path / "scratch", log=lambda row: epochs.append(row["epoch"]))
    assert epochs[0] == 5 and same == curve  # killed before the fifth was kept
    for name, model in (("whole", whole), ("resumed", resumed)):
        sasrec.save(model, tmp_path / name)
    for name in (sasrec.WEIGHTS, sasrec.SETTINGS):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()
    _, other = trained(seed=7, scratch=tmp_path / "scratch", log=lambda row: epochs.append(row["epoch"]))
    assert len(other) == 12 and epochs[-12:] == list(range(1, 13))  # that of another seed is not gone on with
    (tmp_path / "scratch" / sasrec_training.STATE).write_bytes(b"half")
    with pytest.raises(InputError, match="remove it"):
        trained(scratch=tmp_path / "scratch")


def test_valid_targets_choose_the_epoch_and_teach_nothing():
    recipe = Recipe(width=16, blocks=1, batch=16, epochs=1)
    histories, valid = circle()
    first, _ = train(histories, valid, N_ITEMS, recipe, 0)
    turned = Valid(valid.histories, valid.candidates[:, 0], valid.candidates)
    second, _ = train(histories, turned, N_ITEMS, recipe, 0)
    assert all(one.equal(two) for one, two in zip(first.parameters(), second.parameters()))


def test_the_cross_entropy_in_parts_has_torchs_value_and_gradients():
    torch.manual_seed(0)
    states, vectors = torch.randn(23, 8, requires_grad=True), torch.randn(40, 8, requires_grad=True)
    targets = torch.randint(0, 40, (23,))
    plain = functional.cross_entropy(states @ vectors.T, targets)
    expected = torch.autograd.grad(2 * plain, (states, vectors))
    for at_once in (1, 5, 23, 64):
        loss = sasrec_training._CrossEntropy.apply(states, vectors, targets, at_once)
        assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
        for found, right in zip(torch.autograd.grad(2 * loss, (states, vectors)), expected):
            assert found.allclose(right, atol=1e-6)


def test_batches_hold_every_row_once_with_no_column_of_padding():
    histories = [list(range(1, 3 + k % 7)) for k in range(53)]
    rows = sasrec.padded(histories, 9)
    batches = list(sasrec_training._shuffled(rows, 4, np.random.default_rng(0)))
    found = sorted(sum((row != 0).tolist()) for batch in batches for row in batch)
    assert found == sorted(map(len, histories)) and {len(batch) for batch in batches} == {4, 1}
    assert all((batch[:, 0] != 0).any() for batch in batches)


# Files and refusals.


def test_a_saved_model_is_loaded_as_it_is(model, tmp_path):
    sasrec.save(model, tmp_path / "cf")
    loaded = sasrec.load(tmp_path / "cf")
    assert loaded.recipe == model.recipe and not loaded.training
    histories = [[1, 2, 3], [9]]
    assert sasrec.catalogue_scores(loaded, histories).tolist() == sasrec.catalogue_scores(model, histories).tolist()


def test_a_model_that_is_missing_or_damaged_is_refused(model, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        sasrec.load(tmp_path / "none")
    sasrec.save(model, tmp_path)
    settings = json.loads((tmp_path / sasrec.SETTINGS).read_text())
    for changed in (
        {"n_items": 13},
        {"recipe": {"width": 16, "depth": 2}},
        {"recipe": settings["recipe"] | {"heads": 3}},
    ):
        (tmp_path / sasrec.SETTINGS).write_text(json.dumps(settings | changed))
        with pytest.raises(InputError):
            sasrec.load(tmp_path)
    (tmp_path / sasrec.SETTINGS).write_text(json.dumps(settings))
    (tmp_path / sasrec.WEIGHTS).write_bytes((tmp_path / sasrec.WEIGHTS).read_bytes()[:-10])
    with pytest.raises(InputError, match="no saved SASRec"):
        sasrec.load(tmp_path)
    (tmp_path / sasrec.WEIGHTS).unlink()
    with pytest.raises(InputError, match="no such file"):
        sasrec.load(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 0},
        {"width": 30, "heads": 4},
        {"dropout": 1.0},
        {"lr": 0.0},
        {"weight_decay": -1.0},
        {"loss": "bpr"},
        {"patience": 0},
    ],
)
def test_an_impossible_recipe_is_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        Recipe(**settings)


def test_data_that_do_not_fit_are_refused():
    histories, valid = circle()
    for wrong, message in (
        (valid._replace(targets=valid.targets[:-1]), "59 targets"),
        (valid._replace(candidates=valid.candidates[:, :-1]), "does not hold its target"),
        (valid._replace(candidates=valid.candidates + N_ITEMS), "valid candidates"),
    ):
        with pytest.raises(InputError, match=message):
            train(histories, wrong, N_ITEMS, SMALL, 0)
    with pytest.raises(InputError, match="2 are needed"):
        train([*histories, [1]], valid, N_ITEMS, SMALL, 0)


def test_only_a_filter_that_beats_popularity_passes_the_gate():
    popular = {"HR@10": 0.62, "NDCG@10": 0.37}
    assert beats({"HR@10": 0.70, "NDCG@10": 0.43, "MRR": 0.1}, popular)
    for worse in ({"HR@10": 0.62, "NDCG@10": 0.43}, {"HR@10": 0.7, "NDCG@10": 0.36}):
        assert not beats(worse, popular)
    assert beats({"HR@10": 1.0, "NDCG@10": 0.43}, {"HR@10": 1.0, "NDCG@10": 0.37})
