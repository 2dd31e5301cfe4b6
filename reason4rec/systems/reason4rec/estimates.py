"""What each step of Reason4Rec would cost: requests, tokens, GPU hours and US dollars.

A function of this module makes the lines of one row of the table of steps.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reason4rec.data.schema import VALID
from reason4rec.llm.options import Teacher
from reason4rec.run.cost import Line, Survey, price
from reason4rec.run.pipeline import StepSpec
from reason4rec.systems import policy_costs
from reason4rec.systems.costs import Costs
from reason4rec.systems.reason4rec import facts
from reason4rec.systems.reason4rec.baselines import without_valid
from reason4rec.systems.reason4rec.options import RewardFilter
from reason4rec.systems.reason4rec.reinforced.options import Reinforcement
from reason4rec.systems.reason4rec.train import recipe_of
from reason4rec.training import gpu_memory

if TYPE_CHECKING:
    import numpy as np


class Plan(Costs):
    """What the estimates of the steps count with, and what is said around their table."""

    def __init__(self, survey: Survey):
        # By name, so that a step that estimates nothing does not load a tokenizer.
        from reason4rec.systems.reason4rec.workload import Texts

        work = Texts(survey)
        teacher = survey.step("1/1")[Teacher].teacher_model
        # The demo's model runs on a CPU, where hours of a GPU mean nothing.
        timed = work.base_model != facts.DEMO_BASE
        super().__init__(survey, work, teacher, timed, work.max_length, work.max_new_tokens)

    @property
    def draws(self) -> int:
        """Hinted reasons that a target gets at most."""
        return self.survey.step("2/4")[RewardFilter].draws

    def learned(self, spec: StepSpec, rows: int, lengths: "np.ndarray", answer: float) -> Line:
        """A line of an expert's training on prompts of these lengths, with answers of so many tokens and their end."""
        return self.trained(spec, recipe_of(self.survey.step(spec.name)), rows, lengths + answer + 1)

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
        found = [*self._on_reasons(lines, teacher), *self.priced(teacher), *self.general_remarks(lines, models)]
        if models and self.timed:
            if any(line.step == "2/4" and line.hours for line in lines):
                found.append("2/4 holds the GPU while the teacher answers; that time is not in the hours.")
            if any(line.step == "2/8" and line.hours for line in lines):
                found.append(self._memory())
            found.append(self._disk())
        valid = self.survey.step("3/5").path(VALID)
        if self.work.on_disk and self.survey.to_do & {"3/5"} and not valid.exists():
            found.append(f"3/5 leaves out {without_valid(valid)}.")
        return found + self.kept_replies(self.work.folder)

    def _on_reasons(self, lines: Sequence[Line], teacher: Line | None) -> list[str]:
        if not teacher or not any(line.step == "2/4" for line in lines if line.by == "teacher"):
            return []
        most = self.reasons(self.survey.step("2/4").spec, self.hinted(most=True))
        cost = f", {price(most.dollars)} dollars" if most.dollars else ""
        return [
            f"2/4 asks for at most {1 + self.draws} reasons a target: {most.requests:,.0f} requests{cost}. How many it "
            f"takes is known only afterwards; a trial with --limit tells."
        ]

    def reinforced(self) -> policy_costs.PolicyWork:
        """What step 2/8 does: reasons for targets that the Predictor has not learned."""
        work, options = self.work, self.survey.step("2/8")[Reinforcement]
        policy = options.policy(work.base_model)
        targets = work.targets(work.drawn[1])
        most = work.max_length - policy.max_new_tokens
        return policy_costs.PolicyWork(
            options,
            policy,
            recipe_of(self.survey.step("2/6")),
            "Reasoner",
            work.n_reinforced,
            work.reasoning(targets).clip(max=most),
        )

    def _memory(self) -> str:
        predictor = recipe_of(self.survey.step("3/2"))
        trained = self.work.shape.trained(predictor.rank, predictor.lm_head)
        beside = gpu_memory.base(self.work.shape) + 4 * trained
        spec = self.survey.step("2/8").spec
        return policy_costs.memory(self, spec, self.reinforced(), beside, "the Predictor, which gives the reward")

    def _disk(self) -> str:
        recipes = [recipe_of(self.survey.step(spec.name)) for spec in self.survey.pipeline if spec.adapter]
        shape = self.work.shape
        weights = [shape.trained(recipe.rank, recipe.lm_head) for recipe in recipes]
        # A checkpoint has two states of 8 bits beside each fp32 weight.
        adapters, checkpoints = 4 * sum(weights), 2 * 6 * max(weights)
        return (
            f"Disk: {gpu_memory.base(shape) / 1e9:.1f} GB base model in 4 bits, {adapters / 1e9:.1f} GB adapters, "
            f"and up to {checkpoints / 1e9:.1f} GB of checkpoints while one is trained (computed from their shapes)."
        )


def teacher_summaries(plan: Plan, spec: StepSpec) -> list[Line]:
    """One request a review."""
    work, n = plan.work, plan.work.n_summaries
    return [plan.requested(spec, n, n, n * work.reviews().mean(), n * work.summary)]


def summarizer_training(plan: Plan, spec: StepSpec) -> list[Line]:
    """Rows of a review and its summary."""
    return [plan.learned(spec, plan.work.n_summarizer, plan.work.reviews(), plan.work.summary)]


def summaries(plan: Plan, spec: StepSpec) -> list[Line]:
    """One prompt a review that histories show."""
    work, n = plan.work, plan.work.n_histories
    return [plan.computed(spec, n, n, n * work.reviews().mean(), work.summary)]


def reward_training(plan: Plan, spec: StepSpec) -> list[Line]:
    """Rows of a target with its review and its rating."""
    work = plan.work
    lengths = work.rating(work.targets(work.drawn[0]), "review")
    return [plan.learned(spec, work.n_drawn(0), lengths, work.answer)]


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
    return [plan.learned(spec, work.n_accepted, work.reasoning(work.accepted), work.reason)]


def reinforcement(plan: Plan, spec: StepSpec) -> list[Line]:
    """Reasons for the targets, their updates, and the Predictor's readings, with and without a reason."""
    work, reinforced = plan.work, plan.reinforced()
    found = policy_costs.lines(plan, spec, reinforced)
    targets = work.targets(work.drawn[1])
    without = min(reinforced.targets, reinforced.draws)
    watched = reinforced.watchings * reinforced.options.watched
    asked = reinforced.draws + watched
    read = asked * (work.rating(targets).mean() + work.prefix) + without * (
        work.rating(targets, None).mean() + work.prefix
    )
    return [*found, plan.computed(spec, reinforced.targets, asked + without, read, what="rewards by the Predictor")]


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
    return [plan.learned(spec, work.n_predictor, work.rating(work.accepted), work.answer)]


def test_ratings(plan: Plan, spec: StepSpec) -> list[Line]:
    """One rating a test row."""
    work, n = plan.work, plan.work.n_test
    lengths = work.rating(work.targets(work.test, tested=True))
    return [plan.computed(spec, n, n, n * (lengths.mean() + work.prefix))]
