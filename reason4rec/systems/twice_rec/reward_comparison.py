"""What each reward teaches: one policy for each reward and seed, its ranks, and the popularity of what it recommends.

The question is whether the collaborative part of a reward teaches anything about the user. If it only teaches
popularity, what is recommended gets more popular while hits do not rise above those of the match alone.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reason4rec.errors import InputError
from reason4rec.evaluation import ranking, statistics
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.options import Model
from reason4rec.run import markdown, records
from reason4rec.run.options import Resolved
from reason4rec.run.step import Common
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import evaluation, ranking_runs, recommending, rl_train
from reason4rec.systems.twice_rec.options import Cases, Comparison, Evaluation, Models, Prompts, Reward
from reason4rec.systems.twice_rec.prompts import RATIONALE_FIRST
from reason4rec.systems.twice_rec.rewards import NAMES_TARGET

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.step import RecommenderStep

SUPERVISED, MATCH = "recommender", "match"
FOLDER = "rewards"  # of the policies among the adapters, and of their ranks
CURVES = (NAMES_TARGET, rl_train.POPULARITY)


def runs(step: "RecommenderStep") -> list[tuple[str, int]]:
    """The rewards and seeds that are compared, in the order in which they are trained."""
    options = step[Comparison]
    return [(reward, seed) for seed in options.seeds for reward in options.rewards]


def check(step: "RecommenderStep") -> None:
    """InputError, before anything is trained, where policies could not be trained or compared with what is there."""
    rl_train.check(step, step[Comparison].rewards)
    ranks = ranking_runs.part_of(step, recommending.MODELS[SUPERVISED], "test")
    status = records.status(ranks.outputs, lambda: ranks.provenance, optional=ranks.spec.optional)
    if not status.done:
        raise InputError(
            f"{ranks.outputs[0]} is out of date ({status.changed}): give the options that it was made with, or run "
            f"{ranks.pipeline['T/8'].script} with these first"
        )
    scored = step.read(a.ranked(SUPERVISED, "test"))
    evaluation.weighed(scored, evaluation.judged(step, "test"), step[Evaluation].scored, str(ranks.outputs[0]))


def policy_step(step: "RecommenderStep", reward: str, seed: int) -> "RecommenderStep":
    """The training of one policy as a step of its own, with an adapter of its own."""
    return _part(step, "T/7", reward, seed, [policy_folder(step, reward, seed)])


def policy_folder(step: "RecommenderStep", reward: str, seed: int) -> Path:
    """Where the adapter of a policy lies."""
    return step.adapters / FOLDER / f"{reward}_{seed}"


def rank_files(step: "RecommenderStep", reward: str, seed: int) -> list[Path]:
    """Where the ranks and the replies of a policy lie."""
    folder = step.folder / a.FOLDER / FOLDER
    return [folder / f"{reward}_{seed}.pkl", folder / f"{reward}_{seed}_replies.pkl"]


def _part(step: "RecommenderStep", spec: str, reward: str, seed: int, writes: Sequence[Path]) -> "RecommenderStep":
    groups = dict(step.options.groups)
    groups[Common] = replace(step.common, seed=seed)
    groups[Reward] = replace(step[Reward], reward=reward)
    return type(step)(step.pipeline, step.pipeline[spec], Resolved(groups, step.options.origins), writes=writes)


def train_and_rank(step: "RecommenderStep", reward: str, seed: int) -> None:
    """Trains the policy of a reward and a seed, and lets it rank the test cases, unless that is done."""
    policy = policy_step(step, reward, seed)
    if not policy.done():
        rl_train.train(policy)
    folder = policy_folder(step, reward, seed)
    ranks = type(step)(
        step.pipeline,
        step.pipeline["T/8"],
        step.options,
        [a.SEQUENCES, a.ITEMS, a.CANDIDATES, folder],
        rank_files(step, reward, seed),
        {"task": RATIONALE_FIRST, "split": "test", "cases": step[Cases].cases} | step[Models].recorded(),
        (Prompts, Model),
    )
    if ranks.done():
        return
    from reason4rec.llm.bases import free

    cases, lists = step.judged_cases("test"), step.candidates("test")
    model = ranks.counted(ranks.load_here(adapter_settings(folder), folder))
    tables = recommending.ranked(ranks, model, cases, lists, RATIONALE_FIRST, step[Models])
    for path, table in zip(ranks.outputs, tables):
        ranks.write(path, table)
    ranks.summary(len(cases), len(cases), reward=reward, policy_seed=seed)
    del model
    free()


def compare(step: "RecommenderStep") -> dict:
    """Ranks, popularity and curves of all policies, beside the supervised recommender and the collaborative model."""
    options, on = step[Comparison], evaluation.judged(step, "test")
    scored, seed = step[Evaluation].scored, step.common.seed
    supervised = evaluation.weighed(step.read(a.ranked(SUPERVISED, "test")), on, scored, SUPERVISED)
    scores = {SUPERVISED: [supervised], evaluation.SASREC: [on.scores.logits]}
    for reward in options.rewards:
        paths = [rank_files(step, reward, one)[0] for one in options.seeds]
        scores[reward] = [evaluation.weighed(step.read_file(path), on, scored, str(path)) for path in paths]
    ranks = {name: np.stack([ranking.ranks(one, on.targets) for one in of]) for name, of in scores.items()}
    against_match = MATCH in options.rewards
    return {
        "ranks": ranking.table(ranks, on.users, SUPERVISED, seed),
        "against_match": ranking.table(ranks, on.users, MATCH, seed) if against_match else [],
        "top": [
            {"model": name}
            | statistics.mean(np.mean([evaluation.places_of_first(one, on) for one in of], axis=0), on.users, seed)
            for name, of in scores.items()
        ],
        "by_step": [curve_of(step, reward, one) for reward, one in runs(step)],
        "settings": {"cases": len(on.cases), "rewards": list(options.rewards), "seeds": list(options.seeds)},
    }


def curve_of(step: "RecommenderStep", reward: str, seed: int) -> dict:
    """Hits and popularity of the draws of each step of a training, and the rewards that were watched."""
    path = policy_folder(step, reward, seed) / "loss_curve.json"
    return {"reward": reward, "seed": seed, **by_step(path, CURVES)}


def by_step(path: Path, parts: Sequence[str]) -> dict[str, list]:
    """The curve of a training by a reward: its steps with the means of these parts, of the draws and of the watched."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    drawn = [entry for entry in entries if "reward" in entry]
    watched = [entry for entry in entries if "watched/reward" in entry]
    return {
        "step": [entry["step"] for entry in drawn],
        **{name: [entry[f"rewards/{name}/mean"] for entry in drawn] for name in parts},
        "watched_step": [entry["step"] for entry in watched],
        **{f"watched_{name}": [entry[f"watched/{name}"] for entry in watched] for name in parts},
    }


def read(path: Path) -> dict:
    """The result in a file that `compare` made."""
    return json.loads(path.read_text(encoding="utf-8"))


def as_text(result: dict) -> str:
    """The tables of a comparison for a terminal."""
    rows = [evaluation.top_cells(row) for row in result["top"]]
    watched = [
        [one["reward"], str(one["seed"]), *(_first_to_last(one[f"watched_{name}"]) for name in CURVES)]
        for one in result["by_step"]
        if one["watched_step"]
    ]
    parts = [ranking.as_text(result["ranks"])]
    if result["against_match"]:
        parts.append(f"The same, tested against the reward {MATCH}:\n{ranking.as_text(result['against_match'])}")
    parts.append(
        "How popular the candidate ranked first is (0.5: as chance has it):\n"
        + markdown.table(["model", "popularity", "95% interval"], rows)
    )
    if watched:
        header = ["reward", "seed", "greedy replies that name the target", "their popularity"]
        parts.append(
            "On the watched validation cases, before and at the last step:\n" + markdown.table(header, watched)
        )
    return "\n\n".join(parts)


def _first_to_last(values: Sequence[float]) -> str:
    return f"{values[0]:.3f} to {values[-1]:.3f}"
