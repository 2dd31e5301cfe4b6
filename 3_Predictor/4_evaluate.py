"""Report how well every model predicts the ratings of the test rows, how sure that is, and who differs from whom.

    python 3_Predictor/4_evaluate.py --dataset Music_data

Reads  raw_data/train.pkl, raw_data/test.pkl, rating_for_test_by_predictor.pkl and predictions/*.pkl where they exist
Writes results/metrics.json, {"table", "paired", "by_rating", "by_history", "calibration", "settings"}
The means and user + item bias are always in the table. Where our predictions were made with --limit, all models are
judged on those rows, and the others on all test rows too; another model's that lack some of them are left out. --split
valid judges what was predicted for the validation rows, and writes results/metrics_valid.json: settings are chosen
there. docs/evaluation.md explains our choices.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import TEST, TRAIN
from reason4rec.errors import InputError
from reason4rec.evaluation import metrics, ratings, tables
from reason4rec.run.files import note
from reason4rec.systems.reason4rec.artifacts import METRICS, TEST_RATINGS, TEST_REASONS
from reason4rec.systems.reason4rec.options import Split
from reason4rec.systems.reason4rec.predictions import files_of, reference


def run(step: utils.ExpertStep) -> None:
    ours, against, seed, split = step.label, reference(step), step.common.seed, step[Split].split
    files, train, test = files_of(step), step.read(TRAIN), step.read(step.on(TEST))
    predicted = {name: step.read(file) for name, file in files.items()}
    simple, index = metrics.baselines(train, test), HistoryIndex(train, None)
    trials = {name for name, file in files.items() if ratings.made_with_limit(step.path(file))}
    if files.get(ours) == step.on(TEST_RATINGS) and ratings.made_with_limit(step.path(step.on(TEST_REASONS))):
        trials.add(ours)
    of_ours = [predicted[name] for name in trials if ratings.model_of(name) == ours]
    rows = ratings.rows_in_all(test, of_ours)[: step.common.limit]
    for name in sorted(trials):
        if lacking := len(set(rows) - set(ratings.rows_in_all(test, [predicted[name]]))):
            told = f"left out: made with --limit, it lacks {lacking:,} of the {len(rows):,} rows that are judged"
            note(step.path(files[name]), told)
            del predicted[name]
    frames = {name: ratings.aligned(frame, test, str(step.path(files[name]))) for name, frame in predicted.items()}
    runs = ratings.by_model(frames, simple, ours)
    if against not in runs:
        raise InputError(f"--against {against}: no such model; there are {', '.join(runs)}")
    targets = test.iloc[rows].reset_index(drop=True)
    on_rows = {model: [run.iloc[rows].reset_index(drop=True) for run in runs[model]] for model in runs}
    histories = index.of_rows(targets)
    result = ratings.evaluate(on_rows, targets, histories, against, seed)
    if len(rows) < len(test):
        whole = ratings.by_model({name: frame for name, frame in frames.items() if name not in trials}, simple, ours)
        result["table"] += ratings.whole_table(whole, test, index.of_rows(test), seed)
    result = ratings.in_unit(result, step.dataset.scale)
    result["settings"] = (
        step.provenance["settings"]
        | {
            "judged": f"{'all' if len(rows) == len(test) else f'{len(rows)} of {len(test)}'} {split} rows",
            "interval": "95%, percentiles of a bootstrap over users",
            "test": "signs of the users' differences flipped at random; Holm over all models of a group of rows",
            "history": "earlier training reviews of user and item together",
        }
        | ratings.unit_of(step.dataset.scale)
    )
    step.write(step.on(METRICS), result)
    print(tables.as_text(result))
    warm, users = sum(history.warm for history in histories), targets["user_id"].nunique()
    if not warm:
        print(f"warning: no {split} row is warm, so nothing here is comparable with the paper's: see data_card.json")
    step.summary(len(test), len(rows), users=users, warm=warm, models=len(runs))


def show(step: utils.ExpertStep) -> None:
    print(tables.as_text(ratings.read(step.path(step.on(METRICS)))))


if __name__ == "__main__":
    utils.start(run, __doc__, show)
