"""A teacher that is busy, slow, cut off, wrong or hostile: nothing is lost, nothing asked twice, no key shown."""

import hashlib
import json
import logging
import random
import socket
import socketserver
import struct
import threading
import time
import traceback
from collections import Counter
from email.utils import formatdate

import pytest
from helpers import files_in, serving

from reason4rec.errors import InputError
from reason4rec.llm.cache import ResponseCache
from reason4rec.llm.client import EMPTY_REPLIES, REPLY_LIMIT
from reason4rec.llm.teacher import REFUSED_AT_FIRST, Teacher

KEY = "sk-zqxjv-KWVZQ-jxqzk-VVKQX"
HTML = b"<html><body>Bad gateway</body></html>"


def rule(prompt):
    return f"Reply {hashlib.sha256(prompt.encode()).hexdigest()[:16]}."


def chat(text, finish="stop", model="m", usage=None, **message):
    message = {"role": "assistant", "content": text, **message}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return {"id": "r", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage}


def error(code=None, message=f"no, {KEY}", **more):
    return {"error": {"message": message, "code": code, "type": "invalid_request_error", **more}}


class Answer:
    """An answer as bytes on the wire: status, content, headers; `sent` of its bytes, then the connection is cut."""

    def __init__(self, status=200, content=b"", headers=(), sent=None, kind="application/json"):
        self.status, self.sent = status, sent
        self.content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.headers = {"Content-Type": kind, "Content-Length": len(self.content), **dict(headers)}

    @property
    def wire(self):
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items() if value is not None)
        return f"HTTP/1.1 {self.status} X\r\n{lines}\r\n".encode() + self.content


class Handler(socketserver.StreamRequestHandler):
    """Reads requests off a connection and answers as the server's `behave(prompt, attempt)` wants."""

    disable_nagle_algorithm = True

    def handle(self):
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()).strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                elif name.lower() == b"authorization":
                    key = value.strip().decode()
            prompt = json.loads(self.rfile.read(length))["messages"][0]["content"]
            with self.server.lock:
                self.server.asked[prompt] += 1
                attempt = self.server.asked[prompt]
            if self.server.key and key != f"Bearer {self.server.key}":
                self.wfile.write(Answer(401, error("invalid_api_key")).wire)
                continue
            answer = self.server.behave(prompt, attempt)
            if answer is None:
                answer = Answer(content=chat(rule(prompt)))
                with self.server.lock:
                    self.server.answered[prompt] += 1
            if answer == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            if answer == "silence":
                self.rfile.read(1)  # until the client gives up
                return
            if answer in ("flood", "trickle"):
                getattr(self, answer)()
                return
            self.wfile.write(answer.wire[: answer.sent])
            if answer.sent is not None:
                return

    def flood(self):
        """64 MiB of one reply, as far as the client lets it."""
        head = b'{"choices": [{"message": {"content": "'
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2**26 + len(head)) + head)
        for _ in range(1024):
            self.wfile.write(b"x" * 2**16)
            self.server.flooded += 2**16

    def trickle(self):
        """A byte now and then, none of them too late, for ten seconds."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n")
        for _ in range(200):
            self.wfile.write(b" ")
            time.sleep(0.05)


class Hostile(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave, self.key, self.lock = lambda prompt, attempt: None, None, threading.Lock()
        self.asked, self.answered, self.flooded = Counter(), Counter(), 0

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_):
        pass  # a client that went away is what many of these tests are about


@pytest.fixture
def server(monkeypatch):
    with serving(Hostile()) as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        yield server


def teacher(store, **options):
    return Teacher(store, "m", **{"at_once": 4, "backoff": 0.002, "timeout": 30.0, **options})


def prompts(n):
    return [f"Prompt {k}, please." for k in range(n)]


def values_in(store):
    return [json.loads(value) for (value,) in store.connection.execute("select value from replies")]


def assert_no_key(text):
    for part in KEY.split("-")[1:]:
        assert part not in text


PASSING = {
    "429": Answer(429, error("rate_limit_exceeded")),
    "429 and when": Answer(429, error("rate_limit_exceeded"), {"Retry-After": "0.01"}),
    "429 and when in ms": Answer(429, error("rate_limit_exceeded"), {"Retry-After-Ms": "10"}),
    "429 until a date that has passed": Answer(429, error(), {"Retry-After": formatdate(0, usegmt=True)}),
    "429 and nonsense": Answer(429, error(), {"Retry-After": "soon"}),
    "408": Answer(408, error()),
    "409": Answer(409, error()),
    "500": Answer(500, error("server_error")),
    "502 with a page": Answer(502, HTML, kind="text/html"),
    "503 with nothing": Answer(503),
    "cut before the answer": Answer(sent=0),
    "reset": "reset",
    "a redirect that is no address": Answer(302, headers={"Location": "http://[::1"}),
    "a redirect to another protocol": Answer(302, headers={"Location": "ftp://host/v1"}),
    "cut in the headers": Answer(content=chat("Half."), sent=30),
    "cut in the body": Answer(content=chat("Half."), sent=150),
    "half a JSON": Answer(content=json.dumps(chat("Half."))[:60].encode()),
    "a page": Answer(content=HTML, kind="text/html"),
    "not HTTP": type("Raw", (), {"wire": b"SSH-2.0-x\r\n\r\n", "sent": 99})(),
    "not gzip": Answer(content=chat("Zip."), headers={"Content-Encoding": "gzip"}),
    "not UTF-8": Answer(content=b'{"choices": "\xff"}'),
    "too deep": Answer(content=b"[" * 100_000),
    "an error as 200": Answer(content=error("server_error")),
    "a list": Answer(content=[]),
    "a choice that is none": Answer(content={"choices": ["text"]}),
    "a text that is none": Answer(content=chat({"value": "Part."})),
    "no text": Answer(content=chat("")),
    "blanks": Answer(content=chat(" \n\t")),
    "null": Answer(content=chat(None)),
    "no choice": Answer(content={**chat("x"), "choices": []}),
    "broken off": Answer(content=chat("Positive Asp", "abort")),
}
WITHOUT_TEXT = ("no text", "blanks", "null", "no choice", "broken off")


@pytest.mark.parametrize("trouble", PASSING)
def test_trouble_that_passes_is_asked_again_and_the_answer_kept_once(server, store, trouble):
    server.behave = lambda prompt, attempt: PASSING[trouble] if attempt <= 2 else None
    asked = prompts(3)
    patient = teacher(store)
    assert patient.ask(asked, 0.2) == list(map(rule, asked))
    assert set(server.asked.values()) == {3}
    assert set(server.answered.values()) == {1}
    assert len(values_in(store)) == 3
    assert (patient.requests, patient.retried) == ((9, 0) if trouble in WITHOUT_TEXT else (3, 6))


@pytest.mark.parametrize("trouble", [name for name in PASSING if name not in WITHOUT_TEXT])
def test_trouble_that_stays_is_one_stop_after_the_retries(server, store, trouble):
    server.behave = lambda prompt, attempt: PASSING[trouble]
    with pytest.raises(InputError) as caught:
        teacher(store, at_once=1, max_retries=2).ask(prompts(5), 0.2)
    assert sum(server.asked.values()) == 3
    assert server.address in str(caught.value)
    assert "replies so far are kept" in str(caught.value)
    assert_no_key("".join(traceback.format_exception(caught.value)))


def test_a_time_out_is_asked_again(server, store):
    server.behave = lambda prompt, attempt: "silence" if attempt == 1 else None
    asked = prompts(2)
    patient = teacher(store, timeout=1.0)
    assert patient.ask(asked, 0.2) == list(map(rule, asked))
    assert patient.retried >= 2


def test_an_answer_that_trickles_in_is_a_time_out(server, store):
    server.behave = lambda prompt, attempt: "trickle"
    with pytest.raises(InputError, match="ReadTimeout"):
        teacher(store, timeout=1.0, max_retries=0).ask(prompts(1), 0.2)


def test_replies_that_come_in_another_order_than_asked_stand_in_the_order_of_the_prompts(server, store):
    asked = prompts(16)
    slow = random.Random(1)
    delays = {prompt: slow.random() / 10 for prompt in asked}
    server.behave = lambda prompt, attempt: time.sleep(delays[prompt])
    assert teacher(store, at_once=8).ask(asked, 0.2) == list(map(rule, asked))


def test_a_wait_that_the_server_asks_for_is_kept(server, store):
    seen = []

    def busy(prompt, attempt):
        seen.append(time.monotonic())
        return Answer(429, error(), {"Retry-After": "0.4"}) if attempt == 1 else None

    server.behave = busy
    teacher(store).ask(prompts(1), 0.2)
    assert seen[1] - seen[0] >= 0.4


@pytest.mark.parametrize(
    "wait", ["3600", "inf", formatdate(time.time() + 3600, usegmt=True)], ids=["seconds", "endless", "date"]
)
def test_a_server_that_asks_to_wait_an_hour_is_one_stop_at_once(server, store, wait):
    server.behave = lambda prompt, attempt: Answer(429, error(), {"Retry-After": wait})
    with pytest.raises(InputError, match="asks to wait"):
        teacher(store).ask(prompts(1), 0.2)
    assert sum(server.asked.values()) == 1


STOPS = {
    "401": Answer(401, error("invalid_api_key")),
    "402": Answer(402, error()),
    "403": Answer(403, error("unsupported_country_region_territory")),
    "404": Answer(404, error("model_not_found")),
    "a used-up quota": Answer(429, error("insufficient_quota")),
    "an unknown parameter": Answer(400, error("unsupported_parameter", param="response_format")),
    "a bad request": Answer(400, error(None)),
    "a 400 with a page": Answer(400, HTML, kind="text/html"),
    "a 400 of an unknown shape": Answer(400, {"detail": [{"msg": KEY}]}),
    "a 400 with a code that is an object": Answer(400, error({"why": KEY}, type=[KEY])),
    "a 400 with an error that is a text": Answer(400, {"error": KEY}),
    "422": Answer(422, error()),
    "a redirect to nowhere": Answer(301),
}


@pytest.mark.parametrize("trouble", STOPS)
def test_what_is_wrong_with_every_request_is_one_stop_that_names_no_key(server, store, trouble):
    server.behave = lambda prompt, attempt: STOPS[trouble]
    with pytest.raises(InputError) as caught:
        teacher(store, at_once=1).ask(prompts(5), 0.2)
    assert sum(server.asked.values()) == 1
    assert values_in(store) == []
    assert server.address in str(caught.value)
    assert_no_key("".join(traceback.format_exception(caught.value)))


REFUSALS = {
    "400 content_filter": Answer(400, error("content_filter")),
    "400 content_policy_violation": Answer(400, error("content_policy_violation")),
    "400 invalid_prompt": Answer(400, error("invalid_prompt")),
    "400 context_length_exceeded": Answer(400, error(400, "This model's maximum context length is 4096 tokens.")),
    "400 string_above_max_length": Answer(400, error("string_above_max_length")),
    "400 exceed_context_size_error": Answer(400, error(400, type="exceed_context_size_error")),
    "content_filter": Answer(content=chat("I would", "content_filter")),
    "a refusal by the model": Answer(content=chat(None, refusal="I'm sorry, I can't.")),
    "cut at 1024 tokens": Answer(content=chat("Positive Aspects: the the the", "length")),
    "3 replies without a text": Answer(content=chat("")),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refused_prompt_is_a_row_without_a_reply_and_is_never_asked_again(server, store, reason):
    asked = prompts(6)
    server.behave = lambda prompt, attempt: REFUSALS[reason] if prompt == asked[2] else None
    first = teacher(store)
    expected = [None if k == 2 else rule(prompt) for k, prompt in enumerate(asked)]
    assert first.ask(asked, 0.2) == expected
    assert first.refused == {asked[2]: reason}
    assert first.usage()["refused"] == 1
    assert server.asked[asked[2]] == (EMPTY_REPLIES if "without" in reason else 1)
    server.asked.clear()
    again = teacher(store)
    assert again.ask(asked, 0.2) == expected
    assert again.refused == {asked[2]: reason}
    assert again.usage()["refused"] == 1
    assert again.kept == 5
    assert not server.asked


def test_a_teacher_that_refuses_all_prompts_ended_in_a_table_without_rows(server, store):
    server.behave = lambda prompt, attempt: REFUSALS["cut at 1024 tokens"]
    with pytest.raises(InputError, match="refused the first 20 prompts .cut at 1024 tokens."):
        teacher(store).ask(prompts(500), 0.2)
    assert sum(server.asked.values()) < 20 + 2 * 4
    assert values_in(store) == []
    server.behave = lambda prompt, attempt: None
    assert teacher(store).ask(prompts(30), 0.2) == list(map(rule, prompts(30)))


def test_few_refusals_without_any_answer_are_not_kept(server, store):
    server.behave = lambda prompt, attempt: REFUSALS["content_filter"]
    asked = prompts(REFUSED_AT_FIRST - 1)
    hesitant = teacher(store)
    assert hesitant.ask(asked, 0.2) == [None] * len(asked)
    assert values_in(store) == []
    server.behave = lambda prompt, attempt: None
    assert hesitant.ask(asked, 0.2) == list(map(rule, asked))


def test_refusals_before_the_first_answer_are_kept_with_it(server, store):
    asked = prompts(12)
    server.behave = lambda prompt, attempt: REFUSALS["content_filter"] if prompt in asked[:10] else None
    assert teacher(store, at_once=1).ask(asked, 0.2)[:10] == [None] * 10
    assert len(values_in(store)) == 12


def test_many_refusals_among_answers_stop_nothing(server, store):
    asked = prompts(60)
    server.behave = lambda prompt, attempt: None if prompt in (asked[0], asked[50]) else REFUSALS["content_filter"]
    replies = teacher(store, at_once=1).ask(asked, 0.2)
    assert sum(reply is None for reply in replies) == 58


def test_half_a_character_in_a_prompt_is_a_refused_row_and_in_a_reply_a_question_mark(server, store):
    server.behave = lambda prompt, attempt: Answer(content=chat("Fine \ud83d."))
    half = "Great \ud83d album"
    one = teacher(store)
    assert one.ask([half, "Prompt"], 0.2) == [None, "Fine ?."]
    assert "surrogate" in one.refused[half]
    assert half not in server.asked


def test_a_reply_of_64_mib_is_left_unread_and_not_kept(server, store):
    asked = prompts(3)
    server.behave = lambda prompt, attempt: "flood" if prompt == asked[1] else None
    assert teacher(store).ask(asked, 0.2) == [rule(asked[0]), None, rule(asked[2])]
    assert server.asked[asked[1]] == EMPTY_REPLIES
    # What lay in the sockets' buffers was sent, and no more.
    assert server.flooded < EMPTY_REPLIES * (REPLY_LIMIT + 2**24)
    assert store.path.stat().st_size < 2**16


def test_an_error_of_64_mib_is_left_unread(server, store):
    server.behave = lambda prompt, attempt: Answer(500, b"x" * 2**26)
    with pytest.raises(InputError, match="500"):
        teacher(store, max_retries=0).ask(prompts(1), 0.2)


def test_another_model_name_in_the_replies_is_named_in_the_card(server, store):
    server.behave = lambda prompt, attempt: Answer(content=chat("Fine.", model="m-2025-01-01"))
    dated = teacher(store)
    assert dated.ask(prompts(2), 0.2) == ["Fine.", "Fine."]
    assert dated.usage()["answered_by"] == "m-2025-01-01"
    server.behave = lambda prompt, attempt: Answer(content=chat("Fine.", model=f"m {KEY}"))
    odd = teacher(store, seed=1)
    odd.ask(prompts(2), 0.2)
    assert_no_key(str(odd.usage()))
    server.behave = lambda prompt, attempt: Answer(content=chat("Fine.", model=KEY))
    echo = teacher(store, seed=2)
    echo.ask(prompts(2), 0.2)
    assert_no_key(str(echo.usage()))


@pytest.mark.parametrize(
    "usage",
    [[], {"prompt_tokens": "many"}, {"prompt_tokens": 2.5}, {"prompt_tokens": -1}, {"completion_tokens": 10**400}, "x"],
)
def test_tokens_that_are_no_numbers_count_as_none(server, store, usage):
    server.behave = lambda prompt, attempt: Answer(content=chat("Fine.", usage=usage))
    odd = teacher(store)
    assert odd.ask(prompts(1), 0.2) == ["Fine."]
    assert odd.tokens_in == odd.tokens_out == 0


def test_a_key_refused_half_way_is_one_stop_and_a_good_key_goes_on(server, store, monkeypatch):
    asked = prompts(200)
    server.key = KEY

    def revoke(prompt, attempt):
        if sum(server.answered.values()) == 99:
            server.key = "another"

    server.behave = revoke
    with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
        teacher(store, at_once=8).ask(asked, 0.2)
    assert_no_key("".join(traceback.format_exception(caught.value)))
    done = sum(server.answered.values())
    assert 100 <= done < 110
    assert len(values_in(store)) == done
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    again = teacher(store, at_once=8)
    assert again.ask(asked, 0.2) == list(map(rule, asked))
    assert again.requests == 200 - done
    assert set(server.answered.values()) == {1}


def test_the_key_is_in_no_log_line_traceback_file_or_name(server, tmp_path, monkeypatch, caplog, capfd):
    """The server repeats the key in all it says; the address holds it too; all loggers speak."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.address.replace("//", f"//user:{KEY}@"))
    caplog.set_level(logging.DEBUG)
    told = []
    for trouble in (*STOPS.values(), *REFUSALS.values(), *PASSING.values()):
        store = ResponseCache(tmp_path / "cache" / "replies.sqlite")
        server.behave = lambda prompt, attempt, trouble=trouble: None if prompt == "first" else trouble
        asking = teacher(store, max_retries=1)
        try:
            asking.ask(["first"], 0.2)
            asking.ask(prompts(2), 0.2)
        except InputError as caught:
            told += traceback.format_exception(caught)
        told += [repr(asking), repr(asking.client), str(asking.usage()), str(asking.refused)]
        store.close()
    assert len(told) > 60
    assert_no_key("".join(told) + caplog.text + "".join(capfd.readouterr()))
    assert "HTTP Request" in caplog.text
    for name, content in files_in(tmp_path).items():
        assert_no_key(name + content.decode("latin-1"))


FAULTS = [name for name in PASSING if name not in ("too deep", "not HTTP")]


def fault_of(prompt, attempt, share=0.2):
    """The seeded fault of an attempt: at most 4 in a row, and at most two without a text or too long."""
    rng = random.Random(f"{prompt}/{attempt}")
    if attempt > 4 or rng.random() >= share:
        return None
    if attempt == 1 and rng.random() < 0.002:
        return "flood"
    fault = PASSING[rng.choice(FAULTS)]
    return fault if attempt <= 2 or not isinstance(fault, Answer) or fault.status != 200 else PASSING["500"]


def ask_many(server, store, n, at_once=24):
    asked = prompts(n)
    server.behave = fault_of
    patient = teacher(store, at_once=at_once, timeout=60.0, backoff=0.001)
    replies = patient.ask(asked, 0.2, quiet=True)
    assert replies == list(map(rule, asked))
    # Nothing doubled: no good answer was served twice, and each prompt was asked once more than it met faults.
    assert server.answered == dict.fromkeys(asked, 1)
    attempts = {p: next(k for k in range(1, 6) if fault_of(p, k) is None) for p in asked}
    assert server.asked == attempts
    assert sum(attempts.values()) > 1.15 * n
    assert sorted(values_in(store)) == sorted(replies)
    assert patient.refused == {}
    # Nothing lost: another run finds all and asks nothing.
    server.asked.clear()
    again = teacher(store)
    assert again.ask(asked, 0.2, quiet=True) == replies
    assert again.kept == n
    assert not server.asked


def test_1500_requests_with_every_fifth_at_fault_lose_nothing_and_double_nothing(server, store):
    ask_many(server, store, 1_500)


@pytest.mark.slow
def test_10000_requests_with_every_fifth_at_fault_lose_nothing_and_double_nothing(server, store):
    ask_many(server, store, 10_000)


def test_the_limit_of_a_reply_is_far_above_what_is_asked_for():
    assert REPLY_LIMIT > 100 * 4096
