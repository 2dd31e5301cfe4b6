"""The API: every question gets its own answer or one line that says why not, and nothing of it is kept."""

import base64
import hashlib
import json
import logging
import math
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from helpers import ROOT, complaint, files_in, run_script, serving

pytest.importorskip("fastapi", reason="needs fastapi (requirements-serve.txt)")
pytest.importorskip("uvicorn", reason="needs uvicorn (requirements-serve.txt)")

import asked
import httpx2
import served
import uvicorn
from fastapi.testclient import TestClient

from reason4rec.errors import InputError, ServerAway
from reason4rec.front import guard, serve
from reason4rec.llm.prompt import TooLong
from reason4rec.systems.reason4rec.asking.questions import NothingLeft, Question

SECRET = "qzjxv-what-a-visitor-wrote"
REVIEW = {"title": "A song", "rating": 4, "text": f"A warm sound. {SECRET}"}
NEW = {"user_reviews": [REVIEW], "title": f"Another song {SECRET}"}
KNOWN = {"user_id": "ada", "item_id": "i1"}
SECONDS = 30


def client_of(experts, **settings):
    """A client in this process; the app begins and ends with the block."""
    return TestClient(asked.app_with(experts, **settings), base_url="http://127.0.0.1:8000")


@pytest.fixture
def quick():
    return asked.Quick()


@pytest.fixture
def client(quick):
    with client_of(quick) as client:
        yield client


@pytest.fixture(scope="module")
def root(base, tmp_path_factory):
    return asked.put_run(tmp_path_factory.mktemp("run"), base)


@pytest.fixture(scope="module")
def experts(root):
    return asked.load(root)


def pairs_of(experts, count):
    """Distinct pairs of known users and items of a run."""
    users = [one["id"] for one in experts.known.found_users("", 100)]
    items = [one["id"] for one in experts.known.found_items("", 100)]
    pairs = [(user, item) for item in items for user in users]
    return pairs[:: max(1, len(pairs) // count)][:count]


def test_an_answer_has_all_that_the_experts_said(client, quick):
    found = client.post("/api/explain", json=KNOWN | {"before": 99}).json()
    answer = quick.answer(Question("ada", "i1"))
    for name in ("user_id", "item_id", "title", "rating", "median", "reason", "user_average", "item_count", "model"):
        assert found[name] == getattr(answer, name)
    assert found["probabilities"] == list(asked.PROBABILITIES)
    assert found["notes"] == ["a note"]
    (entry,) = found["user_history"]
    assert (entry["title"], entry["rating"], entry["text"]) == ("An earlier item", 4.0, asked.SUMMARY)
    assert [asked.SUMMARY[start:end] for start, end in entry["spoken_of"]] == ["warm sound"]
    assert quick.calls == [[Question("ada", "i1", before=99)]]


def test_a_number_that_cannot_be_used_is_null(client, quick):
    nothing = replace(quick.answer(Question("ada", "i1")), rating=math.nan, median=math.nan, probabilities=(math.nan,))
    quick.answer = lambda question: nothing
    found = client.post("/api/explain", json=KNOWN).json()
    assert (found["rating"], found["median"], found["probabilities"]) == (None, None, [None])


def test_new_users_and_items_are_asked_about_with_their_reviews(client, quick):
    body = NEW | {"item_reviews": [{"rating": 2, "text": "Too long."}]}
    body["user_reviews"] = [REVIEW | {"time": 5}, REVIEW | {"time": 3, "item_id": "i2"}]
    assert client.post("/api/explain", json=body).status_code == 200
    (question,) = quick.calls[0]
    assert [one.time for one in question.user_reviews] == [3, 5]
    assert question.title == NEW["title"]
    assert [one.text for one in question.item_reviews] == ["Too long."]


def test_items_are_ranked_and_recommended(client, quick):
    found = client.post("/api/rank", json={"user_id": "ada", "item_ids": ["i2", "i1"]}).json()
    assert {answer["item_id"] for answer in found["answers"]} == {"i1", "i2"}
    found = client.post("/api/recommend", json={"user_reviews": [REVIEW], "k": 2}).json()
    assert [answer["title"] for answer in found["answers"]] == ["One", "Two"]
    assert found["answers"][0]["notes"] == ["a note", "one of the shortlist"]
    assert quick.calls[-1][0].user_reviews[0].text == REVIEW["text"]


def test_users_and_items_are_found(client):
    assert client.get("/api/users", params={"q": "AD"}).json() == {"users": [{"id": "ada", "reviews": 3}]}
    found = client.get("/api/items", params={"q": "thr"}).json()
    assert found == {"items": [{"id": "i3", "title": "Three", "reviews": 4}]}
    assert len(client.get("/api/items").json()["items"]) == 3


REFUSED = {
    "no user": ({"item_id": "i1"}, 422, "user: give either"),
    "both kinds of user": (KNOWN | {"user_reviews": [REVIEW]}, 422, "user: give either"),
    "no item": ({"user_id": "ada"}, 422, "item: give either"),
    "reviews of a known item": (KNOWN | {"item_reviews": [{"rating": 1, "text": "x"}]}, 422, "item_reviews"),
    "an unknown user": (KNOWN | {"user_id": "adda"}, 404, "nearest ids are ada"),
    "an unknown item": (KNOWN | {"item_id": "i9"}, 404, "no item 'i9'"),
    "an unknown field": (KNOWN | {"colour": "red"}, 422, "colour: extra inputs"),
    "a rating of 6": (NEW | {"user_reviews": [REVIEW | {"rating": 6}]}, 422, "user_reviews: review 1: rating"),
    "a review without text": (NEW | {"user_reviews": [REVIEW, REVIEW | {"text": " "}]}, 422, "review 2: its text is"),
    "a title of spaces": (NEW | {"title": "  "}, 422, "title is empty"),
    "a title that is never cut": (NEW | {"title": "w" * 501}, 422, "title: string should have at most 500"),
    "a number for an id": (KNOWN | {"user_id": 5}, 422, "user_id: input should be a valid string"),
    "half a character": (NEW | {"title": "\ud800"}, 422, "title"),
    "a number for a text": (
        NEW | {"user_reviews": [REVIEW, REVIEW | {"text": 5}]},
        422,
        "user_reviews: review 2: text",
    ),
    "a list": ([], 422, "input should be a valid dictionary"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_question_that_cannot_be_asked_is_refused_in_one_line_before_it_waits(name, client, quick):
    body, status, words = REFUSED[name]
    reply = client.post("/api/explain", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert (reply.status_code, set(reply.json())) == (status, {"error"})
    assert words in reply.json()["error"]
    assert "\n" not in reply.json()["error"]
    assert quick.calls == []


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe{}", b"[" * 100_000, b"", b"9" * 5_000])
def test_what_is_no_json_is_refused_in_one_line(body, client):
    reply = client.post("/api/explain", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422)
    assert set(reply.json()) == {"error"}


def test_a_ranking_has_its_limits(client):
    assert client.post("/api/rank", json={"user_id": "ada", "item_ids": []}).status_code == 422
    assert client.post("/api/rank", json={"user_id": "ada", "item_ids": ["i1"] * 51}).status_code == 422
    assert client.post("/api/rank", json={"user_id": "ada", "item_ids": ["i1", "i7"]}).status_code == 404
    assert client.post("/api/recommend", json={"user_id": "ada", "k": 0}).status_code == 422
    assert client.get("/api/users", params={"q": "w" * 201}).status_code == 422


def test_an_id_of_a_wrong_kind_was_called_a_review(client):
    reply = client.post("/api/rank", json={"user_id": "ada", "item_ids": ["i1", 5]})
    assert (reply.status_code, reply.json()["error"].split(": ")[:2]) == (422, ["item_ids", "number 2"])


def test_an_address_that_is_not_there_and_a_method_that_is_not_meant_are_told_so(client):
    assert client.get("/nowhere").json() == {"error": "no such address; /openapi.json lists them"}
    reply = client.get("/api/explain")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    assert client.options("/api/explain", headers={"Origin": "http://else.where"}).status_code == 405


def test_the_document_names_every_address_and_loads_nothing(client):
    document = client.get("/openapi.json").json()
    posts = {path for path, kinds in document["paths"].items() if "post" in kinds}
    assert posts == {"/api/explain", "/api/rank", "/api/recommend"}
    assert set(document["paths"]) == posts | {"/", "/health", "/api/users", "/api/items"}
    refused = document["paths"]["/api/explain"]["post"]["responses"]["422"]
    assert refused["content"]["application/json"]["schema"]["$ref"].endswith("/Trouble")


def test_the_server_says_how_it_is(quick):
    with client_of(quick, queue=7) as client:
        told = {
            "status": "ok",
            "dataset": "Toy_data",
            "model": quick.model,
            "waiting": 0,
            "queue": 7,
            "asking_since": None,
        }
        assert client.get("/health").json() == told
        client.app.state.line.close()
        reply = client.get("/health")
        assert (reply.status_code, reply.json()["status"]) == (503, "closed")
        assert client.post("/api/explain", json=KNOWN).status_code == 503


# ---- who may ask, and how much


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "localhost."])
def test_the_names_of_this_machine_are_let_in(host, client):
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost@evil.example"])
def test_a_page_elsewhere_whose_name_leads_here_is_turned_away(host, client):
    for reply in (
        client.get("/", headers={"Host": host}),
        client.post("/api/explain", json=KNOWN, headers={"Host": host}),
    ):
        assert (reply.status_code, set(reply.json())) == (421, {"error"})


def test_a_server_at_every_address_is_called_by_addresses_and_not_by_names_of_others(quick):
    with client_of(quick, any_address=True) as client:
        for host, status in (("192.0.2.7:80", 200), ("[2001:db8::1]", 200), ("evil.example", 421)):
            assert client.get("/health", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_of_a_page_elsewhere_cannot_ask(kind, client, quick):
    reply = client.post("/api/explain", content=json.dumps(KNOWN), headers={"Content-Type": kind})
    assert reply.status_code == 415
    assert quick.calls == []


def test_every_answer_keeps_to_itself(client):
    replies = [client.get(path) for path in ("/", "/health", "/nowhere", "/api/users", "/openapi.json")]
    replies += [client.post("/api/explain", json=body) for body in (KNOWN, {})]
    replies.append(client.get("/", headers={"Host": "evil.example", "Origin": "http://evil.example"}))
    for reply in replies:
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert not [name for name in reply.headers if name.startswith(("access-control", "set-cookie", "server"))]


def test_the_policy_of_the_page_lets_its_own_style_and_script_run_and_nothing_else(client):
    reply = client.get("/")
    policy = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))
    for tag in ("style", "script"):
        own = re.search(f"<{tag}>(.*?)</{tag}>", reply.text, re.DOTALL)[1]
        assert policy[f"{tag}-src"] == f"'sha256-{base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()}'"
    assert policy["connect-src"] == "'self'"
    assert not re.search(
        r"https?:|\bsrc=|<link|url\(|@import|[iI]nnerHTML|outerHTML|insertAdjacent|\son\w+=", reply.text
    )
    assert not re.search(r"\beval\b|document\.write|\sstyle=", reply.text)


def test_a_large_body_is_refused_while_it_is_read(quick):
    most = guard.LARGEST_BODY
    sent = []

    def parts():
        for _ in range(200):
            sent.append(1)
            yield b"w" * 2**16

    with asked.running(asked.app_with(quick)) as address, httpx2.Client(base_url=address) as client:
        kind = {"Content-Type": "application/json"}
        reply = client.post("/api/explain", content=b'"' + b"w" * most + b'"', headers=kind)
        assert (reply.status_code, set(reply.json())) == (413, {"error"})
        try:
            reply = client.post("/api/explain", content=parts(), headers=kind)  # without a length
        except httpx2.TransportError:  # the server need not read to the end
            assert len(sent) < 200
        else:
            assert reply.status_code == 413
        body = KNOWN | {"before": 1}
        assert client.post("/api/explain", json=body).status_code == 200


def test_a_body_that_does_not_arrive_is_given_up(quick, monkeypatch):
    monkeypatch.setattr(guard, "SECONDS_FOR_BODY", 0.2)
    with asked.running(asked.app_with(quick)) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as slow:
            head = f"POST /api/explain HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            slow.sendall(f"{head}Content-Length: 99\r\n\r\n{{".encode())
            assert slow.recv(99).startswith(b"HTTP/1.1 408 ")


# ---- the line


def wait_until(is_so):
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_questions_of_many_are_asked_together_and_each_gets_its_own_answer(quick):
    quick.open.clear()
    app = asked.app_with(quick)
    with asked.running(app) as address, ThreadPoolExecutor(60) as pool, httpx2.Client(base_url=address) as client:
        bodies = [NEW | {"title": f"Song {n}", "user_reviews": [REVIEW | {"text": f"Visitor {n}"}]} for n in range(50)]
        replies = [pool.submit(client.post, "/api/explain", json=body, timeout=SECONDS) for body in bodies]
        wait_until(lambda: app.state.line.waiting + sum(map(len, quick.calls)) == 50)
        quick.open.set()
        said = [reply.result(SECONDS).json()["reason"] for reply in replies]
    assert said == [f"Visitor {n} asked about Song {n}: warm sound" for n in range(50)]
    assert len(quick.calls) < 10


def test_a_question_at_fault_fails_alone(quick):
    quick.open.clear()
    quick.trouble = {"Bad": RuntimeError(SECRET), "Away": InputError(f"the server cannot be reached {SECRET}")}
    app = asked.app_with(quick)
    with asked.running(app) as address, ThreadPoolExecutor(5) as pool, httpx2.Client(base_url=address) as client:
        bodies = [NEW | {"title": title} for title in ("Good", "Bad", "Away", "Fine")]
        replies = [pool.submit(client.post, "/api/explain", json=body, timeout=SECONDS) for body in bodies]
        wait_until(lambda: app.state.line.waiting + sum(map(len, quick.calls)) == 4)
        quick.open.set()
        done = [reply.result(SECONDS) for reply in replies]
    assert [reply.status_code for reply in done] == [200, 500, 503, 200]
    assert SECRET not in done[1].text
    assert done[2].json() == {"error": "the experts cannot answer now; whoever runs this server sees why"}


def test_a_visitor_was_told_of_the_inside_of_the_machine(quick, caplog):
    cause = "the server at http://10.0.0.7:8000/v1 refuses the key (401): set REASON4REC_API_KEY"
    quick.trouble = {None: ServerAway(cause)}
    with caplog.at_level(logging.INFO), client_of(quick) as client:
        reply = client.post("/api/explain", json=KNOWN)
    assert (reply.status_code, set(reply.json())) == (503, {"error"})
    assert not [word for word in ("10.0.0.7", "API_KEY") if word in reply.text]
    assert f"not answered: {cause}" in caplog.messages


def test_a_question_that_does_not_fit_was_called_a_fault_of_the_server(quick):
    quick.trouble = {"Long": TooLong("a prompt is too long even without its histories: --max_length")}
    with client_of(quick) as client:
        reply = client.post("/api/explain", json=NEW | {"title": "Long"})
    assert reply.status_code == 422
    assert "too long" in reply.json()["error"]
    assert "--" not in reply.json()["error"]


def test_a_user_who_has_reviewed_everything_is_told_so(client, quick):
    def nothing(*_):
        raise NothingLeft("nothing is left to recommend")

    quick.to_recommend = nothing
    with client_of(quick) as client:
        reply = client.post("/api/recommend", json={"user_id": "ada"})
    assert (reply.status_code, reply.json()) == (422, {"error": "nothing is left to recommend"})


def test_whoever_comes_to_a_full_line_is_told_when_to_come_again(quick):
    quick.open.clear()
    app = asked.app_with(quick, queue=2)
    with asked.running(app) as address, ThreadPoolExecutor(5) as pool, httpx2.Client(base_url=address) as client:
        first = pool.submit(client.post, "/api/explain", json=KNOWN, timeout=SECONDS)
        assert quick.begun.wait(SECONDS)
        others = [pool.submit(client.post, "/api/explain", json=KNOWN, timeout=SECONDS) for _ in range(2)]
        wait_until(lambda: app.state.line.waiting == 2)
        refused = client.post("/api/explain", json=KNOWN)
        assert (refused.status_code, set(refused.json())) == (429, {"error"})
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        assert client.get("/health").json()["waiting"] == 2
        quick.open.set()
        assert [reply.result(SECONDS).status_code for reply in (first, *others)] == [200] * 3


def test_a_question_that_waited_too_long_is_not_computed(quick):
    quick.open.clear()
    app = asked.app_with(quick, timeout=0.3)
    with asked.running(app) as address, ThreadPoolExecutor(5) as pool, httpx2.Client(base_url=address) as client:
        first = pool.submit(client.post, "/api/explain", json=KNOWN, timeout=SECONDS)
        assert quick.begun.wait(SECONDS)
        second = client.post("/api/explain", json=NEW, timeout=SECONDS)
        assert (second.status_code, second.json()) == (504, {"error": "no answer within 0.3 s; ask again later"})
        assert first.result(SECONDS).status_code == 504
        assert app.state.line.waiting == 0
        quick.open.set()
        assert client.post("/api/explain", json=KNOWN).status_code == 200
    assert len(quick.calls) == 2


def test_a_question_whose_asker_has_gone_is_not_computed(quick):
    quick.open.clear()
    app = asked.app_with(quick)
    with asked.running(app) as address, ThreadPoolExecutor(5) as pool, httpx2.Client(base_url=address) as client:
        first = pool.submit(client.post, "/api/explain", json=KNOWN, timeout=SECONDS)
        assert quick.begun.wait(SECONDS)
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(f"{address}/api/explain", json=NEW, timeout=0.3)
        wait_until(lambda: app.state.line.waiting == 0)
        quick.open.set()
        assert first.result(SECONDS).status_code == 200
    assert len(quick.calls) == 1


def test_a_server_that_is_ended_says_so_to_whoever_waits(quick):
    quick.open.clear()
    app = asked.app_with(quick)
    with asked.running(app) as address, ThreadPoolExecutor(5) as pool, httpx2.Client(base_url=address) as client:
        first = pool.submit(client.post, "/api/explain", json=KNOWN, timeout=SECONDS)
        assert quick.begun.wait(SECONDS)
        second = pool.submit(client.post, "/api/explain", json=NEW, timeout=SECONDS)
        wait_until(lambda: app.state.line.waiting)
        threading.Timer(0.2, quick.open.set).start()
        app.state.line.close()
        assert first.result(SECONDS).status_code == 200
        reply = second.result(SECONDS)
        assert (reply.status_code, reply.json()) == (503, {"error": "the server is shutting down"})


SERVES = """
import signal, sys, threading
sys.path[:0] = sys.argv[1:]
import asked
from reason4rec.front import line, serve

line.SECONDS_FOR_CALL = 0.5
experts = asked.Quick()
experts.open.clear()
with serve.listening("127.0.0.1", 0) as listener, serve.suppress(KeyboardInterrupt):
    print(listener.getsockname()[1], flush=True)
    serve._run(experts, asked.SETTINGS, listener)
print("ended", flush=True)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_whoever_waited_when_the_server_was_interrupted_got_a_bare_500(end):
    places = [ROOT, ROOT / "tests", ROOT / "tests" / "llm", ROOT / "tests" / "front"]
    command = [sys.executable, "-c", SERVES, *map(str, places)]
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        ThreadPoolExecutor(2) as pool,
    ):
        try:
            address = f"http://127.0.0.1:{int(process.stdout.readline())}"
            wait_until(lambda: is_there(address))
            asks = [pool.submit(httpx2.post, f"{address}/api/explain", json=KNOWN, timeout=SECONDS)]
            wait_until(lambda: httpx2.get(f"{address}/health").json()["asking_since"])
            asks.append(pool.submit(httpx2.post, f"{address}/api/explain", json=NEW, timeout=SECONDS))
            wait_until(lambda: httpx2.get(f"{address}/health").json()["waiting"])
            process.send_signal(end)
            replies = [ask.result(SECONDS) for ask in asks]
            told, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    for reply in replies:
        assert (reply.status_code, reply.json()) == (503, {"error": "the server is shutting down"})
    assert "Traceback" not in errors
    assert ("ended" in told) == (end == signal.SIGINT)


def is_there(address):
    try:
        return httpx2.get(f"{address}/health").status_code == 200
    except httpx2.TransportError:
        return False


def test_a_body_that_was_still_coming_in_at_the_end_got_a_bare_500(quick):
    with asked.running(asked.app_with(quick), timeout_graceful_shutdown=1) as address:
        host, port = address.removeprefix("http://").split(":")
        slow = socket.create_connection((host, int(port)), timeout=SECONDS)
        head = f"POST /api/explain HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        slow.sendall(f"{head}Content-Length: 99\r\n\r\n{{".encode())
        time.sleep(0.2)
    assert slow.recv(99).startswith(b"HTTP/1.1 503 ")
    slow.close()


# ---- what is kept: nothing


def test_no_word_of_a_visitor_is_logged(quick, caplog, capfd):
    quick.trouble = {"Bad": ValueError(SECRET)}
    with caplog.at_level(logging.DEBUG), asked.running(asked.app_with(quick)) as address:
        client = httpx2.Client(base_url=address)
        client.post("/api/explain", json=NEW)
        client.post("/api/explain", json=NEW | {"title": "Bad", "user_reviews": [REVIEW]})
        client.post("/api/explain", json={"user_id": SECRET, "item_id": SECRET})
        client.post("/api/explain", content=f'{{"{SECRET}', headers={"Content-Type": "application/json"})
        client.get("/api/items", params={"q": SECRET})
        client.get(f"/{SECRET}", headers={"X": SECRET})
    own = [
        record.getMessage() for record in caplog.records if record.name.startswith(("reason4rec", "uvicorn", "asyncio"))
    ]
    assert [line for line in own if "POST /api/explain: 200" in line]
    assert [line for line in own if line.startswith("failed: ValueError at ")]
    assert not [line for line in own if SECRET in line]
    assert SECRET not in "".join(capfd.readouterr())


def test_an_error_that_came_after_its_asker_had_gone_was_logged_with_its_words(quick, caplog):
    quick.open.clear()
    quick.trouble = {"Late": ValueError(SECRET)}
    app = asked.app_with(quick, timeout=0.2)
    with caplog.at_level(logging.DEBUG, logger="asyncio"), asked.running(app) as address:
        assert httpx2.post(f"{address}/api/explain", json=NEW | {"title": "Late"}).status_code == 504
        quick.open.set()
        assert httpx2.post(f"{address}/api/explain", json=KNOWN).status_code == 200
    assert not [record for record in caplog.records if SECRET in record.getMessage() + str(record.exc_info)]


def test_the_texts_of_a_visitor_are_not_on_the_disk(root, experts):
    with client_of(experts) as client:
        client.post("/api/explain", json=a_pair_of(experts))
        before = files_in(root)
        reply = client.post("/api/explain", json=NEW | {"item_reviews": [{"rating": 2, "text": SECRET}]})
        assert reply.status_code == 200, reply.text
        assert client.post("/api/recommend", json={"user_reviews": [REVIEW], "k": 1}).status_code == 200
    after = files_in(root)
    assert after == before
    assert not [name for name, content in after.items() if SECRET.encode() in content]


def test_every_question_of_a_visitor_about_known_ones_grew_the_disk(root):
    experts = asked.load(root)
    experts.experts.serve_visitors(patience=1)
    pair = a_pair_of(experts)
    with client_of(experts) as client:
        assert client.post("/api/explain", json=pair).status_code == 200
        before = files_in(root)
        for time_ in range(10**9, 10**9 + 3):
            assert client.post("/api/explain", json=pair | {"before": time_}).status_code == 200
    assert files_in(root) == before


def a_pair_of(experts):
    user, item = pairs_of(experts, 1)[0]
    return {"user_id": user, "item_id": item}


# ---- with the experts of a run


def test_answers_do_not_depend_on_who_else_asks(root, experts, store):
    pairs = pairs_of(experts, 12)
    alone = asked.load(root)
    alone.step.cache = store  # empty, so that nothing is answered from what the others were told
    with asked.running(asked.app_with(experts)) as address, ThreadPoolExecutor(12) as pool:
        bodies = [{"user_id": user, "item_id": item} for user, item in pairs]
        bodies.append({"user_id": pairs[0][0], "title": "A new one", "item_reviews": [{"rating": 5, "text": "Warm."}]})
        replies = list(pool.map(lambda body: httpx2.post(f"{address}/api/explain", json=body, timeout=SECONDS), bodies))
    for body, reply in zip(bodies, replies):
        expected, found = alone.explain(**body), reply.json()
        assert (found["user_id"], found["item_id"]) == (expected.user_id, expected.item_id)
        assert found["rating"] == pytest.approx(expected.rating, abs=1e-5)
        assert found["reason"] == expected.reason
        assert [entry["text"] for entry in found["item_history"]] == [entry.text for entry in expected.item_history]


def test_the_experts_rank_and_recommend_over_http(experts):
    user = a_pair_of(experts)["user_id"]
    items = [one["id"] for one in experts.known.found_items("", 3)]
    with client_of(experts) as client:
        ranked = client.post("/api/rank", json={"user_id": user, "item_ids": items}).json()["answers"]
        assert {answer["item_id"] for answer in ranked} == set(items)
        assert [answer["rating"] for answer in ranked] == sorted((one["rating"] for one in ranked), reverse=True)
        recommended = client.post("/api/recommend", json={"user_reviews": [REVIEW], "k": 3}).json()["answers"]
    for found, expected in (
        (ranked, experts.rank(user, items)),
        (recommended, experts.recommend(k=3, user_reviews=[REVIEW])),
    ):
        assert [(one["item_id"], one["notes"]) for one in found] == [(one.item_id, list(one.notes)) for one in expected]


def test_a_model_server_that_is_away_held_the_line_for_ten_minutes_and_then_for_each_question(root, monkeypatch):
    monkeypatch.setenv("REASON4REC_API_KEY", served.KEY)
    names = ("Demo_data-Reasoner", "Demo_data-Predictor")
    with serving(served.Server(None, names, mood=lambda path, body, number: "hang up")) as away:
        experts = asked.load(root, base_url=away.address)
        experts.experts.serve_visitors(patience=0)
        app = asked.app_with(experts)
        bodies = [{"user_id": user, "item_id": item} for user, item in pairs_of(experts, 4)]
        with asked.running(app) as address, ThreadPoolExecutor(4) as pool:
            with experts._lock:  # so that they are asked together
                asks = [pool.submit(httpx2.post, f"{address}/api/explain", json=one, timeout=SECONDS) for one in bodies]
                wait_until(lambda: len(app.state.line._under_way) + app.state.line.waiting == len(bodies))
            assert {ask.result(SECONDS).status_code for ask in asks} == {503}
        assert len(away.asked) <= len(bodies)


# ---- the command


def test_a_port_that_is_taken_and_a_place_that_is_none_are_told_in_one_line():
    with serve.listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: cannot listen at 127.0.0.1 .*in use"):
            serve.listening("127.0.0.1", port)
    for host, port, words in (("no such host", 0, "--host no such host"), ("127.0.0.1", 70_000, "--port 70000")):
        with pytest.raises(InputError, match=words):
            serve.listening(host, port)


def test_without_its_packages_the_command_says_how_to_install_them(monkeypatch):
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"fastapi and uvicorn: pip install 'reason4rec\[serve\]'.*requirements-serve"):
        serve.serve(["--dataset", "Demo_data"])


@pytest.mark.parametrize(
    "host, everywhere", [("127.0.0.2", False), ("LocalHost", False), ("0.0.0.0", True), ("0", True)]
)
def test_the_hosts_that_may_be_asked_for_follow_from_where_the_command_listens(host, everywhere, capsys):
    with serve.listening(host, 0) as listener:
        settings = serve.settings_of({"dataset": "Toy_data", "queue": 3, "timeout": 4, "host": host}, listener)
        serve._tell(host, listener)
    assert (settings.queue, settings.timeout, settings.any_address) == (3, 4, everywhere)
    assert set(settings.hosts) >= {"localhost", "127.0.0.1", "::1", host.lower()}
    assert ("everybody" in capsys.readouterr().out) == everywhere


def test_connections_were_without_bound(quick, monkeypatch):
    seen = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: seen.append(server.config.limit_concurrency))
    serve._run(quick, asked.SETTINGS, None)
    assert asked.SETTINGS.queue < seen[0] < 2 * asked.SETTINGS.queue


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(root):
    places = ("--data_root", root / "data", "--checkpoint_root", root / "checkpoints", "--device", "cpu")
    words = ["serve", "--dataset", "Demo_data", *map(str, places), "--max_new_tokens", "8"]
    command = [sys.executable, "-m", "reason4rec", *words, "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = int(re.search(r"http://0\.0\.0\.0:(\d+)/", process.stdout.readline())[1])
            assert "everybody who reaches" in process.stdout.readline()
            address = f"http://127.0.0.1:{port}"
            assert httpx2.get(f"{address}/health", timeout=SECONDS).json()["model"] == "Reason4Rec (demo model)"
            user = httpx2.get(f"{address}/api/users").json()["users"][0]["id"]
            item = httpx2.get(f"{address}/api/items", params={"q": SECRET[:0]}).json()["items"][0]["id"]
            body = {"user_id": user, "item_id": item}
            assert httpx2.post(f"{address}/api/explain", json=body, timeout=SECONDS).status_code == 200
            message = complaint(run_script("-m", "reason4rec", *words, "--port", port))
            assert message.startswith(f"--port {port}: cannot listen")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "POST /api/explain: 200" in errors
    assert "Traceback" not in errors
