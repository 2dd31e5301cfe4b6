"""What the tokens of a dry run cost, on a GPU and at the teacher, for any system.

Rates of the GPU stand in `rates.json`: measured ones and assumed ones, each with its origin.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.llm.cache import PATH as CACHE
from reason4rec.llm.options import RULE_TEACHER, RULES
from reason4rec.llm.usage import BATCH_PRICE, PRICES, STAND_IN
from reason4rec.run.cost import Line, Survey, price
from reason4rec.run.pipeline import StepSpec
from reason4rec.training.options import Execution
from reason4rec.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

    from reason4rec.systems.counting import Counting

RATES = Path(__file__).with_name("rates.json")

Estimate = Callable[["Costs", StepSpec], list[Line]]


class Costs:
    """The lines of a dry run from rows and tokens, and what is said below its table.

    `teacher` is the teacher's model name; `timed` says whether GPU hours mean anything. `max_length` and
    `max_new_tokens` are those of the longest row of a training, and of the longest reply of a local model.
    """

    def __init__(
        self, survey: Survey, work: "Counting", teacher: str, timed: bool, max_length: int, max_new_tokens: int
    ):
        self.survey, self.work, self.teacher, self.timed = survey, work, teacher, timed
        self.max_length, self.max_new_tokens = max_length, max_new_tokens
        self.assumed, self.notes = work.assumed, work.notes
        self.rates = json.loads(RATES.read_text(encoding="utf-8"))

    def rate(self, name: str) -> float:
        """A rate of the GPU: seconds, or tokens a second, scaled from the model it holds for to the one in use."""
        rate = self.rates["rates"][name]
        scale = 1.0 if rate["unit"] == "s" else self.rates["parameters"] / self.work.shape.multiplied
        shown = f"{rate['value'] * scale:,.0f}" if rate["value"] >= 1 else f"{rate['value']:g}"
        self.assumed[name] = (f"{shown} {rate['unit']}", rate["origin"])
        return rate["value"] * scale

    def dollars(self, tokens_in: float, tokens_out: float) -> float | None:
        """Price of requests to the teacher in US dollars; NaN where it is not known, None where there is none."""
        if self.teacher in (STAND_IN, RULES):
            return None
        each = PRICES.get(self.teacher, (math.nan, math.nan))
        return (tokens_in * each[0] + tokens_out * each[1]) / 1e6

    def requested(self, spec: StepSpec, rows: float, requests: float, tokens_in: float, tokens_out: float) -> Line:
        """A line of requests to the teacher; the rule teacher gets none."""
        if self.teacher == RULES:
            return Line(spec.name, spec.what, RULE_TEACHER, rows)
        dollars = self.dollars(tokens_in, tokens_out)
        return Line(spec.name, spec.what, "teacher", rows, requests, tokens_in, tokens_out, dollars=dollars)

    def computed(
        self, spec: StepSpec, rows: float, requests: float, read: float, reply: float = 0, what: str = ""
    ) -> Line:
        """A line of prompts of `read` tokens in all that a local model reads, with replies of `reply` tokens each."""
        written = requests * min(reply, self.max_new_tokens)
        return self.wrote(spec, rows, requests, read, written, what or spec.what)

    def wrote(self, spec: StepSpec, rows: float, requests: float, read: float, written: float, what: str) -> Line:
        """A line of what a local model reads and writes in all."""
        hours = None
        if self.timed:
            seconds = self.rate("loading") + read / self.rate("reading")
            hours = (seconds + (written / self.rate("writing") if written else 0)) / 3600
        return Line(spec.name, what, "model", rows, requests, read, written or None, hours)

    def trained(self, spec: StepSpec, recipe: Recipe, rows: int, lengths: "np.ndarray") -> Line:
        """A line of a training: its rows as often as its recipe has epochs, each cut at the longest length.

        `lengths` has the tokens of some of the rows, with their answers.
        """
        import numpy as np

        execution = self.survey.step(spec.name)[Execution]
        fitted = np.minimum(lengths, self.max_length)
        tokens = rows * float(fitted.mean()) * recipe.epochs
        cut = float((lengths > self.max_length).mean())
        if cut:
            self.notes.append(f"{spec.name}: {cut:.0%} of the rows lose history to fit {self.max_length:,} tokens")
        hours = None
        if self.timed:
            slower = self.padding(fitted, recipe.batch_size) if execution.padding_free is False else 1.0
            if execution.gradient_checkpointing is False:
                slower *= self.work.assume("time without gradient checkpointing")
            hours = (self.rate("loading") + slower * tokens / self.rate(f"training {spec.adapter}")) / 3600
        return Line(spec.name, f"{spec.what}, {recipe.epochs:g} epochs", "model", rows, None, tokens, None, hours)

    def padding(self, lengths: "np.ndarray", rows: int) -> float:
        """Tokens of padded batches for each token in their rows."""
        import numpy as np

        if len(lengths) < rows:
            return self.work.assume("tokens of a padded batch, for each")
        shuffled = np.random.default_rng(42).permutation(lengths)[: len(lengths) // rows * rows].reshape(-1, rows)
        return float(shuffled.max(axis=1).sum() * rows / shuffled.sum())

    def general_remarks(self, lines: Sequence[Line], models: Line | None) -> list[str]:
        """What the table does not say of any system: what a training's tokens are, and where the rates come from."""
        found = []
        if any(line.by == "model" and line.rows and not line.requests for line in lines):
            found.append("The tokens in of a training are those of all its epochs.")
        if models and self.timed:
            rates = self.rates
            found.append(
                f"GPU hours are those of one {rates['card']}, {rates['origin']} on {rates['date']} (rates.json)"
                + (": nothing was measured on a GPU with this code." if rates["origin"] == "assumed" else ".")
            )
            if self.work.shape.multiplied < rates["parameters"]:
                found.append("Rates are scaled by the size of the base; a small one gains less than that in truth.")
        return found

    def priced(self, teacher: Line | None) -> list[str]:
        """What the dollars of the teacher are, where it has a price."""
        if not teacher or not teacher.dollars:
            return []
        if math.isnan(teacher.dollars):
            return [f"The price of {self.teacher} is not known to reason4rec/llm/usage.py."]
        price_in, price_out = PRICES[self.teacher]
        return [
            f"Dollars are US dollars: {self.teacher} costs {price_in:.2f} a million tokens in and {price_out:.2f} out, "
            f"as reason4rec/llm/usage.py lists. In OpenAI's batches (--batch_export) it is {BATCH_PRICE:.0%}: "
            f"{price(teacher.dollars * BATCH_PRICE)} in all."
        ]

    def kept_replies(self, folder: Path) -> list[str]:
        """That replies in a dataset's store are not taken off, where it has one."""
        path = folder / CACHE
        there = path.exists()
        return [f"Replies kept in {path} are not asked for again, and not taken off here."] if there else []


def rows(count: Callable[["Counting"], float]) -> Estimate:
    """The estimate of a step that only a CPU works on."""
    return lambda plan, spec: [Line(spec.name, spec.what, "CPU", count(plan.work))]
