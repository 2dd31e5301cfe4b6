"""What each step of Reason4Rec would cost: requests, tokens, GPU hours and US dollars.

A function of this module makes the lines of one row of the table of steps. Rates of the GPU stand in `rates.json`.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.data.schema import VALID
from reason4rec.llm.options import RULE_TEACHER, RULES, Teacher
from reason4rec.llm.usage import BATCH_PRICE, PRICES, STAND_IN
from reason4rec.run.cost import Line, Survey, price
from reason4rec.run.pipeline import StepSpec
from reason4rec.systems.reason4rec import facts
from reason4rec.systems.reason4rec.baselines import without_valid
from reason4rec.systems.reason4rec.options import RewardFilter
from reason4rec.training.options import Execution

if TYPE_CHECKING:
    import numpy as np

    from reason4rec.systems.reason4rec.workload import Texts

RATES = Path(__file__).with_name("rates.json")

Estimate = Callable[["Costs", StepSpec], list[Line]]


class Costs:
    """What the tokens of a run cost, on a GPU and at the teacher."""

    def __init__(self, survey: Survey, work: "Texts"):
        self.survey, self.work = survey, work
        self.assumed, self.notes = work.assumed, work.notes
        self.rates = json.loads(RATES.read_text(encoding="utf-8"))

    def rate(self, name: str) -> float:
        """A rate of the GPU, scaled from the model it holds for to the one that is used."""
        rate = self.rates["rates"][name]
        scale = 1.0 if name == "loading" else self.rates["parameters"] / self.work.shape.multiplied
        self.assumed[name] = (f"{rate['value'] * scale:,.0f} {rate['unit']}", rate["origin"])
        return rate["value"] * scale

    @property
    def teacher(self) -> str:
        """The teacher's model name."""
        return self.survey.step("1/1")[Teacher].teacher_model

    @property
    def draws(self) -> int:
        """Hinted reasons that a target gets at most."""
        return self.survey.step("2/4")[RewardFilter].draws

    @property
    def timed(self) -> bool:
        """Whether GPU hours mean anything: the demo's model runs on a CPU."""
        return self.work.base_model != facts.DEMO_BASE

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
        hours, written = None, requests * min(reply, self.work.max_new_tokens)
        if self.timed:
            seconds = self.rate("loading") + read / self.rate("reading")
            hours = (seconds + (written / self.rate("writing") if written else 0)) / 3600
        return Line(spec.name, what or spec.what, "model", rows, requests, read, written or None, hours)

    def trained(self, spec: StepSpec, rows: int, lengths: "np.ndarray", answer: float) -> Line:
        """A line of a training: its rows as often as its recipe has epochs, each cut at the longest length."""
        import numpy as np

        from reason4rec.systems.reason4rec.train import recipe_of

        step = self.survey.step(spec.name)
        recipe, execution = recipe_of(step), step[Execution]
        whole = lengths + answer + 1
        fitted = np.minimum(whole, self.work.max_length)
        tokens = rows * float(fitted.mean()) * recipe.epochs
        cut = float((whole > self.work.max_length).mean())
        if cut:
            self.notes.append(f"{spec.name}: {cut:.0%} of the rows lose history to fit {self.work.max_length:,} tokens")
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


class Plan(Costs):
    """What the estimates of the steps count with, and what is said around their table."""

    def __init__(self, survey: Survey):
        # By name, so that a step that estimates nothing does not load a tokenizer.
        from reason4rec.systems.reason4rec.workload import Texts

        super().__init__(survey, Texts(survey))

    def hinted(self, most: bool = False) -> float:
        """Hinted requests of step 2/4, expected or at `most`."""
        work = self.work
        if most:
            return work.n_drawn(1) * self.draws
        accepted, at_once = (
            work.assume(name) for name in ("targets with an accepted reason", "targets accepted without a hint")
        )
        later = (accepted - at_once) * work.assume("hinted reasons until one is accepted")
        return work.n_drawn(1) * (later + (1 - accepted) * self.draws)

    def reasons(self, spec: StepSpec, hinted: float) -> Line:
        """The requests of step 2/4 with a number of hinted ones."""
        work = self.work
        n, targets = work.n_drawn(1), work.targets(work.drawn[1])
        tokens_in = n * work.reasoning(targets).mean() + hinted * work.reasoning(targets, hinted=True).mean()
        return self.requested(spec, n, n + hinted, tokens_in, (n + hinted) * work.reason)

    def heading(self) -> str:
        """What the table is about."""
        work = self.work
        if work.train is None:
            paper = work.dataset.paper["interactions"]
            rows = f"Rows come from the {paper:,} reviews that the paper states, split 8:1:1: raw_data/ is not there."
        elif not work.on_disk:
            rows = "Rows are those of the made-up world, which is not written yet."
        else:
            rows = f"Rows are counted in {work.folder}."
        tokens = "characters by an assumed ratio" if work.tokenizer is None else "those of the base model"
        return (
            f"{work.common.dataset}: what a run would cost; nothing is asked, loaded or written now. {rows} Tokens are "
            f"{tokens}, in the real prompts. Base model {work.base_model}, teacher {self.teacher}."
        )

    def remarks(self, lines: Sequence[Line], teacher: Line | None, models: Line | None) -> list[str]:
        """What the table does not say: the worst case, what is on disk, and where the rates come from."""
        from reason4rec.llm.cache import PATH as CACHE

        found = self._on_teacher(lines, teacher)
        if any(line.by == "model" and line.rows and not line.requests for line in lines):
            found.append("The tokens in of a training are those of all its epochs.")
        if models and self.timed:
            rates = self.rates
            found.append(
                f"GPU hours are those of one {rates['card']}, {rates['origin']} on {rates['date']} (rates.json)"
                + (": nothing was measured on a GPU with this code." if rates["origin"] == "assumed" else ".")
            )
            if any(line.step == "2/4" and line.hours for line in lines):
                found.append("2/4 holds the GPU while the teacher answers; that time is not in the hours.")
            found.append(self._disk())
        valid = self.survey.step("3/5").path(VALID)
        if self.work.on_disk and self.survey.to_do & {"3/5"} and not valid.exists():
            found.append(f"3/5 leaves out {without_valid(valid)}.")
        if (self.work.folder / CACHE).exists():
            found.append(f"Replies kept in {self.work.folder / CACHE} are not asked for again, and not taken off here.")
        return found

    def _on_teacher(self, lines: Sequence[Line], teacher: Line | None) -> list[str]:
        found = []
        if teacher and any(line.step == "2/4" for line in lines if line.by == "teacher"):
            most = self.reasons(self.survey.step("2/4").spec, self.hinted(most=True))
            cost = f", {price(most.dollars)} dollars" if most.dollars else ""
            found.append(
                f"2/4 asks for at most {1 + self.draws} reasons a target: {most.requests:,.0f} requests{cost}. How "
                f"many it takes is known only afterwards; a trial with --limit tells."
            )
        if teacher and teacher.dollars:
            if math.isnan(teacher.dollars):
                found.append(f"The price of {self.teacher} is not known to reason4rec/llm/usage.py.")
            else:
                price_in, price_out = PRICES[self.teacher]
                found.append(
                    f"Dollars are US dollars: {self.teacher} costs {price_in:.2f} a million tokens in and "
                    f"{price_out:.2f} out, as reason4rec/llm/usage.py lists. In OpenAI's batches (--batch_export) it "
                    f"is {BATCH_PRICE:.0%}: {price(teacher.dollars * BATCH_PRICE)} in all."
                )
        return found

    def _disk(self) -> str:
        from reason4rec.systems.reason4rec.train import recipe_of

        recipes = [recipe_of(self.survey.step(spec.name)) for spec in self.survey.pipeline if spec.adapter]
        shape = self.work.shape
        weights = [shape.trained(recipe.rank, recipe.lm_head) for recipe in recipes]
        # In 4 bits but for the embedding and the head; a checkpoint has two states of 8 bits beside each fp32 weight.
        base = (shape.multiplied - shape.head) * 0.55 + 4 * shape.head
        adapters, checkpoints = 4 * sum(weights), 2 * 6 * max(weights)
        return (
            f"Disk: {base / 1e9:.1f} GB base model in 4 bits, {adapters / 1e9:.1f} GB adapters, and up to "
            f"{checkpoints / 1e9:.1f} GB of checkpoints while one is trained (computed from their shapes)."
        )


def rows(count: Callable[["Texts"], float]) -> Estimate:
    """The estimate of a step that only a CPU works on."""
    return lambda plan, spec: [Line(spec.name, spec.what, "CPU", count(plan.work))]


def teacher_summaries(plan: Plan, spec: StepSpec) -> list[Line]:
    """One request a review."""
    work, n = plan.work, plan.work.n_summaries
    return [plan.requested(spec, n, n, n * work.reviews().mean(), n * work.summary)]


def summarizer_training(plan: Plan, spec: StepSpec) -> list[Line]:
    """Rows of a review and its summary."""
    return [plan.trained(spec, plan.work.n_summarizer, plan.work.reviews(), plan.work.summary)]


def summaries(plan: Plan, spec: StepSpec) -> list[Line]:
    """One prompt a review that histories show."""
    work, n = plan.work, plan.work.n_histories
    return [plan.computed(spec, n, n, n * work.reviews().mean(), work.summary)]


def reward_training(plan: Plan, spec: StepSpec) -> list[Line]:
    """Rows of a target with its review and its rating."""
    work = plan.work
    lengths = work.rating(work.targets(work.drawn[0]), "review")
    return [plan.trained(spec, work.n_drawn(0), lengths, work.answer)]


def distillation(plan: Plan, spec: StepSpec) -> list[Line]:
    """The teacher's reasons, and their scores by the reward model, which reads a target's histories once."""
    work = plan.work
    n, hinted, targets = work.n_drawn(1), plan.hinted(), work.targets(work.drawn[1])
    direct = work.rating(targets, None).mean()
    tail = work.rating(targets).mean() - direct + work.prefix
    read = n * (direct + work.prefix) + (n + hinted) * tail
    scores = plan.computed(spec, n, n + n + hinted, read, what="scores of the reasons")
    return [plan.reasons(spec, hinted), scores]


def reasoner_training(plan: Plan, spec: StepSpec) -> list[Line]:
    """Rows of a target and its accepted reason."""
    work = plan.work
    return [plan.trained(spec, work.n_accepted, work.reasoning(work.accepted), work.reason)]


def test_reasons(plan: Plan, spec: StepSpec) -> list[Line]:
    """One reason a test row."""
    work, n = plan.work, plan.work.n_test
    lengths = work.reasoning(work.targets(work.test, tested=True))
    return [plan.computed(spec, n, n, n * lengths.mean(), work.reason)]


def predictor_rows(plan: Plan, spec: StepSpec) -> list[Line]:
    """One reason a target."""
    work, n = plan.work, plan.work.n_predictor
    return [plan.computed(spec, n, n, n * work.reasoning(work.accepted).mean(), work.reason)]


def predictor_training(plan: Plan, spec: StepSpec) -> list[Line]:
    """Rows of a target with its reason and its rating."""
    work = plan.work
    return [plan.trained(spec, work.n_predictor, work.rating(work.accepted), work.answer)]


def test_ratings(plan: Plan, spec: StepSpec) -> list[Line]:
    """One rating a test row."""
    work, n = plan.work, plan.work.n_test
    lengths = work.rating(work.targets(work.test, tested=True))
    return [plan.computed(spec, n, n, n * (lengths.mean() + work.prefix))]
