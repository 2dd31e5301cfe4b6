"""What the dry runs of systems that recommend the next item of a sequence share: their counts and what they say.

Each of these trains one adapter on rows, and then policies by a reward.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from reason4rec.run.cost import Line
from reason4rec.systems import policy_costs
from reason4rec.systems.costs import Costs
from reason4rec.systems.counting import Counting
from reason4rec.training import gpu_memory
from reason4rec.training.options import Execution
from reason4rec.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

    from reason4rec.run.step import Common


class SequenceCounting(Counting):
    """How many users, items and cases there are: of the tables, or of the released data where there are none.

    A system sets `common`, `released`, the counts of its released data, and `sequences` and `items`, tables or None.
    """

    common: "Common"
    released: dict[str, int]
    sequences: "pd.DataFrame | None"
    items: "pd.DataFrame | None"

    @cached_property
    def n_users(self) -> int:
        """Users with a sequence."""
        return self.released["users"] if self.sequences is None else self.sequences["user_id"].nunique()

    @cached_property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.released["items"] if self.items is None else len(self.items)

    @cached_property
    def n_cases(self) -> int:
        """Cases of a split: one a user, fewer in a trial."""
        return min(self.n_users, self.common.limit or self.n_users)


class SequenceCosts(Costs):
    """What is said around the table: `learns` is the step that trains on rows, `rewarded` those that train policies."""

    learns: ClassVar[str]
    rewarded: ClassVar[tuple[str, ...]]

    def recipe(self) -> Recipe:
        """The recipe of the step that trains on rows."""
        raise NotImplementedError

    def reinforced(self, name: str, trainings: int = 1) -> policy_costs.PolicyWork:
        """What a step does that trains policies by a reward."""
        raise NotImplementedError

    def heading(self) -> str:
        """What the table is about."""
        work = self.work
        counted = "counted in some of the real prompts" if work.sequences is not None else "assumed"
        by = "an assumed ratio of characters" if work.tokenizer is None else "the tokenizer of the base model"
        return (
            f"{work.common.dataset}: what a run would cost; nothing is asked, loaded or written now. {work.source} "
            f"Tokens are {counted}, by {by}. Base model {work.base_model}, teacher {self.teacher}."
        )

    def remarks(self, lines: Sequence[Line], teacher: Line | None, models: Line | None) -> list[str]:
        """What the table does not say: memory, and where the rates come from."""
        found = [*self.priced(teacher), *self.general_remarks(lines, models)]
        if models and self.timed:
            by_step = {line.step for line in lines if line.hours}
            found += [self._memory_of_training()] if self.learns in by_step else []
            found += [
                policy_costs.memory(self, self.survey.step(name).spec, self.reinforced(name))
                for name in self.rewarded
                if name in by_step
            ]
        return found + self.kept_replies(self.work.folder)

    def _memory_of_training(self) -> str:
        step, work, recipe = self.survey.step(self.learns), self.work, self.recipe()
        rows = -(-recipe.batch_size // step[Execution].gradient_accumulation)
        tokens = rows * float(work.learned().clip(max=work.max_length).mean())
        peak = gpu_memory.supervised(work.shape, recipe, tokens)
        return (
            f"{self.learns} takes about {peak / 1e9:,.0f} GB of GPU memory for {rows} rows of {tokens / rows:,.0f} "
            f"tokens at a time (computed); --gradient_accumulation divides what its activations take."
        )
