"""Train the Reasoner further by a reward: how near the frozen Predictor comes to the true rating with its reasons.

    python -m reason4rec.systems.reason4rec.reinforced.train --dataset Music_data

Reads  train_12000.pkl, train_summarizer_generation_results.pkl, raw_data/valid.pkl, checkpoints/DATASET/Reasoner and
       Predictor
Writes checkpoints/DATASET/Reasoner_rl (adapter, settings.json, loss_curve.json)

Targets are training reviews that the Predictor has not learned, with histories of strictly earlier reviews. Before the
training, policies written by hand are scored: where one of them beats the Reasoner's own reasons, the reward can be
cheated, which is said. While it is trained, the mean reward of greedy reasons for the same validation rows is measured,
and the weights of the best step are kept. Source: our decision; the paper imitates accepted reasons.

Several processes share the prompts of each step:

    accelerate launch --config_file configs/accelerate/ddp.yaml -m reason4rec.systems.reason4rec.reinforced.train \
        --dataset Music_data
"""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.history import History, HistoryIndex
from reason4rec.data.schema import VALID
from reason4rec.errors import InputError
from reason4rec.llm.options import Servers
from reason4rec.llm.prompt import Prompt
from reason4rec.run.files import adapter
from reason4rec.systems.reason4rec import prompts, targets
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, SUMMARIES
from reason4rec.systems.reason4rec.options import Histories
from reason4rec.systems.reason4rec.reason_checks import vocabulary
from reason4rec.systems.reason4rec.reinforced import probes
from reason4rec.systems.reason4rec.reinforced.options import Reinforcement, Reward
from reason4rec.systems.reason4rec.reinforced.reward import faithful_to, parts_of, recorded_weights
from reason4rec.systems.reason4rec.step import ExpertStep
from reason4rec.training import grpo
from reason4rec.training import step as training
from reason4rec.training.policy import Policy

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel

PROBED = 64  # targets
KEYS = ["user_id", "item_id", "unixReviewTime"]


def policy_of(step: ExpertStep) -> Policy:
    """The settings of the policy, for the base of the Reasoner."""
    return step[Reinforcement].policy(grpo.adapter_settings(step.path(adapter("Reasoner")))["base_model"])


def settings(step: ExpertStep) -> Mapping[str, object]:
    """All that decides the weights beside the targets."""
    start, options = step.path(adapter("Reasoner")), step[Reinforcement]
    watched = {"prompts": options.watched, "every": options.watch_every, "keep": options.keep}
    weights = recorded_weights(step[Reward])
    return grpo.settings_of(
        "Reasoner_rl", start, policy_of(step), weights, watched=watched if options.watched else None
    )


def targets_of(step: ExpertStep) -> pd.DataFrame:
    """The targets to write reasons for: training reviews with a history that the Predictor has not learned."""
    options, reviews = step[Reinforcement], step.read(SUMMARIES)
    learned = pd.MultiIndex.from_frame(step.read(REASON_TARGETS)[KEYS])
    enough, *_ = targets.draw(reviews, (len(reviews), 0), options.min_history, None, step.common.seed)
    enough = targets.with_summaries(reviews, enough, step[Histories].history_length)
    eligible = len(enough)
    new = enough[~pd.MultiIndex.from_frame(enough[KEYS]).isin(learned)]
    if new.empty:
        raise InputError(
            f"{step.path(SUMMARIES)}: the Predictor learned all of the {eligible:,} reviews with {options.min_history} "
            f"earlier ones whose histories are summarised: draw fewer --reason_targets in step 2/1, or pass a smaller "
            f"--min_history"
        )
    return new.head(min(options.rl_targets, step.common.limit or options.rl_targets)).reset_index(drop=True)


def validation_of(
    step: ExpertStep, predictor: "LanguageModel", known: Collection[tuple[str, ...]]
) -> grpo.Validation | None:
    """What the policy is measured on: validation rows with a history, drawn at random; None where none are wanted.

    `known` is the vocabulary of aspects. InputError where there are none.
    """
    options = step[Reinforcement]
    if not options.watched:
        return None
    rows, reviews = step.read(VALID).reset_index(drop=True), step.read(SUMMARIES)
    enough = [history.is_at_least(options.min_history) for history in HistoryIndex(reviews, None).of_rows(rows)]
    rows = targets.with_summaries(reviews, rows[enough], step[Histories].history_length)
    if rows.empty:
        raise InputError(
            f"{step.path(VALID)}: no row has {options.min_history} earlier reviews, all with summaries, to measure "
            f"on: pass a smaller --min_history, or --watched 0 --keep last"
        )
    rows = rows.sample(n=min(options.watched, len(rows)), random_state=step.common.seed).reset_index(drop=True)
    histories = step.histories(rows)
    asked, question = prompts_of(step, rows, histories)
    ratings, faithful = rows["ratings"].to_numpy(dtype=float), faithful_to(histories, rows["title"].tolist(), known)
    parts = parts_of(step[Reward], predictor, question, ratings, histories, rows["title"].tolist(), faithful)
    numbers = [{"number": number} for number in range(len(rows))]
    return grpo.Validation(asked, numbers, parts, options.watch_every, options.keep)


def prompts_of(
    step: ExpertStep, rows: pd.DataFrame, histories: Sequence[History]
) -> tuple[list[Prompt], Callable[[int, str | None], Prompt]]:
    """The Reasoner's prompt for each target, and the Predictor's by the target's number and a reason."""
    titles = rows["title"].tolist()

    def question(number: int, reason: str | None) -> Prompt:
        return prompts.predictor(step.product_class, titles[number], histories[number], reason, step.templates)

    return list(step.reason_prompts(rows, histories)), question


def train(step: ExpertStep) -> None:
    """Does the step, in this process or in one of several that were launched together."""
    start = step.path(adapter("Reasoner"))
    training.train_by_reward(step, start, lambda: policy_of(step), lambda is_main: task_of(step, is_main))


def task_of(step: ExpertStep, is_main: bool) -> tuple[grpo.Task, Mapping[str, object]]:
    """What the policy learns and is measured on; in the main process also what the probes show, and their table."""
    if step[Servers].served_model:
        raise InputError("--served_model names one expert, and this step asks two: serve them as DATASET-EXPERT")
    rows = targets_of(step)
    histories = step.histories(rows)
    asked, question = prompts_of(step, rows, histories)
    ratings = rows["ratings"].to_numpy(dtype=float)
    predictor = replace(step.language_model("Predictor"), cache=None)
    known = vocabulary(step.read(SUMMARIES), step.common.seed, quiet=not is_main)
    faithful = faithful_to(histories, rows["title"].tolist(), known)
    parts = parts_of(step[Reward], predictor, question, ratings, histories, rows["title"].tolist(), faithful)
    # Computed anew after a kill, perhaps with other last digits: nothing depends on it.
    seen = {"probes": probe(step, parts, ratings, histories, asked)} if is_main else {}
    numbers = [{"number": number} for number in range(len(rows))]
    return grpo.Task(asked, numbers, parts, validation=validation_of(step, predictor, known)), seen


def probe(step: ExpertStep, parts: Sequence, ratings: np.ndarray, histories: Sequence, asked: Sequence) -> list[dict]:
    """The rewards of hand-written policies on the first targets, which are printed, with a warning where one cheats."""
    some = range(min(PROBED, len(asked)))
    reasoner = step.language_model("Reasoner")
    own = reasoner.generate(
        [asked[k] for k in some], max_new_tokens=step[Reinforcement].completion_tokens, what="own reasons"
    )
    written = probes.policies(ratings[list(some)], [histories[k] for k in some], own)
    # A reply that had to be stopped comes back as if it had ended.
    found = probes.scored(parts, written, list(some), reasoner.stopped.total() / len(own))
    print(probes.as_text(found), flush=True)
    for name in probes.cheats(found):
        print(f"warning: the reward of reasons like {name!r} is higher than that of the Reasoner's own", flush=True)
    return found


def main(words: Sequence[str]) -> None:
    """Runs the step with the options of a command line."""
    from reason4rec.run.step import main as run
    from reason4rec.systems.reason4rec.pipeline import PIPELINE

    run(train, PIPELINE, PIPELINE["2/8"], __doc__, words=list(words))


if __name__ == "__main__":
    main(sys.argv[1:])
