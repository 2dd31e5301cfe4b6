"""A page and an API that answer the questions of explain, rank and recommend.

    python -m reason4rec serve --dataset Demo_data

Only this machine reaches them, unless --host says otherwise.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.front.asking import RUN, loaded, parsed
from reason4rec.run.network import LOOPBACK
from reason4rec.run.options import Options, Positive, option

if TYPE_CHECKING:
    from reason4rec.front.app import Settings
    from reason4rec.systems.reason4rec.asking.recommender import Recommender

NEEDED = ("fastapi", "uvicorn")
SECONDS_TO_END = 5  # for requests that are still coming in or going out when the line is closed
PATIENCE = 20  # seconds that a model's server is waited for, because a visitor waits too
ROOM = 100  # connections beside those of questions that wait, for the page and its searches


@dataclass(frozen=True)
class Serve(Options):
    """the page and its API"""

    host: str = option(LOOPBACK[1], "name or address to listen at")
    port: int = option(8000, "port to listen at; 0 takes one that is free")
    queue: Positive = option(256, "questions that may wait; whoever asks more is turned away")
    timeout: Positive = option(120, "seconds after which a question is given up")


def serve(words: Sequence[str]) -> None:
    """Serves the page and the API until it is interrupted."""
    values = parsed(words, "serve", (Serve, *RUN), __doc__)
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        raise InputError(
            f"serve needs {' and '.join(absent)}: pip install 'reason4rec[serve]', or in a clone "
            f"python -m pip install -r requirements-serve.txt"
        )
    host = str(values["host"])
    with listening(host, values["port"]) as listener:
        recommender = loaded(values)
        recommender.experts.serve_visitors(PATIENCE)
        _try_out(recommender)
        settings = settings_of(values, listener)
        _tell(host, listener)
        with suppress(KeyboardInterrupt):
            _run(recommender, settings, listener)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; InputError where it cannot."""
    if not 0 <= port <= 65_535:
        raise InputError(f"--port {port}: expected a number from 0 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (socket.gaierror, UnicodeError):
        raise InputError(f"--host {host}: no such address; leave it out for this machine alone") from None
    except OSError as error:
        raise InputError(
            f"--port {port}: cannot listen at {host} ({error.strerror}); another --port, or 0 for one that is free"
        ) from None


def settings_of(values: dict[str, object], listener: socket.socket) -> "Settings":
    """How the app serves, from the options of the command and the address that they led to."""
    from reason4rec.front.app import Settings

    address = ipaddress.ip_address(listener.getsockname()[0])
    names = {*LOOPBACK, str(address), str(values["host"]).lower()}
    if address.is_unspecified:
        names.add(socket.gethostname().lower())
    return Settings(str(values["dataset"]), names, address.is_unspecified, values["queue"], values["timeout"])


def _try_out(recommender: "Recommender") -> None:
    """Asks the experts once, so that what is wrong is said now, and their weights are there for the first visitor."""
    known = recommender.known
    recommender.explain(known.found_users("", 1)[0]["id"], known.found_items("", 1)[0]["id"])


def _tell(host: str, listener: socket.socket) -> None:
    address, port, *_ = listener.getsockname()
    shown = f"{f'[{host}]' if ':' in host else host}:{port}"
    print(f"the page is at http://{shown}/, the API at /openapi.json; Ctrl-C ends both", flush=True)
    if not ipaddress.ip_address(address).is_loopback:
        print(f"note: everybody who reaches {shown} may ask, and nothing on the way is encrypted", flush=True)


def _run(recommender: "Recommender", settings: "Settings", listener: socket.socket) -> None:
    import uvicorn

    from reason4rec.front.app import app_of
    from reason4rec.front.line import AT_ONCE

    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("reason4rec.front").setLevel(logging.INFO)
    app = app_of(recommender, settings)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # First whoever waits is told: uvicorn waits for them, and then drops them.
            await asyncio.to_thread(app.state.line.close)
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        # What is not needed is not there to go wrong.
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # it would have what visitors search
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SECONDS_TO_END,
        limit_concurrency=settings.queue + AT_ONCE + ROOM,
    )
    Server(config).run(sockets=[listener])
