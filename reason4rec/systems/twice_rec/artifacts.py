"""The files of TWiCE-Rec, in the folder `twice_rec` of a dataset, beside those of Reason4Rec."""

from dataclasses import replace

from reason4rec.data.candidates import CANDIDATE_COLUMNS
from reason4rec.data.sequences import ITEM_COLUMNS, SEQUENCE_COLUMNS
from reason4rec.run.files import Artifact, adapter

FOLDER = "twice_rec"
RANK_COLUMNS = ("user_id", "item_id", "log_likelihood", "tokens")
CASE_COLUMNS = ("user_id", "split", "item_id")

DEMO_SEQUENCES = Artifact("raw/sequences_Demo.jsonl.gz")
DEMO_ITEMS = Artifact("raw/items_Demo.jsonl.gz")
SEQUENCES = Artifact(f"{FOLDER}/sequences.pkl", SEQUENCE_COLUMNS)
ITEMS = Artifact(f"{FOLDER}/items.pkl", ITEM_COLUMNS)
DATA_CARD = Artifact(f"{FOLDER}/data_card.json")
CANDIDATES = Artifact(f"{FOLDER}/candidates.pkl", CANDIDATE_COLUMNS)
SASREC = Artifact("SASRec", adapter=True)  # its weights and its card, beside the adapters
SCORES = Artifact(f"{FOLDER}/collaborative_scores.pkl", (*CASE_COLUMNS, "logit", "item_mean", "count"))
RATIONALES = Artifact(f"{FOLDER}/rationales.pkl", ("user_id", "item_id", "rationale"))
INSTRUCT_ROWS = Artifact(f"{FOLDER}/Recommender_train_instruct.pkl")
RECOMMENDER = adapter("Recommender")
REWARDS = ("mended", "faithful", "match")
BY_REWARD = {name: adapter(f"Recommender_{name}") for name in REWARDS}
MODEL_NAMES = ("item_only", "recommender", *(f"rl_{name}" for name in REWARDS))
RANKED = Artifact(f"{FOLDER}/ranked")  # a folder, with two files for each model and task
METRICS = Artifact(f"results/{FOLDER}_metrics.json")
QUALITY = Artifact(f"results/{FOLDER}_rationales.json")
CASE_STUDY = Artifact(f"results/{FOLDER}_case_study.html")
COMPARISON = Artifact(f"results/{FOLDER}_rewards.json")

ON_VALID = "--split valid"
VALID_METRICS = replace(METRICS, path=f"results/{FOLDER}_metrics_valid.json")


def ranked(model: str, split: str) -> Artifact:
    """The candidates of a split's cases as a model weighs them: the log-probability and the tokens of each."""
    return Artifact(f"{RANKED.path}/{model}_{split}.pkl", RANK_COLUMNS)


def written(model: str, split: str) -> Artifact:
    """What a model wrote on a split's cases: the greedy reply (draw 0) and those that were drawn."""
    return Artifact(f"{RANKED.path}/{model}_{split}_replies.pkl", ("user_id", "draw", "reply"))
