"""What the base of the demo of sequences learns from, and that it can do what it learned."""

import re

import numpy as np
import pytest
import torch
from helpers import ROOT

from reason4rec.demo import pretrain_lists
from reason4rec.systems.twice_rec.facts import DEMO_LISTS
from reason4rec.systems.twice_rec.replies import read


def lines_of(prompt):
    return [line.removeprefix("- ").split(" | ") for line in prompt.split("\n") if line.startswith("- ")]


def words_of(text):
    return set(re.findall(r"[a-z]+", text)) - {"and"}


@pytest.mark.parametrize("task", ["named", "thought"])
def test_the_answer_is_the_one_candidate_that_offers_what_is_asked_for(task):
    rng = np.random.default_rng(0)
    for _ in range(50):
        prompt, answer = pretrain_lists.example(rng, task, 10)
        wanted = words_of(re.search(r"offers (.*)\. Name", prompt)[1])
        fitting = [(title, item) for title, item, offered in lines_of(prompt) if wanted <= words_of(offered)]
        found = read(answer, rationale=task == "thought")
        assert found.well_formed
        assert fitting == [(found.title, found.item_id)]


def test_what_items_have_in_common_is_what_comes_most_often():
    rng = np.random.default_rng(1)
    for _ in range(50):
        prompt, answer = pretrain_lists.example(rng, "common", 10)
        offered = [words_of(one[2]) for one in lines_of(prompt)]
        times = {word: sum(word in one for one in offered) for word in set().union(*offered)}
        named = words_of(answer)
        assert len(named) == 3
        others = [n for word, n in times.items() if word not in named]
        assert min(times[word] for word in named) >= max(others, default=0)


def test_ids_and_titles_are_drawn_anew_for_each_list():
    rng = np.random.default_rng(2)
    items = [item for _ in range(40) for item, _ in pretrain_lists.items_of(rng, 10)]
    ids_of = {}
    for item in items:
        ids_of.setdefault(item.title, set()).add(item.item_id)
    assert max(map(len, ids_of.values())) > 1


def test_the_shipped_base_names_what_stands_in_the_list():
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer, model = (one.from_pretrained(ROOT / DEMO_LISTS) for one in (PreTrainedTokenizerFast, LlamaForCausalLM))
    model, rng, named = model.float(), np.random.default_rng(7), []
    for _ in range(12):
        prompt, _ = pretrain_lists.example(rng, "thought", 10)
        ids, _ = pretrain_lists.encode(tokenizer, prompt, "")
        out = model.generate(torch.tensor([ids[:-1]]), max_new_tokens=80, do_sample=False)
        found = read(tokenizer.decode(out[0, len(ids) - 1 :], skip_special_tokens=True))
        named.append(found.title in [title for title, *_ in lines_of(prompt)] and found.title in found.think)
    assert np.mean(named) > 0.7
