"""Train the recommender further by a reward that a collaborative model weighs.

    python -m reason4rec.systems.twice_rec.rl_train --dataset Grocery --reward mended

Reads  twice_rec/sequences.pkl, items.pkl, candidates.pkl, collaborative_scores.pkl, checkpoints/DATASET/SASRec,
       checkpoints/DATASET/Recommender
Writes checkpoints/DATASET/Recommender_REWARD (adapter, settings.json, loss_curve.json)

Prompts are those of training cases. Before the training, policies written by hand are scored by every reward; the table
stands in the record, with a warning where a cheat is paid as much as a candidate drawn at random. While it is trained,
the reward of greedy answers to the same validation cases is measured, and the weights of the best step are kept. Paper:
stage 3.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from reason4rec.data.sequences import Case
from reason4rec.errors import InputError
from reason4rec.systems.twice_rec import collaborative, collaborative_runs, probes, rewards, staleness
from reason4rec.systems.twice_rec.artifacts import RECOMMENDER, SCORES
from reason4rec.systems.twice_rec.options import Reinforcement, Reward
from reason4rec.systems.twice_rec.popularity import places
from reason4rec.systems.twice_rec.prompts import RATIONALE_FIRST
from reason4rec.systems.twice_rec.replies import read
from reason4rec.systems.twice_rec.step import RecommenderStep
from reason4rec.training import grpo
from reason4rec.training import step as training
from reason4rec.training.adapters import sha256_of_weights
from reason4rec.training.policy import Policy, recorded
from reason4rec.training.rollouts import Part, Rollout

POPULARITY = "popularity"  # a part that weighs nothing: the place of the named candidate by counts, 0 to 1
PROBED = 200  # cases


def policy_of(step: RecommenderStep) -> Policy:
    """The settings of the policy, for the base of the recommender."""
    return step[Reinforcement].policy(grpo.adapter_settings(step.path(RECOMMENDER))["base_model"])


def settings(step: RecommenderStep) -> Mapping[str, object]:
    """All that decides the weights beside the cases."""
    options = step[Reinforcement]
    weights = rewards.weights_of(step[Reward].reward) | {POPULARITY: 0.0}
    watched = {"prompts": options.watched, "every": options.watch_every, "keep": options.keep}
    return grpo.settings_of(
        step.outputs[0].name,
        step.path(RECOMMENDER),
        policy_of(step),
        weights,
        watched=watched if options.watched else None,
    )


def of_all_rewards(step: RecommenderStep) -> Mapping[str, object]:
    """All that decides the weights of policies of several rewards, beside the cases and what each reward is."""
    options = step[Reinforcement]
    watched = {"prompts": options.watched, "every": options.watch_every, "keep": options.keep}
    return {
        "policy": recorded(policy_of(step)),
        "watched": watched,
        "started_from": sha256_of_weights(step.path(RECOMMENDER)),
    }


def targets_of(step: RecommenderStep, split: str, wanted: int) -> list[Case]:
    """Cases of a split, as many as are wanted, in random order: the first ones of more are those of fewer."""
    cases = step.cases(split)
    drawn = np.random.default_rng(step.common.seed).permutation(len(cases))[:wanted]
    return [cases[k] for k in drawn]


def evidence_of(step: RecommenderStep, split: str, cases: Sequence[Case]) -> tuple[rewards.Evidence, np.ndarray]:
    """What the rewards of cases are computed from, and the (cases, candidates) counts of their candidates."""
    lists = step.candidates(split)
    scores = collaborative.of_cases(step.read(SCORES), split, cases, lists, str(step.path(SCORES)))
    listed = [lists[case.user_id] for case in cases]
    means = dict(zip((item for of_case in listed for item in of_case), scores.item_means.ravel()))
    everything = collaborative_runs.catalogue_logits(step, cases)
    place = {item.item_id: k for k, item in enumerate(step.catalogue)}

    def logits(numbers: Sequence[int], item_ids: Sequence[str]) -> np.ndarray:
        return everything[list(numbers), [place[item] for item in item_ids]]

    return rewards.Evidence(step.catalogue, cases, listed, logits, scores.logits, means), scores.counts


def parts_of(step: RecommenderStep, reward: str, evidence: rewards.Evidence, counts: np.ndarray) -> list[Part]:
    """The parts of a reward, with one that weighs nothing and tells how popular the named candidates are."""
    options = step[Reward]
    parts = rewards.parts_of(reward, evidence, options.confidence, options.lam, options.tau)
    return [*parts, Part(POPULARITY, 0.0, partial(popularity, evidence, places(counts)))]


def popularity(evidence: rewards.Evidence, popular: np.ndarray, rollouts: Sequence[Rollout]) -> list[float]:
    """How popular the named candidates are by the `places` of all, (cases, candidates); 0.5 where none is named."""
    numbers = [one.row["number"] for one in rollouts]
    named = [evidence.places[number].get(read(one.text).item_id) for number, one in zip(numbers, rollouts)]
    return [0.5 if place is None else float(popular[number, place]) for number, place in zip(numbers, named)]


def train(step: RecommenderStep) -> None:
    """Does the step, in this process or in one of several that were launched together.

    InputError where the recommender learned other prompts, or the reward would weigh by a model that knows no taste.
    """
    check(step, [step[Reward].reward])
    training.train_by_reward(
        step,
        step.path(RECOMMENDER),
        lambda: policy_of(step),
        lambda is_main: task_of(step, is_main),
        reward=step[Reward].reward,
    )


def check(step: RecommenderStep, of: Sequence[str]) -> None:
    """InputError unless policies of these rewards can be trained with what is there."""
    if why := staleness.of_adapter(step, RECOMMENDER.path):
        raise InputError(f"{step.path(RECOMMENDER)} {why}")
    step.check_prompts()
    if set(of) - {rewards.MATCH}:
        collaborative_runs.check_beats_popularity(step)


def task_of(step: RecommenderStep, is_main: bool) -> tuple[grpo.Task, Mapping[str, object]]:
    """What the policy learns and is measured on; in the main process also what the probes show, and their table."""
    reward, seen = step[Reward].reward, {}
    cases = targets_of(step, "train", step[Reinforcement].rl_targets)
    evidence, counts = evidence_of(step, "train", cases)
    if is_main:
        seen["probes"] = probe(step, evidence, counts)
        print(probes.as_text(seen["probes"]), flush=True)
        for name in probes.cheats(seen["probes"], reward):
            print(f"warning: the reward {reward} pays {name!r} as much as a candidate at random", flush=True)
    task = grpo.Task(
        list(step.prompts_of(cases, step.candidates("train"), RATIONALE_FIRST)),
        [{"number": number} for number in range(len(cases))],
        parts_of(step, reward, evidence, counts),
        validation=validation_of(step),
    )
    return task, seen


def validation_of(step: RecommenderStep) -> grpo.Validation | None:
    """What the policy is measured on: validation cases, and the same reward; None where none are wanted."""
    options = step[Reinforcement]
    if not options.watched:
        return None
    cases = targets_of(step, "valid", options.watched)
    parts = parts_of(step, step[Reward].reward, *evidence_of(step, "valid", cases))
    asked = list(step.prompts_of(cases, step.candidates("valid"), RATIONALE_FIRST))
    numbers = [{"number": number} for number in range(len(cases))]
    return grpo.Validation(asked, numbers, parts, options.watch_every, options.keep)


def probe(step: RecommenderStep, evidence: rewards.Evidence, counts: np.ndarray) -> list[dict]:
    """The mean of each reward for policies written by hand, on the first cases."""
    listed = zip(evidence.candidates, counts)
    known = {item: int(n) for items, of_case in listed for item, n in zip(items, of_case)}
    some = {name: texts[:PROBED] for name, texts in probes.policies(evidence, known, step.common.seed).items()}
    by_reward = {
        name: rewards.parts_of(name, evidence, step[Reward].confidence, step[Reward].lam, step[Reward].tau)
        for name in (rewards.FAITHFUL, rewards.MENDED, rewards.MATCH)
    }
    return probes.scored(by_reward, some)


def main(words: Sequence[str]) -> None:
    """Runs the step with the options of a command line."""
    from reason4rec.run.step import main as run
    from reason4rec.systems.twice_rec.pipeline import PIPELINE

    run(train, PIPELINE, PIPELINE["T/7"], __doc__, words=list(words))


if __name__ == "__main__":
    main(sys.argv[1:])
