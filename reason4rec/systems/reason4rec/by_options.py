"""What a row of the table of steps reads, writes and records, where that depends on the step's options."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from reason4rec.data import catalog
from reason4rec.data.fields import number
from reason4rec.data.schema import TEST, TRAIN
from reason4rec.errors import InputError
from reason4rec.evaluation import statistics
from reason4rec.llm.options import Batch, Model, Servers, Teacher, Writing
from reason4rec.run.files import Artifact, adapter
from reason4rec.run.options import Resolved
from reason4rec.systems.reason4rec import artifacts as a
from reason4rec.systems.reason4rec import facts, predictions
from reason4rec.systems.reason4rec import options as o
from reason4rec.systems.reason4rec.demo_teacher import is_demo
from reason4rec.systems.reason4rec.predictor_modes import WRITES_ITSELF
from reason4rec.systems.reason4rec.reinforced.options import WhichReasoner
from reason4rec.systems.reason4rec.step import ExpertStep

ASKS_EXPERT = (Model, Servers)
ASKS_TEACHER = (Teacher, Batch)


def has_dump(options: Resolved) -> bool:
    """Whether a run has raw reviews to preprocess."""
    return is_demo(options) or options.given("reviews")


def never(options: Resolved) -> bool:
    """Whether a run of all steps has one that is run by hand: no."""
    return False


def dumps_of(step: ExpertStep) -> tuple[Path | Artifact, Path | Artifact | None]:
    """The raw reviews and metadata of the preprocessing: those named, or those of a known dataset."""
    given = step[o.Preprocess]
    if given.reviews is not None:
        return given.reviews, given.metadata
    if step.common.dataset == facts.DEMO:
        return a.DEMO_REVIEWS, given.metadata or a.DEMO_METADATA
    reviews, metadata = catalog.raw_files(step.common.dataset, step.folder.parent)
    return reviews, given.metadata or metadata


def of_raw_reviews(step: ExpertStep) -> Mapping[str, object]:
    """What the preprocessing records of a dataset: the months of its window, and another scale than 1 to 5."""
    scale = {} if step.dataset.scale == catalog.STARS else {"scale": ":".join(map(number, step.dataset.scale))}
    return {"months": step.dataset.months} | scale


def dumps(step: ExpertStep) -> Sequence[Path | Artifact]:
    """The raw files that the preprocessing reads."""
    return list(dict.fromkeys(one for one in dumps_of(step) if one is not None))


def shown_reviews(step: ExpertStep) -> Sequence[Artifact]:
    """With a limit, which reviews are summarised depends on the test rows."""
    return (*step.spec.reads, TEST) if step.common.limit else step.spec.reads


def trial(step: ExpertStep) -> Mapping[str, object]:
    """What a trial's table of summaries holds, which earlier versions made of a part of the reviews."""
    return {"reviews": "all, a part of them summarised"} if step.common.limit else {}


def rows_of_predictor(step: ExpertStep) -> Sequence[Artifact]:
    """What the Predictor learns from; InputError for all targets in a mode that has no reasons for them."""
    mode, reads = step[o.Mode].predictor_mode, step.spec.reads
    if step[o.PredictorRows].predictor_rows == "all":
        if mode in WRITES_ITSELF:
            raise InputError(f"--predictor_rows all: {mode} learns the teacher's reasons, which dropped targets lack")
        reads = [a.REASON_TARGETS if one is a.TEACHER_REASONS else one for one in reads]
    return with_reasoner(step, reads) if mode == "reasoned" else [one for one in reads if one is not a.REASONER]


def of_split(step: ExpertStep) -> Sequence[Artifact]:
    """What a row reads, of the split and of the Reasoner that were chosen."""
    return [step.on(one) for one in with_reasoner(step, step.spec.reads)]


def with_reasoner(step: ExpertStep, reads: Sequence[Artifact]) -> Sequence[Artifact]:
    """What a row reads, with the Reasoner that was chosen in the place of the first one."""
    if WhichReasoner not in step.options:
        return reads
    chosen = adapter(step[WhichReasoner].reasoner)
    return [chosen if one is a.REASONER else one for one in reads]


def writes_of_split(step: ExpertStep) -> Sequence[Artifact]:
    """What a row writes, of the split that was chosen."""
    return [step.on(one) for one in step.spec.writes]


def rated_rows(step: ExpertStep) -> Sequence[Artifact]:
    """The rows that the Predictor rates: those with reasons only where it reads them."""
    reasoned = step[o.Mode].predictor_mode == "reasoned"
    return [step.on(TEST if one is a.TEST_REASONS and not reasoned else one) for one in step.spec.reads]


def without_reasoner(options: Resolved) -> Sequence[type]:
    """The options of the Predictor's rows: those of writing only where the Reasoner writes."""
    reasoned = options[o.Mode].predictor_mode == "reasoned"
    writes = (WhichReasoner, *ASKS_EXPERT, Writing) if reasoned else ()
    return [o.Mode, o.PredictorRows, o.Prompts, o.Histories, *writes]


def without_writing(options: Resolved) -> Sequence[type]:
    """The options of the ratings: those of writing only where the Predictor writes."""
    writes = options[o.Mode].predictor_mode in WRITES_ITSELF
    return [o.Mode, o.Split, o.Prompts, o.Histories, *ASKS_EXPERT, *((Writing,) if writes else ())]


def evaluated(step: ExpertStep) -> Sequence[Artifact]:
    """The splits and all predictions that a table is made from."""
    return [TRAIN, step.on(TEST), *predictions.files_of(step).values()]


def evaluation(step: ExpertStep) -> Mapping[str, object]:
    """What a table of errors records: its models, and whom they are tested against."""
    against = predictions.reference(step)
    # By name: what is in the files is recorded by its sha256, and where they lie is no matter of a published result.
    parts = [one.partition("=") for one in step[o.Evaluation].also]
    also = [f"{name}={Path(file).name}" for name, _, file in parts]
    return {"model": step.label, "also": also, "against": against, "resamples": statistics.RESAMPLES}


def judged(options: Resolved) -> Sequence[type]:
    """The options of the reasons' quality: those of the teacher only where it judges."""
    asked = (o.Prompts, *ASKS_TEACHER) if options[o.Quality].judge else ()
    return [o.Quality, o.Histories, Model, *asked]


def scores(step: ExpertStep) -> Mapping[str, object]:
    """The scores of reasons that were asked for."""
    # By name, so that the other steps do not load what scores need.
    from reason4rec.systems.reason4rec.reason_quality import scores_of

    return {
        "scores": scores_of(step),
        "bertscore_layer": step[o.Quality].bertscore_layer,
        "judge": step[o.Quality].judge,
    }


def quality_reads(step: ExpertStep) -> Sequence[Artifact | Path]:
    """What the reasons' quality is computed from, with folders of encoders."""
    folders = (step[o.Quality].encoder, step[o.Quality].bleurt)
    return [*step.spec.reads, *(folder for folder in folders if folder)]


def diagnosed(step: ExpertStep) -> Sequence[Artifact]:
    """What a diagnosis reads of a run: all that is there of its parts."""
    from reason4rec.systems.reason4rec.diagnosis import rated_splits

    others = (a.REWARD_MODEL, a.REASON_TARGETS, a.TEACHER_REASONS)
    there = [one for one in others if step.path(one).exists()]
    return [TRAIN, a.SUMMARIES, a.PREDICTOR, *rated_splits(step), *there]
