"""The options of Reason4Rec's steps, in groups; each says whether it changes what a step makes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from reason4rec.errors import InputError
from reason4rec.llm.encoders import folder_of
from reason4rec.llm.options import BaseModel
from reason4rec.run.options import Count, Number, Options, Positive, option
from reason4rec.systems.reason4rec.prompts import FOLDER as TEMPLATES
from reason4rec.systems.reason4rec.reward_filter import HINTED_DRAWS
from reason4rec.systems.reason4rec.targets import LEAST_HISTORY

EDITION = 1  # of the rules, counted up when the same prompt gets another answer, so that records tell


@dataclass(frozen=True)
class Download(Options):
    """fetching raw files"""

    what: Literal["raw", "preprocessed"] = option("raw", "which files of the dataset", changes_output=False)
    mirror: str | None = option(
        None, "fetch files of the same names from this address instead", changes_output=False, metavar="URL"
    )


@dataclass(frozen=True)
class Preprocess(Options):
    """preprocessing raw reviews"""

    reviews: Path | None = option(
        None, "raw reviews; for a known dataset those in its raw/", changes_output=False, metavar="FILE"
    )
    metadata: Path | None = option(None, "raw metadata with the items' titles", changes_output=False, metavar="FILE")
    columns: str = option("", "names of fields in both files: user_id=UserId,ratings=Score,title=Name")
    encoding: str = option(
        "", "how files that are not UTF-8 are written: latin-1, or for REVIEWS,METADATA", later=True, metavar="NAME"
    )
    # Recorded as a fact of the dataset.
    scale: str = option(
        "",
        "lowest and highest rating of a new dataset (default: 1:5)",
        changes_output=False,
        metavar="LOWEST:HIGHEST",
    )
    broken_lines: Number | None = option(
        None, "share of broken lines that is passed over (default: 0.001)", changes_output=False, metavar="SHARE"
    )
    product_class: str | None = option(
        None, "what the items are, in words for the prompts (new datasets)", changes_output=False, metavar="TEXT"
    )
    core: Positive = option(5, "least reviews of a user and item; 1 keeps all")
    window_first: bool = option(False, "cut to the last months before the core filter")


@dataclass(frozen=True)
class PublishedTexts(Options):
    """importing published texts"""

    tables: Path | None = option(None, "folder with the published texts", changes_output=False, metavar="FOLDER")
    reviews: Path | None = option(
        None, "raw reviews to look among too (default: those of the splits)", changes_output=False, metavar="FILE"
    )
    metadata: Path | None = option(None, "raw metadata with the items' titles", changes_output=False, metavar="FILE")
    set_aside: Number = option(0.1, "share of the titles whose texts are kept from training", metavar="SHARE")


@dataclass(frozen=True)
class Prompts(Options):
    """prompts"""

    facts: ClassVar[tuple[str, ...]] = ("product_class",)

    prompts: Path | None = option(None, "folder of prompt templates to use (default: those that are shipped)")

    @property
    def folder(self) -> Path:
        """The folder of the templates."""
        return self.prompts or TEMPLATES

    def recorded(self) -> dict[str, object]:
        """The templates by what they say, wherever they lie."""
        return {"prompts": sha256_of_templates(self.folder)}


@dataclass(frozen=True)
class Histories(Options):
    """histories"""

    history_length: Count = option(10, "entries of a history in a prompt, a side", fact="history_length")


@dataclass(frozen=True)
class SummaryTargets(Options):
    """reviews for the teacher to summarise"""

    summary_targets: Positive | None = option(None, "how many, drawn at random (default: all)", fact="summary_targets")


@dataclass(frozen=True)
class SummarizerRows(Options):
    """rows that the Summarizer learns from"""

    # The first release took a random 8,000 of the teacher's summaries.
    summarizer_rows: Positive | None = option(None, "how many, drawn at random (default: all)", later=True)


@dataclass(frozen=True)
class Targets(Options):
    """targets to learn from"""

    reward_targets: Positive = option(8_000, "targets of the reward model", fact="reward_targets")
    reason_targets: Positive = option(12_000, "targets of the Reasoner and the Predictor", fact="reason_targets")
    # The released code meant 5 and, by an overwritten line, took every target with a history: pass 2 for that. The
    # released targets of Music_data have 11 and more.
    min_history: int = option(LEAST_HISTORY, "earlier reviews of user and item a target needs")
    sampling: Literal["one-draw", "released"] = option("one-draw", "how the two samples are drawn", later=True)

    def recorded(self) -> dict[str, object]:
        """The sizes of both samples together."""
        sizes = [self.reward_targets, self.reason_targets]
        return {"sizes": sizes, "min_history": self.min_history} | self.recorded_later()


@dataclass(frozen=True)
class RewardFilter(Options):
    """the reward filter"""

    tau: Number = option(0.1, "accept scores below this", fact="tau")
    draws: Count = option(HINTED_DRAWS, "hinted reasons to ask for at most")
    baseline: Literal["direct", "review"] = option("direct", "what a reason must beat")
    rated_hints: bool = option(False, "show ratings in the histories of hinted requests")


@dataclass(frozen=True)
class Mode(Options):
    """the Predictor"""

    predictor_mode: Literal["reasoned", "direct", "one_step", "rating_first"] = option(
        "reasoned", "how it comes to a rating", old_names=("form",)
    )


@dataclass(frozen=True)
class Split(Options):
    """the rows that are asked about"""

    split: Literal["test", "valid"] = option("test", "which: valid is for choosing settings", later=True)


@dataclass(frozen=True)
class PredictorRows(Options):
    """rows that the Predictor learns from"""

    predictor_rows: Literal["accepted", "all"] = option(
        "accepted", "the targets with an accepted reason, or all that a reason was asked for", later=True
    )


@dataclass(frozen=True)
class Evaluation(Options):
    """the evaluation"""

    also: tuple[str, ...] = option(
        (),
        "predictions elsewhere, such as those of our model with another seed; may be given again",
        metavar="NAME[@SEED]=FILE",
    )
    against: str | None = option(None, "whom all others are tested against; ours by default", metavar="MODEL")

    def recorded(self) -> dict[str, object]:
        """Nothing: the row records the other files, and which model is tested against once the files are known."""
        return {}


@dataclass(frozen=True)
class Baselines(Options):
    """baselines"""

    model: str = option("all", "which baseline (default: all that ask no LLM)", changes_output=False, metavar="NAME")
    seeds: tuple[int, ...] = option((42, 43, 44), "of models with a seed", changes_output=False)  # our decision
    base_model: BaseModel | None = option(
        None,
        "base model for zero_shot and zero_shot_reasoned (default: the dataset's)",
        fact="base_model",
        metavar="NAME",
    )

    def recorded(self) -> dict[str, object]:
        """Nothing: each baseline records what it depends on."""
        return {}


@dataclass(frozen=True)
class Ablations(Options):
    """ablations"""

    variants: tuple[str, ...] = option((), "names (default: all with a name)", changes_output=False)


@dataclass(frozen=True)
class Quality(Options):
    """quality of the reasons"""

    scores: tuple[str, ...] | None = option(None, "against the reviews (default: all without a download)")
    bertscore: Path | None = option(None, "folder of an encoder, or minilm; adds BERTScore", changes_output=False)
    bertscore_layer: Positive | None = option(None, "layer to compare tokens in (default: the last)")
    bleurt: Path | None = option(None, "folder of a BLEURT checkpoint; adds BLEURT", changes_output=False)
    judge: bool = option(False, "ask the teacher for a GPTScore")

    @property
    def encoder(self) -> Path | None:
        """The folder of the encoder."""
        return self.bertscore and folder_of(self.bertscore)

    def recorded(self) -> dict[str, object]:
        """Nothing: the row records which scores result."""
        return {}


@dataclass(frozen=True)
class SummaryQuality(Options):
    """quality of summaries"""

    summaries: tuple[str, ...] = option(
        (), "tables of further summaries, such as a teacher's", changes_output=False, metavar="NAME=FILE"
    )
    bertscore: Path | None = option(None, "folder of an encoder, or minilm; adds BERTScore", changes_output=False)

    @property
    def encoder(self) -> Path | None:
        """The folder of the encoder."""
        return self.bertscore and folder_of(self.bertscore)


@dataclass(frozen=True)
class CaseStudy(Options):
    """page of case studies"""

    rows: Positive = option(500, "rows on the page, at most")


def sha256_of_templates(folder: Path) -> str:
    """The sha256 of a folder's templates; InputError if there are none."""
    templates = sorted(folder.glob("*.txt"))
    if not templates:
        raise InputError(f"--prompts {folder}: no templates (*.txt) there; copy those of {TEMPLATES}")
    text = "".join(f"{template.name}\n{template.read_text(encoding='utf-8')}\n" for template in templates)
    return hashlib.sha256(text.encode()).hexdigest()
