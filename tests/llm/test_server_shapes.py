"""Log-probabilities in the shapes that servers give, and those that none can be, which are never kept."""

import json
import math
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import served
from helpers import serving

from reason4rec.errors import InputError
from reason4rec.llm import server as server_module
from reason4rec.llm.prompt import Prompt
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS

LOGS = {digit: -0.1 - place for place, digit in enumerate("54321")}
EXPECTED = np.exp([LOGS[rating] for rating in RATINGS]) / np.exp(list(LOGS.values())).sum()
ENTRIES = [{"token": token, "logprob": log, "bytes": None} for token, log in LOGS.items()]


def completions(**logprobs):
    return {"choices": [{"index": 0, "text": "5", "finish_reason": "length", "logprobs": logprobs}]}


def with_value(value):
    return completions(tokens=["5"], token_logprobs=[-0.1], top_logprobs=[LOGS | {"1": value}], text_offset=[0])


SHAPES = {
    "OpenAI's": completions(tokens=["5"], token_logprobs=[-0.1], top_logprobs=[LOGS]),
    "llama.cpp's, as in a chat": completions(content=[ENTRIES[0] | {"top_logprobs": ENTRIES}]),
    "lists of entries": completions(tokens=["5"], token_logprobs=[-0.1], top_logprobs=[ENTRIES]),
    "without the tokens": completions(token_logprobs=[-0.1], top_logprobs=[LOGS]),
}
WRONG = {
    "NaN": (with_value(math.nan), "nan as the log-probability of '1'"),
    "infinity": (with_value(math.inf), "inf as"),
    "minus infinity": (with_value(-math.inf), "-inf as"),
    "positive": (with_value(100.0), "100.0 as"),
    "null": (with_value(None), "no log-probability of '1'"),
    "no entries": (completions(content=[ENTRIES[0] | {"top_logprobs": None}]), "no log-probability of '1'"),
    "nothing": (completions(), "no log-probabilities"),
    "an error of 200": ({"error": {"message": "engine is dead", "code": 500}, "object": "error"}, "engine is dead"),
    "no choices": ({"choices": []}, "OpenAI's form"),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def send(self, content):
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        sent = json.dumps(content).encode()
        if elsewhere := getattr(self.server, "elsewhere", None):
            self.send_response(308)
            self.send_header("Location", f"{elsewhere}{self.path}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def do_GET(self):  # noqa: N802
        self.send({"object": "list", "data": [{"id": "M", "object": "model"}]})

    def do_POST(self):  # noqa: N802
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send({"id": "x", "object": "text_completion", "created": 1, "model": "M"} | self.server.content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return served.put_adapter(tmp_path_factory.mktemp("checkpoints") / "Predictor", base, lm_head=False)


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.bodies, server.content = [], [], None
    server.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    with serving(server):
        yield server


def rated(server, adapter, store, query=""):
    model = server_module.connect(f"{server.address}{query}", "M", adapter, 1024, cache=store)
    return model.choice_probabilities([Prompt("What rating?")], RATINGS, RATING_PREFIX)


@pytest.mark.parametrize("shape", SHAPES)
def test_log_probabilities_of_another_shape_were_called_another_form(server, adapter, store, shape):
    server.content = SHAPES[shape]
    np.testing.assert_allclose(rated(server, adapter, store)[0], EXPECTED)


@pytest.mark.parametrize("trouble", WRONG)
def test_a_log_probability_that_none_can_be_was_kept_and_made_a_rating(server, adapter, store, trouble):
    server.content, said = WRONG[trouble]
    with pytest.raises(InputError, match=said):
        rated(server, adapter, store)
    assert store.connection.execute("select count(*) from replies").fetchall() == [(0,)]


def test_a_server_behind_a_gateway_got_neither_its_query_nor_its_headers(server, adapter, store, monkeypatch):
    monkeypatch.setenv("REASON4REC_API_KEY", "a-key")
    monkeypatch.setenv("REASON4REC_EXTRA_HEADERS", "X-Team: ratings")
    server.content = SHAPES["OpenAI's"]
    rated(server, adapter, store, "?api-version=2024-10-21")
    path, headers = server.asked[-1]
    assert path == "/v1/completions?api-version=2024-10-21"
    assert (headers["api-key"], headers["x-team"]) == ("a-key", "ratings")


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_server_ended_turns_and_thought_otherwise_than_the_training(server, adapter, store, api):
    model = server_module.connect(server.address, "M", adapter, 1024, api=api, cache=store)
    assert model._of_template() == {}
    model.tokenizer.eos_token = "<|end_of_text|>"
    model.tokenizer.chat_template += "{% if enable_thinking is false %}{% endif %}"
    server.content = {"choices": [{"index": 0, "text": "x", "message": {"role": "assistant", "content": "x"}}]}
    model.generate([Prompt("What rating?")], max_new_tokens=8)
    body = server.bodies[-1]
    if api == "chat":
        assert body["chat_template_kwargs"]["enable_thinking"] is False
    else:
        assert body["stop_token_ids"] == [model.tokenizer.convert_tokens_to_ids("<|eot_id|>")]


def test_the_keys_of_a_gateway_of_experts_followed_a_redirect_to_another_host(server, adapter, store, monkeypatch):
    monkeypatch.setenv("REASON4REC_API_KEY", "a-key")
    monkeypatch.setenv("REASON4REC_EXTRA_HEADERS", "X-Team: ratings")
    other = ThreadingHTTPServer(("127.0.0.2", 0), Handler)
    other.asked, other.bodies, other.content = [], [], SHAPES["OpenAI's"]
    server.content = other.content
    server.elsewhere = f"http://127.0.0.2:{other.server_address[1]}"
    with serving(other):
        rated(server, adapter, store, "?api-version=2024-10-21")
    sent = {name for _, headers in other.asked for name in headers}
    assert sent and not sent & {"api-key", "x-team", "authorization"}
    assert server.asked[0][1]["x-team"] == "ratings"
