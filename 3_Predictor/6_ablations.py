"""Change one thing at a time in a finished run, and see what it is worth.

    python 3_Predictor/6_ablations.py --dataset Music_data --variants without_reasoner tau_0.05 history_5

Reads  the files and adapters of the finished run, with its seed, limit and options as their records say
Writes ablations/VARIANT/ and checkpoints/DATASET/ablations/VARIANT, predictions/VARIANT.pkl, results/ablations.json
The variants are without_summarizer, without_reasoner, without_rewards, one_step and rating_first; where step 2/8 has
run, reasoner_rl and reasoner_rl_same_predictor; and tau_X, history_N and draws_N for any numbers. One that needs
reasons which are not kept yet asks the teacher. The table holds those of earlier calls too, unless the run has changed
since. --split valid compares them on the validation rows, to choose by; the adapters are the same ones.
Paper: ablation study and analyses; which variants it has is known from third parties.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data import schema
from reason4rec.data.schema import KEYS, PREDICTION, PROBABILITIES
from reason4rec.systems.reason4rec import ablations, variant_table
from reason4rec.systems.reason4rec.artifacts import ABLATIONS, PREDICTIONS, TEST_RATINGS, predictions_of
from reason4rec.systems.reason4rec.options import Ablations


def run(step: utils.ExpertStep) -> None:
    variants = ablations.chosen(step[Ablations].variants, step)
    step = ablations.of_run(step)
    predicted, result = step.on(TEST_RATINGS), step.on(ABLATIONS)
    for variant in variants:
        ablations.place(variant, step)
        ablations.run_steps(variant, step)
    finished = ablations.finished(step, [variant.name for variant in variants])
    made = {variant.name: ablations.folder_of(step.folder, variant) for variant in finished}
    outputs = {name: predictions_of(name, step.on(PREDICTIONS)) for name in made}
    reads = [predicted, *(own / predicted.path for own in made.values()), *ablations.adapters_of(finished)]
    table = step.part(reads, [*outputs.values(), result], {"variants": list(made)})
    if table.done():
        return
    for name, own in made.items():
        frame = schema.read(own, predicted)
        table.write(outputs[name], frame[[*KEYS, "ratings", PREDICTION, *PROBABILITIES]])
    rows = variant_table.compared(step.folder, finished, step.common.seed, step.dataset.scale, predicted)
    table.write(result, rows)
    print(variant_table.as_text(rows))
    table.summary(len(made), len(rows))


if __name__ == "__main__":
    utils.start(run, __doc__)
