"""The files of Reason4Rec, under the names that the paper's repository gives them."""

from reason4rec.data.schema import KEYS, PREDICTION, REVIEW_COLUMNS
from reason4rec.run.files import Artifact

SUMMARY, TEACHER_SUMMARY = "aspect_preference_summary", "review_summary"
TEACHER_REASON, REASON = "personalized_analysis", "reasoner_reply"


DEMO_REVIEWS = Artifact("raw/reviews_Demo.json.gz", (), "0_Data/3_make_demo_data.py")
DEMO_METADATA = Artifact("raw/meta_Demo.json.gz", (), "0_Data/3_make_demo_data.py")
TEACHER_SUMMARIES = Artifact(
    "train_aspect_preference_summary.pkl",
    (*REVIEW_COLUMNS, TEACHER_SUMMARY),
    "1_Summarizer/1_distilling_aspect_preference_summary.py",
)
SUMMARIZER_ROWS = Artifact("Summarizer_train_instruct.pkl", (), "1_Summarizer/2_construct_summarizer_train_data.py")
SUMMARIES = Artifact(
    "train_summarizer_generation_results.pkl",
    (*REVIEW_COLUMNS, SUMMARY),
    "1_Summarizer/4_summarizer_generation.py",
)
REWARD_TARGETS = Artifact("review_8000.pkl", REVIEW_COLUMNS, "2_Reasoner/1_sample_train_data.py")
REASON_TARGETS = Artifact("train_12000.pkl", REVIEW_COLUMNS, "2_Reasoner/1_sample_train_data.py")
REWARD_ROWS = Artifact("review_train_data.pkl", (), "2_Reasoner/2_construct_reward_train_data.py")
TEACHER_REASONS = Artifact(
    "distilling_high_quality_reasons.pkl",
    (*REVIEW_COLUMNS, TEACHER_REASON),
    "2_Reasoner/4_distilling_possible_reason.py",
)
REASONER_ROWS = Artifact("Reasoner_train_instruct.pkl", (), "2_Reasoner/5_construct_reasoner_train_data.py")
TEST_REASONS = Artifact(
    "reason_for_test_by_reasoner.pkl", (*REVIEW_COLUMNS, REASON), "2_Reasoner/7_generate_reason_for_test.py"
)
PREDICTOR_ROWS = Artifact("Predictor_train_instruct.pkl", (), "3_Predictor/1_construct_predictor_train_data.py")
TEST_RATINGS = Artifact(
    "rating_for_test_by_predictor.pkl",
    (*REVIEW_COLUMNS, REASON, PREDICTION),
    "3_Predictor/3_generate_predict_for_test.py",
)
EFFORTS = Artifact("results/efforts.json", (), "3_Predictor/5_baselines.py")
ABLATIONS = Artifact("results/ablations.json", (), "3_Predictor/6_ablations.py")
REASON_QUALITY = Artifact("results/reason_quality.json", (), "3_Predictor/7_reason_quality.py")
REASON_QUALITY_ROWS = Artifact("results/reason_quality_rows.jsonl.gz", (), "3_Predictor/7_reason_quality.py")
CASE_STUDY = Artifact("results/case_study.html", (), "3_Predictor/8_case_study.py")


def predictions_of(model: str) -> Artifact:
    """The file of a baseline's or a variant's predictions for the test rows; `NAME@SEED` for one of several seeds."""
    return Artifact(f"predictions/{model}.pkl", (*KEYS, "ratings", PREDICTION), "3_Predictor/5_baselines.py")
