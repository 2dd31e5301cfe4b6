"""A stand-in for ChatGPT on this machine: an OpenAI-compatible server that answers the demo's requests by rule.

    python -m reason4rec.demo.stand_in --port 8377

It answers the default prompts of the Summarizer, of the Reasoner, hinted or not, of the teachers of rationales and of
GREAM, and of the judges of reasons and of rationales, for any review text. It is for the demo and the tests; no step
ever turns to it by itself.
"""

import argparse
import hashlib
import json
import random
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from reason4rec.demo import rules
from reason4rec.llm.prompt import read_back
from reason4rec.llm.usage import STAND_IN
from reason4rec.systems.gream import rule_texts
from reason4rec.systems.twice_rec.prompts import FOLDER as RATIONALES
from reason4rec.systems.twice_rec.prompts import items_in

PORT = 8377
SLIP = 0.3  # share of unhinted reasons at temperature 1 whose verdict is one step off
REVIEW = re.compile(r"The review to read:\n.*?\nReview: (.*)", re.DOTALL)
HISTORIES = re.compile(
    r"New item: (.*?)\n.*\nEarlier reviews by the user, oldest first:\n(.*?)"
    r"\nEarlier reviews of the new item by other users, oldest first:\n(.*)",
    re.DOTALL,
)
JUDGE = re.compile(
    r"A reason was written before .*?\nThe review of the user:\n(.*)\n\nThe reason to judge:\n(.*)", re.DOTALL
)
HINT = re.compile(r"the user later rated the item (\d\.\d) out of 5")


def answer(prompt: str, temperature: float, seed: int) -> str:
    """The rule's reply to a prompt, the same for the same seed; ValueError for a prompt that it does not know."""
    judged = JUDGE.match(prompt)
    if judged:
        return rules.judge(*judged.groups())
    if recommended := read_back("teacher", prompt, RATIONALES):
        (item,) = items_in(recommended["item"])
        text, connected = rules.rationale(items_in(recommended["history"]), item, _rng(prompt, seed))
        return f"Rationale: {text}\nConnection: {'yes' if connected else 'no'}"
    if graded := read_back("judge", prompt, RATIONALES):
        (item,) = items_in(graded["item"])
        return rules.grade(items_in(graded["history"]), item, graded["rationale"])
    if (text := rule_texts.answer(prompt, random.Random(_number(prompt, seed)), brief=True)) is not None:
        return text
    review = REVIEW.search(prompt)
    if review:
        return rules.summarize(review[1])
    histories = HISTORIES.search(prompt)
    if not histories:
        raise ValueError(
            "the stand-in answers only the default prompts of the Summarizer, the Reasoner, the teachers and the judges"
        )
    rng = _rng(prompt, seed)
    hint = HINT.search(prompt)
    slip = SLIP if temperature > 0.5 else 0.0
    return rules.reason(*histories.groups(), rng, float(hint[1]) if hint else None, slip)


def _rng(prompt: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(_number(prompt, seed))


def _number(prompt: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{prompt}".encode()).digest()[:8])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small answers would wait for the client's acknowledgement of the headers.
    wbufsize = -1

    def do_GET(self) -> None:  # noqa: N802
        self._send(200, {"object": "list", "data": [{"id": STAND_IN, "object": "model"}]})

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self._send(401, {"error": {"message": "wrong key", "type": "invalid_request_error"}})
            return
        try:
            request = json.loads(body)
            prompt = request["messages"][-1]["content"]
            text = answer(prompt, request.get("temperature", 1.0), request.get("seed") or 0)
        except (ValueError, LookupError, TypeError) as error:
            self._send(400, {"error": {"message": str(error), "type": "invalid_request_error"}})
            return
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        usage["total_tokens"] = sum(usage.values())
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        reply = {"id": "reply", "object": "chat.completion", "created": 0, "model": request.get("model", STAND_IN)}
        self._send(200, reply | {"choices": [choice], "usage": usage})

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """The server on a loopback port (0: a free one); with a `key` it refuses any other with 401."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int = PORT, key: str | None = None):
        super().__init__(("127.0.0.1", port), _Handler)
        self.key = key

    @property
    def address(self) -> str:
        """What OPENAI_BASE_URL must be to reach this server."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--port", type=int, default=PORT, help="loopback port; 0 takes a free one")
    server = Server(parser.parse_args().port)
    print(f"stand-in teacher at {server.address}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
