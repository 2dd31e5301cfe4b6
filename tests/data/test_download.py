"""The download of raw files: whole or not at all, checked, and clear words where a person must fetch."""

import gzip
import hashlib
import json
import re
import shlex
import tarfile
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from helpers import complaint, files_in, run_script, serving

from reason4rec.data.catalog import DOWNLOADS, PAGES, Download, raw_files
from reason4rec.data.download import check, fetch
from reason4rec.data.schema import TRAIN
from reason4rec.errors import InputError

SCRIPT = "0_Data/1_download.py"
REVIEWS, METADATA = (download.name for download in DOWNLOADS["Music_data"])
YELP = ("yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json")


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and keeps the paths that it was asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


class Liar(BaseHTTPRequestHandler):
    """Announces more bytes than it sends."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(b"\x1f\x8b half of it")

    def log_message(self, *_):
        pass


def listening(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.asked = []
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    return serving(server)


@pytest.fixture
def mirror(tmp_path):
    """A server of the folder `tmp_path/mirror`."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with listening(partial(Quiet, directory=folder)) as server:
        yield server


def put_music(folder, reviews=64_706):
    (folder / REVIEWS).write_bytes(gzip.compress(b'{"asin": "B1"}\n' * reviews, mtime=0))
    (folder / METADATA).write_bytes(gzip.compress(b"{'asin': 'B1', 'title': 'One'}\n", mtime=0))


def download(root, *args):
    return run_script(SCRIPT, "--data_root", root / "data", *args)


def test_music_is_fetched_checked_and_not_fetched_again(tmp_path, mirror):
    put_music(tmp_path / "mirror")
    done = download(tmp_path, "--mirror", mirror.address + "/")
    assert done.returncode == 0, done.stderr
    assert files_in(tmp_path / "data") == {
        f"Music_data/raw/{name}": content for name, content in files_in(tmp_path / "mirror").items()
    }
    for content in files_in(tmp_path / "mirror").values():
        assert hashlib.sha256(content).hexdigest() in done.stdout
    assert re.search(r"^\[1_download\] files fetched 2 of 2 \| [\d,]+ bytes \| [\d.]+ s$", done.stdout, re.MULTILINE)
    assert "B/s" in done.stderr

    again = download(tmp_path, "--mirror", mirror.address)
    assert again.returncode == 0, again.stderr
    assert mirror.asked == [f"/{REVIEWS}", f"/{METADATA}"]
    assert "[1_download] files fetched 0 of 2" in again.stdout


def test_the_next_command_is_printed_and_reads_what_was_fetched(tmp_path, mirror):
    put_music(tmp_path / "mirror")
    done = download(tmp_path, "--mirror", mirror.address)
    raw = tmp_path / "data" / "Music_data" / "raw"
    program, script, *args = shlex.split(done.stdout.splitlines()[-1].removeprefix("next: "))
    assert (program, script) == ("python", "0_Data/2_preprocess.py")
    assert args == ["--dataset", "Music_data", "--data_root", str(tmp_path / "data")]
    # The lines of this mirror are no reviews: that they are read is all that is asked.
    fault = "64,706 of 64,706 lines are broken (line 1: no reviewerID"
    assert complaint(run_script(script, *args)).startswith(f"{raw / REVIEWS}: {fault}")


def test_raw_files_that_are_not_there_are_named_with_the_script_that_fetches_them(tmp_path):
    message = complaint(run_script("0_Data/2_preprocess.py", "--data_root", tmp_path))
    assert str(tmp_path / "Music_data" / "raw" / REVIEWS) in message
    assert SCRIPT in message


def test_raw_files_are_where_the_download_puts_them(tmp_path):
    for name, downloads in DOWNLOADS.items():
        assert raw_files(name, tmp_path) == tuple(tmp_path / name / "raw" / download.name for download in downloads)
    with pytest.raises(InputError, match="^--reviews: no public files of New_data are known"):
        raw_files("New_data", tmp_path)


def test_yelps_archive_counts_as_both_files_until_the_reviews_lie_beside_it(tmp_path):
    folder = tmp_path / "Yelp_data" / "raw"
    folder.mkdir(parents=True)
    archive, reviews, business = (folder / name for name in ("yelp_dataset.tar", *YELP))
    archive.touch()
    assert raw_files("Yelp_data", tmp_path) == (archive, archive)
    reviews.touch()
    assert raw_files("Yelp_data", tmp_path) == (reviews, business)


def test_a_file_with_another_number_of_reviews_is_refused(tmp_path, mirror):
    put_music(tmp_path / "mirror", reviews=64_705)
    message = complaint(download(tmp_path, "--mirror", mirror.address))
    assert "reviews 64705, not 64706" in message
    assert files_in(tmp_path / "data") == {}


def test_a_dead_host_ends_in_one_line_and_leaves_nothing(tmp_path):
    with listening(Liar) as server:
        address = server.address
    message = complaint(download(tmp_path, "--mirror", address))
    assert message.startswith(f"{address}/{REVIEWS}: cannot be fetched")
    assert "--mirror" in message
    assert files_in(tmp_path) == {}


def test_a_transfer_that_breaks_off_leaves_the_earlier_file_as_it_was(tmp_path):
    raw = tmp_path / "data" / "Music_data" / "raw"
    raw.mkdir(parents=True)
    put_music(raw)
    before = files_in(tmp_path)
    with listening(Liar) as server:
        message = complaint(download(tmp_path, "--mirror", server.address, "--overwrite"))
    assert "13 of 5,000 bytes came" in message
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:1/none", "http://[", "file:///no/such/folder"])
def test_an_address_that_cannot_be_fetched_is_one_complaint(tmp_path, address):
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch(Download(name="a.gz", url=address), address, tmp_path / "a.gz")
    assert files_in(tmp_path) == {}


def test_a_file_that_the_server_does_not_have_is_named_with_the_status(tmp_path, mirror):
    url = f"{mirror.address}/{METADATA}"
    with pytest.raises(InputError, match=f"{METADATA}: cannot be fetched .*404"):
        fetch(DOWNLOADS["Music_data"][1], url, tmp_path / METADATA)


def test_a_page_in_place_of_a_file_is_refused(tmp_path, mirror):
    (tmp_path / "mirror" / METADATA).write_bytes(b"<html>moved</html>")
    with pytest.raises(InputError, match="not a gzipped file"):
        fetch(DOWNLOADS["Music_data"][1], f"{mirror.address}/{METADATA}", tmp_path / METADATA)
    assert not (tmp_path / METADATA).exists()


@pytest.mark.parametrize(("known", "what"), [({"bytes": 1}, "bytes"), ({"sha256": "0"}, "sha256")])
def test_a_known_size_or_hash_is_compared(tmp_path, known, what):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"a\n", mtime=0))
    right = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "reviews": 1}
    assert check(Download(name="a.gz", url="", **right), path, "a.gz") == right["sha256"]
    with pytest.raises(InputError, match=f"a.gz: {what} .*, not"):
        check(Download(name="a.gz", url="", **(right | known)), path, "a.gz")


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_kept_file_that_was_cut_short_is_noticed(tmp_path, keep):
    content = gzip.compress(b"".join(b"%d\n" % k for k in range(1000)), mtime=0)
    path = tmp_path / "a.gz"
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match="damaged or cut short"):
        check(Download(name="a.gz", url="", reviews=1000), path, "a.gz")


def test_the_full_dump_is_what_the_paper_needs_of_books():
    assert [download.name for download in DOWNLOADS["Book_data"]] == ["reviews_Books.json.gz", "meta_Books.json.gz"]
    for name, downloads in DOWNLOADS.items():
        assert (name in PAGES) == all(download.url is None for download in downloads)
        assert name in PAGES or all(download.url.endswith(f"/{download.name}") for download in downloads)


def pack_yelp(folder, *names):
    """Packs files into the archive in which Yelp ships them, in place of them."""
    with tarfile.open(folder / "yelp_dataset.tar", "w") as archive:
        for name in names:
            archive.add(folder / name, name)
            (folder / name).unlink()


@pytest.mark.parametrize("packed", [False, True])
def test_yelp_is_left_to_a_person_and_its_own_format_is_read_by_the_next_command(tmp_path, packed):
    raw = tmp_path / "data" / "Yelp_data" / "raw"
    raw.mkdir(parents=True)
    first = download(tmp_path, "--dataset", "Yelp_data")
    assert first.returncode == 0, first.stderr
    assert "https://business.yelp.com/data/resources/open-dataset/" in first.stdout
    assert "yelp_dataset.tar may also be put in their place as it is" in first.stdout
    assert "in place 0 of 2" in first.stdout
    reviews, business = (raw / name for name in YELP)
    reviews.write_text(
        "".join(
            json.dumps(
                {
                    "review_id": f"r{k}",
                    "user_id": f"u{k % 2}",
                    "business_id": f"b{k // 2}",
                    "stars": float(1 + k % 5),
                    "useful": 0,
                    "text": f"text {k}",
                    "date": f"2021-01-{1 + k:02d} 00:00:10",
                }
            )
            + "\n"
            for k in range(20)
        )
    )
    business.write_text(json.dumps({"business_id": "b0", "name": "The Diner", "city": "X"}) + "\n")
    second = download(tmp_path, "--dataset", "Yelp_data")
    assert re.search(rf"in place +{re.escape(str(reviews))}", second.stdout)
    if packed:
        pack_yelp(raw, *YELP)
    _, script, *args = shlex.split(second.stdout.splitlines()[-1].removeprefix("next: "))
    assert args == ["--dataset", "Yelp_data", "--data_root", str(tmp_path / "data")]
    done = run_script(script, *args, "--core", 1)
    assert done.returncode == 0, done.stderr
    train = pd.read_pickle(tmp_path / "data" / "Yelp_data" / TRAIN.path)
    assert train["title"].tolist()[:3] == ["The Diner", "The Diner", "b1"]
    assert train["unixReviewTime"].iloc[0] == 1_609_459_210
    assert train["ratings"].tolist()[:6] == [1, 2, 3, 4, 5, 1]


def test_the_papers_own_files_are_listed_with_their_places_and_the_step_to_go_on_from(tmp_path):
    folder = tmp_path / "data" / "Music_data"
    (folder / "raw_data").mkdir(parents=True)
    (folder / "raw_data" / "train.pkl").write_bytes(b"x")
    done = download(tmp_path, "--what", "preprocessed")
    assert done.returncode == 0, done.stderr
    assert "README of the paper's own repository" in done.stdout
    assert re.findall(r"^  (in place|missing) +(\S+)$", done.stdout, re.MULTILINE) == [
        ("in place", str(folder / "raw_data" / "train.pkl")),
        ("missing", str(folder / "raw_data" / "test.pkl")),
        ("missing", str(folder / "train_summarizer_generation_results.pkl")),
        ("missing", str(folder / "distilling_high_quality_reasons.pkl")),
    ]
    assert "next: bash run_all.sh --dataset Music_data --from 2/5" in done.stdout
    assert files_in(folder) == {"raw_data/train.pkl": b"x"}


@pytest.mark.parametrize("what", ["raw", "preprocessed"])
def test_a_dataset_without_public_files_is_refused(tmp_path, what):
    assert "Demo_data" in complaint(download(tmp_path, "--dataset", "Demo_data", "--what", what))
