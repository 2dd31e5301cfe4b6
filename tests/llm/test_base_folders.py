"""What is no base model, or one that cannot be used, is named in one line before anything is loaded or asked."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from shapes import change_json, make_base
from test_local import on_one_target
from test_sft import rows_for, train_rows

from reason4rec.data.history import Entry, History
from reason4rec.errors import InputError
from reason4rec.llm.bases import load_base
from reason4rec.llm.local import load
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS


def only(folder, *names):
    for path in list(folder.iterdir()):
        if path.name not in names:
            path.unlink()


def quantized(method, **more):
    return lambda folder: change_json(folder, "config.json", quantization_config={"quant_method": method, **more})


def as_pickles(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def as_gguf(folder):
    only(folder)
    (folder / "model.Q4_K_M.gguf").write_bytes(b"GGUF" + b"\0" * 100)


def as_adapter(folder):
    only(folder, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "any"}')


def without_a_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


FOLDERS = {
    "gptq": (quantized("gptq", bits=4, group_size=128), "gptq"),
    "awq": (quantized("awq", bits=4, group_size=128), "awq"),
    "fp8": (quantized("fp8"), "fp8"),
    "eight_bits": (quantized("bitsandbytes", load_in_8bit=True, load_in_4bit=False), "8 bits"),
    "gguf": (as_gguf, "GGUF"),
    "adapter": (as_adapter, "is an adapter"),
    "pickles": (as_pickles, "pickles"),
    "no_weights": (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
    "no_config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "no_tokenizer": (lambda folder: only(folder, "config.json", "model.safetensors"), "tokenizer"),
    "own_code": (
        lambda folder: change_json(folder, "config.json", model_type="myllama", auto_map={"AutoConfig": "c.C"}),
        "code of its own",
    ),
    "unknown": (lambda folder: change_json(folder, "config.json", model_type="myllama"), "cannot be loaded"),
    "no_writer": (lambda folder: change_json(folder, "config.json", model_type="t5"), "cannot be loaded|write no text"),
    "odd_setting": (lambda folder: change_json(folder, "config.json", hidden_size="wide"), "cannot be loaded"),
    "other_sizes": (lambda folder: change_json(folder, "config.json", intermediate_size=96), "config.json says"),
    "lacking": (without_a_weight, "1 weights are missing"),
    "cut_weights": (cut("model.safetensors", 5000), "cannot be loaded"),
    "cut_config": (cut("config.json", 50), "config.json"),
    "no_object": (lambda folder: (folder / "config.json").write_text("[]"), "config.json"),
    "cut_tokenizer": (cut("tokenizer.json", 500), "tokenizer"),
    "no_template": (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_that_cannot_be_a_base_ended_in_a_traceback_or_in_words_of_a_library(base, tmp_path, kind, capsys):
    folder = tmp_path / "my_base"
    shutil.copytree(base, folder)
    change, said = FOLDERS[kind]
    change(folder)
    with pytest.raises(InputError, match=said) as asked:
        load(str(folder), None, "cpu")
    with pytest.raises(InputError, match=said) as trained:
        train_rows(str(folder), tmp_path / "adapter", rows_for("Predictor", 4), capsys)
    for error in (asked, trained):
        assert "my_base" in str(error.value)
        assert len(str(error.value)) < 300 + len(str(tmp_path))
        assert "\n" not in str(error.value)


def test_a_base_with_tied_embeddings_or_in_several_files_lacks_nothing(base, tmp_path):
    tied = tmp_path / "tied"
    shutil.copytree(base, tied)
    weights = load_file(tied / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tied / "model.safetensors", {"format": "pt"})
    change_json(tied, "config.json", tie_word_embeddings=True)
    load_base(str(tied), "cpu")
    sharded = tmp_path / "sharded"
    shutil.copytree(base, sharded)
    whole = load_file(sharded / "model.safetensors")
    (sharded / "model.safetensors").unlink()
    names = sorted(whole)
    index = {}
    for k, part in enumerate((names[::2], names[1::2])):
        save_file({name: whole[name] for name in part}, sharded / f"model-{k}.safetensors", {"format": "pt"})
        index |= dict.fromkeys(part, f"model-{k}.safetensors")
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    load_base(str(sharded), "cpu")


def long_rows():
    entries = tuple(Entry(f"Old Album {k}", 4.0, "Positive Aspects: mood") for k in range(20))
    prompt = prompts.predictor("Album", "Paper Rain", History(entries, entries, 4.0, 4.0), "It fits.")
    return [training_row(prompt, prompts.rating_answer(4)), *rows_for("Summarizer", 3)]


@pytest.mark.parametrize(
    ("config", "tokenizer", "expected"),
    [(320, 8192, 320), (8192, 320, 320), (8192, 10**30, None), (4096, 2, None)],
)
def test_rows_longer_than_the_base_reads_were_trained_and_asked(base, tmp_path, capsys, config, tokenizer, expected):
    folder = make_base(tmp_path / "short_base", base)
    change_json(folder, "config.json", max_position_embeddings=config)
    change_json(folder, "tokenizer_config.json", model_max_length=tokenizer)
    out = tmp_path / "adapter"
    summary, printed = train_rows(folder, out, long_rows(), capsys)
    assert summary["rows_shortened"] == (expected is not None)
    assert printed.out.count("short_base reads at most 320 tokens") == (expected is not None)
    settings = json.loads((out / "settings.json").read_text())
    assert settings["max_length"] == (expected or 1024)
    model = load(folder, out, "cpu")
    said = capsys.readouterr().out
    assert model.max_length == (expected or 4096)
    assert said.count("reads at most 320 tokens") == (expected is not None)
    widest = []
    model.model.register_forward_pre_hook(
        lambda module, args, inputs: widest.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    entries = tuple(Entry(f"Old Album {k}", 4.0, "Positive Aspects: mood") for k in range(20))
    asked = [prompts.predictor("Album", "Paper Rain", History(entries, entries, 4.0, 4.0))]
    model.choice_probabilities([*asked, *on_one_target(n=1)], RATINGS, RATING_PREFIX)
    assert model.shortened == (expected is not None)
    assert (max(widest) <= 320) == (expected is not None)
