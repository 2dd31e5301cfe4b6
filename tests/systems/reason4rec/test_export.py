"""The merged model: it says what base and adapter say, is checked before it takes its place, and spares other files."""

import json
import shutil
import sys

import pytest
import served
import torch
from helpers import files_in
from transformers import AutoModelForCausalLM, AutoTokenizer

from reason4rec.errors import InputError
from reason4rec.llm.bases import load_base
from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.tokens import chat_ids, load_tokenizer
from reason4rec.run import files, records
from reason4rec.systems.reason4rec import export
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS

FP32 = torch.float32


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return served.put_adapter(tmp_path_factory.mktemp("checkpoints") / "Predictor", base, lm_head=True)


@pytest.fixture(scope="module")
def merged(adapter, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "Predictor"
    return out, export.export(adapter, out, "nf4", FP32, "cpu")


def ratings_of(model, tokenizer):
    return export.log_probabilities(model, tokenizer)


def test_merged_into_the_4_bit_weights_it_is_what_was_trained(base, adapter, merged):
    out, differences = merged
    assert max(differences.values()) < 1e-4
    trained = load(base, adapter, device="cpu", max_length=1024)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.dtype == FP32
    asked = [Prompt(text) for text in export.fixed_prompts()]
    texts = trained.generate(asked, max_new_tokens=16)
    for prompt, text in zip(asked, texts):
        ids = torch.tensor([chat_ids(tokenizer, prompt.text)])
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
        assert tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip() == text
    probabilities = ratings_of(model, tokenizer).softmax(-1).numpy()
    assert abs(probabilities - trained.choice_probabilities(asked, RATINGS, RATING_PREFIX)).max() < 1e-5
    without = load(base, None, device="cpu").model
    assert (ratings_of(without, tokenizer) - ratings_of(model, tokenizer)).abs().max() > 0.1


def test_it_is_safetensors_with_tokenizer_template_and_a_record(adapter, merged):
    out, _ = merged
    names = {path.name for path in out.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja", "generation_config.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    record = records.read_record(out)
    assert record["sha256"] == files.sha256(out)
    assert record["made_from"]["inputs"] == {"adapter": files.sha256(adapter / "adapter_model.safetensors")}
    assert record["made_from"]["settings"]["merged_into"] == "nf4"


@pytest.mark.parametrize("lm_head", [True, False])
def test_a_tied_base_is_saved_untied_where_its_head_was_trained(base, tmp_path, lm_head):
    tied = tmp_path / "base"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=FP32)
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    model.save_pretrained(tied)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(f"{base}/{name}", tied)
    adapter = served.put_adapter(tmp_path / "adapter", str(tied), lm_head)
    export.export(adapter, tmp_path / "out", "16bit", FP32, "cpu")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert saved.config.tie_word_embeddings is not lm_head
    assert saved.lm_head.weight.equal(saved.model.embed_tokens.weight) is not lm_head


def test_what_no_export_wrote_is_never_replaced(adapter, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear")
    for place in (tmp_path / "mine", tmp_path / "mine" / "notes.txt", adapter):
        before = files_in(tmp_path) | files_in(adapter)
        with pytest.raises(InputError, match="name a|name another"):
            export.export(adapter, place, "nf4", FP32, "cpu", overwrite=True)
        assert files_in(tmp_path) | files_in(adapter) == before


def test_an_earlier_export_is_replaced_only_with_overwrite(adapter, merged, tmp_path):
    out = tmp_path / "Predictor"
    shutil.copytree(merged[0], out)
    shutil.copy(records.record_path(merged[0]), records.record_path(out))
    before = files_in(tmp_path)
    with pytest.raises(InputError, match="--overwrite"):
        export.export(adapter, out, "16bit", FP32, "cpu")
    assert files_in(tmp_path) == before
    differences = export.export(adapter, out, "16bit", FP32, "cpu", overwrite=True)
    # Into the weights as published: it shifts.
    assert differences["16bit base and adapter", "merged"] < 1e-4
    assert differences["4-bit base and adapter", "merged"] > 0.05
    assert records.read_record(out)["made_from"]["settings"]["merged_into"] == "16bit"
    assert {path.name for path in tmp_path.iterdir()} == {"Predictor", "Predictor.json"}


def test_a_merge_that_predicts_something_else_is_refused_and_leaves_nothing(adapter, tmp_path, monkeypatch):
    save = export.save

    def forgets_the_head(model, *rest):
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.data.zero_()
        save(model, *rest)

    monkeypatch.setattr(export, "save", forgets_the_head)
    with pytest.raises(InputError, match="differs by"):
        export.export(adapter, tmp_path / "out", "nf4", FP32, "cpu")
    assert not list(tmp_path.iterdir())


def test_a_weight_that_did_not_reach_the_disk_is_noticed(merged):
    model = AutoModelForCausalLM.from_pretrained(merged[0])
    export.compare(model, merged[0])
    model.model.norm.weight.data[0] += 1
    with pytest.raises(InputError, match=r"model\.norm\.weight"):
        export.compare(model, merged[0])
    model.extra = torch.nn.Linear(2, 2)
    model.model.norm.weight.data[0] -= 1
    with pytest.raises(InputError, match=r"extra\.weight was not saved"):
        export.compare(model, merged[0])


def test_a_base_that_changed_since_the_training_is_refused(base, adapter, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    settings = json.loads((folder / "settings.json").read_text())
    for change in ({"base_sha256": "0" * 64}, {"base_model": str(tmp_path / "gone")}):
        (folder / "settings.json").write_text(json.dumps(settings | change))
        with pytest.raises(InputError, match="put that base model back"):
            export.export(folder, tmp_path / "out", "nf4", FP32, "cpu")


def test_a_base_that_is_published_in_4_bits_could_not_be_exported(base, tmp_path):
    published = tmp_path / "published"
    load_base(base, "cpu").save_pretrained(published)
    load_tokenizer(base).save_pretrained(published)
    adapter = served.put_adapter(tmp_path / "adapter", base, lm_head=True)
    settings = {"base_model": str(published), "base_sha256": files.sha256(published), "max_length": 1024}
    (adapter / "settings.json").write_text(json.dumps(settings))
    export.export(adapter, tmp_path / "out", "nf4", FP32, "cpu")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config
    assert not getattr(AutoModelForCausalLM.from_pretrained(tmp_path / "out"), "is_quantized", False)


def test_published_4_bit_weights_are_not_taken_for_16_bit_ones(base, tmp_path):
    quantised = tmp_path / "base"
    shutil.copytree(base, quantised)
    config = json.loads((quantised / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (quantised / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="--base nf4"):
        export.check_base(str(quantised), None, "16bit")


@pytest.mark.parametrize("there", [(), ("settings.json",)])
def test_what_is_no_adapter_is_one_line(adapter, tmp_path, monkeypatch, capsys, there):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in there:
        shutil.copy(adapter / name, folder)
    monkeypatch.setattr(sys, "argv", ["export", "--adapter", str(folder), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        export.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip().split("\n")[-1].startswith(f"error: {folder}")


def test_the_command_saves_in_16_bits_and_prints_the_largest_differences(adapter, tmp_path, monkeypatch, capsys):
    command = ["export", "--adapter", adapter, "--out", tmp_path / "out", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    monkeypatch.setattr(export.os, "umask", lambda mask: mask)
    export.main()
    said = dict(line.split(maxsplit=1)[::-1] for line in capsys.readouterr().out.splitlines()[1:4])
    assert float(said["4-bit base and adapter / 4-bit base written out, and adapter"]) == 0
    assert 1e-4 < float(said["4-bit base and adapter / merged"]) < export.TOLERANCE[torch.bfloat16]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
