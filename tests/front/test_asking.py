"""The commands that ask the experts, as a user types them."""

import json
import subprocess
import sys

import pytest
import served
from helpers import ROOT, complaint, put_toy_dataset

from reason4rec.__main__ import COMMANDS, overview
from reason4rec.errors import InputError
from reason4rec.front.card import bars, card, harmless
from reason4rec.front.finished import dataset_or_the_only_one, finished_runs
from reason4rec.front.given import reviews_from
from reason4rec.systems.reason4rec.asking.questions import Answer

HOSTILE = "\x1b[31mred\x07\u202e"


@pytest.fixture(scope="module")
def root(base, tmp_path_factory):
    """A root with a toy dataset and its experts."""
    root = tmp_path_factory.mktemp("asking")
    put_toy_dataset(root, summaries=True)
    for name, lm_head in (("Summarizer", False), ("Reasoner", False), ("Predictor", True)):
        served.put_adapter(root / "checkpoints" / "Demo_data" / name, base, lm_head, size=0.005)
    return root


@pytest.fixture(scope="module")
def known(root):
    from reason4rec import Recommender

    found = Recommender.load("Demo_data", data_root=root / "data", checkpoint_root=root / "checkpoints").known
    return next(iter(found.users)), list(found.items)[:3]


def ask(root, command, *words, **options):
    roots = ("--dataset", "Demo_data", "--data_root", root / "data", "--checkpoint_root", root / "checkpoints")
    line = [sys.executable, "-m", "reason4rec", command, *roots, "--device", "cpu", "--max_new_tokens", 24, *words]
    return subprocess.run(list(map(str, line)), cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


def test_explain_prints_a_card_and_nothing_else(root, known):
    user, items = known
    done = ask(root, "explain", "--user", user, "--item", items[0])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(next(line for line in done.stdout.splitlines() if items[0] in line))
    for part in ("Rating", "Reason", "Reviews by the user", "Reviews of the item by others", "demo model"):
        assert part in done.stdout
    assert "loading" not in done.stdout


def test_explain_as_json_is_json(root, known, tmp_path):
    reviews = tmp_path / "reviews.csv"
    reviews.write_text('title,rating,text\nFirst,5,"Lovely voice, great melody"\nSecond,1,Dull\n')
    done = ask(root, "explain", "--user_reviews", reviews, "--item", known[1][0], "--json")
    answer = json.loads(done.stdout)
    assert [entry["title"] for entry in answer["user_history"]] == ["First", "Second"]
    assert answer["item_id"] == known[1][0]
    assert len(answer["probabilities"]) == 5


def test_reviews_may_come_from_the_standard_input(root, known):
    given = json.dumps({"title": "First", "rating": 5, "text": "Lovely voice"})
    done = ask(root, "rank", "--user_reviews", "-", "--items", *known[1], "--json", input=given)
    ratings = [one["rating"] for one in json.loads(done.stdout)]
    assert ratings == sorted(ratings, reverse=True)
    assert len(ratings) == 3


def test_recommend_lists_so_many_and_says_who_chose(root, known):
    done = ask(root, "recommend", "--user", known[0], "--k", "2", "--shortlist", "3")
    assert done.returncode == 0, done.stderr
    assert "truncated SVD" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("explain", "--user", "nobody at all", "--item", "x"), "no user 'nobody at all'"),
        (("explain",), "id of a known user"),
        (("rank", "--user", "x"), "--items"),
        (("explain", "--user", "x", "--itm", "y"), "did you mean --item"),
        (("explain", "--before", "soon"), "--before"),
        (("recommend", "--k", "0"), "--k"),
        (("explain", "--user_reviews", "/nowhere.csv", "--title", "x"), "/nowhere.csv"),
    ],
)
def test_bad_words_end_in_one_line(root, words, said):
    assert said in complaint(ask(root, *words))


def test_a_command_that_there_is_not_is_told_with_the_nearest():
    done = subprocess.run([sys.executable, "-m", "reason4rec", "explian"], cwd=ROOT, capture_output=True, text=True)
    assert "did you mean explain" in complaint(done)


def test_without_words_everything_that_there_is_to_do_is_listed():
    listed = overview()
    assert all(name in listed for name in COMMANDS)


def test_the_only_finished_run_is_meant_where_none_is_named(root, tmp_path):
    roots = root / "data", root / "checkpoints"
    assert finished_runs(*roots) == ["Demo_data"]
    assert dataset_or_the_only_one("", *roots) == "Demo_data"
    assert dataset_or_the_only_one("Other", *roots) == "Other"
    with pytest.raises(InputError, match="no finished run is here"):
        dataset_or_the_only_one("", tmp_path, tmp_path)
    for name in ("A", "B"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train_summarizer_generation_results.pkl").touch()
        (tmp_path / "adapters" / name / "Predictor").mkdir(parents=True)
    with pytest.raises(InputError, match="finished runs here are A, B"):
        dataset_or_the_only_one("", tmp_path, tmp_path / "adapters")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no reviews"),
        ("[", "not JSON"),
        ('{"title": "a"}\n{', "line 2"),
        ("title,text\na,b", "no column rating"),
        ("title,rating,text\na,five,b", "line 2: rating 'five'"),
        ("title,rating,text,time\na,5,b,soon", "time 'soon'"),
    ],
)
def test_a_file_of_no_reviews_is_told_by_its_line(tmp_path, text, said):
    path = tmp_path / "given"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        reviews_from(path)
    assert said in str(caught.value)


def test_reviews_are_read_from_each_form(tmp_path):
    path = tmp_path / "given"
    wanted = [{"title": "a", "rating": 5.0, "text": "x, y"}, {"title": "b", "rating": 1.0, "text": "z"}]
    for text in (
        json.dumps(wanted),
        "\n".join(map(json.dumps, wanted)),
        '\ufefftitle,rating,text,else\na,5,"x, y",1\nb,1,z,2\n',
    ):
        path.write_text(text, encoding="utf-8")
        assert reviews_from(path) == wanted


def test_a_text_with_a_separator_of_unicode_was_taken_for_two_lines(tmp_path):
    path = tmp_path / "given"
    one = {"title": "a", "rating": 5, "text": "x\u2028y\x85z"}
    path.write_text(json.dumps(one, ensure_ascii=False), encoding="utf-8")
    assert reviews_from(path) == [one]


def test_an_id_that_begins_with_a_dash_can_be_asked_about(root):
    done = ask(root, "rank", "--user=-0Iabc", "--items=-a", "--items=-b")
    assert "no item '-a'" in complaint(done)


def test_an_answer_without_probabilities_ended_in_a_traceback():
    shown = card(answer(rating=float("nan"), median=float("nan"), probabilities=(float("nan"),) * 5), colours=False)
    assert "unusable" in shown


def test_a_file_that_is_not_utf_8_is_told(tmp_path):
    path = tmp_path / "given"
    path.write_bytes(b"title,rating,text\na,5,\xff")
    with pytest.raises(InputError, match="UTF-8"):
        reviews_from(path)


def answer(**changes):
    given = {
        "user_id": "U",
        "item_id": "I",
        "title": "Title",
        "rating": 3.2,
        "median": 3.0,
        "probabilities": (0.1, 0.1, 0.5, 0.2, 0.1),
        "reason": "A reason.",
        "user_history": (),
        "item_history": (),
        "user_average": None,
        "item_average": None,
        "user_count": 0,
        "item_count": 0,
        "model": "Reason4Rec",
    }
    return Answer(**(given | changes))


def test_foreign_texts_cannot_steer_a_terminal():
    shown = card(answer(title=HOSTILE, reason=f"Because {HOSTILE}", user_id=HOSTILE), colours=False)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert harmless("a\nb") == "a\nb"


def test_bars_are_as_long_as_their_shares():
    lengths = [line.count("█") for line in bars((0.0, 0.25, 0.5, 0.25, 0.0)).splitlines()]
    assert lengths == [0, 10, 20, 10, 0]
