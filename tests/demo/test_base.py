"""The shipped base model: small, safe, and already at home in a world that it never saw."""

from pathlib import Path

from reason4rec.demo.pretrain import Examples, exact_matches
from reason4rec.llm.bases import load_base
from reason4rec.llm.tokens import load_tokenizer


def test_the_base_is_safetensors_of_at_most_8_megabytes(base):
    files = list(Path(base).iterdir())
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".pkl", ".py")]
    assert Path(base, "model.safetensors").is_file()


def test_the_base_in_four_bits_reads_and_argues_about_users_that_it_never_saw(base):
    found = exact_matches(load_base(base, "cpu"), load_tokenizer(base), Examples(31, 120, 60, 8), longest=4, rows=24)
    assert found["verdict"] >= 0.75
    assert found["reasoner"] >= 0.6
    assert found["summarizer"] >= 0.3


def test_the_tokenizer_writes_digits_and_aspects_as_single_tokens(base):
    tokenizer = load_tokenizer(base)
    for word in ("1", "2", "3", "4", "5", " melody", " artwork", " production"):
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1, word
