"""What each step of TWiCE-Rec would cost: requests, tokens, GPU hours, memory and US dollars.

A function of this module makes the lines of one row of the table of steps.
"""

from reason4rec.llm.options import Teacher
from reason4rec.run.cost import Line, Survey
from reason4rec.run.files import adapter
from reason4rec.run.pipeline import StepSpec
from reason4rec.systems import policy_costs
from reason4rec.systems.reason4rec.facts import DEMO_BASE
from reason4rec.systems.sequence_costs import SequenceCosts
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import ranking_runs, recommending, reward_comparison, staleness
from reason4rec.systems.twice_rec.options import Models, Quality, Reinforcement, Reward, Split
from reason4rec.systems.twice_rec.prompts import RATIONALE_FIRST
from reason4rec.systems.twice_rec.train import recipe_of
from reason4rec.training.recipe import Recipe


class Plan(SequenceCosts):
    """What the estimates of the steps count with, and what is said around their table."""

    learns, rewarded = "T/6", ("T/7", "T/12")

    def __init__(self, survey: Survey):
        # By name, so that a step that estimates nothing does not load a tokenizer.
        from reason4rec.systems.twice_rec.workload import Texts

        work = Texts(survey)
        teacher = survey.step("T/4")[Teacher].teacher_model
        # The demo's model runs on a CPU, where hours of a GPU mean nothing.
        super().__init__(survey, work, teacher, work.base_model != DEMO_BASE, work.max_length, work.max_new_tokens)

    def recipe(self) -> Recipe:
        """The recipe of the step that trains on rows."""
        return recipe_of(self.survey.step(self.learns))

    def reinforced(self, name: str, trainings: int = 1) -> policy_costs.PolicyWork:
        """What a step does that trains policies by a reward."""
        work, options = self.work, self.survey.step(name)[Reinforcement]
        policy = options.policy(work.base_model)
        return policy_costs.PolicyWork(
            options,
            policy,
            self.recipe(),
            "Recommender",
            min(options.rl_targets, work.n_cases),
            work.recommending("train", RATIONALE_FIRST).clip(max=work.max_length - policy.max_new_tokens),
            trainings,
        )

    def ranked(self, spec: StepSpec, name: str, models: int = 1) -> Line:
        """A line of a model that writes on each case and weighs its candidates; `models` are that many alike."""
        work, options, model = self.work, self.survey.step(spec.name)[Models], recommending.MODELS[name]
        reply, n = work.reply(model.task), models * work.n_judged
        prompt = work.recommending("test", model.task).clip(max=work.max_length - reply).mean()
        begun = reply - work.answer if model.task == RATIONALE_FIRST else 0.0
        read = n * ((2 + options.draws) * prompt + begun + work.n_candidates * work.answer)
        requests = n * (1 + options.draws + work.n_candidates)
        what = f"ranks by {name}" if models == 1 else f"ranks by {models} policies"
        return self.wrote(spec, n, requests, read, n * (1 + options.draws) * reply, what)

    def to_rank(self) -> list[str]:
        """The models whose ranks step T/8 would make: those that it is asked for, or that this run trains or has."""
        survey, step = self.survey, self.survey.step("T/8")
        reward = survey.step("T/7")[Reward].reward
        anew = any(survey.made(one) for one in step.spec.reads if one != a.RECOMMENDER)
        found = []
        for model in ranking_runs.named(step) or recommending.MODELS.values():
            mine = adapter(model.adapter)
            learned = survey.made(mine) and mine in (a.RECOMMENDER, a.BY_REWARD[reward])
            there = step.path(mine).exists()
            if not there and not learned and mine != a.RECOMMENDER:
                continue
            stale = there and mine != a.RECOMMENDER and survey.made(a.RECOMMENDER)
            if not learned and (stale or (there and staleness.of_adapter(step, mine.path))):
                continue  # T/8 leaves it out
            split = step[Split].split
            if there and not learned and not anew and ranking_runs.part_of(step, model, split).status().done:
                continue
            found.append(model.name)
        return found

    def ranking(self) -> list[str]:
        """The models whose ranks there are, or will be."""
        step, new = self.survey.step("T/8"), self.to_rank()
        return [name for name in recommending.MODELS if name in new or step.path(a.ranked(name, "test")).exists()]


def teacher_rationales(plan: Plan, spec: StepSpec) -> list[Line]:
    """One request a training case."""
    work, n = plan.work, plan.work.n_targets
    return [plan.requested(spec, n, n, n * work.teaching().mean(), n * work.rationale)]


def training(plan: Plan, spec: StepSpec) -> list[Line]:
    """Rows of three tasks."""
    work = plan.work
    return [plan.trained(spec, recipe_of(plan.survey.step(spec.name)), sum(work.n_by_task.values()), work.learned())]


def reinforcement(plan: Plan, spec: StepSpec) -> list[Line]:
    """Draws for the training cases, and updates by them; the reward itself takes no GPU."""
    return policy_costs.lines(plan, spec, plan.reinforced(spec.name))


def ranks(plan: Plan, spec: StepSpec) -> list[Line]:
    """A line for each recommender."""
    return [plan.ranked(spec, name) for name in plan.to_rank()]


def quality(plan: Plan, spec: StepSpec) -> list[Line]:
    """The checks, which a CPU makes; with a judge a request for each rationale of a recommender."""
    work = plan.work
    found = [Line(spec.name, spec.what, "CPU", work.n_judged)]
    if plan.survey.step(spec.name)[Quality].judge:
        writers = [name for name in plan.ranking() if recommending.MODELS[name].task == RATIONALE_FIRST]
        n = len(writers) * work.n_judged
        read = n * (work.teaching().mean() + work.rationale)
        found.append(plan.requested(spec, n, n, read, n * work.assume("tokens of a grade")))
    return found


def comparison(plan: Plan, spec: StepSpec) -> list[Line]:
    """As many policies as there are rewards and seeds, and the ranks of each."""
    n = len(reward_comparison.runs(plan.survey.step(spec.name)))
    return [
        *policy_costs.lines(plan, spec, plan.reinforced(spec.name, n)),
        plan.ranked(spec, reward_comparison.SUPERVISED, n),
    ]
