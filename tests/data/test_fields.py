"""What columns are called and what stands in them: names, ids, titles, times, ratings of other scales, and guesses."""

import json
from pathlib import Path

import pytest
from helpers import complaint, files_in, run_script
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_dumps import FOOD, OF_2014, ROW, as_csv, as_json, as_literals, put, read, refused, rows_of, titles_of

from reason4rec.data import catalog, dumps, fields, guess, preprocess, schema
from reason4rec.data.catalog import Dataset
from reason4rec.data.schema import DATA_CARD, TEST, TRAIN, VALID
from reason4rec.errors import InputError
from reason4rec.systems.reason4rec import facts

TRIALS = Path(__file__).parents[3] / "shared" / "trials"
PREPROCESS = "0_Data/2_preprocess.py"
DAY = 86_400


def made(root, *args, name="New_data"):
    """What the script printed as it made a dataset of a dump."""
    done = run_script(PREPROCESS, "--dataset", name, "--data_root", root, "--product_class", "Thing", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def not_made(root, *args, name="New_data"):
    """The complaint of the script, which made no dataset."""
    words = ("--dataset", name, "--data_root", root, "--product_class", "Thing", *args)
    message = complaint(run_script(PREPROCESS, *words))
    assert len(message) < 300 and {Path(file).name for file in files_in(root / name)} <= {"broken_lines.txt"}
    return message


def everything(root, name="New_data"):
    """All rows of a dataset, as tuples in the order of its columns, without their order in time."""
    parts = [schema.read(root / name, part) for part in (TRAIN, VALID, TEST)]
    return sorted(tuple(row) for part in parts for row in part.itertuples(index=False))


def reviews_of(record, users=5, items=4):
    """A grid of reviews; `record` makes one of its number, user and item."""
    return [record(k, u, i) for k, (u, i) in enumerate((u, i) for u in range(users) for i in range(items))]


GOODREADS = reviews_of(
    lambda k, u, i: {
        "user_id": f"8842281e{u}",
        "book_id": 100 + i,
        "review_id": f"r{k}",
        "rating": 1 + k % 5,
        "review_text": f"Book {k}.",
        "date_added": f"Fri Dec {1 + k:02d} 00:27:07 -0800 2017",
        "date_updated": "Fri Dec 29 00:27:07 -0800 2017",
        "read_at": "",
        "n_votes": 3,
    }
)
GOOGLE = reviews_of(
    lambda k, u, i: {
        "user_id": f"1{u}",
        "name": "Ann",
        "time": 1_500_000_000_123 + k * 1000,
        "rating": 1 + k % 5,
        "text": None if k % 3 else f"Place {k}.",
        "pics": None,
        "resp": None,
        "gmap_id": f"0x89:{i}",
    }
)
MOVIES = reviews_of(lambda k, u, i: {"userId": u, "movieId": i, "rating": 0.5 + k % 10 / 2, "timestamp": 10**9 + k})


def test_goodreads_is_read_from_its_reviews_and_its_books(tmp_path):
    books = [{"book_id": str(100 + i), "isbn": "", "title": f"Book {i}", "title_without_series": "x"} for i in range(4)]
    reviews, metadata = put(tmp_path / "r.json", as_json(GOODREADS)), put(tmp_path / "b.json", as_json(books))
    made(tmp_path, "--reviews", reviews, "--metadata", metadata, "--core", 1)
    rows = everything(tmp_path)
    assert rows[0] == ("8842281e0", "100", "Book 0", 1.0, "Book 0.", 1_512_116_827)
    assert [row[2] for row in rows] == [f"Book {i}" for _ in range(5) for i in range(4)]


def test_google_local_is_read_from_its_reviews_and_its_places(tmp_path):
    places = [{"name": f"Cafe {i}", "address": None, "gmap_id": f"0x89:{i}", "avg_rating": 4.0} for i in range(4)]
    reviews, metadata = put(tmp_path / "r.json", as_json(GOOGLE)), put(tmp_path / "m.json", as_json(places))
    made(tmp_path, "--reviews", reviews, "--metadata", metadata, "--core", 1)
    rows = everything(tmp_path)
    assert rows[0] == ("10", "0x89:0", "Cafe 0", 1.0, "Place 0.", 1_500_000_000)
    assert rows[1] == ("10", "0x89:1", "Cafe 1", 2.0, "", 1_500_000_001)


def test_movielens_has_no_texts_and_is_told_so_and_is_read_with_a_column_of_them(tmp_path):
    movies = put(
        tmp_path / "movies.csv", as_csv([{"movieId": i, "title": f"Film {i}", "genres": "x"} for i in range(4)])
    )
    reviews = put(tmp_path / "ratings.csv", as_csv(MOVIES))
    given = ("--reviews", reviews, "--metadata", movies, "--core", 1, "--scale", "0.5:5")
    message = not_made(tmp_path, *given)
    assert "no review has a text" in message and "MovieLens" in message and "--columns reviews=NAME" in message
    put(reviews, as_csv([record | {"opinion": "A film."} for record in MOVIES]))
    made(tmp_path, *given, "--columns", "reviews=opinion")
    rows = everything(tmp_path)
    assert rows[0] == ("0", "0", "Film 0", 1.0, "A film.", 10**9)
    assert {row[2] for row in rows} == {f"Film {i}" for i in range(4)}


AMAZON = as_json(
    reviews_of(lambda k, u, i: {**OF_2014, "reviewerID": f"u{u}", "asin": f"B{i}", "unixReviewTime": 10**9 + k})
)


@pytest.mark.parametrize(
    ("item", "title", "columns"),
    [
        ("movieId", "title", ""),
        ("book_id", "book_title", ""),
        ("gmap_id", "name", ""),
        ("sku", "title", ""),
        ("sku", "label", "title=label"),
        ("sku", "label", "item_id=sku,title=label"),
        ("sku", "title", "item_id=asin,item_id=sku"),
    ],
)
@pytest.mark.parametrize("write", [as_json, as_csv, as_literals])
def test_metadata_whose_item_has_another_name_gave_no_titles(tmp_path, item, title, columns, write):
    reviews = put(tmp_path / "reviews", AMAZON)
    items = [{"price": i, item: f"B{i}", "brand": "B", title: f"Thing {i}"} for i in range(9)]
    metadata = put(tmp_path / "meta", write(items))
    names = preprocess.fields_of(columns)
    splits = preprocess.preprocess(reviews, metadata, tmp_path / "scratch", 1, fields=names)
    assert set(splits.train["title"]) == {f"Thing {i}" for i in range(4)}
    assert bool(splits.notes) == (item == "sku" and "sku" not in columns)
    assert all("its column sku holds the items" in note for note in splits.notes)


def test_metadata_that_holds_none_of_the_items_is_refused_with_its_columns(tmp_path):
    reviews = put(tmp_path / "reviews", AMAZON)
    for records, said in (
        ([{"sku": f"X{i}", "title": "t"} for i in range(9)], "none of its columns does"),
        ([{"sku": f"B{i}", "code": f"B{i}", "title": "t"} for i in range(9)], "sku and code hold them alike"),
    ):
        metadata = put(tmp_path / "meta", as_csv(records))
        with pytest.raises(InputError, match=rf"meta: .*{said}.*--columns item_id=NAME.*it has sku") as error:
            preprocess.preprocess(reviews, metadata, tmp_path / "scratch", 1)
        assert len(str(error.value)) < 300


def test_a_wrong_name_of_the_item_is_not_passed_over_for_the_metadatas_sake(tmp_path):
    reviews = put(tmp_path / "reviews", AMAZON)
    metadata = put(tmp_path / "meta", as_csv([{"sku": f"B{i}", "title": "t"} for i in range(9)]))
    with pytest.raises(InputError, match="reviews: .*item_id as nope"):
        preprocess.preprocess(reviews, metadata, tmp_path / "scratch", 1, fields=preprocess.fields_of("item_id=nope"))


IDS = [17, "17", 17.0]


@pytest.mark.parametrize("reviews_id", IDS)
@pytest.mark.parametrize("metadata_id", IDS)
@pytest.mark.parametrize("write", [as_json, as_literals, as_csv])
def test_numbers_in_one_file_did_not_meet_texts_in_the_other(tmp_path, reviews_id, metadata_id, write):
    reviews = put(tmp_path / "r", write([{**OF_2014, "asin": reviews_id, "reviewerID": reviews_id}]))
    metadata = put(tmp_path / "m", as_json([{"asin": metadata_id, "title": "Seventeen"}]))
    assert list(read(reviews, titles=metadata)[1].values()) == [["17", "17", 4.0, "Fine.", ROW[4], "Seventeen"]]


def test_a_text_of_json_that_looks_like_a_number_stays_as_it_is(tmp_path):
    path = put(tmp_path / "r", as_json([{**OF_2014, "asin": item} for item in ("017", "17.0", "1e3", "-0.0", "17.50")]))
    assert [row[1] for row in rows_of(path)] == ["017", "17.0", "1e3", "-0.0", "17.50"]


TITLES = {
    "a list": (["First", "Second"], "First"),
    "a list that begins with nothing": (["", " \n", None, 3, {"a": 1}, "Rock\n&amp; Roll"], "Rock &amp; Roll"),
    "a list of nothing": ([None, ""], None),
    "an empty list": ([], None),
    "an object": ({"raw": "T"}, None),
    "a number": (1984, "1984"),
    "HTML": ("Rock &amp; Roll <b>x</b>", "Rock &amp; Roll <b>x</b>"),
    "half a character": ("🎸 \ud83d cut", "🎸 ? cut"),
    "brackets": ("[Untitled]", "[Untitled]"),
    "a list as a text": ('["First"]', '["First"]'),
    "an object as a text": ('{"raw": "T"}', '{"raw": "T"}'),
}


@pytest.mark.parametrize("kind", TITLES)
@pytest.mark.parametrize("write", [as_json, as_literals])
def test_a_title_of_any_kind_is_a_text_or_none(tmp_path, kind, write):
    title, expected = TITLES[kind]
    metadata = put(tmp_path / "meta", write([{"asin": "i1", "title": title}, {"asin": "i2", "title": "Other"}]))
    assert titles_of(tmp_path, metadata, "i1", "i2") == {"i1": expected, "i2": "Other"}


def short(title):
    """The title that an item gets."""
    with preprocess.engine(Path("never-needed")) as db:
        sql = fields.short_title("title")
        return db.execute(f"SELECT {sql} FROM (SELECT ?::VARCHAR AS title)", [title]).fetchall()[0][0]


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab é😀\u0301"), min_size=190, max_size=500).map(lambda text: " ".join(text.split())))
@example("x" * 200)
@example("x" * 201)
@example("word " * 99)
def test_a_long_title_is_cut_at_the_end_of_a_word(title):
    found = short(title)
    if len(title) <= fields.LONGEST_TITLE:
        assert found == title
        return
    kept = found.removesuffix("…")
    assert found != kept and 100 <= len(found) <= 200 and title.startswith(kept) and kept == kept.rstrip()
    if " " in title[100:200]:
        assert title[len(kept)] == " " and " " not in title[len(kept) + 1 : 200]


def test_a_title_of_thousands_of_characters_stood_in_every_prompt(tmp_path):
    reviews = put(tmp_path / "reviews", AMAZON)
    items = [{"asin": f"B{i}", "title": "var a = 1; " * 700 if i == 2 else f"Thing {i}"} for i in range(4)]
    metadata = put(tmp_path / "meta", as_json(items))
    printed = made(tmp_path, "--reviews", reviews, "--metadata", metadata, "--core", 1)
    titles = {row[1]: row[2] for row in everything(tmp_path)}
    assert len(titles["B2"]) <= 200 and titles["B2"].endswith("a = 1;…") and titles["B1"] == "Thing 1"
    assert "note: 1 titles were longer than 200 characters" in printed and "title that was cut: 1." in printed
    assert json.loads((tmp_path / "New_data" / DATA_CARD.path).read_text())["items_with_title_cut"] == 1
    printed = made(tmp_path, "--reviews", reviews, "--core", 1, name="Other")
    assert "cut" not in printed and "cut" not in (tmp_path / "Other" / DATA_CARD.path).read_text()


TIMES = {
    "2014-07-01": 1_404_172_800,
    "2014-7-1": 1_404_172_800,
    "07 1, 2014": 1_404_172_800,
    "7 1, 2014": 1_404_172_800,
    "2017/12/08": 1_512_691_200,
    "2017/12/08 10:11:12": 1_512_727_872,
    "Fri Dec 08 00:27:07 -0800 2017": 1_512_721_627,
    "Fri Dec 08 08:27:07 UTC 2017": 1_512_721_627,
    "Fri, 08 Dec 2017 08:27:07 +0000": 1_512_721_627,
    "Fri, 08 Dec 2017 08:27:07 GMT": 1_512_721_627,
    "Dec 8, 2017": 1_512_691_200,
    "December 8, 2017": 1_512_691_200,
    "8 December 2017": 1_512_691_200,
    "2017-12-08T08:27:07.123456Z": 1_512_721_627,
    "2017-12-08T08:27:07.123456789": 1_512_721_627,
    "2017-12-08T00:27:07-08:00": 1_512_721_627,
    "2017-12-08 08:27": 1_512_721_620,
}


@pytest.mark.parametrize("time", TIMES)
def test_a_date_in_a_usual_form_is_a_time(tmp_path, time):
    assert rows_of(put(tmp_path / "dump", as_json([{**OF_2014, "unixReviewTime": time}])))[0][4] == TIMES[time]


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("write", [as_json, as_csv])
def test_times_of_a_finer_unit_than_milliseconds_were_none(tmp_path, unit, write):
    times = [978_300_760, 1_300_172_800, 1_700_000_000]
    records = [{**OF_2014, "unixReviewTime": time * unit + unit // 2} for time in times]
    assert [row[4] for row in rows_of(put(tmp_path / "dump", write(records)))] == times


@pytest.mark.parametrize("time", ["01/02/2017", "13/02/2017", "01-02-2017", "1.2.2017", "12:30", "20140501"])
def test_a_date_that_may_mean_two_days_is_refused_with_its_value_and_what_to_do(tmp_path, time):
    records = [{**OF_2014, "unixReviewTime": time}]
    message = refused(read, put(tmp_path / "dump", as_json([OF_2014] * 9 + records)))
    assert f"line 10: no time as unixReviewTime, but '{time}'" in message and "write times as" in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"overall": "good"}, "no rating of 1 to 5 as overall, but 'good'"),
        ({"overall": 9}, "no rating of 1 to 5 as overall, but '9'"),
        ({"unixReviewTime": "a\x1b[2J\nb" * 40}, "no time as unixReviewTime, but 'a?[2J?ba?[2J?ba?"),
        ({"reviewerID": ["u1"]}, "no reviewerID, but '[\"u1\"]'"),
    ],
)
def test_a_broken_line_is_told_with_what_stood_there(tmp_path, change, said):
    path = put(tmp_path / "dump", as_json([OF_2014] * 5 + [{**OF_2014, **change}] * 3))
    message = refused(read, path)
    assert said.replace("no reviewerID,", "no reviewerID or user_id,") in message
    assert "3 of 8 lines are broken (line 6: " in message and len(message) < 300 and message.isprintable()


def test_how_many_broken_lines_are_too_many_is_a_flag_and_a_file_lists_them(tmp_path):
    good = [json.loads(line) for line in AMAZON.splitlines()]
    path = put(tmp_path / "dump.json", as_json([*good, *[{**OF_2014, "overall": 0}] * 3]))
    message = not_made(tmp_path, "--reviews", path, "--core", 1)
    assert "--broken_lines" in message and "broken_lines.txt" in message
    listed = (tmp_path / "New_data" / "broken_lines.txt").read_text().splitlines()
    assert listed[1:] == [
        f"line {n}: no rating of 1 to 5 as overall or rating or stars or ratings, but '0'" for n in (21, 22, 23)
    ]
    assert "--broken_lines" in not_made(tmp_path, "--reviews", path, "--core", 1, "--broken_lines", 0.1)
    printed = made(tmp_path, "--reviews", path, "--core", 1, "--broken_lines", 0.2)
    assert "3 of 23 lines are broken" in printed and len(everything(tmp_path)) == 20
    assert not (tmp_path / "New_data" / "broken_lines.txt").exists()
    record = json.loads((tmp_path / "New_data" / f"{TRAIN.path}.json").read_text())
    assert "broken_lines" not in record["made_from"]["settings"]


@pytest.mark.parametrize("share", [-0.1, 1.5, 20])
def test_a_share_of_broken_lines_that_is_none_is_refused_with_the_flag(tmp_path, share):
    path = put(tmp_path / "dump.json", AMAZON)
    assert not_made(tmp_path, "--reviews", path, "--broken_lines", share).startswith("--broken_lines: ")


SCALES = {"0.5:5": {0.5: 1.0, 5: 5.0, 2.75: 3.0}, "1:10": {1: 1.0, 10: 5.0, 5.5: 3.0}, "0:100": {0: 1.0, 87.5: 4.5}}


@pytest.mark.parametrize("scale", SCALES)
def test_ratings_of_another_scale_are_mapped_to_one_to_five_and_the_scale_is_a_fact(tmp_path, scale):
    ratings = list(SCALES[scale])
    records = reviews_of(
        lambda k, u, i: {
            **OF_2014,
            "reviewerID": f"u{u}",
            "asin": f"B{i}",
            "overall": ratings[k % len(ratings)],
            "unixReviewTime": 10**9 + k,
        }
    )
    path = put(tmp_path / "dump.json", as_json(records))
    made(tmp_path, "--reviews", path, "--core", 1, "--scale", scale)
    assert [row[3] for row in everything(tmp_path)] == [SCALES[scale][record["overall"]] for record in records]
    low, high = map(float, scale.split(":"))
    assert facts.get("New_data", tmp_path).scale == (low, high)
    card = json.loads((tmp_path / "New_data" / DATA_CARD.path).read_text())
    assert card["settings"]["scale"] == scale
    shown = {rating for stage in card["stages"].values() for rating in stage["by_rating"]}
    assert shown == {f"{rating:g}" for rating in ratings}
    record = json.loads((tmp_path / "New_data" / f"{TRAIN.path}.json").read_text())
    assert record["made_from"]["settings"]["scale"] == scale
    assert "complete:" in made(tmp_path, "--reviews", path, "--core", 1)
    put(path, as_json([*records, {**OF_2014, "overall": high + 1}]))
    message = complaint(run_script(PREPROCESS, "--dataset", "New_data", "--data_root", tmp_path, "--reviews", path))
    assert f"no rating of {low:g} to {high:g} as overall, but '{high + 1:g}" in message and "--scale" in message


def test_half_stars_of_one_to_five_stay_and_no_scale_is_written(tmp_path):
    path = put(tmp_path / "dump.json", AMAZON.replace(b"4.0", b"3.5"))
    made(tmp_path, "--reviews", path, "--core", 1)
    assert {row[3] for row in everything(tmp_path)} == {3.5}
    for name in ("dataset.json", DATA_CARD.path, f"{TRAIN.path}.json"):
        text = (tmp_path / "New_data" / name).read_text()
        assert not any(f'"{one}"' in text for one in ("scale", "encoding", "broken_lines"))


@pytest.mark.parametrize("scale", ["5:1", "1:1", "1", "a:b", "1:inf", "nan:5", ":", "1:2:3", "1-5"])
def test_a_scale_that_is_none_is_refused_with_the_flag(scale):
    with pytest.raises(InputError, match="^--scale: .*0.5:5"):
        fields.scale_of(scale)


def test_a_known_dataset_has_its_scale(tmp_path):
    with pytest.raises(InputError, match="^--scale: Music_data is known"):
        facts.described("Music_data", None, tmp_path, (0.5, 5.0))
    assert facts.described("Music_data", None, tmp_path, (1.0, 5.0)).scale == (1.0, 5.0)


@pytest.mark.parametrize("scale", ["[5, 1]", "[1]", "[1, 2, 3]", '"1:5"', "[1, NaN]", "[1, 1e999]"])
def test_facts_with_a_scale_that_is_none_are_named(tmp_path, scale):
    (tmp_path / "New").mkdir()
    put(tmp_path / "New" / "dataset.json", f'{{"name": "New", "product_class": "x", "scale": {scale}}}'.encode())
    with pytest.raises(InputError, match="dataset.json: not the facts of a dataset"):
        catalog.get("New", tmp_path, {}, Dataset)


FOREIGN = {
    "food": (FOOD, "user_id=UserId,item_id=ProductId,ratings=Score,reviews=Text,unixReviewTime=Time"),
    "words": (
        {"reviewer": "ann", "book": "b1", "grade": 3, "comment": "so good and fine", "published_date": "2014-05-01"},
        "user_id=reviewer,item_id=book,ratings=grade,reviews=comment,unixReviewTime=published_date",
    ),
    "letters": (
        {"a": "u1", "b": "i1", "c": 3, "d": "a longer text of words", "e": 1_400_000_000},
        "user_id=a,item_id=b,ratings=c,reviews=d,unixReviewTime=e",
    ),
    "some known": (
        {"user_id": "u1", "productId": "i1", "rating": 3, "text": "so good and fine", "created_at": "2014-05-01"},
        "item_id=productId,unixReviewTime=created_at",
    ),
    "a name with a space": (
        {"User Name": "u1", "item_id": "i1", "rating": 3, "text": "so good and fine", "date": "2014-05-01"},
        "'user_id=User Name'",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("write", [as_csv, as_json, lambda records: json.dumps(records).encode()])
def test_a_file_with_foreign_columns_is_answered_with_them_and_with_what_to_pass(tmp_path, kind, write):
    record, expected = FOREIGN[kind]
    path = put(tmp_path / "dump", write([record] * 12))
    message = refused(read, path)
    assert f"try --columns {expected}; it has {', '.join(record)}" in message and len(message) < 300
    assert rows_of(path, expected.strip("'"))


def test_a_given_name_that_is_not_there_is_told_and_those_that_are_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a file far down is shortened
    path = put(Path("dump"), as_csv([FOOD] * 3))
    message = refused(read, path, "user_id=UserId,item_id=Nope")
    assert "item_id as Nope" in message and "--columns user_id=UserId,item_id=ProductId,ratings=Score" in message


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=30), st.none() | st.text(max_size=50) | st.integers() | st.lists(st.integers())
        ),
        max_size=4,
    ),
    st.text(max_size=200),
)
def test_whatever_a_file_has_the_answer_is_one_line(records, where):
    for needed in (fields.wanted(fields.NAMES, *fields.KEYS), fields.TITLES):
        assert len(guess.answer(where[:130], records, needed)) < 300


def test_every_complaint_is_short_however_long_the_names_are(tmp_path):
    folder = tmp_path / ("f" * 200)
    folder.mkdir()
    long = "c" * 5_000
    for content in (b"", as_csv([{long: 1, long + "d": 2}] * 3), as_json([{**OF_2014, "overall": long}] * 99)):
        for name in ("reviews.json", "r" * 200):
            with pytest.raises(InputError) as error:
                read(put(folder / name, content))
            assert len(str(error.value)) < 300
    with pytest.raises(InputError) as error:
        read(put(folder / "x", as_csv([FOOD])), f"user_id={long}")
    assert len(str(error.value)) < 300
    with pytest.raises(InputError) as error:
        dumps.find(folder / "absent", {})
    assert len(str(error.value)) < 300


def test_data_of_which_no_test_row_is_warm_is_told_at_once(tmp_path):
    """Every user writes all reviews within days: those of the last days are new."""
    cold = [
        {**OF_2014, "reviewerID": f"u{u}", "asin": f"B{i}", "unixReviewTime": 10**9 + u * DAY + i}
        for u in range(49)
        for i in range(14)
    ]
    printed = made(tmp_path, "--reviews", put(tmp_path / "dump", as_json(cold)))
    assert "warning: none of the 69 test rows is warm" in printed
    assert "--core" in printed and "raw_data/" in printed
    again = made(tmp_path, "--reviews", tmp_path / "dump")
    assert "complete:" in again and "warning: none of the 69 test rows is warm" in again
    warm = [{**record, "unixReviewTime": 10**9 + k * 97 % 686} for k, record in enumerate(cold)]
    assert "warning" not in made(tmp_path, "--reviews", put(tmp_path / "warm", as_json(warm)), name="Warm")


@pytest.mark.skipif(not TRIALS.is_dir(), reason="the small inputs that failed are not at hand")
@pytest.mark.parametrize(
    ("reviews", "more"),
    [
        ("json_array_one_line.dat", ()),
        ("json_array_per_line.dat", ()),
        ("bz2.dat", ()),
        ("csv_backslash_quotes.dat", ()),
        ("csv_latin1.dat", ("--encoding", "latin-1")),
        ("csv_quoted_header_spaces.dat", ()),
        ("time_us.dat", ("--metadata", TRIALS / "movielens_meta.csv")),
        ("time_us.dat", ("--metadata", TRIALS / "title_kinds_meta.jsonl")),
        ("google_local.dat", ("--metadata", TRIALS / "google_local_meta.dat")),
        ("rating_half.dat", ("--scale", "0.5:5")),
        ("long_title_reviews.jsonl", ("--metadata", TRIALS / "long_title_meta.jsonl")),
    ],
)
def test_the_small_inputs_that_failed_are_read(tmp_path, reviews, more):
    made(tmp_path, "--reviews", TRIALS / reviews, "--core", 1, *more)
    rows = everything(tmp_path)
    assert len(rows) in (48, 360) and all(len(row[2]) <= 200 for row in rows)
    if "--metadata" in more and "kinds" not in str(more):
        assert not any(row[2] == row[1] for row in rows)
