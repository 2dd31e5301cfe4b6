"""The teacher against a real server on loopback: order, keeping, asking once, retries, refusals and the cost card."""

import _thread
import io
import json
import signal
import sqlite3
import threading
import time
import traceback

import pytest
from helpers import NotedText, complaint, counted_alive, files_in, noted_bars, put_toy_dataset, run_script, serving

from reason4rec.data.history import Entry, History
from reason4rec.demo import rules, stand_in, world
from reason4rec.errors import InputError
from reason4rec.llm import base
from reason4rec.llm.teacher import Teacher
from reason4rec.llm.usage import STAND_IN
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARIES

KEY = "sk-zqxjv-KWVZQ-jxqzk-VVKQX"
REFUSAL = {"error": {"message": f"Incorrect API key provided: {KEY}.", "type": "invalid_request_error"}}
BUSY = {"error": {"message": "later", "type": "server_error"}}


class Handler(stand_in._Handler):
    """The stand-in's, but the server's mood may answer in its stead."""

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = json.loads(body)
        with self.server.lock:
            self.server.asked.append(request)
            number = len(self.server.asked)
        instead = self.server.mood(request, number) if self.server.mood else None
        if instead == "hang up":
            self.close_connection = True
        elif isinstance(instead, bytes):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(instead)))
            self.end_headers()
            self.wfile.write(instead)
        elif instead:
            self._send(*instead)
        else:
            line, self.rfile = self.rfile, io.BytesIO(body)
            super().do_POST()
            self.rfile = line

    def end_headers(self):
        self.send_header("Retry-After", "0")
        super().end_headers()


class Moody(stand_in.Server):
    """A stand-in that notes requests; `mood(request, number)` may give a status and content, bytes, or None."""

    def __init__(self, mood=None, key=None):
        super().__init__(0, key)
        self.RequestHandlerClass = Handler
        self.mood, self.asked, self.lock = mood, [], threading.Lock()


@pytest.fixture
def server(monkeypatch):
    with serving(Moody()) as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        yield server


def summaries(n):
    return [prompts.summarizer("Album", f"Title {k}", 4.0, f"I love the {a}. Take {k}.").text for k, a in aspects(n)]


def aspects(n):
    return [(k, world.ASPECTS[k % len(world.ASPECTS)]) for k in range(n)]


def reasons(n):
    """Prompts of the Reasoner, for which the stand-in varies its words with the seed."""
    summary = rules.summarize("For me it is all about the bass. The voice is superb. The mood is dull.")
    entries = tuple(Entry(f"Earlier {k}", 4.0, summary) for k in range(3))
    history = History(user=entries, item=entries, user_average=4.0, item_average=4.0)
    return [prompts.reasoner("Album", f"Title {k}", history).text for k in range(n)]


def kept_in(store):
    with sqlite3.connect(store.path) as connection:
        return connection.execute("select count(*) from replies").fetchone()[0]


def content(text, usage=None):
    reply = {"id": "r", "object": "chat.completion", "created": 0, "model": "m", "usage": usage}
    return {**reply, "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": text}}]}


def test_replies_come_in_the_order_of_the_prompts(server, store):
    asked = summaries(12)
    replies = Teacher(store, STAND_IN).ask(asked, 0.2)
    assert replies == [stand_in.answer(prompt, 0.2, 0) for prompt in asked]
    assert [world.ASPECTS[k] in reply for k, reply in enumerate(replies)] == [True] * 12


def test_no_prompts_need_no_request(server, store):
    assert Teacher(store, STAND_IN).ask([], 0.2) == []
    assert server.asked == []


def test_a_reply_is_on_disk_before_the_next_request(server, store):
    on_disk = []
    server.mood = lambda request, number: on_disk.append(kept_in(store))
    Teacher(store, STAND_IN, at_once=1).ask(summaries(5), 0.2)
    assert on_disk == [0, 1, 2, 3, 4]


def test_a_prompt_and_draw_is_asked_only_once_ever(server, store):
    asked = summaries(4)
    first = Teacher(store, STAND_IN)
    replies = first.ask([*asked, asked[0]], 0.2)
    assert len(server.asked) == first.requests == 4
    assert replies[4] == replies[0]
    assert first.ask(asked, 0.2) == replies[:4]
    assert len(server.asked) == 4
    again = Teacher(store, STAND_IN)
    assert again.ask(asked, 0.2) == replies[:4]
    assert len(server.asked) == 4
    assert (again.requests, again.kept) == (0, 4)


def test_another_temperature_model_seed_or_draw_is_another_request(server, store):
    asked = summaries(1)
    Teacher(store, STAND_IN).ask(asked, 0.2)
    Teacher(store, STAND_IN).ask(asked, 1.0)
    Teacher(store, STAND_IN).ask(asked, 0.2, draw=1)
    Teacher(store, "gpt-4o-mini").ask(asked, 0.2)
    Teacher(store, STAND_IN, seed=1).ask(asked, 0.2)
    assert len(server.asked) == 5


def test_draws_at_temperature_1_stay_different_and_a_second_run_repeats_them_without_a_request(server, store):
    asked = reasons(3)
    drawn = [Teacher(store, STAND_IN, seed=42).ask(asked, 1.0, draw) for draw in range(11)]
    assert len({request["seed"] for request in server.asked}) == 11
    assert {request["temperature"] for request in server.asked} == {1.0}
    for k in range(3):
        assert len({texts[k] for texts in drawn}) > 3
    server.asked.clear()
    assert [Teacher(store, STAND_IN, seed=42).ask(asked, 1.0, draw) for draw in range(11)] == drawn
    assert server.asked == []


@pytest.mark.parametrize("status", [429, 500])
def test_a_busy_teacher_is_asked_again(server, store, status):
    server.mood = lambda request, number: (status, BUSY) if number == 1 else None
    asked = summaries(2)
    assert Teacher(store, STAND_IN, at_once=1).ask(asked, 0.2) == [stand_in.answer(p, 0.2, 0) for p in asked]
    assert len(server.asked) == 3


@pytest.mark.parametrize("trouble", [(429, BUSY), (503, BUSY), (404, BUSY), "hang up"])
def test_a_teacher_that_stays_away_is_one_complaint_with_the_address(server, store, trouble):
    server.mood = lambda request, number: trouble
    with pytest.raises(InputError) as caught:
        Teacher(store, STAND_IN, max_retries=0).ask(summaries(3), 0.2)
    assert server.address in str(caught.value)
    assert ("cannot be reached" if trouble == "hang up" else str(trouble[0])) in str(caught.value)
    assert kept_in(store) == 0


def test_a_refused_key_is_named_by_its_variable_and_never_shown(server, store):
    server.mood = lambda request, number: (401, REFUSAL)
    with pytest.raises(InputError) as caught:
        Teacher(store, STAND_IN).ask(summaries(2), 0.2)
    assert "OPENAI_API_KEY" in str(caught.value)
    assert_key_is_not_in(str(caught.value) + repr(caught.value.__cause__))
    assert len(server.asked) <= 2


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
def test_no_other_refusal_repeats_what_the_server_says_of_the_key(server, store, status):
    server.mood = lambda request, number: (status, REFUSAL)
    with pytest.raises(InputError) as caught:
        Teacher(store, STAND_IN, max_retries=0).ask(summaries(1), 0.2)
    assert_key_is_not_in(str(caught.value))


def test_the_key_is_in_no_output_and_no_file_of_a_refused_and_of_a_finished_step(server, tmp_path):
    folder = put_toy_dataset(tmp_path)
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.address.replace("//", f"//user:{KEY}@")}
    command = ("1_Summarizer/1_distilling_aspect_preference_summary.py", "--dataset", "Demo_data", "--limit", 8)
    command += ("--data_root", tmp_path / "data", "--teacher_model", STAND_IN)
    server.mood = lambda request, number: (401, REFUSAL)
    refused = run_script(*command, env=environment)
    assert "OPENAI_API_KEY" in complaint(refused)
    server.mood = None
    finished = run_script(*command, env=environment)
    assert finished.returncode == 0, finished.stderr
    assert (folder / TEACHER_SUMMARIES.path).exists()
    assert_key_is_not_in(refused.stdout + refused.stderr + finished.stdout + finished.stderr)
    for name, written in files_in(tmp_path).items():
        assert_key_is_not_in(name + written.decode("latin-1"))


@pytest.mark.parametrize("key", ["", " ", f"{KEY}\n", f"{KEY} ", f"{KEY}é"])
def test_a_missing_or_mangled_key_is_said_before_anything_is_asked(server, store, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
        Teacher(store, STAND_IN)
    assert_key_is_not_in(str(caught.value))
    assert server.asked == []


@pytest.mark.parametrize("address", ["nonsense", "http://[::1", "http://127.0.0.1:99999999/v1", "ftp://host/v1"])
def test_an_address_that_is_none_is_said_before_anything_is_asked(server, store, monkeypatch, address):
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(InputError, match="OPENAI_BASE_URL"):
        Teacher(store, STAND_IN)


def test_fewer_than_no_retries_are_refused_and_not_taken_for_a_wrong_address(server, store):
    with pytest.raises(InputError, match="--retries -1"):
        Teacher(store, STAND_IN, max_retries=-1)


@pytest.mark.parametrize("body", [b"<html>a page</html>", b"{", b"", b"[]", b'"text"'])
def test_a_server_that_is_no_teacher_is_one_complaint(server, store, body):
    server.mood = lambda request, number: body if body else b" "
    with pytest.raises(InputError, match="does not answer in OpenAI's form"):
        Teacher(store, STAND_IN, max_retries=0).ask(summaries(1), 0.2)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_teacher_that_dies_half_way_keeps_what_it_said_and_a_rerun_asks_only_for_the_rest(server, store, at_once):
    asked = summaries(10)
    server.mood = lambda request, number: "hang up" if number > 5 else None
    with pytest.raises(InputError, match="replies so far are kept"):
        Teacher(store, STAND_IN, at_once, max_retries=0).ask(asked, 0.2)
    assert kept_in(store) == 5
    server.mood = None
    server.asked.clear()
    rerun = Teacher(store, STAND_IN, at_once, max_retries=0)
    assert rerun.ask(asked, 0.2) == [stand_in.answer(prompt, 0.2, 0) for prompt in asked]
    assert len(server.asked) == rerun.requests == rerun.kept == 5


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_an_empty_reply_is_asked_again_and_not_kept(server, store, text):
    server.mood = lambda request, number: (200, content(text)) if number <= 2 else None
    asked = summaries(1)
    teacher = Teacher(store, STAND_IN)
    assert teacher.ask(asked, 0.2) == [stand_in.answer(asked[0], 0.2, 0)]
    assert teacher.requests == len(server.asked) == 3
    assert kept_in(store) == 1


@pytest.mark.parametrize("reply", [content(None), content(""), {**content("x"), "choices": []}, {"choices": None}])
def test_a_teacher_with_nothing_to_say_is_asked_three_times_and_the_row_named(server, store, reply):
    """Once one such prompt ended the step."""
    server.mood = lambda request, number: (200, reply)
    asked = summaries(1)
    teacher = Teacher(store, STAND_IN)
    assert teacher.ask(asked, 0.2) == [None]
    assert teacher.refused == {asked[0]: "3 replies without a text"}
    assert len(server.asked) == 3
    assert kept_in(store) == 0


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": None}])
def test_a_server_that_counts_no_tokens_is_no_error(server, store, usage):
    server.mood = lambda request, number: (200, content("Fine.", usage))
    teacher = Teacher(store, "gpt-4o-mini")
    assert teacher.ask(summaries(1), 0.2) == ["Fine."]
    assert (teacher.tokens_in, teacher.tokens_out) == (0, 0)


def test_requests_overlap_and_are_never_more_than_allowed(server, store):
    meeting = threading.Barrier(4, timeout=20)
    now, most = [0], [0]

    def wait_for_the_others(request, number):
        with server.lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        meeting.wait()
        with server.lock:
            now[0] -= 1

    server.mood = wait_for_the_others
    Teacher(store, STAND_IN, at_once=4, max_retries=0).ask(summaries(12), 0.2)
    assert most[0] == 4


@pytest.mark.parametrize(("model", "cost"), [("gpt-4o-mini", 0.9), ("new-model", None), (STAND_IN, 0)])
def test_the_card_counts_this_run_and_prices_known_models_only(server, store, model, cost):
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000, "total_tokens": 1_500_000}
    server.mood = lambda request, number: (200, content("Fine.", usage))
    asked = summaries(3)
    Teacher(store, model).ask(asked[:1], 0.2)
    teacher = Teacher(store, model)
    teacher.ask(asked, 0.2)
    assert teacher.usage() == {
        "requests": 2,
        "kept_replies": 1,
        "retried": 0,
        "refused": 0,
        "tokens_in": 2_000_000,
        "tokens_out": 1_000_000,
        "cost_usd": cost,
        "answered_by": "m",
    }


def at_the_same_time(*calls):
    """What each call gave or raised, all begun at once in threads of their own."""
    start, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(k):
        start.wait()
        try:
            results[k] = calls[k]()
        except Exception as error:
            results[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return results


def threads_of_the_teacher():
    return [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]


def test_calls_of_several_threads_share_the_requests_in_flight(server, store):
    """Once each call had as many of its own."""
    now, most, meeting = [0], [0], threading.Barrier(3, timeout=20)

    def count(request, number):
        with server.lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        if number <= 3:
            meeting.wait()
        time.sleep(0.01)
        with server.lock:
            now[0] -= 1

    server.mood = count
    teacher, asked = Teacher(store, STAND_IN, at_once=3, max_retries=0), summaries(30)
    parts = [asked[:10], asked[10:12], asked[12:]]
    results = at_the_same_time(*(lambda part=part: teacher.ask(part, 0.2, quiet=True) for part in parts))
    assert results == [[stand_in.answer(prompt, 0.2, 0) for prompt in part] for part in parts]
    assert most[0] == 3
    assert teacher.requests == len(server.asked) == 30
    assert threads_of_the_teacher() == []


def test_many_prompts_are_asked_in_windows_and_each_once(server, store, monkeypatch):
    """Once the requests of all prompts lay in memory: 4 KB for each review."""
    monkeypatch.setattr(base, "WINDOW", 4)
    bars, plain = noted_bars(monkeypatch), summaries(10)
    plain = [*plain[:6], plain[0], *plain[6:], plain[9]]
    asked, alive = counted_alive(plain, NotedText)
    teacher = Teacher(store, STAND_IN, at_once=3)
    assert teacher.ask(asked, 0.2) == [stand_in.answer(prompt, 0.2, 0) for prompt in plain]
    assert teacher.requests == len(server.asked) == 10
    assert len(alive) == 12
    assert max(alive) <= 2 * 4  # those in flight may outlive their window
    assert teacher.ask(plain, 0.2) == [stand_in.answer(prompt, 0.2, 0) for prompt in plain]
    assert [(bar.n, bar.total) for bar in bars] == [(12, 12)] * 2


def test_a_prompt_that_two_threads_want_is_asked_once(server, store):
    server.mood = lambda request, number: time.sleep(0.01)
    teacher, asked = Teacher(store, STAND_IN, at_once=4), summaries(10)
    expected = [stand_in.answer(prompt, 0.2, 0) for prompt in asked]
    calls = [lambda: teacher.ask(asked, 0.2), lambda: teacher.ask(asked[::-1], 0.2)] * 3
    assert at_the_same_time(*calls) == [expected, expected[::-1]] * 3
    assert len(server.asked) == 10


def test_when_one_call_fails_the_others_end_too_and_replies_in_flight_are_kept(server, store):
    def mood(request, number):
        if number == 10:
            return 403, REFUSAL
        time.sleep(1.0 if number > 10 else 0.02)  # the failure arrives while these are in flight
        return None

    server.mood = mood
    teacher, asked = Teacher(store, STAND_IN, at_once=4), summaries(60)
    parts = [asked[:20], asked[20:40], asked[40:]]
    results = at_the_same_time(*(lambda part=part: teacher.ask(part, 0.2) for part in parts))
    assert all(isinstance(result, InputError) and "403" in str(result) for result in results)
    assert kept_in(store) == len(server.asked) - 1 <= 12
    assert threads_of_the_teacher() == []
    asked_then = len(server.asked)
    with pytest.raises(InputError, match="403"):
        teacher.ask(asked, 0.2)
    assert len(server.asked) == asked_then


def test_ctrl_c_keeps_the_replies_in_flight_and_asks_no_more(server, store):
    def mood(request, number):
        if number == 6:
            _thread.interrupt_main()
        if number >= 6:
            time.sleep(1.0)

    server.mood = mood
    # A shell lets what it starts in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Teacher(store, STAND_IN, at_once=3).ask(summaries(100), 0.2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert kept_in(store) == len(server.asked) <= 9
    assert threads_of_the_teacher() == []


def test_a_pause_before_a_retry_ends_when_the_run_ends(server, store):
    server.mood = lambda request, number: (429, BUSY) if number == 1 else (403, BUSY) if number == 2 else None
    teacher = Teacher(store, STAND_IN, at_once=2, backoff=600.0)
    with pytest.raises(InputError, match="403"):
        teacher.ask(summaries(2), 0.2)


def test_a_teacher_that_is_stopped_ends_all_calls_and_takes_no_more(server, store):
    teacher = Teacher(store, STAND_IN, at_once=2)
    server.mood = lambda request, number: teacher.stop("the reader left") if number == 5 else None
    with pytest.raises(InputError, match="the reader left"):
        teacher.ask(summaries(50), 0.2)
    assert kept_in(store) == len(server.asked) < 9
    assert teacher.ask(summaries(1), 0.2) == [stand_in.answer(summaries(1)[0], 0.2, 0)]
    with pytest.raises(InputError, match="the reader left"):
        teacher.ask(summaries(50), 0.2)


def test_a_quiet_call_shows_no_bar(server, store, capfd):
    Teacher(store, STAND_IN).ask(summaries(2), 0.2, quiet=True)
    assert capfd.readouterr().err == ""
    Teacher(store, STAND_IN).ask(summaries(4), 0.2)
    assert "asking stand-in" in capfd.readouterr().err


def test_a_disk_that_is_full_stops_the_run_and_not_only_the_row(server, store):
    store.connection.execute("pragma query_only = on")
    with pytest.raises(InputError, match="could not be kept"):
        Teacher(store, STAND_IN, at_once=1).ask(summaries(20), 0.2)
    assert len(server.asked) == 1


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_that_is_none_is_said_without_its_password(server, store, monkeypatch, variable):
    monkeypatch.setenv(variable, f"nonsense://user:{KEY}@host")
    with pytest.raises(InputError, match=variable) as caught:
        Teacher(store, STAND_IN)
    assert_key_is_not_in("".join(traceback.format_exception(caught.value)))


def assert_key_is_not_in(text):
    for part in KEY.split("-")[1:]:
        assert part not in text
