"""The steps of Reason4Rec in one table; everything that has to know them asks here."""

import dataclasses
from collections.abc import Mapping

from reason4rec.data import schema
from reason4rec.data.schema import DATA_CARD, TEST, TRAIN, VALID
from reason4rec.evaluation import statistics
from reason4rec.llm.options import RULES, Model, Teacher, Writing
from reason4rec.llm.usage import STAND_IN
from reason4rec.run.options import Resolved
from reason4rec.run.pipeline import Pipeline, StepSpec
from reason4rec.run.step import Common
from reason4rec.systems.costs import rows
from reason4rec.systems.reason4rec import artifacts as a
from reason4rec.systems.reason4rec import by_options as by
from reason4rec.systems.reason4rec import case_study, estimates, facts, published_files, targets, train
from reason4rec.systems.reason4rec import options as o
from reason4rec.systems.reason4rec.closing import closing
from reason4rec.systems.reason4rec.demo_teacher import demo_teacher, is_demo
from reason4rec.systems.reason4rec.reinforced import options as rl
from reason4rec.systems.reason4rec.reinforced import train as rl_train
from reason4rec.systems.reason4rec.step import ExpertStep, dataset_of
from reason4rec.training.options import Execution, RunsOn, Training

SHOWS_NO_HISTORY = ("history_length",)  # which earlier versions recorded, or not, where it decides little
ON_VALID = "--split valid"
WRITES_NOTHING = ("max_new_tokens",)  # which earlier versions recorded also in modes in which no model writes


STEPS = (
    StepSpec("0/1", "0_Data/1_download.py", "fetch public raw files", options=(o.Download,), runs=by.never),
    StepSpec(
        "0/3",
        "0_Data/3_make_demo_data.py",
        "raw reviews of the made-up world",
        writes=(a.DEMO_REVIEWS, a.DEMO_METADATA),
        defaults={"dataset": facts.DEMO},
        runs=is_demo,
        not_handed_on=("limit",),
    ),
    StepSpec(
        "0/2",
        "0_Data/2_preprocess.py",
        "train, valid and test",
        reads_if_there=(a.DEMO_REVIEWS, a.DEMO_METADATA),
        writes=(TRAIN, VALID, TEST, DATA_CARD),
        options=(o.Preprocess,),
        reads_with=by.dumps,
        settings=by.of_raw_reviews,
        runs=by.has_dump,
        not_handed_on=("limit",),  # there it is the lines of the dump
    ),
    StepSpec(
        "1/1",
        "1_Summarizer/1_distilling_aspect_preference_summary.py",
        "summaries by the teacher",
        reads=(TRAIN,),
        writes=(a.TEACHER_SUMMARIES,),
        options=(o.SummaryTargets, o.Prompts, *by.ASKS_TEACHER),
        optional=SHOWS_NO_HISTORY,
        estimate=estimates.teacher_summaries,
    ),
    StepSpec(
        "1/2",
        "1_Summarizer/2_construct_summarizer_train_data.py",
        "rows for the Summarizer",
        reads=(a.TEACHER_SUMMARIES,),
        writes=(a.SUMMARIZER_ROWS,),
        options=(o.SummarizerRows, o.Prompts),
        optional=SHOWS_NO_HISTORY,
        estimate=rows(lambda plan: plan.n_summarizer),
    ),
    StepSpec(
        "1/3",
        "1_Summarizer/3_summarizer_train.sh",
        "train the Summarizer",
        reads=(a.SUMMARIZER_ROWS,),
        writes=(a.SUMMARIZER,),
        options=(Training, Execution),
        settings=train.settings,
        adapter="Summarizer",
        estimate=estimates.summarizer_training,
    ),
    StepSpec(
        "1/4",
        "1_Summarizer/4_summarizer_generation.py",
        "summaries of all training reviews",
        reads=(TRAIN, a.SUMMARIZER),
        writes=(a.SUMMARIES,),
        options=(o.Prompts, o.Histories, *by.ASKS_EXPERT, Writing),
        settings=by.trial,
        reads_with=by.shown_reviews,
        estimate=estimates.summaries,
    ),
    StepSpec(
        "1/5",
        "1_Summarizer/5_summary_quality.py",
        "quality of the summaries",
        reads=(a.SUMMARIES_SET_ASIDE, a.SUMMARIZER),
        reads_if_there=(a.SUMMARIZER_ROWS,),
        writes=(a.SUMMARY_QUALITY, a.SUMMARY_QUALITY_ROWS),
        options=(o.SummaryQuality, o.Prompts, *by.ASKS_EXPERT, Writing),
        reads_with=published_files.reads_of_quality,
        settings=lambda step: {
            "summaries": sorted(word.partition("=")[0] for word in step[o.SummaryQuality].summaries)
        },
        optional=SHOWS_NO_HISTORY,
        runs=by.never,
    ),
    StepSpec(
        "2/1",
        "2_Reasoner/1_sample_train_data.py",
        "draw the targets",
        reads=(a.SUMMARIES,),
        writes=(a.REWARD_TARGETS, a.REASON_TARGETS),
        options=(o.Targets,),
        defaults={"seed": targets.SEED},
        estimate=rows(lambda plan: plan.n_drawn(0) + plan.n_drawn(1)),
    ),
    StepSpec(
        "2/2",
        "2_Reasoner/2_construct_reward_train_data.py",
        "rows for the reward model",
        reads=(a.REWARD_TARGETS, a.SUMMARIES),
        writes=(a.REWARD_ROWS,),
        options=(o.Prompts, o.Histories),
        estimate=rows(lambda plan: plan.n_drawn(0)),
    ),
    StepSpec(
        "2/3",
        "2_Reasoner/3_reward_model_train.sh",
        "train the reward model",
        reads=(a.REWARD_ROWS,),
        writes=(a.REWARD_MODEL,),
        options=(Training, Execution),
        settings=train.settings,
        adapter="reason_reward_model",
        estimate=estimates.reward_training,
    ),
    StepSpec(
        "2/4",
        "2_Reasoner/4_distilling_possible_reason.py",
        "reasons that pass the reward filter",
        reads=(a.REASON_TARGETS, a.SUMMARIES, a.REWARD_MODEL),
        writes=(a.TEACHER_REASONS,),
        options=(o.RewardFilter, o.Prompts, o.Histories, *by.ASKS_EXPERT, *by.ASKS_TEACHER),
        estimate=estimates.distillation,
    ),
    StepSpec(
        "2/5",
        "2_Reasoner/5_construct_reasoner_train_data.py",
        "rows for the Reasoner",
        reads=(a.TEACHER_REASONS, a.SUMMARIES),
        writes=(a.REASONER_ROWS,),
        options=(o.Prompts, o.Histories),
        estimate=rows(lambda plan: plan.n_accepted),
    ),
    StepSpec(
        "2/6",
        "2_Reasoner/6_reasoner_train.sh",
        "train the Reasoner",
        reads=(a.REASONER_ROWS,),
        writes=(a.REASONER,),
        options=(Training, Execution),
        settings=train.settings,
        adapter="Reasoner",
        estimate=estimates.reasoner_training,
    ),
    StepSpec(
        "2/8",
        "2_Reasoner/8_reasoner_rl.sh",
        "train the Reasoner further by a reward",
        reads=(VALID, a.REASON_TARGETS, a.SUMMARIES, a.REASONER, a.PREDICTOR),
        writes=(a.REASONER_RL,),
        may_change=(a.PREDICTOR,),
        options=(rl.Reward, rl.Reinforcement, RunsOn, o.Prompts, o.Histories, *by.ASKS_EXPERT),
        settings=rl_train.settings,
        launched=True,
        runs=by.never,
        estimate=estimates.reinforcement,
    ),
    # After those that else write what it writes, so that they are named where that is missing.
    StepSpec(
        "0/4",
        "0_Data/4_import_published_texts.py",
        "published texts in place of the teacher's",
        reads=(TRAIN, TEST),
        reads_if_there=(VALID,),
        writes=(a.TEACHER_SUMMARIES, a.REASONER_ROWS, a.SUMMARIES_SET_ASIDE, a.REASONS_SET_ASIDE),
        options=(o.PublishedTexts, o.Prompts, o.Histories),
        reads_with=published_files.reads_of,
        settings=published_files.settings,
        runs=by.never,
    ),
    StepSpec(
        "2/7",
        "2_Reasoner/7_generate_reason_for_test.py",
        "reasons for the test rows",
        reads=(TEST, a.SUMMARIES, a.REASONER),
        writes=(a.TEST_REASONS,),
        elsewhere={a.VALID_REASONS: ON_VALID},
        options=(o.Split, rl.WhichReasoner, o.Prompts, o.Histories, *by.ASKS_EXPERT, Writing),
        reads_with=by.of_split,
        writes_with=by.writes_of_split,
        estimate=estimates.test_reasons,
    ),
    StepSpec(
        "3/1",
        "3_Predictor/1_construct_predictor_train_data.py",
        "rows for the Predictor",
        reads=(a.TEACHER_REASONS, a.SUMMARIES, a.REASONER),
        writes=(a.PREDICTOR_ROWS,),
        options=(o.Mode, o.PredictorRows, rl.WhichReasoner, o.Prompts, o.Histories, *by.ASKS_EXPERT, Writing),
        reads_with=by.rows_of_predictor,
        uses=by.without_reasoner,
        optional=WRITES_NOTHING,
        estimate=estimates.predictor_rows,
    ),
    StepSpec(
        "3/2",
        "3_Predictor/2_predictor_train.sh",
        "train the Predictor",
        reads=(a.PREDICTOR_ROWS,),
        writes=(a.PREDICTOR,),
        options=(Training, Execution),
        settings=train.settings,
        adapter="Predictor",
        estimate=estimates.predictor_training,
    ),
    StepSpec(
        "3/3",
        "3_Predictor/3_generate_predict_for_test.py",
        "predicted ratings of the test rows",
        reads=(a.TEST_REASONS, a.SUMMARIES, a.PREDICTOR),
        writes=(a.TEST_RATINGS,),
        elsewhere={a.VALID_RATINGS: ON_VALID},
        options=(o.Mode, o.Split, o.Prompts, o.Histories, *by.ASKS_EXPERT, Writing),
        reads_with=by.rated_rows,
        writes_with=by.writes_of_split,
        uses=by.without_writing,
        optional=WRITES_NOTHING,
        estimate=estimates.test_ratings,
    ),
    StepSpec(
        "3/4",
        "3_Predictor/4_evaluate.py",
        "errors and tests of all models",
        reads=(TRAIN, TEST),
        reads_if_there=(a.TEST_RATINGS, a.PREDICTIONS),
        writes=(a.METRICS,),
        elsewhere={a.VALID_METRICS: ON_VALID},
        options=(o.Evaluation, o.Split),
        reads_with=by.evaluated,
        writes_with=by.writes_of_split,
        settings=by.evaluation,
        estimate=rows(lambda plan: plan.n_test),
    ),
    StepSpec(
        "3/5",
        "3_Predictor/5_baselines.py",
        "baselines",
        reads=(TRAIN, TEST),
        reads_if_there=(VALID, a.SUMMARIES),
        writes=(a.EFFORTS,),
        also_writes=(a.PREDICTIONS,),
        options=(o.Baselines, o.Prompts, o.Histories, Model, Writing, Teacher),
        estimate=rows(lambda plan: plan.n_test),
    ),
    StepSpec(
        "3/6",
        "3_Predictor/6_ablations.py",
        "variants of a finished run",
        reads=(a.TEST_RATINGS,),
        writes=(a.ABLATIONS,),
        elsewhere={a.VALID_ABLATIONS: ON_VALID, a.VALID_PREDICTIONS: ON_VALID},
        also_writes=(a.PREDICTIONS,),
        options=(o.Ablations, o.Split, o.PredictorRows, o.Prompts, Model, Writing, Teacher),
        reads_with=by.of_split,
        writes_with=by.writes_of_split,
        runs=by.never,
    ),
    StepSpec(
        "3/7",
        "3_Predictor/7_reason_quality.py",
        "quality of the reasons",
        reads=(a.TEST_REASONS, a.SUMMARIES),
        writes=(a.REASON_QUALITY, a.REASON_QUALITY_ROWS),
        options=(o.Quality, o.Prompts, o.Histories, Model, *by.ASKS_TEACHER),
        reads_with=by.quality_reads,
        settings=by.scores,
        uses=by.judged,
        optional=SHOWS_NO_HISTORY,
        estimate=rows(lambda plan: plan.n_test),
    ),
    StepSpec(
        "3/8",
        "3_Predictor/8_case_study.py",
        "page of case studies",
        reads=(a.TEST_RATINGS, a.SUMMARIES),
        reads_if_there=(TRAIN, a.PREDICTIONS),
        writes=(a.CASE_STUDY,),
        options=(o.CaseStudy, o.Histories),
        reads_with=case_study.reads,
        settings=lambda step: {"model": step.label, "caveats": case_study.caveats(step)},
        estimate=rows(lambda plan: plan.n_test),
    ),
    StepSpec(
        "3/9",
        "3_Predictor/9_diagnosis.py",
        "which step fails",
        reads=(TRAIN, a.TEST_RATINGS, a.SUMMARIES, a.PREDICTOR),
        reads_if_there=(a.VALID_RATINGS, a.REWARD_MODEL, a.REASON_TARGETS, a.TEACHER_REASONS),
        writes=(a.DIAGNOSIS,),
        options=(o.Prompts, o.Histories, *by.ASKS_EXPERT),
        reads_with=by.diagnosed,
        settings=lambda step: {"resamples": statistics.RESAMPLES},
        runs=by.never,
    ),
)


def refused(options: Resolved) -> str:
    """Why a run with these options makes no sense, or nothing."""
    if options.given("dry_run") and options.given("reviews"):
        return "--dry_run counts what the preprocessing wrote: run 0_Data/2_preprocess.py with --reviews first"
    if is_demo(options):
        for name in ("reviews", "metadata", "columns", "product_class", "core"):
            if options.origins[name] == "command line":
                return f"--{name} needs --dataset: the demo makes its own data"
        if options.origins["teacher_model"] == "command line":
            return "--teacher_model needs --dataset: the demo has its own teacher"
    if options[Teacher].teacher_model == RULES and options[o.Quality].judge:
        return f"--judge: --teacher_model {RULES} does not judge reasons; run 3/7 with another teacher afterwards"
    return ""


def facts_of(options: Resolved) -> Mapping[str, object]:
    """The facts of the dataset by name; the demo has a teacher of its own."""
    found = dataclasses.asdict(dataset_of(options))
    return found | ({"teacher_model": STAND_IN} if is_demo(options) else {})


PIPELINE = Pipeline(
    "reason4rec",
    STEPS,
    common=(Common,),
    facts=facts_of,
    read=schema.read,
    step=ExpertStep,
    default=facts.DEMO,
    around=demo_teacher,
    refused=refused,
    closing=closing,
    plan=estimates.Plan,
)
