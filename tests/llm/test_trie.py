"""A beam search along a trie: exact where it can be, only answers, none twice, and the same however it is batched."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import GROUPED, WINDOW, make_base

from reason4rec.errors import InputError
from reason4rec.llm import local as local_module
from reason4rec.llm import trie as tries
from reason4rec.llm.cache import ResponseCache
from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.served_prompts import ServedPrompts
from reason4rec.llm.tokens import chat_ids, plain_ids

TEXTS = [f"{first} {second}" for first in ("Amber", "Blue", "Quiet") for second in ("Rain", "Bells", "Arrows", "Sky")]
TEXTS += ["Amber", "Blue Bells of the long title", "Rain"]
PROMPTS = [Prompt(f"Which album will the user {what} next?") for what in ("buy", "hear again and again", "like")]
LFM2 = ("Lfm2Config", {"num_key_value_heads": 2, "num_hidden_layers": 3, "full_attn_idxs": [1]})
PATHS = st.lists(st.lists(st.integers(0, 5), max_size=4).map(lambda ids: (*ids, 9)), min_size=1, unique=True)


@pytest.fixture(scope="module")
def model(base):
    return load(base, None, "cpu", max_length=1024)


@pytest.fixture(scope="module")
def trie(model):
    return tries.of_texts(model.tokenizer, TEXTS)


def exactly(model, prompt, trie, begun="", excluded=()):
    """All answers with their mean log-probabilities, each read whole and alone, the likeliest first."""
    ids = chat_ids(model.tokenizer, prompt.text) + plain_ids(model.tokenizer, begun)
    found = []
    for place, path in enumerate(trie.paths):
        with torch.no_grad():
            logits = model.model(torch.tensor([[*ids, *path]])).logits[0].float().log_softmax(-1)
        total = sum(float(logits[len(ids) + k - 1, token]) for k, token in enumerate(path))
        if place not in excluded:
            found.append((path, total / len(path)))
    return sorted(found, key=lambda beam: -beam[1])


def same(found, expected, tolerance=1e-4):
    assert [path for path, _ in found] == [path for path, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=tolerance)


def test_a_beam_for_each_answer_ranks_them_exactly(model, trie):
    for prompt, found in zip(PROMPTS, model.beams(PROMPTS, trie, len(TEXTS)), strict=True):
        same(found, exactly(model, prompt, trie))


def test_the_answers_follow_what_each_reply_begins_with_and_leave_out_what_is_excluded(model, trie):
    begun, excluded = ["The user likes guitar. ", "", "It must be "], [[0, 3, 12], [], [5]]
    found = model.beams(PROMPTS, trie, 40, begun, excluded)
    assert list(map(len, found)) == [len(TEXTS) - 3, len(TEXTS), len(TEXTS) - 1]
    for prompt, text, out, beams in zip(PROMPTS, begun, excluded, found, strict=True):
        same(beams, exactly(model, prompt, trie, text, out))


def test_few_beams_are_answers_and_differ(model, trie):
    for beams in model.beams(PROMPTS, trie, 4):
        places = [trie.places[path] for path, _ in beams]
        assert len(set(places)) == 4
        assert [score for _, score in beams] == sorted((score for _, score in beams), reverse=True)


def test_a_beam_is_not_wasted_on_a_branch_that_holds_excluded_answers_alone(model, trie):
    """The search goes past what is excluded, so that as many beams are left as were asked for."""
    by_first = {first: [k for k, text in enumerate(TEXTS) if text.startswith(first)] for first in ("Amber", "Blue")}
    excluded = by_first["Amber"] + by_first["Blue"]
    found = model.beams(PROMPTS, trie, 5, excluded=[excluded] * 3)
    left = set(range(len(TEXTS))) - set(excluded)
    assert [{trie.places[path] for path, _ in beams} for beams in found] == [left] * 3
    everything = [list(range(len(TEXTS)))] * 3
    assert model.beams(PROMPTS, trie, 5, excluded=everything) == [[], [], []]


def test_beams_are_those_of_transformers_where_both_find_the_same(model, trie):
    """transformers' own search with the same mask, as long as it is wide enough to be exact."""
    for prompt, found in zip(PROMPTS, model.beams(PROMPTS, trie, len(TEXTS)), strict=True):
        ids = chat_ids(model.tokenizer, prompt.text)

        def allowed(_, written, ids=ids):
            node, after = 0, written[len(ids) :].tolist()
            if after:
                if tuple(after[: len(after)]) in trie.places or trie.paths[0][-1] in after:
                    return [trie.paths[0][-1]]
                node = trie.nodes_of(after)[-1]
            return trie.tokens[trie.starts[node] : trie.starts[node] + trie.counts[node]].tolist()

        with torch.inference_mode():
            output = model.model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                num_beams=len(TEXTS),
                num_return_sequences=3,
                max_new_tokens=trie.depth,
                prefix_allowed_tokens_fn=allowed,
                output_scores=True,
                return_dict_in_generate=True,
            )
        for path, score in found[:1]:
            written = output.sequences[0, len(ids) :].tolist()
            assert tuple(written[: len(path)]) == path
            assert float(output.sequences_scores[0]) == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("at_once", [1, 2])
def test_batches_of_another_size_give_the_same_beams(base, model, trie, at_once):
    excluded = [[1], [], [2, 3]]
    other = load(base, None, "cpu", max_length=1024, prompts_at_once=at_once)
    found, expected = other.beams(PROMPTS, trie, 6, None, excluded), model.beams(PROMPTS, trie, 6, None, excluded)
    for one, two in zip(found, expected, strict=True):
        same(one, two)


def test_the_same_prompt_is_asked_again_where_other_answers_are_excluded(model, trie):
    twice = [PROMPTS[0], PROMPTS[0]]
    first, second = model.beams(twice, trie, 3, excluded=[[], [4]])
    best = trie.places[first[0][0]]
    (third,) = model.beams(twice[:1], trie, 3, excluded=[[best]])
    assert best not in [trie.places[path] for path, _ in third]
    same(third[:1], first[1:2])
    assert len(second) == 3


@pytest.mark.parametrize(
    ("config", "values"),
    [("Qwen3Config", GROUPED), ("MistralConfig", GROUPED | WINDOW), ("GPT2Config", {"n_inner": 128}), LFM2],
)
def test_bases_of_other_shapes_rank_exactly_too(base, tmp_path, config, values):
    """Also those that go on from no keys and values, or take no padding: they read each beam anew."""
    other = load(make_base(tmp_path / "base", base, config, **values), None, "cpu", max_length=512)
    trie = tries.of_texts(other.tokenizer, TEXTS)
    for prompt, found in zip(PROMPTS, other.beams(PROMPTS, trie, len(TEXTS)), strict=True):
        same(found, exactly(other, prompt, trie), 1e-3)


def test_a_base_in_bf16_ranks_as_it_weighs(base, trie, monkeypatch):
    monkeypatch.setattr(local_module, "dtype_on", lambda *_: torch.bfloat16)
    model = load(base, None, "cpu", max_length=1024)
    for prompt, found in zip(PROMPTS, model.beams(PROMPTS, trie, len(TEXTS)), strict=True):
        expected = dict(exactly(model, prompt, trie))
        assert len(found) == len(TEXTS)
        for path, score in found:
            assert score == pytest.approx(expected[path], abs=0.1)


def test_a_search_that_is_cut_off_goes_on_from_what_it_kept(base, trie, tmp_path):
    cached = load(base, None, "cpu", max_length=1024, cache=ResponseCache(tmp_path / "replies.sqlite"))
    first = cached.beams(PROMPTS[:1], trie, 3)
    cached._next = None
    assert cached.beams(PROMPTS[:1], trie, 3) == first
    with pytest.raises(TypeError):  # another number of beams is another question
        cached.beams(PROMPTS[:1], trie, 4)


def test_positions_alone_let_a_model_write_what_is_no_answer(model):
    paths = [(50, 60, 4), (51, 61, 4), (52, 61, 70, 4)]
    strict, loose = tries.of_paths(paths), tries.of_paths(paths, positionwise=True)
    assert strict.name != loose.name
    ended = model.beams(PROMPTS, loose, 40)
    for beams in ended:
        written = {path for path, _ in beams}
        assert written == {(a, b, *c, 4) for a in (50, 51, 52) for b in (60, 61) for c in ((), (70,))}
        assert {path for path in written if path in loose.places} == set(paths)
    (left_out,) = model.beams(PROMPTS[:1], loose, 40, excluded=[[1]])
    assert paths[1] not in [path for path, _ in left_out]
    assert len(left_out) == 11


@settings(max_examples=60, deadline=None)
@given(PATHS, st.data())
def test_a_trie_holds_its_paths_and_blocks_what_leads_to_excluded_ones_alone(paths, data):
    trie = tries.of_paths(paths)

    def below(node, before=()):
        children = range(trie.starts[node], trie.starts[node] + trie.counts[node])
        if not trie.counts[node]:
            yield before
        for k in children:
            yield from below(trie.nodes[k], (*before, int(trie.tokens[k])))

    assert sorted(below(0)) == sorted(trie.paths)
    excluded = data.draw(st.lists(st.integers(0, len(paths) - 1), unique=True))
    blocked = set(trie.blocked(excluded).tolist())
    left = {path for place, path in enumerate(trie.paths) if place not in excluded}
    for path in trie.paths:
        for k, node in enumerate(trie.nodes_of(path), 1):
            assert (node in blocked) == (not any(one[:k] == path[:k] for one in left))


@pytest.mark.parametrize("paths", [[], [()], [(1, 2), (1, 2)], [(1,), (1, 2)]])
def test_answers_that_cannot_be_told_apart_are_refused(paths):
    with pytest.raises(InputError, match="answer"):
        tries.of_paths(paths)


def test_positions_need_an_end_that_is_one(model):
    for paths in ([(1, 2), (1, 3)], [(2, 1, 2)]):
        with pytest.raises(InputError, match="end with the same token"):
            tries.of_paths(paths, positionwise=True)


def test_a_server_cannot_search():
    with pytest.raises(InputError, match="model in this process"):
        ServedPrompts.beams(None, PROMPTS, None, 3)


def test_scores_are_means_with_the_end(model, trie):
    (found,) = model.beams(PROMPTS[:1], trie, 2)
    path, score = found[0]
    (weighed,) = model.log_likelihood(PROMPTS[:1], [[TEXTS[trie.places[path]]]])
    without_end = weighed[0, 0] / weighed[0, 1]
    assert len(path) == weighed[0, 1] + 1
    assert not math.isclose(score, without_end, abs_tol=1e-6)


def test_without_a_length_penalty_the_likeliest_answer_leads(model, trie):
    means, sums = (model.beams(PROMPTS, trie, len(TEXTS), length_penalty=penalty) for penalty in (1.0, 0.0))
    for of_means, of_sums in zip(means, sums, strict=True):
        whole = {path: score * len(path) for path, score in of_means}
        assert [score for _, score in of_sums] == sorted(whole.values(), reverse=True)
        assert dict(of_sums) == pytest.approx(whole, abs=1e-5)
