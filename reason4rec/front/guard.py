"""What stands between a visitor and the app: which requests it lets in, and what it adds to every answer.

A line of the log has the method, an address of the app, the status and the time.
"""

import asyncio
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders

from reason4rec.front.log import logger, without_message

Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LARGEST_BODY = 2**20  # bytes
SECONDS_FOR_BODY = 30
ALWAYS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

ENDING = "the server is shutting down"


class Guard:
    """Lets requests to the names in `hosts` (any address too, if `any_address`) through to the app."""

    def __init__(self, app: App, hosts: Collection[str], any_address: bool):
        self.app, self.hosts, self.any_address = app, hosts, any_address

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in ALWAYS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if refused := self._refused(scope):
                await _complain(send_with_headers, *refused)
            else:
                await self.app(scope, bounded(scope, receive), send_with_headers)
        except asyncio.CancelledError:
            # By the server at its end, which would answer with a traceback.
            if not status:
                await _complain(send_with_headers, 503, ENDING)
        except Exception as error:
            # Not handed on: the server would log its message, which may hold what a visitor wrote.
            logger.error("failed: %s", without_message(error))
            if not status:
                await _complain(send_with_headers, 500, "a fault of this server; whoever runs it sees where")
        finally:
            known = {getattr(route, "path", "") for route in scope["app"].routes}
            path = scope["path"] if scope["path"] in known else "an unknown address"
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS") else "another method"
            logger.info("%s %s: %s, %.0f ms", method, path, status or "-", (time.monotonic() - began) * 1e3)

    def _refused(self, scope: Message) -> tuple[int, str] | None:
        """The status and the words with which a request is turned away."""
        headers = Headers(scope=scope)
        # A page elsewhere whose name was turned to this machine's address would send its own name.
        if not self._is_own(headers.getlist("host")):
            return 421, "this server has another name; use the address that it printed"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            # A form of a page elsewhere cannot send this type.
            return 415, "expected a body of Content-Type application/json"
        if headers.get("content-length", "0").isdecimal() and int(headers.get("content-length", "0")) > LARGEST_BODY:
            return 413, TOO_LARGE
        return None

    def _is_own(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        name = host_in(hosts[0])
        return name in self.hosts or (self.any_address and is_address(name))


TOO_LARGE = f"the body is larger than {LARGEST_BODY:,} bytes; give fewer or shorter reviews"


def host_in(header: str) -> str:
    """The name in a Host header, without its port and without the brackets of IPv6."""
    name, colon, port = header.strip().lower().rpartition(":")
    if not (colon and port.isdecimal()):
        name = header.strip().lower()
    return name.removeprefix("[").removesuffix("]").removesuffix(".")


def is_address(name: str) -> bool:
    """Whether a host is written as an address of IPv4 or IPv6, which no name server can turn elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def bounded(scope: Message, receive: Receive) -> Receive:
    """A request's `receive` that ends with 413 where the body is too large, and with 408 where it is too slow."""
    size, whole = 0, False

    async def receive_within() -> Message:
        nonlocal size, whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"the body took longer than {SECONDS_FOR_BODY} s to arrive") from None
        size += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if size > LARGEST_BODY:
            raise HTTPException(413, TOO_LARGE, {"Connection": "close"})
        return message

    deadline = asyncio.get_running_loop().time() + SECONDS_FOR_BODY
    return receive_within


async def _complain(send: Send, status: int, words: str) -> None:
    body = json.dumps({"error": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
