"""The page of case studies: which rows it holds, that foreign text stays text, and its use in a real browser."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import CONTRASTS, IN_A_BROWSER, Page, chromium
from helpers import complaint, put_toy_dataset, run_script

from reason4rec.data import schema
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import KEYS, PREDICTION, PROBABILITIES, TEST, TRAIN
from reason4rec.evaluation import metrics
from reason4rec.evaluation.metrics import errors, expected_rating, median_rating, row_errors
from reason4rec.llm.options import RULES
from reason4rec.llm.usage import STAND_IN
from reason4rec.run import files, records
from reason4rec.run.project import find
from reason4rec.systems.reason4rec import artifacts, case_study
from reason4rec.systems.reason4rec.artifacts import (
    REASON,
    SUMMARIES,
    SUMMARY,
    TEACHER_REASONS,
    TEACHER_SUMMARIES,
    TEST_RATINGS,
)
from reason4rec.systems.reason4rec.facts import DEMO_BASE
from reason4rec.systems.reason4rec.pipeline import PIPELINE

SCRIPT = "3_Predictor/8_case_study.py"
ATTACK = '</script><script>window.hacked = 1</script><img src="http://127.0.0.1:9/x.png" onerror="window.hacked = 1">'
HOSTILE = f"<!--<script>{ATTACK}]]> {{DATA}} {{POLICY}} &lt;b&gt; \u2028\u2029 \x00\x1b[31m \u202eright to left \u2066"
WIDE = "w" * 4_000
HEBREW, ACCENTS = "אלבום נהדר, מומלץ", "Café Tacvba, ¡qué sorpresa!"


def put_predictions(folder: Path) -> pd.DataFrame:
    """Puts made-up reasons and predictions for the test rows of a toy dataset, with foreign texts; the frame."""
    frame = schema.read(folder, TEST)
    rng = np.random.default_rng(3)
    frame[REASON] = [f"The user likes {word} music, reason {n}." for n, word in enumerate(rng.permutation(len(frame)))]
    probabilities = rng.dirichlet(np.ones(5), len(frame))
    frame[list(PROBABILITIES)] = probabilities
    frame[PREDICTION] = expected_rating(probabilities)
    frame["title"], frame["reviews"] = frame["title"].astype(object), frame["reviews"].astype(object)
    frame.loc[0, ["title", "reviews", REASON]] = f"Hostile {HOSTILE}", HOSTILE, HOSTILE
    frame.loc[1, ["title", "reviews"]] = WIDE, f"{HEBREW}\n{WIDE}" + "\n\n" * 300
    frame.loc[2, "reviews"] = ACCENTS
    frame.loc[3, [PREDICTION, *PROBABILITIES]] = np.nan
    frame.loc[4, list(PROBABILITIES)] = np.nan
    frame.loc[5, "user_id"] = "a user of whom nothing is known"
    frame.loc[6, "unixReviewTime"] = 10**15  # no date that a browser knows
    files.write_pickle(folder / TEST_RATINGS.path, frame)
    return frame


def make_page(folder: Path, *flags: object) -> str:
    """Runs the step on a dataset's folder; the page."""
    root = folder.parents[1]
    done = run_script(SCRIPT, "--dataset", folder.name, "--data_root", folder.parent, "--checkpoint_root", root, *flags)
    assert done.returncode == 0, done.stderr
    return (folder / artifacts.CASE_STUDY.path).read_text(encoding="utf-8")


def data_in(page: str) -> dict:
    """The data that a page holds."""
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = put_toy_dataset(tmp_path_factory.mktemp("toy"), summaries=True)
    summaries = schema.read(folder, SUMMARIES)
    summaries[SUMMARY] = [f"{text}\n{HOSTILE}" for text in summaries[SUMMARY]]
    files.write_pickle(folder / SUMMARIES.path, summaries)
    return folder


@pytest.fixture(scope="module")
def predicted(folder):
    return put_predictions(folder)


@pytest.fixture(scope="module")
def page(folder, predicted):
    return make_page(folder)


def test_a_page_that_has_room_shows_every_row():
    chosen, drawn = case_study.choose(np.array([0.5, 2.0, 1.0]), rows=3, seed=1)
    assert chosen.tolist() == [0, 1, 2]
    assert drawn.all()


@pytest.mark.parametrize("rows", [1, 2, 7, 40, 99])
def test_a_page_holds_the_largest_errors_and_a_sample_of_all_rows(rows):
    of_rows = np.random.default_rng(0).uniform(0, 4, 100)
    chosen, drawn = case_study.choose(of_rows, rows, seed=5)
    assert len(set(chosen.tolist())) == len(chosen) == rows
    assert chosen.tolist() == sorted(chosen.tolist())
    assert drawn.sum() == rows // 2
    assert set(np.argsort(-of_rows)[: rows - rows // 2]) <= set(chosen.tolist())
    again, _ = case_study.choose(of_rows, rows, seed=5)
    assert again.tolist() == chosen.tolist()


def test_the_rows_to_sample_are_drawn_with_the_seed_and_from_all_rows():
    of_rows, counts = np.arange(10.0), np.zeros(10)
    for seed in range(400):
        chosen, drawn = case_study.choose(of_rows, 4, seed)
        counts[chosen[drawn]] += 1
    assert counts.sum() == 800
    assert counts.min() > 50  # 80 are expected of each, with a standard deviation of 8


@pytest.mark.parametrize("seed", [1, 2])
def test_a_page_opened_on_its_worst_rows(seed):
    drawn = np.arange(60) % 3 == 0
    places = case_study.reading_order(drawn, seed)
    assert sorted(places) == list(range(60))
    assert set(places[drawn]) == set(range(20))
    for group in (places[drawn], places[~drawn]):
        assert group.tolist() != sorted(group)
    assert places.tolist() == case_study.reading_order(drawn, seed).tolist()
    assert places.tolist() != case_study.reading_order(drawn, seed + 1).tolist()


def put_baseline(folder: Path, name: str, off: float, of_rows: slice = slice(None)) -> pd.DataFrame:
    """Puts predictions that are so far from the true ratings; the frame."""
    frame = schema.read(folder, TEST_RATINGS).iloc[of_rows][[*KEYS, "ratings"]]
    frame[PREDICTION] = frame["ratings"] + np.where(frame["ratings"] >= 3, -off, off)
    files.write_pickle(folder / artifacts.predictions_of(name).path, frame)
    return frame


def test_the_best_baseline_stands_beside_our_predictions(tmp_path):
    folder = put_toy_dataset(tmp_path, summaries=True)
    predicted = put_predictions(folder)
    ratings = predicted["ratings"].to_numpy()
    data = data_in(make_page(folder, "--rows", 10))
    simple = metrics.baselines(schema.read(folder, TRAIN), predicted)
    error = {name: np.abs(values - ratings).mean() for name, values in simple.items()}
    best = min(error, key=error.get)
    assert (data["baseline"]["name"], data["baseline"]["of"]) == (best, len(simple))
    assert data["baseline"]["mae"] == pytest.approx(error[best])
    for row in data["rows"]:
        assert row["base"] == pytest.approx(simple[best][row["row"]], abs=1e-4)

    # The means and biases of the evaluation are there too; our own runs and variants are no baselines.
    put_baseline(folder, "matrix_factorization@42", 0.3)
    put_baseline(folder, "matrix_factorization@43", 0.2)
    for name in ("Reason4Rec@43", "tau_0.2", "without_rewards"):
        put_baseline(folder, name, 0.0)
    put_baseline(folder, "gradient_boosting", 0.1, slice(1, None))
    data = data_in(make_page(folder, "--rows", 10))
    assert (data["baseline"]["name"], data["baseline"]["of"]) == ("matrix factorization, seed 43", len(simple) + 1)
    assert data["baseline"]["mae"] == pytest.approx(0.2)


def test_a_trial_has_the_baseline_of_its_rows(tmp_path):
    folder = put_toy_dataset(tmp_path, summaries=True)
    predicted = put_predictions(folder)
    put_baseline(folder, "narre", 0.0)
    data = data_in(make_page(folder, "--limit", 8))
    assert (data["baseline"]["name"], data["baseline"]["n"], data["baseline"]["mae"]) == ("narre", 8, 0.0)
    assert [row["base"] for row in data["rows"]] == predicted["ratings"][:8].tolist()


def test_without_baselines_a_page_says_nothing_of_them(tmp_path):
    folder = put_toy_dataset(tmp_path, summaries=True)
    put_predictions(folder)
    (folder / TRAIN.path).unlink()
    data = data_in(make_page(folder))
    assert data["baseline"] is None
    assert {row["base"] for row in data["rows"]} == {None}


def test_a_page_of_made_up_reviews_did_not_say_so(tmp_path):
    folder = put_toy_dataset(tmp_path, summaries=True)
    put_predictions(folder)
    assert data_in(make_page(folder))["caveats"] == [case_study.CAVEATS[case_study.MADE_UP]]
    real = folder.rename(folder.with_name("Mine"))
    (real / "dataset.json").write_text('{"name": "Mine", "product_class": "Album", "tau": 0.1}')
    for artifact, teacher in ((TEACHER_SUMMARIES, STAND_IN), (TEACHER_REASONS, RULES), (TEACHER_REASONS, "a model")):
        records.write_record(real / artifact.path, {"inputs": {}, "settings": {"teacher_model": teacher}}, "0")
        told = data_in(make_page(real))["caveats"]
        assert case_study.CAVEATS[STAND_IN] in told
        assert (case_study.CAVEATS.get(teacher) in told) == (teacher in case_study.CAVEATS)
        assert case_study.CAVEATS[case_study.MADE_UP] not in told


def test_a_page_says_that_the_demos_tiny_model_wrote_it(tmp_path):
    folder = put_toy_dataset(tmp_path, summaries=True)
    put_predictions(folder)
    predictor = tmp_path / folder.name / artifacts.PREDICTOR.path
    predictor.mkdir(parents=True)
    settings = {"base_model": DEMO_BASE, "base_sha256": files.sha256(find(DEMO_BASE)), "max_length": 512}
    (predictor / "settings.json").write_text(json.dumps(settings))
    assert case_study.CAVEATS[case_study.TINY] in data_in(make_page(folder))["caveats"]
    (predictor / "settings.json").write_text(json.dumps(settings | {"base_sha256": "0"}))
    assert case_study.CAVEATS[case_study.TINY] not in data_in(make_page(folder))["caveats"]


def test_the_page_holds_what_the_model_saw_and_said(folder, predicted, page):
    data = data_in(page)
    index = HistoryIndex(schema.read(folder, SUMMARIES), SUMMARY, length=6)  # the demo's history length
    assert [row["row"] for row in data["rows"]] == list(range(len(predicted)))
    for row, (_, truth), history in zip(data["rows"], predicted.iterrows(), index.of_rows(predicted)):
        assert (row["user"], row["item"], row["title"]) == tuple(truth[["user_id", "item_id", "title"]])
        assert (row["reason"], row["review"], row["rating"]) == tuple(truth[[REASON, "reviews", "ratings"]])
        assert row["warm"] == history.warm
        for side, entries in zip(row["histories"], (history.user, history.item)):
            shown = [data["entries"][number] for number in side["entries"]]
            assert shown == [[entry.title, entry.rating, entry.text] for entry in entries]
        assert [side["count"] for side in row["histories"]] == [history.user_count, history.item_count]
        assert row["histories"][0]["average"] == pytest.approx(history.user_average, abs=1e-4)
    assert data["rows"][3]["pred"] is None
    assert data["rows"][4]["p"] is None
    assert data["rows"][0]["p"] == pytest.approx(predicted.loc[0, list(PROBABILITIES)].tolist(), abs=1e-4)
    assert data["all"]["mae"] == errors(predicted["ratings"], predicted[PREDICTION])["mae"]
    assert data["all"]["unusable"] == 1
    medians = median_rating(predicted[list(PROBABILITIES)].to_numpy())
    assert [row["median"] for row in data["rows"]] == [None if np.isnan(one) else one for one in medians]
    assert [data["rows"][k]["median"] for k in (3, 4)] == [None, None]
    assert data["medians"] == errors(predicted["ratings"], medians)


def test_the_same_input_gives_the_same_bytes_and_is_not_done_twice(folder, page):
    path = folder / artifacts.CASE_STUDY.path
    made = path.stat().st_mtime_ns
    assert make_page(folder) == page
    assert path.stat().st_mtime_ns == made
    assert make_page(folder, "--overwrite") == page
    assert path.stat().st_mtime_ns != made


def test_rows_limits_the_page_and_the_page_says_of_how_many(tmp_path):
    folder = put_toy_dataset(tmp_path, summaries=True)
    predicted = put_predictions(folder)
    data = data_in(make_page(folder, "--rows", 10, "--seed", 7))
    assert (data["shown"]["n"], data["sample"]["n"], data["all"]["n"]) == (10, 5, len(predicted))
    wrong = row_errors(predicted["ratings"].to_numpy(), predicted[PREDICTION].to_numpy())
    assert set(np.argsort(-wrong)[:5]) <= {row["row"] for row in data["rows"]}
    assert (data["seed"], data["dataset"]) == (7, "Demo_data")


def test_predictions_without_probabilities_still_have_a_page(tmp_path):
    folder = put_toy_dataset(tmp_path, summaries=True)
    files.write_pickle(folder / TEST_RATINGS.path, put_predictions(folder).drop(columns=list(PROBABILITIES)))
    data = data_in(make_page(folder))
    assert {(row["p"], row["median"]) for row in data["rows"]} == {(None, None)}
    assert data["medians"] is None


def test_a_missing_column_or_file_is_named_in_one_line(tmp_path):
    folder = put_toy_dataset(tmp_path, summaries=True)
    flags = ("--dataset", folder.name, "--data_root", folder.parent, "--checkpoint_root", tmp_path)
    assert PIPELINE.producer(TEST_RATINGS).script in complaint(run_script(SCRIPT, *flags))
    files.write_pickle(folder / TEST_RATINGS.path, put_predictions(folder).drop(columns=REASON))
    assert f"no column {REASON}" in complaint(run_script(SCRIPT, *flags))
    assert not (folder / artifacts.CASE_STUDY.path).exists()


def test_the_template_names_no_address_and_makes_no_markup_of_text():
    template = case_study.TEMPLATE.read_text(encoding="utf-8")
    for pattern in (r"https?:", r"\bsrc=", r"<link", r"url\(", r"@import", r"[iI]nnerHTML|outerHTML|insertAdjacent"):
        assert not re.search(pattern, template), pattern
    assert not re.search(r"\beval\b|document\.write|fetch|XMLHttp|\son\w+=\"|\sstyle=", template)


# ---- in a real browser


class CaseStudies(Page):
    """The page of case studies."""

    def found(self) -> list[int]:
        """The test rows that the filters leave, in their order; all are made first."""
        self.js("dispatchEvent(new Event('beforeprint'))")
        return self.js("[...document.querySelectorAll('.position')].map(e => Number(e.textContent.match(/\\d+/)[0]))")

    def focused(self) -> int | None:
        return self.js("[...document.querySelectorAll('.row')].indexOf(document.activeElement)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory, folder, page):
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield CaseStudies(driver, (folder / artifacts.CASE_STUDY.path).resolve().as_uri())


@IN_A_BROWSER
@pytest.mark.slow
class TestInABrowser:
    def test_foreign_text_is_shown_as_it_is_and_does_nothing(self, browser, predicted):
        browser.open()
        browser.driver.get_log("browser"), browser.driver.get_log("performance")
        browser.open()
        browser.press("/", "Hostile", "ESCAPE", "ESCAPE", "j", "ENTER")
        browser.js("document.querySelectorAll('details').forEach(e => { e.open = true; })")
        browser.found()
        assert browser.js("window.hacked") is None
        assert browser.js("document.querySelectorAll('img, iframe, object, link, [onerror]').length") == 0
        assert browser.js("document.scripts.length") == 2
        titles = browser.js("[...document.querySelectorAll('.title')].map(e => e.textContent)")
        assert sorted(titles) == sorted(predicted["title"])
        reviews = browser.js("[...document.querySelectorAll('.review p')].map(e => e.textContent)")
        assert sorted(reviews) == sorted(predicted["reviews"])
        assert browser.driver.get_log("browser") == []
        assert {address.partition(":")[0] for address in browser.requested()} == {"file"}

    def test_the_policy_stops_every_script_but_the_pages_own(self, browser, page, tmp_path):
        path = tmp_path / "page.html"
        path.write_text(page.replace("<main", f"<script>{ATTACK}<main", 1), encoding="utf-8")
        browser.open(address=path.as_uri())
        assert browser.js("document.querySelectorAll('img[onerror]').length") == 1
        assert browser.js("new Promise(done => setTimeout(() => done(window.hacked), 100))") is None
        with pytest.raises(Exception, match="TrustedHTML"):
            browser.js("document.body.innerHTML = '<b>markup</b>'")
        assert len(browser.found()) > 0

    def test_the_head_counts_all_rows(self, browser, folder, predicted):
        browser.open()
        assert browser.js("document.title") == "Case studies: Demo_data"
        facts = browser.js("[...document.querySelectorAll('#facts tr')].map(e => "
                           "[...e.children].map(e => e.textContent))")  # fmt: skip
        ratings = predicted["ratings"]
        base = min(metrics.baselines(schema.read(folder, TRAIN), predicted).items(),
                   key=lambda one: np.abs(one[1] - ratings).mean())  # fmt: skip
        medians = median_rating(predicted[list(PROBABILITIES)].to_numpy())
        for (_, *found), predictions in zip(facts, (predicted[PREDICTION], medians, base[1]), strict=True):
            expected = errors(ratings, predictions)
            assert found == [str(len(predicted)), f"{expected['mae']:.4f}", f"{expected['rmse']:.4f}"]
        assert facts[0][0] == "Reason4Rec"
        assert facts[2][0] == f"best baseline: {base[0]}"
        maes = f"MAE {facts[0][2]} (baseline {facts[2][2]})"
        assert browser.text("#found") == f"{len(predicted)} of {len(predicted)} rows, {maes}"
        assert browser.text("#about").startswith(f"This page shows all {len(predicted)} test rows")
        assert browser.text("#about").endswith("Unusable predictions: 1.")
        assert browser.js("document.querySelector('#drawn').hidden")
        assert browser.js("document.querySelector('#caveats').checkVisibility()")
        assert browser.text("#caveats") == case_study.CAVEATS[case_study.MADE_UP]

    def test_a_row_has_the_baselines_prediction_and_error(self, browser, folder, predicted):
        base = min(
            metrics.baselines(schema.read(folder, TRAIN), predicted).values(),
            key=lambda one: np.abs(one - predicted["ratings"]).mean(),
        )
        browser.open()
        browser.press("/", '"row 7"')
        assert browser.text(".base .number") == f"{base[7]:.2f}"
        off = base[7] - predicted["ratings"][7]
        assert browser.text(".off").startswith(f"{'+' if off > 0 else '−'}{abs(off):.2f}")
        browser.press("ESCAPE")
        browser.js("(document.querySelector('#sort').value = '-gain', document.querySelector('#sort').onchange())")
        wrong = row_errors(predicted["ratings"].to_numpy(), predicted[PREDICTION].to_numpy())
        lost = wrong - np.abs(base - predicted["ratings"])
        assert browser.found()[0] == lost.argmax()

    def test_without_a_baseline_no_row_speaks_of_one(self, browser, tmp_path):
        folder = put_toy_dataset(tmp_path, summaries=True)
        put_predictions(folder)
        (folder / TRAIN.path).unlink()
        make_page(folder)
        browser.open(address=(folder / artifacts.CASE_STUDY.path).as_uri())
        assert "aseline" not in browser.js("document.body.innerText")
        assert browser.js("document.querySelectorAll('.beside').length") == 0

    def test_filters_filled_the_screen_of_a_phone(self, browser, predicted):
        browser.open(390)
        assert browser.js("document.querySelector('#toolbar').offsetHeight") < 900 / 4
        assert not browser.js("document.querySelector('[name=history]').checkVisibility()")
        browser.press("/", "TAB", "ENTER")
        assert browser.js("document.querySelector('[name=history]').checkVisibility()")
        browser.click("label:has([value=cold])")
        assert browser.found() == [5]
        assert browser.text("#filters summary").endswith("(1 on)")
        browser.press("ESCAPE")
        assert len(browser.found()) == len(predicted)
        browser.open(1400)
        assert browser.js("document.querySelector('[name=history]').checkVisibility()")
        assert not browser.js("document.querySelector('#filters summary').checkVisibility()")

    @pytest.mark.parametrize("width", [390, 1400])
    def test_the_badges_of_a_row_stood_higher_than_its_other_words(self, browser, tmp_path, width):
        folder = put_toy_dataset(tmp_path, summaries=True)
        put_predictions(folder)
        data = data_in(make_page(folder, "--rows", 20))
        browser.open(width, address=(folder / artifacts.CASE_STUDY.path).as_uri())
        assert len(browser.found()) == 20
        assert browser.js("[...document.querySelectorAll('.worst')].filter(e => !e.hidden).length") == 10
        assert sum(not row["drawn"] for row in data["rows"]) == 10
        boxes = browser.js("[...document.querySelectorAll('.meta')].map(e => [...e.children].filter(e => !e.hidden)"
                           ".map(e => e.getBoundingClientRect()).map(box => [box.top, box.bottom]))")  # fmt: skip
        for row in boxes:
            for top, bottom in row:
                alike = [one for one in row if one[0] < (top + bottom) / 2 < one[1]]
                assert all(abs(sum(one) - (top + bottom)) <= 2 for one in alike)

    def test_a_part_of_the_rows_is_called_one_and_its_sample_can_be_seen(self, browser, predicted, tmp_path):
        folder = put_toy_dataset(tmp_path, summaries=True)
        put_predictions(folder)
        data = data_in(make_page(folder, "--rows", 10))
        browser.open(address=(folder / artifacts.CASE_STUDY.path).as_uri())
        assert browser.text("#about").startswith(
            f"This page shows 10 of {len(predicted)} test rows: first 5 drawn at random (seed 42), then the 5 with"
        )
        assert browser.found() == [row["row"] for row in sorted(data["rows"], key=lambda row: row["order"])]
        assert set(browser.found()[:5]) == {row["row"] for row in data["rows"] if row["drawn"]}
        browser.click("label:has([value=drawn])")
        assert sorted(browser.found()) == [row["row"] for row in data["rows"] if row["drawn"]]
        assert f"MAE {data['sample']['mae']:.4f}" in browser.text("#found")

    def test_rows_are_made_as_they_are_reached(self, browser, predicted):
        from selenium.webdriver.support.wait import WebDriverWait

        browser.open()
        assert browser.js("document.querySelectorAll('.row').length") < len(predicted)
        browser.js("scrollTo(0, document.body.scrollHeight)")
        rows = "document.querySelectorAll('.row').length"
        WebDriverWait(browser.driver, 30).until(lambda _: browser.js(rows) == len(predicted))
        assert not browser.js("document.querySelector('#more').checkVisibility()")

    def test_typing_finds_rows_by_all_words_without_accents_and_escape_clears(self, browser, predicted):
        browser.open()
        browser.press("/", "QUE cafe")
        assert browser.found() == [2]
        assert browser.text("#found").startswith(f"1 of {len(predicted)} rows")
        assert browser.js("CSS.highlights.get('found').size") >= 2
        browser.press("ESCAPE")
        assert len(browser.found()) == len(predicted)
        browser.press("unusable")
        assert browser.found() == [3]
        browser.press("ESCAPE", "no such words")
        assert browser.found() == []
        browser.press("ESCAPE", '"QUE cafe"')
        assert browser.found() == []
        browser.press("ESCAPE", '"cafe TACVBA" que')
        assert browser.found() == [2]
        browser.press("ESCAPE", "no such words")
        assert browser.js("document.querySelector('#empty').checkVisibility()")
        browser.click("#clear")
        assert len(browser.found()) == len(predicted)

    def test_a_word_of_a_history_finds_the_row_and_says_where(self, browser, folder, predicted):
        index = HistoryIndex(schema.read(folder, SUMMARIES), SUMMARY, length=6)
        title = index.of_rows(predicted)[7].user[0].title
        browser.open()
        browser.press("/", f"{title} {predicted[REASON][7].split()[-1]}")
        assert 7 in browser.found()
        assert "found" in browser.text(".hits")

    def test_filters_and_order_are_those_of_the_predictions(self, browser, predicted):
        wrong = row_errors(predicted["ratings"].to_numpy(), predicted[PREDICTION].to_numpy())
        rows = np.arange(len(wrong))
        browser.open()
        assert browser.found() == np.argsort(case_study.reading_order(np.ones(len(rows), dtype=bool), 42)).tolist()
        browser.js("(document.querySelector('#sort').value = 'error', document.querySelector('#sort').onchange())")
        assert browser.found() == np.lexsort((rows, -wrong.round(4))).tolist()
        browser.click("label:has([value=large])")
        assert sorted(browser.found()) == np.flatnonzero(wrong >= 1).tolist()
        browser.click("#threshold")
        browser.press("BACKSPACE", "2")
        assert sorted(browser.found()) == np.flatnonzero(wrong >= 2).tolist()
        browser.press("ESCAPE")
        browser.click("label:has([value=cold])")
        assert browser.found() == [5]
        assert browser.js("document.querySelector('.cold').checkVisibility()")
        browser.press("ARROW_RIGHT")  # a group of radio buttons, as the keyboard knows it
        assert sorted(browser.found()) == [row for row in rows if row != 5]
        browser.press("ESCAPE")
        browser.js("(document.querySelector('#sort').value = '-time', document.querySelector('#sort').onchange())")
        assert browser.found() == np.lexsort((rows, predicted["unixReviewTime"])).tolist()

    def test_a_reader_without_a_mouse_gets_everywhere(self, browser, predicted):
        browser.open()
        browser.press("TAB")
        assert browser.js("document.activeElement.textContent") == "Skip to the rows"
        browser.press("ENTER", "j")
        assert browser.focused() == 0
        browser.press("j", "j", "k")
        assert browser.focused() == 1
        box = browser.js("document.activeElement.getBoundingClientRect().top")
        assert box >= browser.js("document.querySelector('#toolbar').getBoundingClientRect().bottom")
        assert browser.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        browser.press("ENTER")
        assert browser.js("document.activeElement.querySelectorAll('details[open] li').length") > 0
        browser.press("ENTER")
        assert browser.js("document.activeElement.querySelectorAll('details[open]').length") == 0
        browser.press(*["j"] * len(predicted))  # past the rows that were made at first, to the last
        assert browser.focused() == len(predicted) - 1
        browser.press("/", "jk")
        assert browser.js("document.querySelector('#search').value") == "jk"
        browser.press("ESCAPE", "ENTER")
        assert browser.focused() == 0
        browser.open()
        browser.click(".help summary")
        browser.click("#letters")
        browser.press("j")
        assert browser.focused() == -1

    def test_arrows_go_from_row_to_row(self, browser):
        browser.open()
        browser.press("/", "user likes", "ESCAPE", "TAB")
        browser.js("document.querySelector('.row').focus()")
        browser.js("[...document.querySelectorAll('.said')].forEach(e => e.remove())")
        browser.press("ARROW_DOWN", "ARROW_DOWN", "ARROW_UP")
        assert browser.focused() == 1

    def test_what_cannot_be_shown_is_said(self, browser):
        browser.open()
        browser.press("/", "unusable")
        assert browser.text(".pred") == "unusable"
        assert browser.text(".error").startswith("counts as ")
        assert browser.js("document.querySelector('.bars')") is None
        browser.press("ESCAPE", '"row 4"')
        assert re.fullmatch(r"★+[1-5]\.\d\d", browser.text(".pred").replace("★★★★★★★★★★", "★"))
        assert browser.js("document.querySelector('.bars')") is None
        browser.press("ESCAPE", '"row 6"')
        assert browser.text("time") == str(10**15)
        label = browser.js("document.querySelector('.bars').ariaLabel")
        assert re.fullmatch(r"Predicted distribution\. 1: \d+%, 2: \d+%, 3: \d+%, 4: \d+%, 5: \d+%", label)

    def test_a_long_review_opens(self, browser):
        browser.open()
        browser.press("/", "www")
        height = browser.js("document.querySelector('.review p').offsetHeight")
        browser.click(".review button")
        assert browser.js("document.querySelector('.review p').offsetHeight") > 2 * height
        assert browser.js("document.querySelector('.review button').ariaExpanded") == "true"
        assert browser.js("getComputedStyle(document.querySelector('.review p')).direction") == "rtl"

    @pytest.mark.parametrize("width", [320, 390, 768, 1400])
    def test_no_text_is_wider_than_the_window(self, browser, width):
        browser.open(width)
        browser.found()
        browser.js("document.querySelectorAll('details').forEach(e => { e.open = true; })")
        browser.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert browser.js("document.documentElement.scrollWidth") <= width
        beyond = "[...document.querySelectorAll('.row *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
        assert browser.js(f"{beyond}.length") == 0
        # Nor do a row's parts lie on one another.
        spilt = "e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'visible' && e.clientWidth"
        assert browser.js(f"[...document.querySelectorAll('.row *')].filter(e => {spilt}).map(e => e.outerHTML)") == []

    @pytest.mark.parametrize("dark", [False, True])
    def test_every_text_stands_out_in_both_themes(self, browser, dark):
        browser.open(dark=dark)
        browser.press("j", "ENTER")
        browser.click(".help summary")
        assert browser.js(CONTRASTS) == []
        before = browser.js("getComputedStyle(document.body).backgroundColor")
        assert browser.text("#theme") == ("Light theme" if dark else "Dark theme")
        browser.click("#theme")
        assert browser.js("getComputedStyle(document.body).backgroundColor") != before
        assert browser.text("#theme") == ("Dark theme" if dark else "Light theme")
        assert browser.js(CONTRASTS) == []

    def test_every_control_has_a_name(self, browser):
        browser.open()
        tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        roles = set("button radio checkbox searchbox spinbutton combobox article image group feed".split())
        nodes = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
        assert {node["role"]["value"] for node in nodes} >= roles - {"checkbox"}
        details = {"DisclosureTriangle", "group"}
        nameless = [node for node in nodes if not node.get("name", {}).get("value")]
        assert [node["role"]["value"] for node in nameless if node["role"]["value"] not in details] == []
