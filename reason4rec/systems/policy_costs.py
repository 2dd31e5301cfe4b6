"""What a training by a reward costs: its draws, what is read of them, its updates, and its memory.

Every completion is counted at its longest. A step's prompts are drawn and learned from side by side, so that each is as
long as the longest of them.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reason4rec.run.cost import Line
from reason4rec.run.pipeline import StepSpec
from reason4rec.systems.costs import Costs
from reason4rec.training import gpu_memory
from reason4rec.training.options import PolicyOptions
from reason4rec.training.policy import Policy
from reason4rec.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

WATCHED_AT_ONCE = 16  # prompts, as `training.watching` has them


@dataclass(frozen=True)
class PolicyWork:
    """A training by a reward, before it is run.

    `lengths` has the tokens of some of its prompts, `targets` is how many there are. `recipe` is that of the adapter
    that it starts from, whose rate of training holds here too; `trainings` are that many of the kind.
    """

    options: PolicyOptions
    policy: Policy
    recipe: Recipe
    adapter: str
    targets: int
    lengths: "np.ndarray"
    trainings: int = 1

    @property
    def draws(self) -> int:
        """Completions that are drawn in all."""
        policy = self.policy
        return self.trainings * policy.steps // policy.iterations * policy.prompts_a_step * policy.group

    @property
    def watchings(self) -> int:
        """How often the policy is measured on the watched prompts."""
        options = self.options
        return self.trainings * (1 + math.ceil(options.rl_steps / options.watch_every)) if options.watched else 0


def lines(costs: Costs, spec: StepSpec, work: PolicyWork) -> list[Line]:
    """A line each of the draws, of the passes that only read them, of the updates, and of the watched prompts."""
    policy, longest = work.policy, work.policy.max_new_tokens
    prompt = padded(costs, work)
    tokens = work.draws * (prompt + longest)
    found = [
        _line(
            costs,
            Line(spec.name, f"draws of {policy.steps:,} steps", "model", work.targets, work.draws, work.draws * prompt),
            work.draws * longest,
            work.draws // (policy.prompts_a_step * policy.group) * longest,
            work.trainings,
        )
    ]
    if passes := (policy.beta > 0) + (policy.iterations > 1):
        read = Line(spec.name, "reference pass", "model", work.targets, work.draws * passes, tokens * passes)
        found.append(_line(costs, read))
    learned = tokens * policy.iterations
    hours = learned / costs.rate(f"training {work.adapter}") / 3600 if costs.timed else None
    found.append(Line(spec.name, "updates", "model", work.targets, None, learned, None, hours))
    if work.watchings:
        asked = work.watchings * work.options.watched
        batches = work.watchings * math.ceil(work.options.watched / WATCHED_AT_ONCE)
        watched = Line(spec.name, "watched prompts", "model", work.options.watched, asked, asked * prompt)
        found.append(_line(costs, watched, asked * longest, batches * longest))
    return found


def padded(costs: Costs, work: PolicyWork) -> float:
    """Mean tokens of a prompt, with those that make it as long as the longest one of its step."""
    return float(work.lengths.mean()) * costs.padding(work.lengths, work.policy.prompts_a_step)


def _line(costs: Costs, line: Line, written: float = 0, passes: float = 0, loads: int = 0) -> Line:
    """A line with the hours of what it reads and writes, in so many `passes` of one token of each row of a batch."""
    if not costs.timed:
        return replace(line, tokens_out=written or None)
    seconds = loads * costs.rate("loading") if loads else 0.0
    seconds += line.tokens_in / costs.rate("reading")
    if written:
        seconds += max(written / costs.rate("writing"), passes * costs.rate("a token of a batch"))
    return replace(line, tokens_out=written or None, hours=seconds / 3600)


def memory(costs: Costs, spec: StepSpec, work: PolicyWork, beside: float = 0.0, what: str = "") -> str:
    """What is said of a GPU's memory; `beside` are bytes of another model that is asked meanwhile, `what` names it."""
    policy, shape, recipe = work.policy, costs.work.shape, work.recipe
    rows, longest = policy.prompts_a_step * policy.group, max(float(work.lengths.max()), padded(costs, work))
    peak = gpu_memory.by_a_reward(shape, recipe, rows, policy.group, longest, policy.max_new_tokens)
    gb = {name: f"{getattr(peak, name) / 1e9:,.1f}" for name in ("weights", "adapter", "rollouts", "update")}
    other = f", {beside / 1e9:,.1f} {what}" if beside else ""
    base, trained = ("base in 16 bits", "all weights") if recipe.full else ("base in 4 bits", "adapter")
    return (
        f"{spec.name} takes about {(peak.total + beside) / 1e9:,.0f} GB of GPU memory at its peak: "
        f"{gb['weights']} {base}, {gb['adapter']} {trained} in fp32 with gradients, optimizer and a copy{other}, "
        f"and the larger of {gb['rollouts']} for keys, values and reading of {rows} draws at once of up to "
        f"{longest + policy.max_new_tokens:,.0f} tokens, and {gb['update']} for activations and logits of an update "
        f"of {policy.group} of them (computed)."
    )
