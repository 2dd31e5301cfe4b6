"""Reinforcement learning of an adapter in groups (GRPO), from one that is trained already, in one process or several.

A training that is cut off goes on from its last complete checkpoint and ends as an unbroken one does.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm.adapters import adapter_settings, base_of, is_full
from reason4rec.llm.prompt import Prompt
from reason4rec.run import files
from reason4rec.training import trackers
from reason4rec.training.adapters import keep_updates, save, sha256_of_weights, start_from, trained_weights
from reason4rec.training.policy import SCHEDULE, Policy, prompts_of_each, recorded
from reason4rec.training.processes import started, together
from reason4rec.training.recipe import OPTIMIZER, SAVE_MINUTES, Recipe
from reason4rec.training.rollouts import Advantages, Part, z_scores
from reason4rec.training.sft import (
    drop_incomplete,
    is_sharded,
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
    from reason4rec.training.watching import Keep

OF_START = ("base_model", "base_sha256", "max_length", "target_modules", "rank", "alpha", "dropout", "lm_head")
CURVE = ("step", "reward", "kl", "entropy", "groups/equal", "groups/spread", "grad_norm")
CURVE += ("draws/gap", "completions/mean_length", "completions/clipped_ratio", "clip_ratio/region_mean")


@dataclass(frozen=True)
class Validation:
    """What a policy is measured on while it is trained: `watching.Watched` with prompts in the place of token ids."""

    prompts: Sequence[Prompt]
    rows: Sequence[Mapping]
    parts: Sequence[Part]
    every: int
    keep: "Keep"

    def recorded(self) -> dict[str, object]:
        """What of it decides the weights, by the names in the record."""
        return {"prompts": len(self.prompts), "every": self.every, "keep": self.keep}


@dataclass(frozen=True)
class Task:
    """What a policy learns: the prompts, what the reward sees of each, the parts of the reward, and the advantages.

    `validation` is what it is measured on.
    """

    prompts: Sequence[Prompt]
    rows: Sequence[Mapping]
    parts: Sequence[Part]
    advantages: Advantages = z_scores
    validation: Validation | None = None


def settings_of(
    adapter: str,
    start: Path,
    policy: Policy,
    reward: Mapping[str, float],
    advantages: Advantages = z_scores,
    watched: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """All that decides the weights of a policy, by the names in its record.

    `reward` has the weight of each part, `watched` what `Validation.recorded` gives.

    InputError if `start` is no trained adapter, or one that a policy cannot begin from, and where groups are compared
    by a part that the reward lacks.
    """
    if policy.spread_of is not None and policy.spread_of not in reward:
        raise InputError(f"spread_of {policy.spread_of!r}: the reward has no such part; there are {', '.join(reward)}")
    was = adapter_settings(start)
    if missing := [name for name in OF_START if name not in was]:
        raise InputError(f"{start}: its settings lack {', '.join(missing)}; train it again")
    if was["lm_head"]:
        raise InputError(f"{start}: has an output head of its own, which is not trained by a reward; train it without")
    if policy.max_new_tokens >= was["max_length"]:
        raise InputError(
            f"{policy.max_new_tokens} tokens of the longest draw leave no room for a prompt in rows of "
            f"{was['max_length']}, with which {start} was trained; take fewer"
        )
    return (
        {name: was[name] for name in OF_START}
        | {name: was[name] for name in ("new_tokens", "full") if name in was}
        | recorded(policy)
        | {"adapter": adapter, "started_from": sha256_of_weights(start)}
        | {"reward": dict(reward), "advantages": advantages.__name__, "optimizer": OPTIMIZER, "schedule": SCHEDULE}
        | ({"watched": dict(watched)} if watched else {})
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
    seen: Mapping[str, object] | None = None,
    draw_at: str = "",
) -> dict[str, float] | None:
    """Trains the adapter `start` further and writes the result to `out`; None in all processes but the main one.

    Where several were launched together, each of them has to call it: they share the prompts of a step. `seen` goes
    into the record and decides nothing; `draw_at` is the address of a server that draws. Returns `rows_shortened`,
    `steps`, and the `first_reward` and `last_reward`: means of the first and of the last tenth of the steps, which are
    of different prompts. With a validation also the `kept_step`, and the mean reward on its prompts before the training
    and at that step. InputError for what a user can mend; an interrupted training says what is kept of it.
    """
    state, folder = started(device), training_folder(out)
    execution = execution_of(device, state.num_processes, draw_at)
    together(state, lambda: check_start(policy, state.num_processes, start, draw_at))
    together(state, lambda: state.is_main_process and files.check_place(out))
    together(state, lambda: state.is_main_process and prepare_folder(folder, provenance | {"execution": execution}))

    def ready() -> tuple["GroupTrainer", int]:
        settings = provenance["settings"] | {"base_model": base_of(start, provenance["settings"]["base_model"])}
        trainer, shortened = build_trainer(
            settings,
            start,
            policy,
            task,
            seed,
            folder,
            device,
            save_minutes,
            state.num_processes,
            draw_at,
        )
        trackers.tell(trainer, report_to, out)
        return trainer, shortened

    trainer, shortened = together(state, ready)
    together(state, lambda: state.is_main_process and drop_incomplete(folder))
    with write_failures(out), said_when_interrupted(folder):
        trainer.train(resume_from_checkpoint=last_complete(folder))
        if not state.is_main_process:
            return None
        found = save_policy(trainer, task.validation, folder, out, provenance | dict(seen or {}), execution)
    return {"rows_shortened": shortened, "steps": trainer.state.global_step, **found}


def save_policy(
    trainer: "GroupTrainer",
    validation: Validation | None,
    folder: Path,
    out: Path,
    provenance: dict,
    execution: dict[str, object],
) -> dict[str, float]:
    """Writes the weights that are to be kept to `out`, removes the training's folder, and tells the rewards."""
    curve = curve_of(trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    found = kept_of(trainer, validation, folder)
    weights = trained_weights(model)
    if "ref" in model.peft_config:
        model.delete_adapter("ref")
    save(model, weights, trainer.processing_class, out, provenance, execution, curve)
    shutil.rmtree(folder)
    if trainer.server is not None:
        trainer.server.close()
    return ends_of(curve) | found


def execution_of(device: str, processes: int, draw_at: str = "") -> dict[str, object]:
    """How a policy is trained, by the names in its record; of processes only where there are several."""
    found = {"device": device, "engine": "transformers", "dtype": dtype_of(device)}
    found |= {"processes": processes} if processes > 1 else {}
    return found | ({"draws": "vllm"} if draw_at else {})


def ends_of(curve: Sequence[Mapping]) -> dict[str, float]:
    """The mean rewards of the first and of the last tenth of the steps of a curve."""
    rewards = [entry["reward"] for entry in curve if "reward" in entry]
    part = max(1, len(rewards) // 10)
    return {
        "first_reward": round(sum(rewards[:part]) / part, 4),
        "last_reward": round(sum(rewards[-part:]) / part, 4),
    }


def check_start(policy: Policy, processes: int, start: Path, draw_at: str = "") -> None:
    """InputError where so many processes or a launcher that shards cannot train a policy, or no server draws for it."""
    from reason4rec.training.draw_server import DrawServer

    prompts_of_each(policy, processes)
    if is_sharded():
        raise InputError("a policy needs its base whole in each process: launch it without FSDP, as ddp.yaml does")
    if draw_at and is_full(start):
        raise InputError(f"--draw_at {draw_at}: a server loads adapters, and all weights were trained; draw in process")
    if draw_at:
        DrawServer(draw_at, Path()).check()


def kept_of(trainer: "GroupTrainer", validation: Validation | None, folder: Path) -> dict[str, float]:
    """Gives the policy the weights that are to be kept; which step's they are, and the rewards that were watched."""
    from reason4rec.training.watching import REWARD, best_of, take_best

    measured = [entry for entry in trainer.state.log_history if REWARD in entry]
    if validation is None:
        return {}
    kept = measured[-1]
    if validation.keep == "best":
        kept = best_of(measured)
        take_best(trainer.accelerator.unwrap_model(trainer.model), folder, kept["step"])
    first, last = measured[0][REWARD], kept[REWARD]
    return {"kept_step": kept["step"], "watched_first": round(first, 4), "watched_kept": round(last, 4)}


def curve_of(trainer: "GroupTrainer") -> list[dict]:
    """What was logged: of each step reward, parts, divergence, lengths and equal groups; what was watched."""
    return [
        {key: entry[key] for key in sorted(entry) if key in CURVE or key.startswith(("rewards/", "watched/"))}
        for entry in trainer.state.log_history
        if "reward" in entry or "watched/reward" in entry
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
    processes: int = 1,
    draw_at: str = "",
) -> tuple["GroupTrainer", int]:
    """A trainer that is ready to train, in one of so many processes, and how many prompts lost history to fit.

    It has the base in 4 bits with the adapter `start` on it twice: to train, and as it was.
    """
    from reason4rec.llm.tokens import encode
    from reason4rec.training.callbacks import MarkComplete, SaveByTime
    from reason4rec.training.draw_server import DrawServer
    from reason4rec.training.group_trainer import GroupTrainer, config_of, order_of
    from reason4rec.training.trainer import show_progress
    from reason4rec.training.watching import Watch, Watched

    model, tokenizer = policy_model(settings, policy, seed, device, processes)
    longest = settings["max_length"] - policy.max_new_tokens
    encoded = [encode(tokenizer, prompt, longest) for prompt in task.prompts]
    rounds = policy.steps // policy.iterations
    trainer = GroupTrainer(
        model,
        tokenizer,
        [ids for ids, _ in encoded],
        task.rows,
        order_of(len(encoded), rounds * policy.prompts_a_step, seed),
        task.parts,
        task.advantages,
        policy,
        DrawServer(draw_at, folder / "served") if draw_at else None,
        args=config_of(policy, task.parts, seed, folder, policy.group, device == "cpu", processes),
        # A draw that is learned from again cannot be kept.
        callbacks=[MarkComplete(), SaveByTime(save_minutes, epochs_are_saved=False, every=policy.iterations)],
    )
    # In this order: trl makes the copy before it casts what is trained to bf16.
    keep_updates(trainer.model)
    start_from(trainer.model, start, settings)
    copy_to_reference(trainer.model)
    if on := task.validation:
        watched = [encode(tokenizer, prompt, longest)[0] for prompt in on.prompts]
        trainer.add_callback(Watch(trainer, Watched(watched, on.rows, on.parts, on.every, on.keep), folder))
    show_progress(trainer)
    return trainer, sum(cut > 0 for _, cut in encoded)


def policy_model(
    settings: dict, policy: Policy, seed: int, device: str, processes: int = 1
) -> tuple["PeftModel", "PreTrainedTokenizerBase"]:
    """The base in 4 bits with a new adapter of the shape in `settings`, and its tokenizer."""
    from peft import get_peft_model

    from reason4rec.llm.bases import check_vocabulary
    from reason4rec.llm.local import greedy
    from reason4rec.llm.tokens import load_tokenizer
    from reason4rec.training.trainer import adapter_config, model_to_train

    base = settings["base_model"]
    own = settings | {"engine": "transformers", "device": device, "processes": processes, "sharded": False}
    own |= {"padding_free": False, "dtype": dtype_of(device)}
    tokenizer = load_tokenizer(base)
    print(f"loading base model {base} in {own['dtype']}", flush=True)
    shape = {name: settings[name] for name in ("rank", "alpha", "dropout", "lm_head")}
    shape |= {name: settings.get(name, False) for name in ("new_tokens", "full")}
    recipe = Recipe(**shape, lr=policy.lr, warmup=0, epochs=1, batch_size=1)
    model = model_to_train(recipe, own, seed)
    check_vocabulary(model, tokenizer, base)
    model.generation_config = greedy(model, tokenizer)
    return get_peft_model(model, adapter_config(recipe, model, own, tokenizer)), tokenizer


def dtype_of(device: str) -> str:
    """What a policy computes in: on a CPU fp32, since the divergence is lost where its terms are rounded to bf16."""
    return "float32" if device == "cpu" else "bfloat16"


def copy_to_reference(model: object) -> None:
    """Gives the frozen copy that the divergence is from the weights that the policy begins with."""
    for name, parameter in model.named_parameters():
        # The rows of new tokens have the name of their adapter at the end.
        if "ref" in name.split("."):
            parameter.data = model.get_parameter(re.sub(r"\.ref\b", ".default", name)).detach().clone()
