"""Put what each user chose in order, oldest first, and describe the items.

    python TWiCE_Rec/1_sequences.py --dataset Music_data --metadata 0_Data/Music_data/raw/meta_Digital_Music.json.gz
    python TWiCE_Rec/1_sequences.py --dataset Grocery --sequences sequences.jsonl.gz --items items.jsonl.gz

Reads  raw_data/train.pkl, valid.pkl and test.pkl with --metadata for descriptions, or ready --sequences and --items
Writes twice_rec/sequences.pkl, twice_rec/items.pkl, twice_rec/data_card.json
A review of --least_rating stars or more is a choice. The last item of a user is the target of the test, the one before
it that of the validation, the one before that of the training: the histories of each are all items before it. Paper:
leave-one-out; the released files leave two out.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.twice_rec import sequence_data
from reason4rec.systems.twice_rec.artifacts import DATA_CARD, ITEMS, SEQUENCES
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    sequences, items = sequence_data.read(step)
    card = sequence_data.card(step, sequences, items)
    step.write(SEQUENCES, sequences)
    step.write(ITEMS, items)
    step.write(DATA_CARD, card)
    print(sequence_data.as_text(card))
    step.summary(len(sequences), len(sequences), users=card["users"], items=card["items"])


if __name__ == "__main__":
    utils.start(run, __doc__)
