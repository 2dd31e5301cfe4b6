"""The files of GREAM, in the folder `gream` of a dataset, beside those of TWiCE-Rec, whose sequences it learns from."""

from dataclasses import replace

from reason4rec.run.files import Artifact, adapter

FOLDER = "gream"
LIST_COLUMNS = ("user_id", "place", "item_id", "score")
KINDS = ("general", "long_term", "short_term", "wish_of_user", "wish_of_item")

ITEM_TEXTS = Artifact(f"{FOLDER}/item_texts.pkl", ("item_id", "description"))
USER_TEXTS = Artifact(f"{FOLDER}/user_texts.pkl", ("user_id", *KINDS))
EMBEDDINGS = Artifact(f"{FOLDER}/embeddings.safetensors")
SEMANTIC_IDS = Artifact(f"{FOLDER}/semantic_ids.json")
CODEBOOKS = Artifact(f"{FOLDER}/codebooks.safetensors")
ID_CARD = Artifact(f"results/{FOLDER}_ids.json")
REASONINGS = Artifact(f"{FOLDER}/reasonings.pkl", ("user_id", "item_id", "position", "reasoning"))
BASE = Artifact("GREAM_base", adapter=True)  # the base model with the new tokens, beside the adapters on it
INSTRUCT_ROWS = Artifact(f"{FOLDER}/Generator_train_instruct.pkl")
GENERATOR = adapter("Generator")
SHUFFLED = adapter("Generator_shuffled")
ADVANTAGES = ("srpo", "grpo", "no_bonus")
BY_ADVANTAGE = {name: adapter(f"Generator_{name}") for name in ADVANTAGES}
RANKED = Artifact(f"{FOLDER}/ranked")  # a folder, with two files for each model
METRICS = Artifact(f"results/{FOLDER}_metrics.json")
COMPARISON = Artifact(f"results/{FOLDER}_parts.json")
CASE_STUDY = Artifact(f"results/{FOLDER}_case_study.html")

ON_VALID = "--split valid"
VALID_METRICS = replace(METRICS, path=f"results/{FOLDER}_metrics_valid.json")


def ranked(model: str, split: str) -> Artifact:
    """The items that a model lists for a split's cases, the first at place 1, with their scores."""
    return Artifact(f"{RANKED.path}/{model}_{split}.pkl", LIST_COLUMNS)


def written(model: str, split: str) -> Artifact:
    """What a model wrote before its list: the greedy reply (draw 0), and the whole replies that were drawn."""
    return Artifact(f"{RANKED.path}/{model}_{split}_replies.pkl", ("user_id", "draw", "reply"))
