"""A merged model behind a real `transformers serve`: it writes what the adapter writes in process, and cannot rate."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import served
import torch
from helpers import OF_THE_CALLER
from transformers.utils.import_utils import is_serve_available

from reason4rec.demo.pretrain import Examples
from reason4rec.errors import InputError
from reason4rec.llm import server as server_module
from reason4rec.llm.cache import ResponseCache
from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt
from reason4rec.systems.reason4rec import export
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not is_serve_available(), reason="needs transformers[serving]")]

EXAMPLES = Examples(seed=5, n_users=40, n_items=30, per_user=6)
ASKED = [Prompt(EXAMPLES.one(task, 2)[0]) for task in ("summarizer", "reasoner", "predictor_direct")]
SECONDS = 90


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return served.put_adapter(tmp_path_factory.mktemp("checkpoints") / "Predictor", base, lm_head=True, size=0.005)


@pytest.fixture(scope="module")
def server(adapter, tmp_path_factory):
    """The address of a server that holds the merged model under the name of its folder."""
    scratch = tmp_path_factory.mktemp("serve")
    export.export(adapter, scratch / "merged", "nf4", torch.float32, "cpu")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(OF_THE_CALLER)}
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(scratch)}
    command = [Path(sys.executable).with_name("transformers"), "serve", scratch / "merged", "--device", "cpu"]
    with (scratch / "log").open("w") as log:
        process = subprocess.Popen(
            [*map(str, command), "--host", "127.0.0.1", "--port", str(port)],
            env=kept | offline,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, scratch / "log")
        yield f"http://127.0.0.1:{port}/v1", str(scratch / "merged")
    finally:
        process.kill()
        process.wait()


def wait_for(url, process, log):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            opener.open(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"transformers serve did not come up:\n{log.read_text()[-2000:]}")


def test_it_writes_what_the_adapter_writes_in_process(base, adapter, server, tmp_path):
    local = load(base, adapter, device="cpu", max_length=1024)
    model = server_module.connect(
        *server, adapter, 1024, at_once=2, api="chat", cache=ResponseCache(tmp_path / "replies.sqlite")
    )
    texts = model.generate(ASKED, max_new_tokens=24)
    assert texts == local.generate(ASKED, max_new_tokens=24)
    assert len(set(texts)) == len(ASKED)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_it_cannot_rate_and_that_is_one_line(adapter, server, api):
    model = server_module.connect(*server, adapter, 1024, api=api)
    with pytest.raises(InputError, match="which vLLM and SGLang give and transformers serve does not"):
        model.choice_probabilities(ASKED[:1], RATINGS, RATING_PREFIX)


def test_it_takes_no_token_ids_and_that_is_told_with_the_other_api(adapter, server):
    with pytest.raises(InputError, match="--api chat"):
        server_module.connect(*server, adapter, 1024).generate(ASKED[:1], max_new_tokens=2)


def test_another_name_than_that_of_its_folder_is_refused(adapter, server):
    with pytest.raises(InputError, match="does not serve Predictor"):
        server_module.connect(server[0], "Predictor", adapter, 1024, api="chat")
