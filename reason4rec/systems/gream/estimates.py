"""What each step of GREAM would cost: requests, tokens, GPU hours, memory and US dollars.

A function of this module makes the lines of one row of the table of steps.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from reason4rec.llm.options import Teacher
from reason4rec.run.cost import Line, Survey
from reason4rec.run.files import adapter
from reason4rec.run.pipeline import StepSpec
from reason4rec.systems import policy_costs
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import part_comparison, recommending, recommending_runs, staleness
from reason4rec.systems.gream.options import Ids, Models, Reinforcement, Reward, Rows
from reason4rec.systems.gream.prompts import REASONED
from reason4rec.systems.gream.train import recipe_of
from reason4rec.systems.reason4rec.facts import DEMO_BASE
from reason4rec.systems.sequence_costs import SequenceCosts
from reason4rec.training.recipe import Recipe

if TYPE_CHECKING:
    from reason4rec.systems.gream.workload import Work


class Plan(SequenceCosts):
    """What the estimates of the steps count with, and what is said around their table."""

    learns, rewarded = "G/7", ("G/8", "G/12")

    work: "Work"

    def __init__(self, survey: Survey):
        # By name, so that a step that estimates nothing does not load a tokenizer.
        from reason4rec.systems.gream.workload import Work

        work = Work(survey)
        teacher = survey.step("G/1")[Teacher].teacher_model
        # The demo's model runs on a CPU, where hours of a GPU mean nothing.
        super().__init__(survey, work, teacher, work.base_model != DEMO_BASE, work.max_length, work.max_new_tokens)

    def recipe(self) -> Recipe:
        """The recipe of the step that trains on rows."""
        return recipe_of(self.survey.step(self.learns))

    def reinforced(self, name: str = "G/8", trainings: int = 1) -> policy_costs.PolicyWork:
        """What a step does that trains policies by a reward."""
        work, options = self.work, self.survey.step(name)[Reinforcement]
        policy = options.policy(work.base_model)
        return policy_costs.PolicyWork(
            options,
            policy,
            self.recipe(),
            "Generator",
            min(options.rl_targets, work.n_targets),
            work.asking(REASONED).clip(max=work.max_length - policy.max_new_tokens),
            trainings,
        )

    def listed(self, spec: StepSpec, name: str) -> Line:
        """A line of a model that lists items for each case, after its thoughts where it has some."""
        work, options, model = self.work, self.survey.step(spec.name)[Models], recommending.MODELS[name]
        n, prompt = work.n_judged, float(work.asking(model.mode).mean())
        levels = self.survey.step("G/3")[Ids].levels + 1  # and what ends an answer
        thoughts, draws = (work.thoughts, options.draws) if model.mode == REASONED else (0.0, 0)
        read = n * ((1 + draws) * prompt + (prompt + thoughts if thoughts else 0.0) + options.beams * levels)
        written = n * (1 + draws) * thoughts
        return self.wrote(spec, n, n * (1 + draws + (thoughts > 0)), read, written, f"lists by {name}")

    def to_list(self) -> list[str]:
        """The models whose lists step G/9 would make: those that it is asked for, or that this run trains or has."""
        survey, step = self.survey, self.survey.step("G/9")
        of_reward = a.BY_ADVANTAGE[survey.step("G/8")[Reward].advantage]
        anew = any(survey.made(one) for one in step.spec.reads if one != a.GENERATOR)
        found = []
        for model in recommending_runs.named(step) or recommending.MODELS.values():
            mine = adapter(model.adapter)
            learned = survey.made(mine) and mine in (a.GENERATOR, of_reward)
            there = step.path(mine).exists()
            stale = there and (survey.made(a.GENERATOR) or staleness.of_adapter(step, model.adapter))
            if not learned and mine != a.GENERATOR and (stale or not there):
                continue
            if model.mode == REASONED and not survey.step("G/6")[Rows].reasoned:
                continue
            if there and not learned and not anew and recommending_runs.part_of(step, model).status().done:
                continue
            found.append(model.name)
        return found


def texts(plan: Plan, spec: StepSpec) -> list[Line]:
    """A request for each item with reviews, and one for each kind of text on a user."""
    work = plan.work
    reply = work.assume("tokens of a text on a user")
    items = plan.requested(spec, work.n_items, work.n_described, work.n_described * work.teaching("item").mean(), 0.0)
    of_items = replace(items, what="texts on items", tokens_out=items.requests and items.requests * reply)
    read = work.n_text_users * sum(work.teaching(kind).mean() for kind in a.KINDS)
    n = len(a.KINDS) * work.n_text_users
    of_users = plan.requested(spec, work.n_text_users, n, read, n * reply)
    return [of_items, replace(of_users, what="texts on users")]


def embedding(plan: Plan, spec: StepSpec) -> list[Line]:
    """The texts of all items, which the base reads once."""
    return [plan.computed(spec, plan.work.n_items, plan.work.n_items, plan.work.n_items * plan.work.of_items())]


def reasonings(plan: Plan, spec: StepSpec) -> list[Line]:
    """One request a training target."""
    work, n = plan.work, plan.work.n_asked
    return [
        plan.requested(spec, n, n, n * work.teaching("reasoning").mean(), n * work.assume("tokens of the thoughts"))
    ]


def training(plan: Plan, spec: StepSpec) -> list[Line]:
    """Rows of six tasks and of reasonings."""
    return [plan.trained(spec, recipe_of(plan.survey.step(spec.name)), plan.work.n_rows, plan.work.learned())]


def reinforcement(plan: Plan, spec: StepSpec) -> list[Line]:
    """Draws for the training targets, and updates by them; the reward itself takes no GPU."""
    return policy_costs.lines(plan, spec, plan.reinforced())


def lists(plan: Plan, spec: StepSpec) -> list[Line]:
    """A line for each model."""
    return [plan.listed(spec, name) for name in plan.to_list()]


def comparison(plan: Plan, spec: StepSpec) -> list[Line]:
    """A generator or a policy for each part and seed, and the lists of each in both modes."""
    runs = part_comparison.runs(plan.survey.step(spec.name))
    policies = sum(part in a.ADVANTAGES for part, _ in runs)
    [generator] = training(plan, plan.survey.step("G/7").spec)
    lines = [_times(generator, spec, len(runs) - policies, "trainings of a generator")]
    if policies:
        lines += policy_costs.lines(plan, spec, plan.reinforced(spec.name, policies))
    for mode in part_comparison.MODES:
        lists = plan.listed(spec, f"{part_comparison.GENERATOR}_{mode}")
        lines.append(_times(lists, spec, len(runs), f"{mode} lists"))
    return lines


def _times(line: Line, spec: StepSpec, n: int, what: str) -> Line:
    counts = ("rows", "requests", "tokens_in", "tokens_out", "hours")
    values = {name: getattr(line, name) for name in counts}
    found = {name: None if value is None else n * value for name, value in values.items()}
    return replace(line, step=spec.name, what=f"{n} {what}", **found)
