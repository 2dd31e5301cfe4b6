"""A real vLLM on loopback: started, asked what it has answered, killed, and surely stopped.

REASON4REC_VLLM names its environment, which `bash tests/servers/make_vllm.sh DIRECTORY` makes.
"""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers import OF_THE_CALLER

VARIABLE = "REASON4REC_VLLM"
SECONDS = 600  # for a start on a busy machine; alone it takes about one minute
ANSWERED = "vllm:request_success_total"
TOKENS_FOUND = "vllm:prefix_cache_hits_total"


class Vllm:
    """A server of one merged model under one name, on a port that stays its own; `words` go to `vllm serve`."""

    def __init__(
        self,
        environment: Path,
        folder: Path,
        served: str,
        scratch: Path,
        *words: str,
        dtype: str = "float32",
        key: str = "",
    ):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.program, self.scratch = str(environment / "bin" / "vllm"), scratch
        self.model = ["--served-model-name", served, *words, "--dtype", dtype]
        self.folder, self.key = str(folder), ["--api-key", key] if key else []
        self.port, self.log = port, scratch / f"vllm-{port}.log"
        self.root = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"{self.root}/v1"

    def start(self) -> None:
        """Starts it and waits until it answers; RuntimeError with the end of its log if it does not."""
        place = ("--host", "127.0.0.1", "--port", self.port)
        self.process = self._begin("serve", self.folder, *place, *self.key)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self._get("/health")
                return
            except OSError:
                time.sleep(0.5)
        self.kill()
        raise RuntimeError(f"vLLM did not come up:\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """Ends it and all that it started at once, as a crash or a lack of memory does."""
        if self.process:
            end_group(self.process)
            self.process = None

    def run_batch(self, requests: Path, replies: Path) -> None:
        """Answers a file of requests with a vLLM of its own, as `vllm run-batch` does."""
        process = self._begin("run-batch", "-i", str(requests), "-o", str(replies), "--model", self.folder)
        try:
            if process.wait(SECONDS):
                raise RuntimeError(f"vllm run-batch failed:\n{self.log.read_text()[-3000:]}")
        finally:
            end_group(process)

    def count(self, name: str) -> int:
        """The sum of one of its counters since it was started."""
        lines = [line for line in self._get("/metrics").splitlines() if line.startswith(name)]
        assert lines, f"vLLM counts no {name}"
        return int(sum(float(line.split()[-1]) for line in lines))

    def _begin(self, *words: str) -> subprocess.Popen:
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(OF_THE_CALLER)}
        kept.pop("PYTHONPATH", None)
        cache = str(self.scratch / "vllm")
        own = {
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else it sits on the first core, however busy that is
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "VLLM_CACHE_ROOT": cache,
            "HF_HOME": cache,
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        command = [self.program, *words, *self.model]
        with self.log.open("a") as log:
            # In a process group of its own, with the processes that it starts.
            return subprocess.Popen(
                command, env=kept | own, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _get(self, path: str) -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.root + path, timeout=10) as reply:
            return reply.read().decode()


def end_group(process: subprocess.Popen) -> None:
    """Kills a process with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def running(server: Vllm) -> Iterator[Vllm]:
    """A server for the time of a block."""
    try:
        server.start()
        yield server
    finally:
        server.kill()
