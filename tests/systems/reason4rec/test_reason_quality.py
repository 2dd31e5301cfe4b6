"""The quality of reasons: scores with known answers, aspects and leaks by hand, and the script as a user runs it."""

import gzip
import json
import math
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import complaint, put_toy_dataset, run_script, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from reason4rec.data import schema
from reason4rec.data.history import Entry, History, HistoryIndex
from reason4rec.data.schema import TEST
from reason4rec.demo import rules, stand_in
from reason4rec.errors import InputError
from reason4rec.run import files
from reason4rec.systems.reason4rec import artifacts, prompts, reason_checks, reason_quality, reason_scores
from reason4rec.systems.reason4rec.artifacts import REASON, SUMMARIES, SUMMARY, TEST_REASONS

SCRIPT = "3_Predictor/7_reason_quality.py"
VOCABULARY = "[PAD] [UNK] [CLS] [SEP] the user will like warm voice piano dull music a b c . ,".split()
texts = st.text(alphabet="ab é日.'- \n", max_size=40)


# Scores against the review


def test_rouge_counts_common_words_pairs_and_subsequences():
    found = reason_scores.rouge(
        ["the cat sat", "the cat", "dog", "", "sat the cat"], ["the cat", "the cat", "cat", "cat", ""]
    )
    assert found["rouge_1"] == pytest.approx([0.8, 1, 0, 0, 0])
    assert found["rouge_2"] == pytest.approx([2 / 3, 1, 0, 0, 0])
    assert found["rouge_l"] == pytest.approx([0.8, 1, 0, 0, 0])


def test_meteor_matches_words_and_stems_and_no_synonyms():
    reasons = ["The cats sat on mats.", "the cat sat on mat", "a car", "mat the", ""]
    found = reason_scores.meteor(reasons, ["the cat sat on mat"] * 2 + ["an automobile", "the mat", "x"])[
        "meteor_exact_stem"
    ]
    one_chunk = 1 - 0.5 * (1 / 5) ** 3
    assert found == pytest.approx([one_chunk, one_chunk, 0, 0.5, 0])


def test_chrf_is_the_f_score_of_common_runs_of_characters():
    found = reason_scores.chrf(["abc", "ab", "xyz", ""], ["abc", "abc", "abc", "abc"])["chrf"]
    recall = (2 / 3 + 1 / 2) / 2
    assert found == pytest.approx([1, 5 * recall / (4 + recall), 0, 0])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_every_score_of_any_text_lies_between_0_and_1(pairs):
    for score in reason_scores.NO_DOWNLOAD.values():
        for column in score(*map(list, zip(*pairs))).values():
            assert len(column) == len(pairs)
            assert all(0 <= value <= 1 + 1e-9 for value in column)


@pytest.fixture(scope="module")
def tokenizer():
    """Word by word, with BERT's special tokens, at most 12 of them a text."""
    made = Tokenizer(models.WordLevel({word: k for k, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=12, **names)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer):
    """A function that saves a tiny random model of a kind with the tokenizer, and returns its folder and the model."""

    def save(kind, **options):
        folder = tmp_path_factory.mktemp("model")
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        torch.manual_seed(0)
        # Larger weights than BERT's own, so that the vectors of two words differ much.
        config = BertConfig(
            vocab_size=len(VOCABULARY), **sizes, max_position_embeddings=12, initializer_range=1.0, **options
        )
        model = kind(config).eval()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder, model

    return save


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return checkpoint(BertModel)


PAIRS = (
    ["the user will like music", "dull", "warm piano , warm voice .", "a b"],
    ["the voice", "music", "the piano is warm", "a c b"],
)


def bertscore(encoder, reasons, reviews, layer=None, batch_size=2):
    found = reason_scores.bertscore(reasons, reviews, encoder[0], layer, "cpu", batch_size)
    return [np.array(found[name]) for name in ("bertscore_p", "bertscore_r", "bertscore")]


def test_bertscore_of_equal_texts_is_1(encoder):
    for column in bertscore(encoder, PAIRS[0], PAIRS[0]):
        assert column == pytest.approx(np.ones(4), abs=1e-5)


def test_bertscore_swaps_precision_and_recall_with_the_texts(encoder):
    p, r, f = bertscore(encoder, *PAIRS)
    other_p, other_r, other_f = bertscore(encoder, *PAIRS[::-1])
    assert p == pytest.approx(other_r, abs=1e-5) and r == pytest.approx(other_p, abs=1e-5)
    assert f == pytest.approx(other_f, abs=1e-5)
    assert (p < 0.999).any() and abs(p - r).max() > 0.01


@pytest.mark.parametrize("layer", [1, 2])
def test_bertscore_is_the_greedy_matching_of_token_vectors(encoder, tokenizer, layer):
    def vectors(text):
        with torch.no_grad():
            output = encoder[1](**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        return [row / row.norm() for row in output.hidden_states[layer][0]]

    found = np.transpose(bertscore(encoder, *PAIRS, layer))
    for reason, review, (p, r, f) in zip(*PAIRS, found):
        a, b = vectors(reason), vectors(review)
        precision = np.mean([max(float(x @ y) for y in b) for x in a[1:-1]])
        recall = np.mean([max(float(x @ y) for x in a) for y in b[1:-1]])
        assert (p, r) == pytest.approx((precision, recall), abs=1e-5)
        assert f == pytest.approx(2 * p * r / (p + r))


def test_bertscore_does_not_depend_on_the_batch(encoder):
    by_one, by_four = bertscore(encoder, *PAIRS, batch_size=1), bertscore(encoder, *PAIRS, batch_size=4)
    assert np.array(by_one) == pytest.approx(np.array(by_four), abs=1e-5)


def test_bertscore_of_an_empty_reason_is_0_and_a_long_text_is_cut(encoder):
    p, r, f = bertscore(encoder, ["", "a " * 50], ["the voice", "a " * 50])
    assert p[0] == r[0] == f[0] == 0
    assert f[1] == pytest.approx(1, abs=1e-5)


def test_a_layer_that_an_encoder_lacks_is_refused(encoder):
    with pytest.raises(InputError, match="layers 1 to 2"):
        bertscore(encoder, *PAIRS, layer=3)


def test_bleurt_is_the_output_for_review_and_reason(checkpoint, tokenizer):
    folder, model = checkpoint(BertForSequenceClassification, num_labels=1)
    found = reason_scores.bleurt(*PAIRS, folder, "cpu", 3)["bleurt"]
    for reason, review, value in zip(*PAIRS, found):
        with torch.no_grad():
            wanted = model(**tokenizer(review, reason, return_tensors="pt", truncation=True)).logits.item()
        assert value == pytest.approx(wanted, abs=1e-5)
    assert np.std(found) > 1e-3


def test_a_folder_that_is_no_bleurt_is_refused(checkpoint, tmp_path):
    with pytest.raises(InputError, match="one output, this one 3"):
        reason_scores.bleurt(*PAIRS, checkpoint(BertForSequenceClassification, num_labels=3)[0], "cpu", 2)
    with pytest.raises(InputError, match=r"lack classifier\.bias, so it is another kind"):
        reason_scores.bleurt(*PAIRS, checkpoint(BertModel, num_labels=1)[0], "cpu", 2)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no model that transformers can load"):
        reason_scores.bleurt(*PAIRS, tmp_path, "cpu", 2)


@pytest.mark.parametrize("score", ["bertscore", "bleurt"])
def test_what_needs_a_download_says_so_and_what_needs_none(score, tmp_path):
    none = {"bertscore": None, "bleurt": None}
    for asked, folders in (([score], none), (["rouge"], none | {score: tmp_path / "nothing"})):
        with pytest.raises(InputError) as error:
            reason_scores.asked_scores(asked, folders)
        assert f"--{score}" in str(error.value)
        assert "huggingface.co" in str(error.value)
        assert "rouge, meteor, chrf need no download" in str(error.value)


def test_a_folder_adds_its_score(encoder):
    assert reason_scores.asked_scores([], {"bertscore": None, "bleurt": None}) == []
    assert reason_scores.asked_scores(["chrf"], {"bertscore": encoder[0], "bleurt": None}) == ["chrf", "bertscore"]


@pytest.mark.parametrize("package", ["rouge_score", "nltk", "sacrebleu"])
def test_a_missing_package_is_named(package, monkeypatch):
    score = dict(zip(("rouge_score", "nltk", "sacrebleu"), reason_scores.NO_DOWNLOAD.values()))[package]
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"{package} is missing.*requirements.txt"):
        score(["a"], ["a"])


# The judge


@pytest.mark.parametrize(
    "reply, score",
    [
        ("Why: It fits.\nScore: 85", 85),
        ("Score: 0", 0),
        ("**Score:** **100**\nWhy: all of it", 100),
        ("score = 72.5", 72.5),
        ("Score: 64/100", 64),
        ("Score: 64 out of 100.", 64),
        ("Score (0-100): 30", 30),
        ("Score: 40\nSo the score: 40", 40),
    ],
)
def test_a_judges_score_is_read(reply, score):
    assert reason_scores.judged_score(reply) == score


@pytest.mark.parametrize(
    "reply",
    ["", "I cannot say.", "Score: high", "Score: -5", "Score: 101", "Score: 4/5", "Score: 80-90", "Score: 8 to 9"]
    + ["Score: 20 and then Score: 80", "a score of 50", "85", "underscore: 5"],
)
def test_a_reply_without_one_clear_score_has_none(reply):
    assert math.isnan(reason_scores.judged_score(reply))


def judged(review, reason):
    return stand_in.answer(prompts.judge("Album", "Quiet Rain", review, reason).text, 0.0, 0)


LIKED = "For me it is all about the bass. The bass is superb. I will play it often."


def test_the_stand_in_judges_by_aspects_and_verdict():
    reasons = (
        "What matters to this user is bass. The user will love it.",
        "What matters to this user is piano. The user will probably like it.",
        "What matters to this user is bass. The user will dislike it.",
        "What matters to this user is piano. The user will dislike it.",
    )
    assert [reason_scores.judged_score(judged(LIKED, reason)) for reason in reasons] == [100, 50, 50, 0]
    assert re.fullmatch(r"Why: .+\.\nScore: 100", judged(LIKED, reasons[0]))


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_the_stand_in_judges_any_review_and_reason(review, reason):
    assert 0 <= reason_scores.judged_score(judged(review, reason)) <= 100


def test_the_stand_in_tells_the_prompts_apart_whatever_stands_in_a_review():
    inside = prompts.judge("Album", "Title", "x", "y").text + "\nThe review to read:\nReview: The bass is superb."
    assert prompts.is_summary(stand_in.answer(prompts.summarizer("Album", "Title", 3.0, inside).text, 0.2, 0))
    summarizer = prompts.summarizer("Album", "Title", 3.0, "x").text
    history = History((Entry("T", 3.0, inside),), (), None, None)
    assert "Score:" not in stand_in.answer(prompts.reasoner("Album", "Title", history).text, 0.0, 0)
    assert judged(f"{summarizer}\n{LIKED}", "So the bass is praised. The user will love it.").endswith("Score: 100")


def test_the_judges_prompt_carries_review_and_reason_as_they_are_and_no_rating():
    prompt = prompts.judge("Album", "A {title}", "{reason}", "}{ 5 stars")
    assert "Item: A {title}\n" in prompt.text
    assert prompt.text.endswith("The review of the user:\n{reason}\n\nThe reason to judge:\n}{ 5 stars")
    assert "{" not in prompt.text.split("Product class:")[0]


# Checks without a reference


def summary(good="None", bad="None", wanted="None"):
    return f"Positive Aspects: {good}\nNegative Aspects: {bad}\nUser Preference Elements: {wanted}"


def history(user=(), item=()):
    return History(tuple(Entry("Old One", 4.0, s) for s in user), tuple(Entry("X", 2.0, s) for s in item), None, None)


def test_aspects_are_the_keywords_of_the_three_lines_by_stems():
    found = reason_checks.aspects(
        summary("Warm Voices, the guitar solo; GREAT price", "None", "None mentioned, 5, the user's")
    )
    assert list(found) == [("warm", "voic"), ("guitar", "solo"), ("great", "price")]
    assert not reason_checks.aspects(summary("N/A", "Not stated.", "none, , user"))
    assert not reason_checks.aspects("The bass, the piano\nGood Positive Aspects: bass")
    assert list(reason_checks.aspects("Positive Aspects: Stimme, 歌声, café noir")) == [
        ("stimm",),
        ("歌声",),
        ("café", "noir"),
    ]


def test_named_are_whole_phrases_the_longest_first():
    vocabulary = {("warm", "voic"), ("voic",), ("bass",), ("guitar", "solo")}

    def named(text):
        return list(reason_checks.named_aspects(text, vocabulary).values())

    assert named("The WARM voices, the bassoon and a voice.") == ["warm voices", "voice"]
    assert named("Warm. Voice") == ["voice"]
    assert named("guitar, solo bass-voice; bass and Bass") == ["bass", "voice"]
    assert named("") == named("...") == named("nothing of it") == []


def test_a_keyword_is_an_aspect_where_the_reviews_that_name_it_list_it():
    reviews = ["I like the bass"] * 30 + ["I like it"] * 31 + ["A deep cello"] + ["nothing"] * 5
    listed = [summary("deep bass")] * 2 + [summary()] * 58 + [summary("like, deep cello")] + [summary("oboe")] * 6
    train = pd.DataFrame({"reviews": reviews, SUMMARY: listed})
    # The bass itself is no keyword. "like" is listed by 1 of the 61 reviews that name it.
    assert reason_checks.vocabulary(train, 0) == {("deep", "bass"), ("deep", "cello"), ("obo",)}
    train.loc[10, SUMMARY] = summary(wanted="bass")
    assert ("bass",) in reason_checks.vocabulary(train, 0)


def test_faithful_is_what_stands_in_the_histories_of_the_row():
    histories = [
        history([summary(wanted="a singer's warm voice, long guitar solos")], [summary("bass")]),
        history([summary(wanted="piano")]),
        history(),
    ]
    reasons = ["Likes a guitar solo, voices and the piano.", "The piano and the bass of it.", "Nothing."]
    known = {("voic",), ("piano",), ("bass",), ("guitar", "solo")}
    columns, texts = reason_checks.faithfulness(reasons, histories, known, seed=0)
    assert columns["aspects_named"] == [3, 2, 0]
    assert columns["faithfulness"][:2] == pytest.approx([2 / 3, 1 / 2])
    assert math.isnan(columns["faithfulness"][2])
    assert texts["named"] == ["guitar solo, voices, piano", "piano, bass", ""]
    assert texts["not_in_histories"] == ["piano", "bass", ""]


def test_by_chance_is_against_the_histories_of_another_row():
    own = [history([summary(wanted=name)]) for name in ("alpha", "beta", "gamma", "delta")]
    names = ["The alpha.", "The beta.", "The gamma.", "The delta."]
    known = {("alpha",), ("beta",), ("gamma",), ("delta",)}
    for seed in range(5):
        columns, _ = reason_checks.faithfulness(names, own, known, seed)
        assert columns["faithfulness"] == [1, 1, 1, 1]
        assert columns["faithfulness_by_chance"] == [0, 0, 0, 0]
    same, _ = reason_checks.faithfulness(names[:2], [own[0]] * 2, known, 0)
    assert same["faithfulness_by_chance"] == same["faithfulness"] == [1, 0]
    alone, _ = reason_checks.faithfulness(names[:1], own[:1], known, 0)
    assert alone["faithfulness"] == [1] and math.isnan(alone["faithfulness_by_chance"][0])


def test_titles_name_no_aspect_where_they_are_written_as_titles():
    shown = history([summary()])
    assert reason_checks.without_titles("Voice (like Old One) has a fine voice.", "Voice", shown).split() == (
        "; (like ;) has a fine voice.".split()
    )
    assert reason_checks.without_titles("Voices of Old Ones", "Voice", shown) == "Voices of Old Ones"
    assert reason_checks.without_titles("What? (Deluxe) rocks", "What? (Deluxe)", shown) == "; rocks"
    assert reason_checks.without_titles("A text", "", shown) == "A text"


@pytest.mark.parametrize(
    "reason, found",
    [
        ("Likely 4 stars from this user.", "4 stars"),
        ("It earns 5 stars.", "5 stars"),
        ("a 5-star album", "5-star"),
        ("a Five-Star album", "Five-Star"),
        ("three and a half stars", "three and a half stars"),
        ("3 1/2 stars", "3 1/2 stars"),
        ("4.5-star material", "4.5-star"),
        ("★★★★☆", "★"),
        ("The user rated it a 5.", "rated it a 5"),
        ("would rate this item 4 out of 5", "rate this item 4"),
        ("would rate this album a four.", "rate this album a four"),
        ("expect a rating of 3 for it", "rating of 3"),
        ("Predicted Rating: 4.0", "Rating: 4.0"),
        ("rating: 4", "rating: 4"),
        ("a 4/5 for sure", "4/5"),
        ("four out of five", "four out of five"),
        ("8/10", "8/10"),
        ("will give it a 5", "give it a 5"),
        ("deserves a three!", "deserves a three"),
        ("a 2 rating", "2 rating"),
        ("nearer to 4.0 than not", "4.0"),
        ("a perfect 5 for them", "perfect 5"),
        ("the highest possible rating", "highest possible rating"),
    ],
)
def test_a_rating_told_in_words_is_found(reason, found):
    assert reason_checks.rating_in_words(reason) == found


@pytest.mark.parametrize(
    "reason",
    ["four songs", "a star performer", "starring five actors", "rock stars"]
    + ["will rate it highly", "a high rating is likely", "five albums and 3 discs", "a 14 track set", "in 1984"]
    + [
        "give it 5 listens",
        "give it a listen or two.",
        "gives two reasons",
        "rates the two singers",
        "rated as one of the best",
    ]
    + ["four out of five songs", "5/5/2010", "a 4-minute song", "5.0 inch", "version 2.0.1", "$4.0", "surround 5.1"]
    + ["two star-crossed lovers", "gives joy to no one.", "the first ten years", "overrated for one"],
)
def test_numbers_that_are_no_rating_are_left_alone(reason):
    assert reason_checks.rating_in_words(reason) == ""


def test_a_reason_is_measured_by_itself():
    reasons = [
        "The bass is fine.",
        "the BASS is fine",
        "",
        " \n",
        "so and so and so and so",
        'He said "yes."',
        "a\0b\ufffd",
    ]
    reviews = ["I say the bass is fine now.", "bass", "x", "", "so and no", "yes", ""]
    found = reason_checks.checks(reasons, reviews)
    assert found["words"] == [4, 4, 0, 0, 7, 3, 2]
    assert found["empty"] == [0, 0, 1, 1, 0, 0, 0]
    assert found["unfinished"] == [0, 1, 0, 0, 1, 0, 1]
    assert found["repetition"] == pytest.approx([0, 0, 0, 0, 3 / 5, 0, 0])
    assert found["duplicate"] == [0, 1, 0, 1, 0, 0, 0]
    assert found["near_duplicate"] == [0, 1, 0, 1, 0, 0, 0]
    assert found["shared_with_review"] == [4, 1, 0, 0, 2, 1, 0]
    assert found["unprintable"][:2] == [0, 0] and found["unprintable"][-1] == pytest.approx(2 / 4)
    assert math.isnan(found["unprintable"][2])


def test_accents_emoji_and_line_breaks_are_no_garbage():
    found = reason_checks.checks(["Für Élise, 日本語 👍🏽 👩‍👩‍👧\n\tnaïve…"], ["x"])
    assert found["unprintable"] == [0] and found["unfinished"] == [0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("ab"), max_size=9).map(" ".join), min_size=1, max_size=12))
def test_near_duplicates_are_those_with_most_trigrams_in_common(reasons):
    def grams(text):
        said = text.split()
        return set(zip(said, said[1:], said[2:]))

    def near(a, b):
        union = grams(a) | grams(b)
        return a == b or (bool(union) and len(grams(a) & grams(b)) >= 0.8 * len(union) - 1e-9)

    wanted = [float(any(near(reasons[j], text) for j in range(k))) for k, text in enumerate(reasons)]
    assert reason_checks.checks(reasons, reasons)["near_duplicate"] == wanted


def test_near_duplicates_are_found_across_blocks():
    reasons = [f"reason number w{k} stands here all by itself w{k}" for k in range(600)] + [
        "reason number w3 stands here all by itself w3 indeed"
    ]
    assert np.flatnonzero(reason_checks.checks(reasons, reasons)["near_duplicate"]).tolist() == [600]


def test_distinct_counts_ngrams_over_all_reasons():
    assert reason_checks.distinct(["a b a", "b"], 1) == 2 / 4
    assert reason_checks.distinct(["a b a", "a b"], 2) == 2 / 3
    assert math.isnan(reason_checks.distinct(["", "a"], 2))


def test_the_table_has_means_with_intervals_of_the_rows_that_have_the_score():
    values = np.random.default_rng(0).normal(3, 1, 400)
    scores = pd.DataFrame({"words": values, "some": np.where(np.arange(400) < 100, 1.0, np.nan), "one": np.nan})
    scores.loc[0, "one"] = 0.5
    users = [f"u{k}" for k in range(400)]
    rows = {row["score"]: row for row in reason_quality.table(scores, ["a b"] * 400, users, seed=1)}
    assert rows["words"]["value"] == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert rows["words"]["low"] == pytest.approx(values.mean() - half, abs=0.01)
    assert rows["words"]["high"] == pytest.approx(values.mean() + half, abs=0.01)
    assert rows["some"] == {"score": "some", "value": 1, "low": 1, "high": 1, "n": 100}
    assert rows["one"] == {"score": "one", "value": 0.5, "low": None, "high": None, "n": 1}
    assert rows["distinct_1"]["value"] == 2 / 800 and rows["words_median"]["value"] == np.median(values)
    assert reason_quality.table(scores, ["a b"] * 400, users, seed=1) == list(rows.values())
    shown = reason_quality.as_text(list(rows.values())).splitlines()
    assert shown[0].split() == ["score", "n", "value", "95%", "interval"] and len(shown) == 1 + len(rows)
    assert shown[3].split() == ["one", "1", "0.5000", "-"]


def test_an_interval_knows_that_rows_of_one_user_are_no_more_than_one_user():
    values = np.random.default_rng(0).normal(3, 1, 50)
    alone, fourfold = pd.DataFrame({"words": values}), pd.DataFrame({"words": np.repeat(values, 4)})
    users = np.arange(50).astype(str)
    (once, *_), (four, *_) = (
        reason_quality.table(alone, [""] * 50, users, 0),
        reason_quality.table(fourfold, [""] * 200, np.repeat(users, 4), 0),
    )
    assert four == pytest.approx(once | {"n": 200})
    assert reason_quality.table(fourfold, [""] * 200, ["same"] * 200, 0)[0]["low"] is None


# The script


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A data root whose test rows have reasons by rule; row 1's is empty, row 2 repeats row 0's, row 3 leaks."""
    root = tmp_path_factory.mktemp("toy")
    folder = put_toy_dataset(root, summaries=True)
    test, train = schema.read(folder, TEST), schema.read(folder, SUMMARIES)
    rng = np.random.default_rng(0)
    histories = HistoryIndex(train, SUMMARY, 6).of_rows(test)
    sides = [("\n".join(e.text for e in side) for side in (h.user, h.item)) for h in histories]
    reasons = [rules.reason(title, *both, rng) for title, both in zip(test["title"], sides)]
    reasons[1:4] = "", reasons[0], f"{reasons[3]} So 4 stars."
    test[REASON] = reasons
    test.loc[4, "reviews"] = " "
    files.write_pickle(folder / TEST_REASONS.path, test)
    return root / "data"


def run(root, *flags, **options):
    return run_script(SCRIPT, "--data_root", root, "--dataset", "Demo_data", *flags, **options)


def read(root):
    folder = root / "Demo_data"
    table = json.loads((folder / artifacts.REASON_QUALITY.path).read_text())["table"]
    with gzip.open(folder / artifacts.REASON_QUALITY_ROWS.path, "rt") as lines:
        return {row["score"]: row for row in table}, [json.loads(line) for line in lines]


def test_the_script_reports_every_score_and_row(toy):
    done = run(toy)
    assert done.returncode == 0, done.stderr[-2000:]
    table, rows = read(toy)
    test = schema.read(toy / "Demo_data", TEST_REASONS)
    assert len(rows) == len(test) and [row["reasoner_reply"] for row in rows] == test[REASON].tolist()
    assert table["rouge_1"]["n"] == len(test) - 1 and rows[4]["rouge_1"] is None and rows[4]["words"] > 0
    assert table["words"]["n"] == len(test)
    assert table["rouge_l"]["value"] == pytest.approx(np.mean([r["rouge_l"] for r in rows if r["rouge_l"] is not None]))
    assert rows[1]["empty"] == 1 and rows[1]["rouge_1"] == 0 and rows[1]["faithfulness"] is None
    assert rows[2]["duplicate"] == 1 and rows[3]["rating_words"] == "4 stars"
    assert table["rating_in_words"]["value"] == pytest.approx(1 / len(test))
    assert table["faithfulness"]["value"] == 1 > table["faithfulness_by_chance"]["value"] > 0
    assert all(row["low"] <= row["value"] <= row["high"] for row in table.values() if row["low"] is not None)
    assert "gptscore" not in table and "cost" not in done.stdout
    assert reason_quality.as_text(list(table.values())) in done.stdout
    again = run(toy)
    assert "complete: " in again.stdout and reason_quality.as_text(list(table.values())) in again.stdout


def test_the_judge_is_asked_once_about_each_row_with_a_review(toy):
    with serving(stand_in.Server(0)) as server:
        env = {"OPENAI_API_KEY": "none-needed", "OPENAI_BASE_URL": server.address}
        first = run(toy, "--judge", "--teacher_model", "stand-in", "--scores", "--limit", 12, env=env)
        assert first.returncode == 0, first.stderr[-2000:]
        table, rows = read(toy)
        again = run(toy, "--judge", "--teacher_model", "stand-in", "--scores", "--limit", 12, "--overwrite", env=env)
    assert "requests 11 | kept replies 0 |" in first.stdout and "cost usd 0.0" in first.stdout
    assert "requests 0 | kept replies 11 |" in again.stdout and read(toy) == (table, rows)
    assert len(rows) == 12 and "rouge_1" not in table
    assert table["gptscore"]["n"] == table["gptscore_unusable"]["n"] == 11
    assert table["gptscore_unusable"]["value"] == 0
    assert rows[4]["gptscore"] is None and rows[4]["judge_reply"] is None
    for row in rows[:4]:
        assert row["judge_reply"] == judged(row["reviews"], row["reasoner_reply"])
        assert row["gptscore"] == reason_scores.judged_score(row["judge_reply"])
    assert rows[1]["gptscore"] < table["gptscore"]["value"]


def test_replies_without_a_score_are_counted_and_no_zeros(toy, monkeypatch):
    replies = iter(["Score: 80", "I cannot say.", "Score: 4/5", "Score: 40"])
    monkeypatch.setattr(stand_in, "answer", lambda *_: next(replies))
    with serving(stand_in.Server(0)) as server:
        env = {"OPENAI_API_KEY": "none-needed", "OPENAI_BASE_URL": server.address}
        flags = ("--judge", "--teacher_model", "other", "--scores", "--limit", 4, "--requests_at_once", 1)
        done = run(toy, *flags, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    table, _ = read(toy)
    assert (table["gptscore"]["n"], table["gptscore"]["value"]) == (2, 60)
    assert (table["gptscore_unusable"]["n"], table["gptscore_unusable"]["value"]) == (4, 0.5)
    assert "cost usd unknown" in done.stdout


@pytest.mark.slow
def test_the_script_scores_with_local_models(toy, encoder, checkpoint):
    folder, _ = checkpoint(BertForSequenceClassification, num_labels=1)
    flags = ("--bertscore", encoder[0], "--bertscore_layer", 1, "--bleurt", folder, "--device", "cpu", "--limit", 6)
    done = run(toy, *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    table, rows = read(toy)
    assert table["bertscore"]["n"] == table["bleurt"]["n"] == 5
    assert rows[1]["bertscore"] == 0 and rows[4]["bertscore"] is None
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert "out of date" in run(toy, *flags).stdout


def test_what_a_user_can_mend_is_one_line(toy, tmp_path):
    assert "--bleurt FOLDER" in complaint(run(toy, "--scores", "rouge", "bleurt"))
    assert "no config.json there" in complaint(run(toy, "--bertscore", tmp_path))
    assert "OPENAI_API_KEY" in complaint(run(toy, "--judge", "--overwrite"))
    assert "7_generate_reason_for_test.py writes it" in complaint(run(tmp_path))


@pytest.mark.parametrize(
    "reason, review",
    [("我喜欢旋律", "我喜欢这个旋律"), ("Мне нравится мелодия", "Нравится мелодия"), ("किताब अच्छी है", "किताब अच्छी")],
)
def test_rouge_was_0_in_a_language_of_other_letters(reason, review, capsys):
    found = reason_scores.rouge([reason], [review])
    assert 0.7 < found["rouge_1"][0] < 1 and found["rouge_l"][0] > 0.7
    assert "any script" in capsys.readouterr().out
    assert reason_scores.meteor([reason], [review])["meteor_exact_stem"][0] > 0.5


def test_rouge_of_english_is_that_of_the_fields_tools(capsys):
    from rouge_score.rouge_scorer import RougeScorer

    pair = "The user won't mind the café's re-recorded songs_1.", "The café's songs are re-recorded, and I mind."
    expected = RougeScorer(["rouge1"]).score(pair[1], pair[0])["rouge1"].fmeasure
    assert reason_scores.rouge([pair[0]], [pair[1]])["rouge_1"] == [expected]
    assert "note" not in capsys.readouterr().out


def test_words_of_scripts_without_spaces_are_their_characters():
    assert reason_scores.words("Don't re-read the rock_n roll, 2nd café") == (
        ["don't", "re", "read", "the", "rock", "n", "roll", "2nd", "café"]
    )
    assert reason_scores.compared_words("這張 CD 很好，2nd 次") == ["這", "張", "cd", "很", "好", "2nd", "次"]
    assert reason_scores.compared_words("किताब, don't") == ["किताब", "don't"]
    assert reason_scores.compared_words("ราคา ๑๒ 〇") == ["ร", "า", "ค", "า", "๑", "๒", "〇"]
