"""The experts of Reason4Rec and how each is trained: every hyper-parameter with its origin."""

from dataclasses import dataclass

from reason4rec.run.files import Artifact
from reason4rec.systems.reason4rec import artifacts
from reason4rec.training.recipe import Recipe


@dataclass(frozen=True)
class Expert:
    """An adapter: the instruct rows that it learns from, and its recipe."""

    rows: Artifact
    recipe: Recipe


# All values are those of the released code; what the paper itself states is not known.
EXPERTS = {
    "Summarizer": Expert(
        rows=artifacts.SUMMARIZER_ROWS,
        recipe=Recipe(rank=16, alpha=32, dropout=0.0, lr=3e-4, warmup=100, epochs=5, batch_size=16, lm_head=False),
    ),
    "reason_reward_model": Expert(
        rows=artifacts.REWARD_ROWS,
        # The first release trained 5 epochs and used the checkpoint of the third.
        recipe=Recipe(rank=8, alpha=16, dropout=0.0, lr=3e-6, warmup=0.1, epochs=3, batch_size=16, lm_head=True),
    ),
    "Reasoner": Expert(
        rows=artifacts.REASONER_ROWS,
        # The first release trained 5 epochs.
        recipe=Recipe(rank=16, alpha=32, dropout=0.1, lr=3e-4, warmup=100, epochs=3, batch_size=32, lm_head=False),
    ),
    "Predictor": Expert(
        rows=artifacts.PREDICTOR_ROWS,
        # The first release had lr 3e-6 and batch 32.
        recipe=Recipe(rank=8, alpha=16, dropout=0.0, lr=3e-5, warmup=0.1, epochs=3, batch_size=16, lm_head=True),
    ),
}
