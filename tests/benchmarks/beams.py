"""How long a beam search along a trie takes beside one without, and what a step of it costs.

    python tests/benchmarks/beams.py --items 6149 --prompts 64

Extends a base (the demo's) by the tokens of semantic ids, makes ids of so many items at random, and searches for the
same prompts: along the trie, by positions alone, with any token allowed, and with transformers' own search.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from reason4rec.llm import trie as tries
from reason4rec.llm import vocabulary
from reason4rec.llm.base import resolve_device
from reason4rec.llm.local import LocalModel, load
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.rows import packed
from reason4rec.llm.tokens import chat_ids

LEVELS, CODES, HISTORY = 4, 256, 20


def anything(vocabulary_size: int, depth: int) -> tries.Trie:
    """A trie without paths in which every token may follow, `depth` of them."""
    nodes = np.repeat(np.arange(1, depth + 1), vocabulary_size)
    starts = np.append(np.arange(depth), depth) * vocabulary_size
    counts = np.append(np.full(depth, vocabulary_size), 0)
    return tries.Trie((), starts, counts, np.tile(np.arange(vocabulary_size), depth), nodes, depth, positionwise=True)


def by_transformers(model: LocalModel, prompts: list[Prompt], num_beams: int, depth: int, at_once: int) -> None:
    """The search of transformers, with any token allowed."""
    rows = [packed(chat_ids(model.tokenizer, prompt.text)) for prompt in prompts]
    for start in range(0, len(rows), at_once):
        ids, mask = model._padded(rows[start : start + at_once])
        with torch.inference_mode():
            model.model.generate(
                ids, attention_mask=mask, num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=depth
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=str(Path(__file__).parents[2] / "reason4rec" / "demo" / "base"))
    parser.add_argument("--items", type=int, default=6149)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--beams", type=int, default=10)
    parser.add_argument("--at_once", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    codes = rng.integers(1, CODES + 1, (given.items, LEVELS))
    items = sorted({"".join(f"<|{level}_{code}|>" for level, code in zip("abcd", row)) for row in codes})
    prompts = [
        Prompt(f"The user bought {', '.join(rng.choice(items, HISTORY))}. Which item comes next?")
        for _ in range(given.prompts)
    ]
    with tempfile.TemporaryDirectory() as made:
        tokens = [f"<|{level}_{code}|>" for level in "abcde" for code in range(1, CODES + 1)]
        vocabulary.extend(given.base, tokens, Path(made) / "base")
        device = resolve_device(given.device)
        model = load(str(Path(made) / "base"), None, device, max_length=1024, prompts_at_once=given.at_once)
    start = time.perf_counter()
    trie = tries.of_texts(model.tokenizer, items)
    print(f"trie of {len(items):,} items, {len(trie.starts):,} nodes: {time.perf_counter() - start:.2f} s")
    loose = tries.of_paths(trie.paths, positionwise=True)
    free = anything(model.model.get_input_embeddings().weight.shape[0], trie.depth)
    searches = {
        "along the trie": lambda: model.beams(prompts, trie, given.beams, what=""),
        "by positions": lambda: model.beams(prompts, loose, given.beams, what=""),
        "any token": lambda: model.beams(prompts, free, given.beams, what=""),
        "transformers, any token": lambda: by_transformers(model, prompts, given.beams, trie.depth, given.at_once),
    }
    times: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(given.rounds):
        for name, search in searches.items():
            start = time.perf_counter()
            search()
            times[name].append(time.perf_counter() - start)
    base = min(times["any token"])
    for name, of in times.items():
        print(f"{name:>24}: {1000 * min(of) / len(prompts):7.2f} ms a prompt, {min(of) / base:5.2f} of any token")


if __name__ == "__main__":
    main()
