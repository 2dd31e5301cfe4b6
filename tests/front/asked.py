"""What the tests of the page and its API ask: experts that answer at once, a tiny finished run, a server around it."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import served
import uvicorn
from fastapi import FastAPI
from helpers import put_toy_dataset

from reason4rec.data.history import Entry
from reason4rec.front.app import Settings, app_of
from reason4rec.systems.reason4rec.asking.known import Known
from reason4rec.systems.reason4rec.asking.questions import Answer, Question
from reason4rec.systems.reason4rec.asking.recommender import Recommender

SETTINGS = Settings("Toy_data")
PROBABILITIES = (0.01, 0.04, 0.15, 0.35, 0.45)
SUMMARY = "Positive Aspects: warm sound, fine singing\nNegative Aspects: none\nUser Preference Elements: long albums"


class Quick:
    """Experts without a model: an answer repeats what was asked, so that it can be told from all others.

    `calls` are the sizes of the calls; while `open` is not set, they wait; `trouble` is raised where it names a title.
    """

    model = "Reason4Rec (quick)"

    def __init__(self, users: Sequence[str] = ("ada", "ben"), titles: dict[str, str] | None = None):
        titles = titles or {"i1": "One", "i2": "Two", "i3": "Three"}
        self.known = Known(titles, dict.fromkeys(users, 3), dict.fromkeys(titles, 4))
        self.calls: list[list[Question]] = []
        self.open, self.begun = threading.Event(), threading.Event()
        self.open.set()
        self.trouble: dict[str, Exception] = {}
        self.entries = (Entry("An earlier item", 4.0, SUMMARY),)

    def explain_all(self, questions: Sequence[Question]) -> list[Answer]:
        self.calls.append(list(questions))
        self.begun.set()
        assert self.open.wait(30)
        for one in questions:
            if one.title in self.trouble:
                raise self.trouble[one.title]
        return list(map(self.answer, questions))

    def answer(self, question: Question) -> Answer:
        who = question.user_id or question.user_reviews[0].text
        what = self.known.titles.get(question.item_id, question.title)
        said = f"{who} asked about {what}: warm sound"
        known = (self.entries, self.entries, 4.0, 4.0, len(self.entries), 5)
        return Answer(
            question.user_id, question.item_id, what, 4.19, 4.0, PROBABILITIES, said, *known, self.model, ("a note",)
        )

    def to_rank(self, user_id, item_ids, user_reviews) -> list[Question]:
        return [Question(user_id, item, user_reviews) for item in item_ids]

    def to_recommend(self, user_id, user_reviews) -> tuple[list[Question], str]:
        return self.to_rank(user_id, list(self.known.titles), user_reviews), "one of the shortlist"


@contextmanager
def running(app: FastAPI, **options: object) -> Iterator[str]:
    """A server around an app, on loopback, while the block runs; its address. `options` are uvicorn's."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", ws="none", **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def put_run(root: Path, base: str) -> Path:
    """Puts a toy dataset and its experts under a root, as a finished run leaves them; the root."""
    put_toy_dataset(root, summaries=True)
    for name, lm_head in (("Summarizer", False), ("Reasoner", False), ("Predictor", True)):
        served.put_adapter(root / "checkpoints" / "Demo_data" / name, base, lm_head, size=0.005)
    return root


def load(root: Path, **options: object) -> Recommender:
    """The experts under a root, on a CPU, with short replies."""
    places = {"data_root": root / "data", "checkpoint_root": root / "checkpoints"}
    return Recommender.load("Demo_data", **places | {"device": "cpu", "max_new_tokens": 8} | options)


def app_with(experts: object, **settings: object) -> FastAPI:
    """An app over experts, with settings other than those of these tests."""
    return app_of(experts, Settings(**{"dataset": "Toy_data"} | settings))
