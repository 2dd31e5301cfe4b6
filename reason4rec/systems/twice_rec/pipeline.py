"""The steps of TWiCE-Rec in one table; everything that has to know them asks here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from reason4rec.data.sequences import SPLITS
from reason4rec.llm.options import RULES, Batch, Model, Teacher
from reason4rec.llm.usage import STAND_IN
from reason4rec.run.files import Artifact
from reason4rec.run.options import Resolved
from reason4rec.run.pipeline import Pipeline, StepSpec
from reason4rec.run.step import Common
from reason4rec.systems.costs import rows
from reason4rec.systems.reason4rec.demo_teacher import demo_teacher, is_demo
from reason4rec.systems.reason4rec.pipeline import PIPELINE as REASON4REC
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import (
    collaborative_runs,
    estimates,
    facts,
    ranking_runs,
    rl_train,
    sequence_data,
    tables,
    train,
)
from reason4rec.systems.twice_rec import options as o
from reason4rec.systems.twice_rec.closing import closing
from reason4rec.systems.twice_rec.step import RecommenderStep
from reason4rec.training.options import Execution, RunsOn, Training


def never(options: Resolved) -> bool:
    """Whether a run of all steps has one that is run by hand: no."""
    return False


def is_own_demo(options: Resolved) -> bool:
    """Whether the options name the dataset of this system's demo."""
    return is_demo(options, facts.DEMO_SEQUENCES)


def trained_by(step: RecommenderStep) -> Sequence[Artifact]:
    """The adapter that a training by a reward writes."""
    return (a.BY_REWARD[step[o.Reward].reward],)


def metrics_of(step: RecommenderStep) -> Sequence[Artifact]:
    """The file of the evaluation of a split."""
    return (step.on(a.METRICS),)


def evaluated(step: RecommenderStep) -> Sequence[Artifact]:
    """What the evaluation reads: the recommenders' files that are there and current."""
    return [*step.spec.reads, *_ranked(step, step[o.Split].split)]


def checked(step: RecommenderStep) -> Sequence[Artifact]:
    """What the checks of rationales read: the current replies of the recommenders, and the teacher's rationales."""
    teacher = [a.RATIONALES] if step.path(a.RATIONALES).exists() else []
    return [*step.spec.reads, *teacher, *(a.written(name, "test") for name in ranking_runs.there(step, "test"))]


def asks_a_judge(options: Resolved) -> Collection[type] | None:
    """The groups of options that decide something: the teacher's only where it grades."""
    return None if options[o.Quality].judge else (o.Quality, o.Prompts)


def shown(step: RecommenderStep) -> Sequence[Artifact]:
    """What a page of case studies reads: the ranks and replies that are there and current."""
    return [*step.spec.reads, *_ranked(step, "test")]


def _ranked(step: RecommenderStep, split: str) -> Sequence[Artifact]:
    return [of(name, split) for name in ranking_runs.there(step, split) for of in (a.ranked, a.written)]


def compared(step: RecommenderStep) -> Sequence[Artifact]:
    """What the comparison of rewards reads: the ranks of the supervised recommender too."""
    return [*step.spec.reads, a.ranked("recommender", "test")]


STEPS = (
    # So that messages name the step that makes the splits.
    replace(REASON4REC["0/2"], runs=never, borrowed=True),
    StepSpec(
        "T/0",
        "TWiCE_Rec/0_make_demo_sequences.py",
        "sequences of the made-up world",
        writes=(a.DEMO_SEQUENCES, a.DEMO_ITEMS),
        defaults={"dataset": facts.DEMO_SEQUENCES},
        runs=is_own_demo,
        not_handed_on=("limit",),
    ),
    StepSpec(
        "T/1",
        "TWiCE_Rec/1_sequences.py",
        "what each user chose, in order",
        reads_if_there=(*REASON4REC["0/2"].writes, a.DEMO_SEQUENCES, a.DEMO_ITEMS),
        writes=(a.SEQUENCES, a.ITEMS, a.DATA_CARD),
        options=(o.Sequences,),
        reads_with=sequence_data.reads,
        not_handed_on=("limit",),  # all sequences are made, also for a trial
        estimate=rows(lambda work: work.n_users),
    ),
    StepSpec(
        "T/2",
        "TWiCE_Rec/2_candidates.py",
        "a list of candidates for every case",
        reads=(a.SEQUENCES, a.ITEMS),
        writes=(a.CANDIDATES,),
        options=(o.Candidates,),
        not_handed_on=("limit",),  # a user's list is the same whoever else is there
        estimate=rows(lambda work: len(SPLITS) * work.n_users),
    ),
    StepSpec(
        "T/3",
        "TWiCE_Rec/3_sasrec.py",
        "train the collaborative model",
        reads=(a.SEQUENCES, a.ITEMS, a.CANDIDATES),
        writes=(a.SASREC, a.SCORES),
        options=(o.Collaborative,),
        settings=collaborative_runs.settings,
        not_handed_on=("limit",),
        estimate=rows(lambda work: work.n_users),
    ),
    StepSpec(
        "T/4",
        "TWiCE_Rec/4_distil_rationales.py",
        "rationales by the teacher",
        reads=(a.SEQUENCES, a.ITEMS),
        writes=(a.RATIONALES,),
        options=(o.RationaleTargets, o.Prompts, Teacher, Batch),
        estimate=estimates.teacher_rationales,
    ),
    StepSpec(
        "T/5",
        "TWiCE_Rec/5_construct_recommender_train_data.py",
        "rows for the recommender",
        reads=(a.SEQUENCES, a.ITEMS, a.CANDIDATES, a.RATIONALES),
        writes=(a.INSTRUCT_ROWS,),
        options=(o.Tasks, o.Prompts),
        estimate=rows(lambda work: sum(work.n_by_task.values())),
    ),
    StepSpec(
        "T/6",
        "TWiCE_Rec/6_recommender_train.sh",
        "train the recommender",
        reads=(a.INSTRUCT_ROWS,),
        writes=(a.RECOMMENDER,),
        options=(Training, Execution),
        defaults={"max_length": train.MAX_LENGTH},
        settings=train.settings,
        adapter="Recommender",
        not_handed_on=("limit",),  # there it would be rows, and not users
        estimate=estimates.training,
    ),
    StepSpec(
        "T/7",
        "TWiCE_Rec/7_recommender_rl.sh",
        "train it further by a reward",
        reads=(a.SEQUENCES, a.ITEMS, a.CANDIDATES, a.SCORES, a.SASREC, a.RECOMMENDER),
        writes=(a.BY_REWARD["mended"],),
        elsewhere={a.BY_REWARD[name]: f"--reward {name}" for name in a.REWARDS[1:]},
        options=(o.Reward, o.Reinforcement, RunsOn, o.Prompts, Model),
        writes_with=trained_by,
        settings=rl_train.settings,
        launched=True,
        estimate=estimates.reinforcement,
    ),
    StepSpec(
        "T/8",
        "TWiCE_Rec/8_rank_candidates.py",
        "rank the candidates",
        reads=(a.SEQUENCES, a.ITEMS, a.CANDIDATES, a.RECOMMENDER),
        reads_if_there=tuple(a.BY_REWARD.values()),
        also_writes=(a.RANKED,),
        options=(o.Models, o.Split, o.Cases, o.Prompts, Model),
        parts=ranking_runs.parts,
        estimate=estimates.ranks,
    ),
    StepSpec(
        "T/9",
        "TWiCE_Rec/9_evaluate.py",
        "compare all models",
        reads=(a.SEQUENCES, a.ITEMS, a.CANDIDATES, a.SCORES),
        reads_if_there=(a.RANKED,),
        writes=(a.METRICS,),
        elsewhere={a.VALID_METRICS: a.ON_VALID},
        options=(o.Evaluation, o.Split, o.Cases),
        reads_with=evaluated,
        writes_with=metrics_of,
        estimate=rows(lambda work: work.n_judged),
    ),
    StepSpec(
        "T/10",
        "TWiCE_Rec/10_rationale_quality.py",
        "check the rationales",
        reads=(a.SEQUENCES, a.ITEMS, a.CANDIDATES),
        reads_if_there=(a.RANKED, a.RATIONALES),
        writes=(a.QUALITY,),
        options=(o.Quality, o.Prompts, Teacher, Batch),
        reads_with=checked,
        uses=asks_a_judge,
        estimate=estimates.quality,
    ),
    StepSpec(
        "T/11",
        "TWiCE_Rec/11_case_study.py",
        "page of case studies",
        reads=(a.SEQUENCES, a.ITEMS, a.CANDIDATES, a.SCORES),
        reads_if_there=(a.RANKED,),
        writes=(a.CASE_STUDY,),
        options=(o.CaseStudy, o.Cases),
        reads_with=shown,
        estimate=rows(lambda work: work.n_judged),
    ),
    StepSpec(
        "T/12",
        "TWiCE_Rec/12_compare_rewards.py",
        "what each reward teaches, over seeds",
        reads=(a.SEQUENCES, a.ITEMS, a.CANDIDATES, a.SCORES, a.SASREC, a.RECOMMENDER),
        reads_if_there=(a.RANKED,),
        writes=(a.COMPARISON,),
        reads_with=compared,
        options=(o.Comparison, o.Evaluation, o.Cases, o.Reward, o.Reinforcement, o.Models, RunsOn, o.Prompts, Model),
        settings=rl_train.of_all_rewards,
        runs=never,
        estimate=estimates.comparison,
    ),
)


def facts_of(options: Resolved) -> Mapping[str, object]:
    """The facts of the dataset by name; the demo has a teacher of its own."""
    found = facts.by_name(options[Common].dataset)
    return found | ({"teacher_model": STAND_IN} if is_own_demo(options) else {})


def refused(options: Resolved) -> str:
    """Why a run with these options makes no sense, or nothing."""
    if is_own_demo(options) and options.origins["teacher_model"] == "command line":
        return "--teacher_model needs --dataset: the demo has its own teacher"
    if options[Teacher].teacher_model == RULES and options[o.Quality].judge:
        return f"--judge: --teacher_model {RULES} does not judge; run T/10 with another teacher afterwards"
    return ""


PIPELINE = Pipeline(
    "twice_rec",
    STEPS,
    common=(Common,),
    facts=facts_of,
    read=tables.read,
    step=RecommenderStep,
    default=facts.DEMO_SEQUENCES,
    around=partial(demo_teacher, name=facts.DEMO_SEQUENCES),
    refused=refused,
    closing=closing,
    plan=estimates.Plan,
)
