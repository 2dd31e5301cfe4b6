"""The hand-written policies: which rewards prefer one of them to honest choices."""

import pytest
from toy_shop import market

from reason4rec.systems.twice_rec import probes
from reason4rec.systems.twice_rec.replies import read
from reason4rec.systems.twice_rec.rewards import DEBIASED, FAITHFUL, LIST_SOFTMAX, MATCH, MENDED, parts_of


def table_of(seed):
    evidence, popularity = market(seed=seed)
    rewards = {
        "faithful": parts_of(FAITHFUL, evidence),
        "mended, debiased": parts_of(MENDED, evidence, DEBIASED),
        "mended, list_softmax": parts_of(MENDED, evidence, LIST_SOFTMAX),
        "match": parts_of(MATCH, evidence),
    }
    return probes.scored(rewards, probes.policies(evidence, popularity, seed=0))


@pytest.fixture(scope="module")
def table():
    return table_of(0)


@pytest.mark.parametrize("seed", range(3))
def test_the_mended_reward_prefers_the_truth_to_chance_and_chance_to_every_cheat(seed):
    table = table_of(seed)
    for reward in ("mended, debiased", "match"):
        means = {row["policy"]: row[reward] for row in table}
        assert max(means, key=means.get) == probes.GOLD
        assert probes.cheats(table, reward) == []


def test_the_released_reward_prefers_a_cheat_even_to_the_truth(table):
    means = {row["policy"]: row["faithful"] for row in table}
    assert max(means, key=means.get) == probes.RIGHT_ID
    assert {probes.POPULAR_CANDIDATE, probes.RIGHT_ID} <= set(probes.cheats(table, "faithful"))
    assert means[probes.POPULAR] > means[probes.OUTSIDE] + 2 > means[probes.FORM] + 3
    assert means[probes.EMPTY] > 0


def test_popular_candidates_are_no_cheat_for_being_right_more_often():
    """The mended reward was warned of on uniform lists, where the most popular candidate is right more often."""
    paid = {probes.GOLD: 9.0, probes.RANDOM: 4.1, probes.POPULAR_CANDIDATE: 5.2, probes.EMPTY: 0.0}
    rows = [{"policy": name, "n": 64, "mended": mean} for name, mean in paid.items()]
    for more, found in (([0.05, 0.1], []), ([0.5, 0.1], [probes.POPULAR_CANDIDATE])):
        rows[2]["more_when_wrong"] = {"mended": more}
        assert probes.cheats(rows, "mended") == found


def test_a_softmax_among_the_candidates_still_pays_popularity_and_nothing_else(table):
    assert set(probes.cheats(table, "mended, list_softmax")) <= {probes.POPULAR_CANDIDATE}


def test_every_policy_but_two_writes_in_the_form_that_is_asked_for():
    evidence, popularity = market(users=20)
    written = probes.policies(evidence, popularity, seed=1)
    assert written == probes.policies(evidence, popularity, seed=1) != probes.policies(evidence, popularity, seed=2)
    for policy, texts in written.items():
        assert len(texts) == 20
        assert all(read(text).well_formed for text in texts) == (policy not in (probes.TAGS, probes.EMPTY))
    for text, listed, case in zip(written[probes.OUTSIDE], evidence.candidates, evidence.cases):
        assert read(text).item_id in evidence.catalogue and read(text).item_id not in listed
        assert case.target.item_id in listed
    for policy in (probes.RIGHT_ID, probes.RIGHT_TITLE):
        disagree = [not evidence.catalogue.is_title_of(one.title, one.item_id) for one in map(read, written[policy])]
        assert sum(disagree) >= 15


def test_a_list_that_holds_the_whole_catalogue_has_nothing_outside():
    evidence, popularity = market(users=2, items=6, listed=6)
    written = probes.policies(evidence, popularity, seed=0)
    assert [read(text).item_id for text in written[probes.OUTSIDE]] == [listed[0] for listed in evidence.candidates]


def test_the_table_as_text_has_a_row_for_each_policy(table):
    lines = probes.as_text(table).split("\n")
    assert len(lines) == len(table) + 1
    assert len(set(map(len, lines))) == 1
    assert all(line.startswith(row["policy"]) for line, row in zip(lines[1:], table))
