"""How much memory of a GPU a training would take, from the shapes of its base and its adapter, without running it.

What a training keeps of a token is fitted to the three trainings of an 8B base that were measured on an H200
(tests/benchmarks/RESULTS.md), which it meets within 7%. All else is arithmetic, and was measured nowhere.
"""

from dataclasses import dataclass

from reason4rec.llm.shape import Shape
from reason4rec.training.recipe import Recipe

IN_4_BITS = 0.55  # bytes of a weight in 4 bits, with its share of the scales
TRAINED = 10  # bytes of a trained weight: itself and its gradient in 32 bits, two states of the optimizer in 8
LOGIT = 14  # bytes: itself in 16 bits, and in 32 bits itself, its share of the softmax and its gradient
CHUNK = 256  # tokens whose logits a supervised training has in memory at one time


@dataclass(frozen=True)
class Peak:
    """The most memory that a training by a reward takes, in bytes, by what takes it.

    `rollouts` and `update` come one after the other, so that only the larger of them counts.
    """

    weights: float
    adapter: float
    rollouts: float
    update: float

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.weights + self.adapter + max(self.rollouts, self.update)


def base(shape: Shape, full: bool = False) -> float:
    """Bytes of a base: its layers in 4 bits, or 16 where all weights are trained, its embedding and its head in 16."""
    return (2 if full else IN_4_BITS) * (shape.multiplied - shape.head) + 2 * 2 * shape.head


def activations(shape: Shape) -> float:
    """Bytes that a training keeps of a token where activations are computed twice.

    They are the inputs of all layers and the values of one layer. How many values of one layer there are is fitted.
    """
    return 2 * (shape.num_hidden_layers * shape.hidden_size + 6 * shape.intermediate_size + 8 * shape.hidden_size)


def trained(shape: Shape, recipe: Recipe) -> int:
    """The weights that are trained by a recipe: an adapter's, or all, with an embedding beside the head."""
    return shape.multiplied + shape.head if recipe.full else shape.trained(recipe.rank, recipe.lm_head)


def supervised(shape: Shape, recipe: Recipe, tokens: float) -> float:
    """Bytes of a training by a recipe on batches of so many tokens, laid end to end."""
    weights = base(shape, recipe.full) + TRAINED * trained(shape, recipe)
    return weights + tokens * activations(shape) + LOGIT * CHUNK * shape.vocab_size


def by_a_reward(shape: Shape, recipe: Recipe, rows: int, group: int, prompt: float, completion: int) -> Peak:
    """The peak of a training by a reward with so many `rows` in a step, whose updates have `group` of them at a time.

    `prompt` and `completion` are tokens of the longest ones. All rows of a step are drawn at once: their keys and
    values are kept, one layer has its values of all prompts, and the attention's mask a byte for each pair of tokens.
    What is trained is there twice, once as it was.
    """
    length = prompt + completion
    cached = 2 * 2 * shape.num_hidden_layers * shape.keys * rows * length
    read = rows * prompt * (2 * (4 * shape.hidden_size + 3 * shape.intermediate_size) + prompt)
    update = group * (length * activations(shape) + LOGIT * completion * shape.vocab_size)
    return Peak(base(shape, recipe.full), (TRAINED + 4) * trained(shape, recipe), cached + read, update)
