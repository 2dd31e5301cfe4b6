"""Training on bases of other shapes than Llama's: which layers learn, how rows stand in a batch, what is refused."""

import json

import pytest
from safetensors.torch import load_file
from shapes import GROUPED, WINDOW, make_base
from test_sft import SMALL, loss_and_gradients, rows_for, train_rows, trainer_for

from reason4rec.errors import InputError
from reason4rec.llm.base_files import read_config
from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS
from reason4rec.training import sft
from reason4rec.training.batches import can_lay_end_to_end
from reason4rec.training.modules import check_adapter
from reason4rec.training.recipe import TARGET_MODULES

PARTIAL = {
    "phi3": ("Phi3Config", {"num_key_value_heads": 2}, {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
    "neox": ("GPTNeoXConfig", {}, {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
    "gpt2": ("GPT2Config", {"n_inner": 128}, {"c_attn", "c_proj", "c_fc"}),
    "starcoder2": (
        "Starcoder2Config",
        {"num_key_value_heads": 2},
        {"q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"},
    ),
    "lfm2": (
        "Lfm2Config",
        {"num_key_value_heads": 2, "num_hidden_layers": 3, "full_attn_idxs": [1]},
        {"q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3"},
    ),
}
WINDOWED = {
    "mistral": ("MistralConfig", GROUPED | WINDOW),
    "gemma2": ("Gemma2Config", GROUPED | WINDOW),
    "gemma3": ("Gemma3TextConfig", GROUPED | WINDOW | {"num_hidden_layers": 6}),
}


@pytest.mark.parametrize("shape", PARTIAL)
def test_an_adapter_was_put_on_a_part_of_the_layers_or_on_none_where_they_have_other_names(
    base, tmp_path, shape, capsys
):
    config, values, expected = PARTIAL[shape]
    folder = make_base(tmp_path / "base", base, config, **values)
    out = tmp_path / "adapter"
    train_rows(folder, out, rows_for("Predictor", 4), capsys)
    assert set(json.loads((out / "settings.json").read_text())["target_modules"]) == expected
    saved = load_file(out / "adapter_model.safetensors")
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in saved if ".lora_" in name} == expected
    assert all(tensor.abs().max() > 0 for name, tensor in saved.items() if ".lora_B" in name)
    assert sum("lora" not in name for name in saved) == 1  # the head
    model = load(folder, out, device="cpu")
    assert model.choice_probabilities([Prompt("text")], RATINGS, RATING_PREFIX).sum() == pytest.approx(1)


def test_llamas_layers_are_named_as_they_always_were(base, tmp_path, capsys):
    assert check_adapter(read_config(base), base, lm_head=True) == TARGET_MODULES
    train_rows(base, tmp_path / "adapter", rows_for("Predictor", 4), capsys)
    settings = json.loads((tmp_path / "adapter" / "settings.json").read_text())
    assert settings["target_modules"] == list(TARGET_MODULES)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        ("MixtralConfig", GROUPED | {"num_local_experts": 4}),
        ("Mamba2Config", {"num_heads": 8, "head_dim": 16, "state_size": 8, "n_groups": 1}),
    ],
)
def test_a_base_whose_layers_cannot_all_be_trained_is_refused_by_name_before_it_is_loaded(
    base, tmp_path, capsys, config, values
):
    folder = make_base(tmp_path / "odd_base", base, config, **values)
    with pytest.raises(InputError, match="odd_base: "):
        train_rows(folder, tmp_path / "adapter", rows_for("Predictor", 4), capsys)
    assert "loading" not in capsys.readouterr().out
    assert not list(tmp_path.glob(".adapter*"))


@pytest.mark.parametrize("shape", WINDOWED)
def test_a_base_with_a_window_was_not_trained_unless_its_rows_were_padded_by_an_option(base, tmp_path, shape, capsys):
    config, values = WINDOWED[shape]
    folder = make_base(tmp_path / "base", base, config, **values)
    out = tmp_path / "adapter"
    summary, _ = train_rows(folder, out, rows_for("Predictor", 4), capsys)
    assert summary["steps"] == 1
    assert json.loads((out / "settings.json").read_text())["padding_free"] is False
    trainer = trainer_for(rows_for("Predictor", 4), folder, tmp_path / "training", padding_free=False)
    together, _ = loss_and_gradients(trainer, range(4))
    weights = [sum(label != -100 for label in trainer.train_dataset[k]["labels"]) for k in range(4)]
    alone = [loss_and_gradients(trainer, [k])[0] * weight for k, weight in enumerate(weights)]
    assert together == pytest.approx(sum(alone) / sum(weights), rel=1e-5)


@pytest.mark.parametrize(
    ("config", "values", "can"),
    [
        (None, {}, True),
        ("Qwen3Config", GROUPED, True),
        ("Phi3Config", {"num_key_value_heads": 2}, True),
        ("MistralConfig", GROUPED | WINDOW, False),
        ("NemotronConfig", {"num_key_value_heads": 2}, False),  # keeps the lengths of rows to itself
        ("BloomConfig", {"n_head": 4, "n_layer": 2}, False),
    ],
)
def test_rows_are_laid_end_to_end_where_a_base_attends_so_that_they_can_be(base, tmp_path, config, values, can):
    assert can_lay_end_to_end(read_config(make_base(tmp_path / "base", base, config, **values))) == can


def test_an_option_that_the_base_cannot_heed_is_refused_before_the_base_is_loaded(base, tmp_path):
    folder = make_base(tmp_path / "base", base, "MistralConfig", **GROUPED, **WINDOW)
    execution = sft.execution_of(4, "cpu", padding_free=True)
    with pytest.raises(InputError, match="--padding_free: .*base"):
        sft.suited(execution, sft.settings_of("any", SMALL, folder, 1024))
