"""The steps of GREAM in one table; everything that has to know them asks here.

Sequences, items, lists and SASRec are those of TWiCE-Rec, whose steps T/0 to T/3 stand here too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from reason4rec.llm.known_bases import sha256_of
from reason4rec.llm.options import Batch, Model, Teacher
from reason4rec.llm.usage import STAND_IN
from reason4rec.run.files import Artifact
from reason4rec.run.options import Resolved
from reason4rec.run.pipeline import Pipeline, StepSpec
from reason4rec.run.step import Common
from reason4rec.systems.costs import rows
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import (
    estimates,
    evaluation_runs,
    facts,
    part_comparison,
    recommending_runs,
    rl_train,
    tables,
    train,
)
from reason4rec.systems.gream import options as o
from reason4rec.systems.gream.closing import closing
from reason4rec.systems.gream.step import GeneratorStep
from reason4rec.systems.reason4rec.demo_teacher import demo_teacher
from reason4rec.systems.twice_rec.artifacts import ITEMS, SASREC, SEQUENCES
from reason4rec.systems.twice_rec.options import Cases, CaseStudy, Split
from reason4rec.systems.twice_rec.pipeline import PIPELINE as TWICE_REC
from reason4rec.systems.twice_rec.pipeline import is_own_demo, never
from reason4rec.training.options import Execution, RunsOn, Training


def base_that_reads(step: GeneratorStep) -> Mapping[str, object]:
    """The base model that reads the items' texts, by its files; nothing where a small encoder does."""
    options = step[o.Encoder]
    return {"base_sha256": sha256_of(options.base_model)} if options.encoder == "base" else {}


def reasons(options: Resolved) -> bool:
    """Whether a run of all steps has those of the reasoned mode: not where no reasonings are learned."""
    return options[o.Rows].reasoned


def learned(step: GeneratorStep) -> Sequence[Artifact]:
    """What rows are made from: reasonings too, unless they are to be left out."""
    return [one for one in step.spec.reads if step[o.Rows].reasoned or one != a.REASONINGS]


def metrics_of(step: GeneratorStep) -> Sequence[Artifact]:
    """The file of the evaluation of a split."""
    return (step.on(a.METRICS),)


def evaluated(step: GeneratorStep) -> Sequence[Artifact]:
    """What the evaluation reads: what there is of SASRec, and the generators' files that are current."""
    return _there(step, step[Split].split)


def shown(step: GeneratorStep) -> Sequence[Artifact]:
    """What a page of case studies reads: the lists and thoughts that are there and current."""
    return _there(step, "test")


def compared(step: GeneratorStep) -> Sequence[Artifact]:
    """What the comparison of parts reads: SASRec too, where it is trained."""
    return [*step.spec.reads, *evaluation_runs.trained_beside(step)]


def _there(step: GeneratorStep, split: str) -> Sequence[Artifact]:
    lists = [of(name, split) for name in evaluation_runs.there(step, split) for of in (a.ranked, a.written)]
    return [*step.spec.reads, *evaluation_runs.trained_beside(step), *lists]


STEPS = (
    *(replace(TWICE_REC[name], borrowed=True) for name in ("0/2", "T/0", "T/1", "T/2", "T/3")),
    StepSpec(
        "G/1",
        "GREAM/1_write_texts.py",
        "texts on items and users by the teacher",
        reads=(SEQUENCES, ITEMS),
        writes=(a.ITEM_TEXTS, a.USER_TEXTS),
        options=(o.TextUsers, o.Prompts, Teacher, Batch),
        estimate=estimates.texts,
    ),
    StepSpec(
        "G/2",
        "GREAM/2_embed_items.py",
        "vectors of the items' texts",
        reads=(ITEMS, a.ITEM_TEXTS),
        writes=(a.EMBEDDINGS,),
        options=(o.Encoder,),
        settings=base_that_reads,
        not_handed_on=("limit",),  # every item has an id, also in a trial
        estimate=estimates.embedding,
    ),
    StepSpec(
        "G/3",
        "GREAM/3_semantic_ids.py",
        "semantic ids of the items",
        reads=(SEQUENCES, ITEMS, a.ITEM_TEXTS, a.EMBEDDINGS),
        writes=(a.SEMANTIC_IDS, a.CODEBOOKS, a.ID_CARD),
        options=(o.Ids,),
        not_handed_on=("limit",),
        estimate=rows(lambda work: work.n_items),
    ),
    StepSpec(
        "G/4",
        "GREAM/4_distil_reasonings.py",
        "reasonings by the teacher",
        reads=(SEQUENCES, ITEMS, a.ITEM_TEXTS),
        writes=(a.REASONINGS,),
        options=(o.Reasonings, o.Prompts, Teacher, Batch),
        runs=reasons,
        estimate=estimates.reasonings,
    ),
    StepSpec(
        "G/5",
        "GREAM/5_extend_base.py",
        "the base model with tokens for the ids",
        reads=(ITEMS, a.ITEM_TEXTS, a.SEMANTIC_IDS),
        writes=(a.BASE,),
        options=(o.Extended,),
        settings=lambda step: {"base_sha256": sha256_of(step[o.Extended].base_model)},
        not_handed_on=("limit",),
        estimate=rows(lambda work: work.n_tokens),
    ),
    StepSpec(
        "G/6",
        "GREAM/6_construct_train_data.py",
        "rows for the generator",
        reads=(SEQUENCES, ITEMS, a.ITEM_TEXTS, a.USER_TEXTS, a.SEMANTIC_IDS, a.REASONINGS),
        writes=(a.INSTRUCT_ROWS,),
        options=(o.Rows, o.Prompts, o.Restating),
        reads_with=learned,
        estimate=rows(lambda work: work.n_rows),
    ),
    StepSpec(
        "G/7",
        "GREAM/7_generator_train.sh",
        "train the generator",
        reads=(a.INSTRUCT_ROWS, a.BASE),
        writes=(a.GENERATOR,),
        elsewhere={a.SHUFFLED: "--order shuffled"},
        options=(o.Order, Training, Execution),
        defaults={"max_length": train.MAX_LENGTH},
        writes_with=train.written,
        settings=train.settings,
        adapter="Generator",
        not_handed_on=("limit",),  # there it would be rows, and not users
        estimate=estimates.training,
    ),
    StepSpec(
        "G/8",
        "GREAM/8_generator_rl.sh",
        "train it further by a reward",
        reads=(SEQUENCES, ITEMS, a.SEMANTIC_IDS, a.BASE, a.GENERATOR),
        writes=(a.BY_ADVANTAGE["srpo"],),
        elsewhere={a.BY_ADVANTAGE[name]: f"--advantage {name}" for name in a.ADVANTAGES[1:]},
        options=(o.Reward, o.Reinforcement, RunsOn, o.Questions, o.Restating, Model),
        writes_with=rl_train.trained_by,
        settings=rl_train.settings,
        runs=reasons,
        launched=True,
        estimate=estimates.reinforcement,
    ),
    StepSpec(
        "G/9",
        "GREAM/9_recommend.py",
        "recommend items",
        reads=(SEQUENCES, ITEMS, a.SEMANTIC_IDS, a.BASE, a.GENERATOR),
        reads_if_there=(a.SHUFFLED, *a.BY_ADVANTAGE.values()),
        also_writes=(a.RANKED,),
        options=(o.Models, Split, Cases, o.Questions, o.Restating, Model),
        parts=recommending_runs.parts,
        estimate=estimates.lists,
    ),
    StepSpec(
        "G/10",
        "GREAM/10_evaluate.py",
        "compare all models",
        reads=(SEQUENCES, ITEMS, a.SEMANTIC_IDS),
        reads_if_there=(SASREC, a.RANKED),
        writes=(a.METRICS,),
        elsewhere={a.VALID_METRICS: a.ON_VALID},
        options=(o.Evaluation, Split, Cases),
        reads_with=evaluated,
        writes_with=metrics_of,
        estimate=rows(lambda work: work.n_judged),
    ),
    StepSpec(
        "G/11",
        "GREAM/11_case_study.py",
        "page of case studies",
        reads=(SEQUENCES, ITEMS),
        reads_if_there=(SASREC, a.RANKED),
        writes=(a.CASE_STUDY,),
        options=(CaseStudy, Cases),
        reads_with=shown,
        estimate=rows(lambda work: work.n_judged),
    ),
    StepSpec(
        "G/12",
        "GREAM/12_compare_parts.py",
        "what each part of the training teaches, over seeds",
        reads=(SEQUENCES, ITEMS, a.SEMANTIC_IDS, a.INSTRUCT_ROWS, a.BASE),
        reads_if_there=(SASREC,),
        writes=(a.COMPARISON,),
        options=(
            o.Comparison,
            Cases,
            Training,
            Execution,
            o.Reinforcement,
            RunsOn,
            o.Models,
            o.Questions,
            o.Restating,
            Model,
        ),
        defaults={"max_length": train.MAX_LENGTH},
        reads_with=compared,
        settings=part_comparison.settings,
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
    return ""


PIPELINE = Pipeline(
    "gream",
    STEPS,
    common=(Common,),
    facts=facts_of,
    read=tables.read,
    step=GeneratorStep,
    default=facts.DEMO_SEQUENCES,
    around=partial(demo_teacher, name=facts.DEMO_SEQUENCES),
    refused=refused,
    closing=closing,
    plan=estimates.Plan,
)
