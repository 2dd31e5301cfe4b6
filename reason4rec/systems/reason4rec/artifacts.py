"""The files of Reason4Rec, under the names that the paper's repository gives them."""

from dataclasses import replace

from reason4rec.data.schema import KEYS, PREDICTION, REVIEW_COLUMNS, TEST, VALID
from reason4rec.run.files import Artifact, adapter

SUMMARY, TEACHER_SUMMARY = "aspect_preference_summary", "review_summary"
NOT_SUMMARISED = "(not summarised: no part of this trial)"  # in the place of a summary, where a limit was given
TEACHER_REASON, REASON = "personalized_analysis", "reasoner_reply"

DEMO_REVIEWS = Artifact("raw/reviews_Demo.json.gz")
DEMO_METADATA = Artifact("raw/meta_Demo.json.gz")
TEACHER_SUMMARIES = Artifact("train_aspect_preference_summary.pkl", (*REVIEW_COLUMNS, TEACHER_SUMMARY))
SUMMARIZER_ROWS = Artifact("Summarizer_train_instruct.pkl")
SUMMARIZER = adapter("Summarizer")
SUMMARIES = Artifact("train_summarizer_generation_results.pkl", (*REVIEW_COLUMNS, SUMMARY))
REWARD_TARGETS = Artifact("review_8000.pkl", REVIEW_COLUMNS)
REASON_TARGETS = Artifact("train_12000.pkl", REVIEW_COLUMNS)
REWARD_ROWS = Artifact("review_train_data.pkl")
REWARD_MODEL = adapter("reason_reward_model")
TEACHER_REASONS = Artifact("distilling_high_quality_reasons.pkl", (*REVIEW_COLUMNS, TEACHER_REASON))
REASONER_ROWS = Artifact("Reasoner_train_instruct.pkl")
REASONER = adapter("Reasoner")
REASONER_RL = adapter("Reasoner_rl")
TEST_REASONS = Artifact("reason_for_test_by_reasoner.pkl", (*REVIEW_COLUMNS, REASON), may_be_empty=("reviews",))
PREDICTOR_ROWS = Artifact("Predictor_train_instruct.pkl")
PREDICTOR = adapter("Predictor")
TEST_RATINGS = Artifact(
    "rating_for_test_by_predictor.pkl", (*REVIEW_COLUMNS, REASON, PREDICTION), may_be_empty=("reviews",)
)
PREDICTIONS = Artifact("predictions")  # a folder, with a file for each baseline and each variant
SUMMARIES_SET_ASIDE = Artifact("published_texts_set_aside.pkl", (*REVIEW_COLUMNS, TEACHER_SUMMARY))
REASONS_SET_ASIDE = Artifact("published_reasons_set_aside.pkl")
SUMMARY_QUALITY = Artifact("results/summary_quality.json")
SUMMARY_QUALITY_ROWS = Artifact("results/summary_quality_rows.jsonl.gz")
METRICS = Artifact("results/metrics.json")
EFFORTS = Artifact("results/efforts.json")
ABLATIONS = Artifact("results/ablations.json")
REASON_QUALITY = Artifact("results/reason_quality.json")
REASON_QUALITY_ROWS = Artifact("results/reason_quality_rows.jsonl.gz")
CASE_STUDY = Artifact("results/case_study.html")
DIAGNOSIS = Artifact("results/diagnosis.json")

VALID_REASONS = replace(TEST_REASONS, path="reason_for_valid_by_reasoner.pkl")
VALID_RATINGS = replace(TEST_RATINGS, path="rating_for_valid_by_predictor.pkl")
VALID_PREDICTIONS = Artifact("predictions_valid")
VALID_METRICS = Artifact("results/metrics_valid.json")
VALID_ABLATIONS = Artifact("results/ablations_valid.json")
ON_VALID = {
    TEST: VALID,
    TEST_REASONS: VALID_REASONS,
    TEST_RATINGS: VALID_RATINGS,
    PREDICTIONS: VALID_PREDICTIONS,
    METRICS: VALID_METRICS,
    ABLATIONS: VALID_ABLATIONS,
}
"""What stands on the validation rows in the place of an artifact on the test rows."""


def predictions_of(model: str, folder: Artifact = PREDICTIONS) -> Artifact:
    """The file of a baseline's or a variant's predictions for the test rows; `NAME@SEED` for one of several seeds.

    `folder` is that of the rows, such as the validation rows.
    """
    return Artifact(f"{folder.path}/{model}.pkl", (*KEYS, "ratings", PREDICTION))
