"""trl's GRPO trainer with rewards and advantages that are plain functions, and prompts that are token ids already."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from peft import load_peft_weights, set_peft_model_state_dict
from trl import GRPOConfig, GRPOTrainer

from reason4rec.training.config import OneDevice
from reason4rec.training.draw_server import DrawServer, gap, seed_of
from reason4rec.training.policy import SCHEDULE, Policy, prompts_of_each
from reason4rec.training.processes import together
from reason4rec.training.recipe import OPTIMIZER
from reason4rec.training.rollouts import Advantages, Part, Rollout, has_spread, scores_of, total

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


class OneDeviceGRPOConfig(OneDevice, GRPOConfig):
    """`GRPOConfig` for one device."""


class GroupTrainer(GRPOTrainer):
    """Draws completions in groups, scores them by the parts of a reward, and learns from their advantages.

    `encoded` are the prompts' token ids, `rows` what the reward sees of each, `order` the numbers of the prompts that
    the steps take one after the other. Several processes share the prompts of a step: each draws all completions of
    its own, from a seed of its own, and the advantages are of the groups of all. With a `server` the completions are
    drawn there. The methods that are written anew here are those of the trl version that requirements.txt pins.
    """

    def __init__(
        self,
        model: "PeftModel",
        tokenizer: "PreTrainedTokenizerBase",
        encoded: Sequence[list[int]],
        rows: Sequence[Mapping],
        order: Sequence[int],
        parts: Sequence[Part],
        advantages: Advantages,
        policy: Policy,
        server: DrawServer | None = None,
        **given: object,
    ):
        self.encoded, self.rows, self.parts = encoded, rows, parts
        self.advantages, self.policy, self.server = advantages, policy, server
        self._scores = np.zeros((0, len(parts)))
        super().__init__(
            model=model,
            processing_class=tokenizer,
            # The names are those of the logs; the scores come from `_calculate_rewards`.
            reward_funcs=[_named(part.name) for part in parts],
            train_dataset=Dataset.from_dict({"prompt": [str(number) for number in order]}),
            **given,
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: object = None) -> None:
        # transformers' own would load the copy that the divergence is from, and not what was learned.
        weights = load_peft_weights(resume_from_checkpoint, device="cpu")
        set_peft_model_state_dict(self.accelerator.unwrap_model(self.model), weights)

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict]:
        return [list(self.encoded[int(number)]) for number in prompts], None, {}

    def _generate_single_turn(self, prompt_ids: list, *others: object, **named: object) -> tuple[list, None]:
        if self.server is None:
            with self.accelerator.autocast():
                return super()._generate_single_turn(prompt_ids, *others, **named)
        return self._drawn_at_server(prompt_ids[:: self.num_generations]), None

    def _drawn_at_server(self, prompts: list[list[int]]) -> list[list[int]]:
        state, policy, model = PartialState(), self.policy, self.accelerator.unwrap_model(self.model)
        name = gather_object([together(state, lambda: self.server.give(model) if state.is_main_process else "")])[0]
        first = state.process_index * len(prompts)
        seeds = [seed_of(self.args.seed, self.state.global_step, first + k) for k in range(len(prompts))]
        asked = (self.num_generations, policy.max_new_tokens, policy.temperature, self.eos_token_ids, seeds)
        drawn = together(state, lambda: self.server.draw(name, prompts, *asked))
        found = together(state, lambda: self.server.check_gap(gap(model, prompts[0], drawn[0][0])))
        self._metrics["train"]["draws/gap"].append(found)
        return [one.ids for of_prompt in drawn for one in of_prompt]

    def _calculate_rewards(
        self, inputs: list, prompts: list, completions: list, completion_ids_list: list
    ) -> torch.Tensor:
        rollouts = [self.rollout(self.rows[int(row["prompt"])], ids) for row, ids in zip(inputs, completion_ids_list)]
        mine = together(PartialState(), lambda: scores_of(self.parts, rollouts))
        scores = torch.tensor(mine, dtype=torch.float32, device=self.accelerator.device)
        gathered = self.accelerator.gather(scores)
        self._scores = gathered.double().cpu().numpy()
        return gathered

    def rollout(self, row: Mapping, ids: Sequence[int]) -> Rollout:
        """What a reward sees of the token ids of a completion on a prompt with this row."""
        ended = bool(len(ids)) and ids[-1] in self.eos_token_ids
        kept = ids[:-1] if ended else ids
        # trl would hide them from a reward.
        special = not hidden_ids(self._tokenizer).isdisjoint(kept)
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        return Rollout(row, text.strip(), tuple(ids), ended, special)

    def _generate_and_score_completions(self, inputs: list) -> dict[str, torch.Tensor | object]:
        output = super()._generate_and_score_completions(inputs)
        rewards = total(self.parts, self._scores).reshape(-1, self.num_generations)
        spread = has_spread(self._compared(rewards), self.policy.least_spread)
        advantages = self.advantages(rewards, self.policy.least_spread)
        start = self.accelerator.process_index * len(inputs)
        mine = slice(start, start + len(inputs))
        device = output["advantages"].device
        output["advantages"] = torch.tensor(advantages.reshape(-1)[mine], dtype=torch.float32, device=device)
        self._metrics["train"]["groups/equal"].append(float((~spread).mean()))
        self._metrics["train"]["groups/spread"].append(float(rewards.std(axis=1, ddof=1).mean()))
        if self.policy.leave_out_equal:
            kept = torch.tensor(np.repeat(spread, self.num_generations)[mine], device=device)
            output["completion_mask"] = output["completion_mask"] * kept.unsqueeze(1)
            output["num_items_in_batch"] = self.accelerator.gather(output["completion_mask"].sum()).sum()
        return output

    def _compared(self, rewards: np.ndarray) -> np.ndarray:
        """(groups, rollouts) what tells whether the rollouts of a group are equal."""
        if self.policy.spread_of is None:
            return rewards
        place = [part.name for part in self.parts].index(self.policy.spread_of)
        return self._scores[:, place].reshape(rewards.shape)


@functools.cache
def hidden_ids(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """The token ids that a decoded text is without: also those of special tokens that have no name in the tokenizer."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids).union(number for number, token in added if token.special)


def config_of(
    policy: Policy, parts: Sequence[Part], seed: int, folder: Path, at_once: int, on_cpu: bool, processes: int = 1
) -> GRPOConfig:
    """trl's configuration of a policy's training, whose steps are computed in parts of `at_once` completions.

    InputError where so many processes cannot share the prompts of a step.
    """
    return OneDeviceGRPOConfig(
        output_dir=str(folder),
        max_steps=policy.steps,
        # trl's own draws another order in each epoch, and the first one again after a resumption.
        shuffle_dataset=False,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=prompts_of_each(policy, processes) * policy.group // at_once,
        num_generations=policy.group,
        num_iterations=policy.iterations,
        reward_weights=[part.weight for part in parts],
        learning_rate=policy.lr,
        lr_scheduler_type=SCHEDULE,
        optim=OPTIMIZER,
        max_completion_length=policy.max_new_tokens,
        temperature=policy.temperature,
        top_k=0,
        beta=policy.beta,
        epsilon=policy.epsilon,
        epsilon_high=policy.epsilon_high,
        delta=policy.delta,
        loss_type=policy.loss_type,
        mask_truncated_completions=policy.mask_truncated,
        generation_kwargs={"use_cache": True},
        # Else what is drawn and what is learned from would be two policies.
        disable_dropout=True,
        gradient_checkpointing=not on_cpu,
        ddp_find_unused_parameters=False,
        bf16=not on_cpu,
        use_cpu=on_cpu,
        seed=seed,
        save_strategy="no",  # by time
        save_total_limit=2,
        logging_steps=1,
        report_to="none",
    )


def order_of(prompts: int, wanted: int, seed: int) -> list[int]:
    """The numbers of so many prompts, each round in an order of its own, until as many as are `wanted`."""
    rng = np.random.default_rng(seed)
    rounds = [rng.permutation(prompts) for _ in range(-(-wanted // prompts))]
    return np.concatenate(rounds)[:wanted].tolist()


def _named(name: str) -> object:
    def score(**_: object) -> list[float]:
        raise NotImplementedError("rewards are computed together")

    score.__name__ = name
    return score
