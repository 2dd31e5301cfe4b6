"""Draws at a server that loads adapters while it runs, as vLLM does: what it is sent, and what is refused."""

import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from helpers import serving
from peft import load_peft_weights, set_peft_model_state_dict
from test_grpo import POLICY, PROMPTS, ROWS, letters, settings_of, start  # noqa: F401

from reason4rec.errors import InputError
from reason4rec.run.files import sha256
from reason4rec.training import grpo
from reason4rec.training.draw_server import DrawServer, seed_of
from reason4rec.training.rollouts import Part

SHORT = replace(POLICY, steps=2, max_new_tokens=4)


class Fake(ThreadingHTTPServer):
    """vLLM's routes for adapters and completions, over a policy of the tests; `mood` changes what it does."""

    def __init__(self, model: object, mood: str = ""):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.mood = model, mood
        self.loaded: dict[str, str] = {}  # the sha256 of the weights, by the adapter's name
        self.asked: list[tuple[str, dict]] = []
        self.lock = threading.Lock()

    def load(self, body: dict) -> tuple[int, object]:
        if self.mood == "no adapters":
            return 404, {"detail": "Not Found"}
        self.loaded[body["lora_name"]] = sha256(Path(body["lora_path"]) / "adapter_model.safetensors")
        set_peft_model_state_dict(self.model, load_peft_weights(body["lora_path"], device="cpu"))
        return 200, "Success"

    def complete(self, body: dict) -> tuple[int, object]:
        if body["model"] not in self.loaded:
            return 404, {"error": {"message": f"The model {body['model']} does not exist."}}
        choices = []
        for index in range(body["n"]):
            rng, ids, found = torch.Generator().manual_seed(body["seed"] + index), list(body["prompt"]), []
            while len(found) < body["max_tokens"]:
                with torch.no_grad():
                    scale = 0.2 if self.mood == "another policy" else 1
                    logits = scale * self.model(input_ids=torch.tensor([ids])).logits[0, -1].float()
                token = int(torch.multinomial((logits / body["temperature"]).softmax(-1), 1, generator=rng))
                found.append((token, float(logits.log_softmax(-1)[token])))
                ids.append(token)
                if token in body["stop_token_ids"]:
                    break
            choice = {"index": index, "text": "", "finish_reason": "length"}
            choice["logprobs"] = {"token_logprobs": [value for _, value in found], "tokens": [], "top_logprobs": []}
            choice |= {} if self.mood == "no ids" else {"token_ids": [token for token, _ in found]}
            choices.insert(0, choice)
        return 200, {"id": "1", "object": "text_completion", "created": 0, "model": body["model"], "choices": choices}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self):  # noqa: N802
        self._send(200, {"object": "list", "data": [{"id": "base", "object": "model"}]})

    def do_POST(self):  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path, server = self.path.removeprefix("/v1/"), self.server
        with server.lock:
            server.asked.append((path, body))
            if path == "load_lora_adapter":
                found = server.load(body)
            elif path == "unload_lora_adapter":
                found = (200, "Success") if server.loaded.pop(body["lora_name"], None) else (404, {})
            else:
                found = server.complete(body)
        self._send(*found)

    def _send(self, status: int, content: object) -> None:
        raw = json.dumps(content).encode() if not isinstance(content, str) else content.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if not isinstance(content, str) else "text/plain")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def serving_policies(start, mood=""):  # noqa: F811
    """The fake over a policy of the same base, and its address."""
    model, _ = grpo.policy_model(settings_of("Policy", start, SHORT, {}), SHORT, 3, "cpu")
    server = Fake(model.eval(), mood)
    with serving(server):
        yield server, f"http://127.0.0.1:{server.server_port}/v1"


def train(start, out, address, policy=SHORT, scores=letters):  # noqa: F811
    settings = json.loads(json.dumps(settings_of("Policy", start, policy, {"part": 1.0})))
    task = grpo.Task(PROMPTS, ROWS, [Part("part", 1.0, scores)])
    return grpo.train_policy(
        out, {"inputs": {}, "settings": settings}, start, policy, task, 7, "cpu", save_minutes=1e-9, draw_at=address
    )


@pytest.fixture(scope="module")
def drawn(start, tmp_path_factory):  # noqa: F811
    """A policy that was trained by draws at a server, and what the server was asked."""
    out = tmp_path_factory.mktemp("drawn") / "Policy"
    with serving_policies(start) as (server, address):
        train(start, out, address)
        return out, server.asked, server.loaded


def test_each_prompt_is_asked_once_as_token_ids_for_a_whole_group(drawn):
    asked = [body for path, body in drawn[1] if path == "completions"]
    assert len(asked) == SHORT.steps * SHORT.prompts_a_step
    assert {body["n"] for body in asked} == {SHORT.group}
    assert {(body["temperature"], body["top_p"], body["top_k"]) for body in asked} == {(1.0, 1.0, 0)}
    assert all(isinstance(token, int) for body in asked for token in body["prompt"])
    assert len({tuple(body["prompt"]) for body in asked}) == len(asked)
    seeds = {seed_of(7, step, place) for step in range(SHORT.steps) for place in range(SHORT.prompts_a_step)}
    assert {body["seed"] for body in asked} == seeds


def test_the_server_draws_from_the_weights_of_each_step_and_is_left_as_it_was(drawn, start):  # noqa: F811
    out, asked, loaded = drawn
    paths = [path for path, _ in asked]
    assert [path for path in paths if path != "completions"] == [
        "load_lora_adapter",
        "load_lora_adapter",
        "unload_lora_adapter",
        "unload_lora_adapter",
    ]
    names = [body["lora_name"] for path, body in asked if path == "load_lora_adapter"]
    assert [body["model"] for path, body in asked if path == "completions"] == [names[0]] * 2 + [names[1]] * 2
    assert loaded == {}
    curve = json.loads((out / "loss_curve.json").read_text())
    assert all(entry["draws/gap"] < 1e-4 for entry in curve)
    assert curve[0]["grad_norm"] > 0
    assert json.loads((out / "settings.json").read_text())["draws"] == "vllm"
    assert sorted(path.name for path in out.parent.iterdir()) == ["Policy", "Policy.json"]


def test_a_training_with_a_server_that_is_cut_off_ends_as_an_unbroken_one(drawn, start, tmp_path):  # noqa: F811
    calls = []

    def breaks_once(rollouts):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return letters(rollouts)

    out = tmp_path / "Policy"
    with serving_policies(start) as (server, address):
        with pytest.raises(KeyboardInterrupt, match="step 1 is kept"):
            train(start, out, address, scores=breaks_once)
        server.loaded.clear()  # it was started again
        train(start, out, address, scores=breaks_once)
    for name in ("adapter_model.safetensors", "loss_curve.json"):
        assert (out / name).read_bytes() == (drawn[0] / name).read_bytes()


def test_a_finished_training_was_lost_where_the_server_did_not_let_go_of_the_policy(
    drawn,
    start,  # noqa: F811
    tmp_path,
    capsys,
):
    out = tmp_path / "Policy"
    with serving_policies(start) as (server, address):
        server.loaded = Forgets()
        train(start, out, address)
    assert "stays loaded" in capsys.readouterr().out
    assert (out / "adapter_model.safetensors").read_bytes() == (drawn[0] / "adapter_model.safetensors").read_bytes()


class Forgets(dict):
    """What a server has loaded that knows no name when it is asked to let go of one."""

    def pop(self, *_):
        return None


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        ("another policy", "nats a token off"),
        ("no adapters", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
        ("no ids", "no token ids"),
    ],
)
def test_a_server_that_cannot_draw_for_the_policy_is_told(start, tmp_path, mood, said):  # noqa: F811
    with serving_policies(start, mood) as (_, address), pytest.raises(InputError, match=said) as error:
        train(start, tmp_path / "Policy", address)
    assert "--draw_at http://127.0.0.1" in str(error.value)


def test_an_adapter_that_the_server_has_already_is_right(tmp_path):
    """As after a kill: its name is that of its weights."""
    model = type("Saved", (), {"save_pretrained": staticmethod(_save)})
    server = Fake(None, "")
    server.load = lambda body: (400, {"error": {"message": f"{body['lora_name']} has already been loaded"}})
    with serving(server):
        given = DrawServer(f"http://127.0.0.1:{server.server_port}/v1", tmp_path)
        name = given.give(model)
        assert given.give(model) == name
    assert len(server.asked) == 1


def _save(folder, **_):
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")


def test_a_server_that_is_away_is_told_before_the_base_is_loaded(start, tmp_path, capsys):  # noqa: F811
    with pytest.raises(InputError, match="no server answers there"):
        train(start, tmp_path / "Policy", "http://127.0.0.1:9/v1")
    assert "loading base model" not in capsys.readouterr().out
    with pytest.raises(InputError, match="no address"):
        train(start, tmp_path / "Policy", "nonsense")
