"""Answers in the forms that real servers give, and parameters, addresses and headers that they want otherwise."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import ROOT, complaint, interruptible, put_toy_dataset, run_script, serving
from hypothesis import given
from hypothesis import strategies as st

from reason4rec.data import schema
from reason4rec.errors import InputError
from reason4rec.llm.answers import answer_of, parsed, read_reply
from reason4rec.llm.teacher import Teacher
from reason4rec.llm.usage import UNUSABLE_AT_FIRST
from reason4rec.run.network import extra_headers, network_hint
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARIES, TEACHER_SUMMARY
from reason4rec.systems.reason4rec.prompts import as_summary, is_summary

TRIALS = Path(__file__).parents[3] / "shared" / "trials"
SUMMARY = "Positive Aspects: melody\nNegative Aspects: none\nUser Preference Elements: music"
SPOKEN = {
    "thoughts": f"<think>\nPositive Aspects: maybe?\n</think>\n\n{SUMMARY}",
    "thoughts in capitals": f"<THINKING>Hm.</THINKING>{SUMMARY}",
    "only their end": f"The user wants a summary.\n</think>\n\n{SUMMARY}",
    "empty thoughts": f"<think>\n\n</think>\n\n{SUMMARY}",
    "thoughts of Magistral": f"[THINK]Hm.[/THINK]{SUMMARY}",
    "channels": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    f"<|channel|>final<|message|>{SUMMARY}<|return|>",
    "a code fence": f"```\n{SUMMARY}\n```",
    "a fence with a name, after thoughts": f"<think>Hm.</think>\n```text\n{SUMMARY}\n```",
    "bold headings": "**Positive Aspects:** melody\n**Negative Aspects**: none\n**User Preference Elements:** music",
    "headings and lists": "Sure!\n\n## Positive Aspects\n- melody\n\n## Negative Aspects\n* none\n\n"
    "## User Preference Elements\n1. music",
    "a numbered list": "1. Positive Aspects: melody\n2. Negative Aspects: none\n3. User Preference Elements: music",
    "full-width colons": SUMMARY.replace(":", "："),
    "lines of Windows": SUMMARY.replace("\n", "\r\n"),
    "a second one after it": "**Positive Aspects:** melody\n**Negative Aspects:** none\n"
    "**User Preference Elements:** music\n**Positive Aspects:** bass\n",
}


@pytest.mark.parametrize("form", SPOKEN)
def test_a_summary_was_lost_for_its_form(form):
    assert as_summary(answer_of(SPOKEN[form])) == SUMMARY


@given(st.text())
def test_an_answer_in_the_form_asked_for_stays_as_it_is(title):
    said = f"Positive Aspects: {title.strip() or 'x'}.\nNegative Aspects: none\nUser Preference Elements: music"
    assert as_summary(said) == said or not is_summary(said)


@pytest.mark.parametrize("text", ["<think>Hm, let me", "<think>Hm.</think>", "  <think>\n</think>  "])
def test_thoughts_alone_were_taken_for_an_answer(text):
    assert answer_of(text) == ""


def test_what_has_not_the_three_parts_stays_as_it_is():
    for text in ("Positive Aspects are many.", "**Positive Aspects:** a\n**Negative Aspects:** b", "", "I cannot."):
        assert as_summary(text) == text


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's `behave(body, headers, path)` wants: a state and what is sent as JSON, or bytes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((body, dict(self.headers), self.path))
        status, content = self.server.behave(body, self.headers, self.path)
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", self.server.kind)
        if status == 308:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def chat(content, finish="stop", **message):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return {"id": "r", "object": "chat.completion", "model": "m", "choices": [choice], "usage": None}


def refusal(message, **more):
    return 400, {"error": {"message": message, "type": "invalid_request_error", **more}}


@pytest.fixture
def server(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.kind, server.behave = [], "application/json", lambda *_: (200, chat(SUMMARY))
    server.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    with serving(server):
        monkeypatch.setenv("OPENAI_API_KEY", "a-key")
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        yield server


def teacher(store, **options):
    return Teacher(store, "m", **{"at_once": 4, "backoff": 0.002, "max_retries": 1, **options})


EVENTS = b"".join(
    b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": part}}]}).encode()
    for part in ("Positive ", "Aspects: melody\nNegative", SUMMARY.partition("Negative")[2])
)
UNDERSTOOD = {
    "parts": chat([{"type": "text", "text": SUMMARY}]),
    "parts with thoughts": chat([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": SUMMARY}]),
    "thoughts in a field": chat(SUMMARY, reasoning_content="hm", annotations=[], audio=None),
    "no usage and no object": {"choices": [{"message": {"content": SUMMARY}}]},
    "an empty error": chat(SUMMARY) | {"error": ""},
    "events": EVENTS + b"data: [DONE]\n\n",
}


@pytest.mark.parametrize("form", UNDERSTOOD)
def test_an_answer_of_another_shape_was_asked_for_again_and_again(server, store, form):
    server.behave = lambda *_: (200, UNDERSTOOD[form])
    assert teacher(store).ask(["a prompt"], 0.2) == [SUMMARY]
    assert len(server.asked) == 1


def test_the_whole_reply_is_kept_and_its_thoughts_are_left_out_when_it_is_read(server, store):
    server.behave = lambda *_: (200, chat(SPOKEN["thoughts"]))
    assert teacher(store).ask(["a prompt"], 0.2) == [SUMMARY]
    assert teacher(store).ask(["a prompt"], 0.2) == [SUMMARY]
    assert len(server.asked) == 1
    with_thoughts = store.connection.execute("select value from replies").fetchall()
    assert json.loads(with_thoughts[0][0]) == SPOKEN["thoughts"]


def test_thoughts_without_an_answer_are_asked_again_and_then_refused(server, store):
    server.behave = lambda *_: (200, chat("<think>Hm, let me"))
    one = teacher(store)
    with pytest.raises(InputError, match="refused the first"):
        one.ask([f"prompt {k}" for k in range(20)], 0.2)


def test_a_reply_of_thoughts_that_was_cut_can_be_asked_for_with_more_tokens(server, store):
    answers = {1024: chat(None, "length", reasoning_content="hm"), 4096: chat(SUMMARY)}
    server.behave = lambda body, *_: (200, answers[body["max_tokens"]])
    store.put({"other": "x"})
    first = teacher(store)
    first.answered = True
    assert first.ask(["a prompt"], 0.2) == [None] and first.refused == {"a prompt": "cut at 1024 tokens"}
    assert teacher(store).ask(["a prompt"], 0.2) == [None] and len(server.asked) == 1
    assert teacher(store, reply_tokens=4096).ask(["a prompt"], 0.2) == [SUMMARY]
    assert teacher(store).ask(["a prompt"], 0.2) == [SUMMARY] and len(server.asked) == 2


def test_answers_that_are_all_of_another_form_were_paid_for_to_the_end(server, store):
    server.behave = lambda *_: (200, chat("I would rather not."))
    asked = [f"prompt {k}" for k in range(400)]
    with pytest.raises(InputError, match=r"first \d+ answers .*'I would rather not.'.*--teacher_model and --prompts"):
        teacher(store).ask(asked, 0.2, is_usable=is_summary)
    paid = len(server.asked)
    assert UNUSABLE_AT_FIRST <= paid <= UNUSABLE_AT_FIRST + 2 * 4
    # What was paid for is kept, and the next run stops before it asks for more than was in flight.
    with pytest.raises(InputError, match=r"first \d+ answers .*replies.sqlite away"):
        teacher(store).ask(asked, 0.2, is_usable=is_summary)
    assert len(server.asked) == paid


def test_one_answer_of_the_form_lets_the_others_be_counted(server, store):
    server.behave = lambda body, *_: (200, chat(SUMMARY if body["messages"][0]["content"] == "prompt 5" else "No."))
    one = teacher(store, at_once=1)
    one.ask([f"prompt {k}" for k in range(60)], 0.2, is_usable=is_summary)
    assert one.unusable == one.usage()["unusable"] == 59


def test_the_first_step_stopped_only_after_the_last_reply_of_no_use(server, tmp_path):
    folder = put_toy_dataset(tmp_path)
    words = ("--dataset", "Demo_data", "--data_root", folder.parent, "--teacher_model", "m")
    env = {"OPENAI_API_KEY": "a-key", "OPENAI_BASE_URL": server.address}
    server.behave = lambda *_: (200, chat("As an AI, I like it."))
    script = "1_Summarizer/1_distilling_aspect_preference_summary.py"
    assert "As an AI" in complaint(run_script(script, *words, env=env))
    assert len(server.asked) < 60 < len(schema.read(folder, schema.TRAIN))
    assert not (folder / TEACHER_SUMMARIES.path).exists()
    server.behave = lambda *_: (200, chat(SPOKEN["headings and lists"]))
    done = run_script(script, *words, "--seed", 1, env=env)
    assert done.returncode == 0, done.stderr
    assert set(schema.read(folder, TEACHER_SUMMARIES)[TEACHER_SUMMARY]) == {SUMMARY}


def test_an_interrupted_step_said_nothing_of_what_is_kept(server, tmp_path):
    folder = put_toy_dataset(tmp_path)
    words = ["--dataset", "Demo_data", "--data_root", str(folder.parent), "--teacher_model", "m"]
    script = "1_Summarizer/1_distilling_aspect_preference_summary.py"
    env = os.environ | {"OPENAI_API_KEY": "a-key", "OPENAI_BASE_URL": server.address}
    server.behave = lambda *_: time.sleep(0.2) or (200, chat(SUMMARY))
    options = {"cwd": ROOT, "env": env, "preexec_fn": interruptible, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, script, *words], **options)
    deadline = time.monotonic() + 60
    while len(server.asked) < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert said.count("interrupted") == 1 and "replies are kept; run the same command again" in said
    asked, server.behave = len(server.asked), lambda *_: (200, chat(SUMMARY))
    done = run_script(script, *words, env=env)
    assert done.returncode == 0, done.stderr
    # What was in flight may be asked again, or be kept.
    assert 240 <= len(server.asked) <= 240 + 16
    assert asked < len(server.asked)


WANTS = {
    "another name of the limit": (
        lambda body: "max_tokens" in body,
        refusal("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."),
        "max_tokens as max_completion_tokens",
    ),
    "its own temperature": (
        lambda body: "temperature" in body,
        refusal("Unsupported value: 'temperature' does not support 0.2 with this model."),
        "no temperature",
    ),
    "the default temperature": (
        lambda body: body.get("temperature") != 1,
        refusal("Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value."),
        "temperature as 1.0",
    ),
    "no seed": (
        lambda body: "seed" in body,
        (
            422,
            {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
        ),
        "no seed",
    ),
    "none of them": (
        lambda body: {"max_tokens", "max_completion_tokens", "temperature", "seed"} & set(body),
        refusal("Unknown parameters: max_tokens, max_completion_tokens, temperature, seed."),
        "no max_tokens, no seed, no temperature",
    ),
}


@pytest.mark.parametrize("wish", WANTS)
def test_a_parameter_that_a_model_does_not_take_ended_the_step(server, store, capsys, wish):
    is_wrong, refused, said = WANTS[wish]
    server.behave = lambda body, *_: refused if is_wrong(body) else (200, chat(SUMMARY))
    one = teacher(store, at_once=1)
    asked = [f"prompt {k}" for k in range(5)]
    assert one.ask(asked, 0.2) == [SUMMARY] * 5
    # Said and learned once, and known in the closing line.
    assert len(server.asked) == 5 + capsys.readouterr().out.count("note: the teacher at")
    assert one.usage()["sent otherwise"] == said


def test_a_limit_that_is_too_large_is_named_with_its_flag(server, store):
    server.behave = lambda *_: refusal(
        "max_tokens is too large: 1024. This model allows at most 512.", param="max_tokens"
    )
    with pytest.raises(InputError, match="about max_tokens: see --reply_tokens"):
        teacher(store).ask(["a prompt"], 0.2)
    assert len(server.asked) == 1


def test_a_batch_for_a_model_that_reasons_was_refused_line_by_line(store, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for model, expected in (
        ("gpt-5-mini", {"max_completion_tokens"}),
        ("gpt-4o", {"max_tokens", "temperature", "seed"}),
    ):
        one = Teacher(store, model, export=tmp_path / f"{model}.jsonl")
        with pytest.raises(Exception, match="not there yet"):
            one.ask(["a prompt"], 0.2)
        one.write_export()
        body = json.loads((tmp_path / f"{model}.jsonl").read_text())["body"]
        assert set(body) == {"model", "messages", *expected}


def test_an_address_with_a_query_lost_it_and_azure_wants_its_own_header(server, store, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.address}/deployments/d?api-version=2024-10-21")
    monkeypatch.setenv("OPENAI_EXTRA_HEADERS", "X-Title: a reproduction; HTTP-Referer: https://example.org/a")
    assert teacher(store).ask(["a prompt"], 0.2) == [SUMMARY]
    _, headers, path = server.asked[0]
    assert path == "/v1/deployments/d/chat/completions?api-version=2024-10-21"
    assert headers["api-key"] == "a-key" and "Authorization" not in headers
    assert headers["X-Title"] == "a reproduction" and headers["HTTP-Referer"] == "https://example.org/a"


@pytest.mark.parametrize("value", ["no colon", "bad name: x", "x: \x00"])
def test_a_header_that_is_none_is_named_by_its_variable(monkeypatch, value):
    if "\x00" in value:
        value = "x: a\tb"
    monkeypatch.setenv("OPENAI_EXTRA_HEADERS", value)
    with pytest.raises(InputError, match="OPENAI_EXTRA_HEADERS"):
        extra_headers("OPENAI_EXTRA_HEADERS")


def test_an_error_in_an_answer_of_200_was_called_another_form(server, store):
    server.behave = lambda *_: (200, {"error": {"message": "Provider returned error", "code": 429}})
    with pytest.raises(InputError, match="429"):
        teacher(store).ask(["a prompt"], 0.2)
    server.behave = lambda *_: (200, {"object": "error", "message": "no", "code": 404})
    with pytest.raises(InputError, match="404"):
        teacher(store).ask(["a prompt"], 0.2)


def test_a_page_instead_of_an_answer_is_told_by_its_kind(server, store):
    server.kind, server.behave = "text/html", lambda *_: (200, b"<html>Welcome</html>")
    with pytest.raises(InputError, match="text/html.*OPENAI_BASE_URL"):
        teacher(store).ask(["a prompt"], 0.2)


def test_a_proxy_or_a_certificate_that_is_the_cause_was_not_named(monkeypatch):
    for name in list(os.environ):
        if name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    assert network_hint("https://api.example.org/v1", OSError("refused")) == ""
    assert "SSL_CERT_FILE" in network_hint("https://a.org", OSError("[SSL: CERTIFICATE_VERIFY_FAILED] no issuer"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert "HTTPS_PROXY" in network_hint("https://api.example.org/v1", OSError("refused"))
    monkeypatch.setenv("NO_PROXY", "example.org")
    assert network_hint("https://api.example.org/v1", OSError("refused")) == ""


@given(st.binary(max_size=200))
def test_no_answer_whatever_it_is_ends_in_anything_but_a_reply_or_a_value_error(content):
    for answer in (content, b"data: " + content, b"data: {%s}" % content):
        with contextlib.suppress(ValueError, RecursionError):
            read_reply(parsed(answer))


@pytest.mark.parametrize(
    "mode",
    ["gpt5", "gpt5temp", "noseed", "parts", "think_parts", "think", "think_open", "reasoning_ok", "nullusage"]
    + ["errornull", "errorempty", "noobject", "fences", "bold", "crlf", "fullwidth", "redirect"],
)
def test_the_teachers_of_the_trials_are_understood(mode, store, tmp_path, monkeypatch):
    script = TRIALS / "fake_teacher.py"
    if not script.exists():
        pytest.skip("no trials here")
    (tmp_path / "trial").mkdir()
    process = subprocess.Popen([sys.executable, script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline().strip()
        monkeypatch.setenv("OPENAI_API_KEY", "a-key")
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/{mode}/v1")
        assert [as_summary(answer) for answer in teacher(store).ask(["a prompt"], 0.0)] == [SUMMARY]
    finally:
        process.kill()
        process.wait()


def test_an_event_without_a_choice_said_the_last_piece_again():
    pieces = [{"choices": [{"delta": {"content": "a\u2028"}}]}, {"choices": [{"delta": {"content": "b"}}]}]
    events = [*pieces, {"usage": {"prompt_tokens": 1}}, {"choices": None}]
    sent = b"".join(b"data: %s\r\n\r\n" % json.dumps(one, ensure_ascii=False).encode() for one in events)
    assert read_reply(parsed(sent)).text == "a\u2028b"


def test_complaints_of_requests_sent_together_undid_what_was_settled(server, store, capsys):
    is_wrong, refused, said = WANTS["the default temperature"]
    server.behave = lambda body, *_: refused if is_wrong(body) else (200, chat(SUMMARY))
    one = teacher(store, at_once=16)
    assert one.ask([f"prompt {k}" for k in range(48)], 0.2) == [SUMMARY] * 48
    assert one.usage()["sent otherwise"] == said and capsys.readouterr().out.count("note: the teacher") == 1


def test_the_keys_of_a_gateway_followed_a_redirect_to_another_host(server, store, monkeypatch):
    other = ThreadingHTTPServer(("127.0.0.2", 0), Handler)
    other.asked, other.kind, other.behave = [], "application/json", lambda *_: (200, chat(SUMMARY))
    with serving(other):
        where = f"http://127.0.0.2:{other.server_address[1]}/v1/chat/completions"
        server.behave = lambda *_: (308, b"")
        server.location = where
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.address}?api-version=1")
        monkeypatch.setenv("OPENAI_EXTRA_HEADERS", "X-Token: a-token")
        assert teacher(store).ask(["a prompt"], 0.2) == [SUMMARY]
    headers = {name.lower() for name in other.asked[0][1]}
    assert not headers & {"api-key", "x-token", "authorization"}
    assert server.asked[0][1].get("api-key") == "a-key"


def test_kept_answers_of_which_some_are_of_the_form_do_not_stop_a_rerun(server, store):
    server.behave = lambda body, *_: (200, chat(SUMMARY if body["messages"][0]["content"] == "prompt 0" else "No."))
    asked = [f"prompt {k}" for k in range(60)]
    teacher(store, at_once=1).ask(asked, 0.2, is_usable=is_summary)
    assert teacher(store).ask(asked[::-1], 0.2, is_usable=is_summary)[-1] == SUMMARY
