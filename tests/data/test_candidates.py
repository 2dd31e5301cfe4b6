"""Lists of candidates: the target once, nothing else of the user, drawn by one rule that depends on no other user."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from reason4rec.data import candidates
from reason4rec.data.candidates import CANDIDATE_COLUMNS
from reason4rec.data.sequences import SEQUENCE_COLUMNS, SPLITS, cases
from reason4rec.errors import InputError

ITEMS = [f"i{k}" for k in range(40)]


def frame_of(chosen):
    rows = [(user, item, k, np.nan, "") for user, items in chosen.items() for k, item in enumerate(items)]
    return pd.DataFrame(rows, columns=list(SEQUENCE_COLUMNS))


users_of_items = st.lists(
    st.lists(st.integers(0, 39), min_size=4, max_size=12, unique=True), min_size=1, max_size=5
).map(lambda lists: {f"user {k}": [ITEMS[item] for item in items] for k, items in enumerate(lists)})


@settings(max_examples=40, deadline=None)
@given(users_of_items, st.integers(2, 29), st.sampled_from(["uniform", "popular"]), st.integers(0, 5))
def test_a_list_holds_the_target_once_and_nothing_else_of_the_user(chosen, n, sampling, seed):
    frame = frame_of(chosen)
    drawn = candidates.draw(frame, ITEMS, n, sampling, seed)
    candidates.check_candidates(drawn, frame, "drawn")
    assert list(drawn.columns) == list(CANDIDATE_COLUMNS)
    for split in SPLITS:
        found = candidates.lists(drawn, split)
        assert list(found) == list(chosen)
        for case in cases(frame, split):
            others = set(found[case.user_id]) - {case.target.item_id}
            assert len(others) == n - 1 == len(found[case.user_id]) - 1
            assert not others & set(chosen[case.user_id])


def test_a_user_is_given_the_same_lists_among_others_alone_and_in_another_order():
    rng = np.random.default_rng(0)
    chosen = {f"u{k}": rng.permutation(ITEMS)[:6].tolist() for k in range(20)}
    whole = candidates.draw(frame_of(chosen), ITEMS, 10)
    assert whole.equals(candidates.draw(frame_of(chosen), ITEMS, 10))
    some = candidates.draw(frame_of({user: chosen[user] for user in ("u7", "u3")}), ITEMS, 10)
    for split in SPLITS:
        all_lists = candidates.lists(whole, split)
        assert candidates.lists(some, split) == {user: all_lists[user] for user in ("u7", "u3")}
        assert candidates.lists(candidates.draw(frame_of(chosen), ITEMS, 10, seed=1), split) != all_lists
    negatives = [set(candidates.lists(whole, split)["u3"]) for split in SPLITS]
    assert negatives[0] != negatives[1] != negatives[2]


def test_lists_in_numbers_are_those_of_the_users_that_are_named():
    rng = np.random.default_rng(0)
    frame = frame_of({f"u{k}": rng.permutation(ITEMS)[:5].tolist() for k in range(6)})
    drawn = candidates.draw(frame, ITEMS, 7)
    for split in SPLITS:
        found, users = candidates.lists(drawn, split), ["u4", "u0", "u5"]
        numbers = candidates.numbered_lists(drawn, split, users, ITEMS)
        assert [[ITEMS[number - 1] for number in row] for row in numbers] == [list(found[user]) for user in users]


def p_of(counts, taken):
    """The p of the chi-square test that `counts` of items, of which each draw took `taken` at once, are even."""
    n = len(counts)
    expected = counts.sum() / n
    # Without replacement the counts vary less, by the finite population's factor.
    return chi2.sf(((counts - expected) ** 2).sum() / expected * (n - 1) / (n - taken), n - 1)


def test_uniform_negatives_and_the_places_of_targets_are_uniform():
    drawn = candidates.draw(frame_of({f"u{k}": ITEMS[:4] for k in range(1_000)}), ITEMS, 10)
    counts = drawn["item_id"].value_counts()
    assert 0.01 < p_of(counts[ITEMS[4:]].to_numpy(), 9) < 0.99
    places = drawn.loc[drawn["item_id"].isin(ITEMS[:4]), "place"].value_counts()
    assert len(places) == 10 and 0.01 < p_of(places.to_numpy(), 1) < 0.99


def test_popular_negatives_are_drawn_by_their_counts_in_the_training_part_alone():
    drawn_for = {f"u{k}": ITEMS[:4] for k in range(1_000)}
    others = {f"v{k}": ["i4", "i5" if k % 2 else "i6", "i7" if k % 5 else "i8", "i9", "i10"] for k in range(50)}
    drawn = candidates.draw(frame_of(drawn_for | others), ITEMS, 2, "popular")
    of_users = drawn[drawn["user_id"].isin(drawn_for) & ~drawn["item_id"].isin(ITEMS[:4])]
    counts = of_users["item_id"].value_counts().reindex(ITEMS[4:], fill_value=0)
    weights = pd.Series(1.0, ITEMS[4:])
    weights[["i4", "i5", "i6", "i7", "i8"]] += [50, 25, 25, 40, 10]  # i9 and i10 are targets of valid and test alone
    expected = weights / weights.sum() * len(of_users)
    assert 0.01 < chi2.sf(((counts - expected) ** 2 / expected).sum(), len(expected) - 1) < 0.99
    assert counts.min() > 0
    places = of_users.loc[of_users["item_id"] == "i4", "place"]
    assert abs(places.mean() - 0.5) < 3 * 0.5 / len(places) ** 0.5


def test_draws_of_popular_items_are_without_replacement_by_weight():
    # Of three items with weights 1, 1 and 8, two are drawn: with the heavy one in all but 2 of 90 cases.
    others = {f"v{k}": ["i4", "i0", "i1", "i2"] for k in range(7)}
    chosen = {f"u{k}": ["i0", "i1", "i2", "i3"] for k in range(2_000)} | others
    drawn = candidates.draw(frame_of(chosen), [*ITEMS[:5], "i5", "i6"], 3, "popular")
    of_users = drawn[drawn["user_id"].str.startswith("u") & (drawn["split"] == "test")]
    without = 1 - (of_users["item_id"] == "i4").sum() / 2_000
    assert abs(without - 2 / 90) < 4 * (2 / 90 / 2_000) ** 0.5


def test_a_catalogue_that_is_too_small_and_an_item_out_of_it_are_refused():
    frame = frame_of({"u": ITEMS[:4], "v": ITEMS[:10]})
    assert len(candidates.draw(frame, ITEMS, 31)) == 2 * 3 * 31
    with pytest.raises(InputError, match="user 'v' chose 10 of the 40 .* 31 candidates or fewer"):
        candidates.draw(frame, ITEMS, 32)
    with pytest.raises(InputError, match="1 candidates"):
        candidates.draw(frame, ITEMS, 1)
    with pytest.raises(InputError, match="item i9"):
        candidates.draw(frame, ITEMS[:9] + ITEMS[10:], 5)


CHOSEN = {"u": ["i0", "i1", "i2", "i3"], "v": ["i9", "i8", "i7", "i6", "i5"]}
BAD_LISTS = {
    "no column place": lambda f: f.drop(columns="place"),
    "column item_id is empty": lambda f: f.assign(item_id=f["item_id"].where(f.index != 3)),
    "column split does not hold text": lambda f: f.assign(split=1),
    "item 'i11' in row 1 is in a split that is none": lambda f: change(f, 1, "split", "exam"),
    "item 'i11' in row 1 is of a user that has no sequence": lambda f: change(f, 1, "user_id", "w"),
    "item 'i11' in row 1 is not at the next place": lambda f: change(f, 1, "place", 2),
    "item 'i1' in row 1 is not at the next place": lambda f: f.drop(index=1),
    "item 'i10' in row 1 is in its list already": lambda f: change(f, 1, "item_id", "i10"),
    "item 'i10' in row 18 begins another list": lambda f: pd.concat([f, f[:3].assign(item_id=["i10", "i20", "i21"])]),
    "item 'i10' in row 15 is of a list that is not as long": lambda f: f[:17],
    "user 'v' has no list in test": lambda f: f[:15],
    "item 'i0' in row 1 is another item of its user's sequence": lambda f: change(f, 1, "item_id", "i0"),
    "item 'i2' in row 1 is another item of its user's sequence": lambda f: change(f, 1, "item_id", "i2"),
    "item 'i10' in row 9 begins a list without its target": lambda f: change(f, 11, "item_id", "i30"),
}


def change(frame, row, column, value):
    return frame.assign(**{column: frame[column].where(frame.index != row, value)})


@pytest.mark.parametrize("message", BAD_LISTS)
def test_a_wrong_table_of_candidates_is_refused_by_file_and_row(message):
    sequences = frame_of(CHOSEN)
    good = pd.DataFrame(
        [
            (user, split, place, item)
            for from_end, split in zip((3, 2, 1), SPLITS)
            for user, chosen in CHOSEN.items()
            for place, item in enumerate(["i10", "i11", chosen[-from_end]])
        ],
        columns=list(CANDIDATE_COLUMNS),
    )
    candidates.check_candidates(good, sequences, "file")
    with pytest.raises(InputError, match=f"^file: {message}"):
        candidates.check_candidates(BAD_LISTS[message](good), sequences, "file")
