"""Measures a policy on the same prompts again and again while it is trained, and keeps the weights of the best step.

The mean reward of a step is of other prompts than that of the next. These prompts stay the same and are answered
greedily, so that what changes is the policy. Several processes share them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from reason4rec.run import files
from reason4rec.training.processes import together
from reason4rec.training.rollouts import Part, scores_of, total

if TYPE_CHECKING:
    from reason4rec.training.group_trainer import GroupTrainer

REWARD = "watched/reward"
AT_ONCE = 16  # prompts

Keep = Literal["best", "last"]


@dataclass(frozen=True)
class Watched:
    """What a policy is measured on: prompts of the validation as token ids, the row of each, and its reward's parts.

    It is measured before the first step and after each of `every` steps and the last one. `keep` says whose weights
    are kept in the end: those of the step with the highest mean reward, the first of several, or of the last step.
    """

    encoded: Sequence[list[int]]
    rows: Sequence[Mapping]
    parts: Sequence[Part]
    every: int
    keep: Keep


class Watch(TrainerCallback):
    """Measures at its steps, notes the means in the trainer's log, and puts the best weights beside its checkpoints.

    All processes note the same means, and the main one writes the weights.
    """

    def __init__(self, trainer: "GroupTrainer", watched: Watched, folder: Path):
        self.trainer, self.watched, self.folder = trainer, watched, folder

    def on_train_begin(self, args, state, control, **_):
        if state.global_step == 0:
            self._measure(state)

    def on_step_end(self, args, state, control, **_):
        if state.global_step % self.watched.every == 0 or state.global_step == state.max_steps:
            self._measure(state)

    def _measure(self, state: object) -> None:
        processes = PartialState()
        mine = together(processes, lambda: self._scores(processes.process_index, processes.num_processes))
        scores = np.array(gather_object(mine))
        reward = float(total(self.watched.parts, scores).mean())
        best = best_of(state.log_history)
        named = {f"watched/{part.name}": float(scores[:, k].mean()) for k, part in enumerate(self.watched.parts)}
        state.log_history.append({"step": state.global_step, REWARD: reward, **named})
        is_best = self.watched.keep == "best" and (best is None or reward > best[REWARD])
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        together(
            processes,
            lambda: is_best and processes.is_main_process and keep_best(model, self.folder, state.global_step),
        )

    def _scores(self, process: int, processes: int) -> list[list[float]]:
        """The scores of the parts for the prompts that a process measures, some side by side."""
        share = [int(number) for number in np.array_split(np.arange(len(self.watched.rows)), processes)[process]]
        if not share:
            return []
        written = self._written([self.watched.encoded[number] for number in share])
        rollouts = [self.trainer.rollout(self.watched.rows[k], ids) for k, ids in zip(share, written, strict=True)]
        return scores_of(self.watched.parts, rollouts).tolist()

    def _written(self, encoded: Sequence[list[int]]) -> list[list[int]]:
        """The token ids of the greedy completion of each prompt, with the end of the turn where it came to one."""
        trainer = self.trainer
        model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
        ends, found = set(trainer.eos_token_ids), []
        training = model.training
        model.eval()
        for start in range(0, len(encoded), AT_ONCE):
            batch = encoded[start : start + AT_ONCE]
            width = max(map(len, batch))
            ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(one)) + one for one in batch])
            mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in batch])
            # Weights that are trained in fp32 are cast as they are in an update.
            with torch.no_grad(), trainer.accelerator.autocast():
                out = model.generate(
                    input_ids=ids.to(model.device),
                    attention_mask=mask.to(model.device),
                    max_new_tokens=trainer.policy.max_new_tokens,
                    do_sample=False,
                    use_cache=True,
                )
            for row in out[:, width:].tolist():
                end = next((k + 1 for k, token in enumerate(row) if token in ends), len(row))
                found.append(row[:end])
        model.train(training)
        return found


def best_of(log: Sequence[Mapping]) -> Mapping | None:
    """The entry of a log in which the mean reward on the watched prompts is highest, the first of several."""
    return max((entry for entry in log if REWARD in entry), key=lambda entry: entry[REWARD], default=None)


def keep_best(model: object, folder: Path, step: int) -> None:
    """Writes the weights of an adapter after a step beside its checkpoints, whole or not at all.

    Each step has a file of its own: a training that goes on from an earlier checkpoint may take another path.
    """
    # Copies, since a head that is tied to the embedding is saved beside it.
    weights = {
        name: weight.detach().to("cpu", copy=True).contiguous()
        for name, weight in get_peft_model_state_dict(model).items()
    }
    with files.atomic_write(best_path(folder, step)) as staged:
        save_file(weights, staged)


def take_best(model: object, folder: Path, step: int) -> None:
    """Gives an adapter the weights that `keep_best` wrote after a step."""
    set_peft_model_state_dict(model, load_file(best_path(folder, step)))


def best_path(folder: Path, step: int) -> Path:
    """Where the weights of a step lie that was the best so far."""
    return folder / f"best-{step}.safetensors"
