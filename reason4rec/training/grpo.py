"""Reinforcement learning of an adapter in groups (GRPO), from one that is trained already.

A training that is cut off goes on from its last complete checkpoint and ends as an unbroken one does.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.prompt import Prompt
from reason4rec.run import files
from reason4rec.training import trackers
from reason4rec.training.adapters import keep_updates, save, sha256_of_weights, start_from, trained_weights
from reason4rec.training.policy import Policy
from reason4rec.training.recipe import SAVE_MINUTES, Recipe
from reason4rec.training.rollouts import Advantages, Part, z_scores
from reason4rec.training.sft import (
    drop_incomplete,
    last_complete,
    prepare_folder,
    said_when_interrupted,
    training_folder,
    write_failures,
)

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from reason4rec.training.group_trainer import GroupTrainer

OF_START = ("base_model", "base_sha256", "max_length", "target_modules", *Recipe.__dataclass_fields__)
CURVE = ("step", "reward", "reward_std", "kl", "entropy", "groups/equal", "completions/mean_length", "grad_norm")


@dataclass(frozen=True)
class Task:
    """What a policy learns: the prompts, what the reward sees of each, the parts of the reward, and the advantages."""

    prompts: Sequence[Prompt]
    rows: Sequence[Mapping]
    parts: Sequence[Part]
    advantages: Advantages = z_scores


def settings_of(adapter: str, start: Path, policy: Policy, parts: Sequence[Part]) -> dict[str, object]:
    """All that decides the weights of a policy, by the names in its record; InputError if `start` is no adapter."""
    was = adapter_settings(start)
    if missing := [name for name in OF_START if name not in was]:
        raise InputError(f"{start}: its settings lack {', '.join(missing)}; train it again")
    return (
        {name: was[name] for name in OF_START}
        | asdict(policy)
        | {"adapter": adapter, "started_from": sha256_of_weights(start)}
        | {"reward": {part.name: part.weight for part in parts}}
    )


def train_policy(
    out: Path,
    provenance: dict,
    start: Path,
    policy: Policy,
    task: Task,
    seed: int,
    device: str,
    save_minutes: float = SAVE_MINUTES,
    report_to: Sequence[trackers.Tracker] = (),
) -> dict[str, float]:
    """Trains the adapter `start` further and writes the result to `out`.

    Returns `steps` and the `first_reward` and `last_reward`: means of the first and the last tenth of the steps.
    InputError for what a user can mend; an interrupted training says what is kept of it.
    """
    files.check_place(out)
    folder = training_folder(out)
    execution = {"device": device, "engine": "transformers"}
    prepare_folder(folder, provenance | {"execution": execution})
    trainer = build_trainer(provenance["settings"], start, policy, task, seed, folder, device, save_minutes)
    trackers.tell(trainer, report_to, out)
    drop_incomplete(folder)
    with write_failures(out), said_when_interrupted(folder):
        trainer.train(resume_from_checkpoint=last_complete(folder))
        curve = curve_of(trainer)
        model = trainer.accelerator.unwrap_model(trainer.model)
        weights = trained_weights(model)
        if "ref" in model.peft_config:
            model.delete_adapter("ref")
        save(model, weights, trainer.processing_class, out, provenance, execution, curve)
    shutil.rmtree(folder)
    rewards = [entry["reward"] for entry in curve]
    part = max(1, len(rewards) // 10)
    return {
        "steps": trainer.state.global_step,
        "first_reward": round(sum(rewards[:part]) / part, 4),
        "last_reward": round(sum(rewards[-part:]) / part, 4),
    }


def curve_of(trainer: "GroupTrainer") -> list[dict]:
    """What was logged of each step: the reward and its parts, the divergence, lengths, equal groups."""
    return [
        {key: entry[key] for key in sorted(entry) if key in CURVE or key.startswith("rewards/")}
        for entry in trainer.state.log_history
        if "reward" in entry
    ]


def build_trainer(
    settings: dict,
    start: Path,
    policy: Policy,
    task: Task,
    seed: int,
    folder: Path,
    device: str,
    save_minutes: float = SAVE_MINUTES,
) -> "GroupTrainer":
    """A trainer that is ready to train: the base in 4 bits with the adapter `start` on it, to train and as it was."""
    from reason4rec.llm.tokens import encode
    from reason4rec.training.callbacks import MarkComplete, SaveByTime
    from reason4rec.training.group_trainer import GroupTrainer, config_of, order_of
    from reason4rec.training.trainer import show_progress

    model, tokenizer = policy_model(settings, policy, seed, device)
    longest = settings["max_length"] - policy.max_new_tokens
    encoded = [encode(tokenizer, prompt, longest)[0] for prompt in task.prompts]
    trainer = GroupTrainer(
        model,
        tokenizer,
        encoded,
        task.rows,
        order_of(len(encoded), policy.steps * policy.prompts, seed),
        task.parts,
        task.advantages,
        policy.leave_out_equal,
        args=config_of(policy, task.parts, seed, folder, policy.group, device == "cpu"),
        callbacks=[MarkComplete(), SaveByTime(save_minutes, epochs_are_saved=False)],
    )
    # In this order: trl makes the copy before it casts what is trained to bf16.
    keep_updates(trainer.model)
    start_from(trainer.model, start, settings)
    copy_to_reference(trainer.model)
    show_progress(trainer)
    return trainer


def policy_model(
    settings: dict, policy: Policy, seed: int, device: str
) -> tuple["PeftModel", "PreTrainedTokenizerBase"]:
    """The base in 4 bits with a new adapter of the shape in `settings`, and its tokenizer."""
    import torch
    from peft import get_peft_model

    from reason4rec.llm.base_files import read_config
    from reason4rec.llm.bases import check_vocabulary, dtype_on
    from reason4rec.llm.local import greedy
    from reason4rec.llm.tokens import load_tokenizer
    from reason4rec.training.trainer import adapter_config, model_to_train

    base = settings["base_model"]
    dtype = str(dtype_on(device, read_config(base))).removeprefix("torch.")
    own = settings | {"engine": "transformers", "device": device, "processes": 1, "sharded": False, "dtype": dtype}
    own |= {"padding_free": False}
    tokenizer = load_tokenizer(base)
    print(f"loading base model {base} in {dtype}", flush=True)
    torch.manual_seed(seed)
    recipe = Recipe(**{name: settings[name] for name in Recipe.__dataclass_fields__ if name != "lr"}, lr=policy.lr)
    model = model_to_train(recipe, own, seed)
    check_vocabulary(model, tokenizer, base)
    model.generation_config = greedy(model, tokenizer)
    return get_peft_model(model, adapter_config(recipe, model, own)), tokenizer


def copy_to_reference(model: object) -> None:
    """Gives the frozen copy that the divergence is from the weights that the policy begins with."""
    for name, parameter in model.named_parameters():
        if ".ref." in name:
            parameter.data = model.get_parameter(name.replace(".ref.", ".default.")).detach().clone()
