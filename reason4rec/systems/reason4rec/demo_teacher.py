"""The demo's teacher: a stand-in for ChatGPT that runs as a server on this machine for the time of a run."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from reason4rec.errors import InputError
from reason4rec.llm.options import SERVERS
from reason4rec.run.options import Resolved
from reason4rec.run.project import python_path
from reason4rec.run.step import Common
from reason4rec.systems.reason4rec import facts


def is_demo(options: Resolved, name: str = facts.DEMO) -> bool:
    """Whether the options name the demo's dataset."""
    return options[Common].dataset == name


@contextmanager
def demo_teacher(options: Resolved, name: str = facts.DEMO) -> Iterator[Mapping[str, str]]:
    """For the demo, its stand-in for the teacher runs as a server on this machine; the variables that name it."""
    if not is_demo(options, name):
        yield {}
        return
    command = [sys.executable, "-u", "-m", "reason4rec.demo.stand_in", "--port", "0"]
    server = subprocess.Popen(command, env=os.environ | python_path(), stdout=subprocess.PIPE, text=True)
    try:
        address = next((word for word in server.stdout.readline().split() if word.startswith("http")), None)
        if address is None:
            raise InputError("the demo's stand-in for the teacher did not start; see the lines above")
        print(f"== demo: a synthetic world, a tiny language model, and a stand-in for ChatGPT at {address}", flush=True)
        no_proxy = ",".join(filter(None, ["127.0.0.1", os.environ.get("NO_PROXY")]))
        # Servers that the environment names hold the experts of another dataset.
        yield {
            "OPENAI_BASE_URL": address,
            "OPENAI_API_KEY": "none-needed",
            "NO_PROXY": no_proxy,
            SERVERS: "",
        }
    finally:
        server.kill()
        server.wait()
