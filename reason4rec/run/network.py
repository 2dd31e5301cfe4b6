"""What a user's surroundings have to do with reaching a server: proxies, certificates, headers of gateways."""

import os
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from reason4rec.errors import InputError

PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
KEY_OF_AZURE = "api-key"
LOOPBACK = ("localhost", "127.0.0.1", "::1")  # this machine by its own names


def network_hint(url: str, error: BaseException) -> str:
    """Which variable of the environment may be why a server cannot be reached; empty if none is."""
    if "CERTIFICATE" in str(error).upper():
        return ", its certificate is not trusted: see SSL_CERT_FILE and SSL_CERT_DIR"
    proxies = [name for name in PROXIES if os.environ.get(name)]
    if proxies and not proxy_bypass(urlsplit(url).hostname or ""):
        return f", through the proxy of {' or '.join(proxies)}: see it and NO_PROXY"
    return ""


def is_azure(url: str) -> bool:
    """Whether an address is of Azure, told by its `api-version`: its key has a header of its own, KEY_OF_AZURE."""
    return "api-version" in urlsplit(url).query


def extra_headers(variable: str) -> dict[str, str]:
    """The headers in a variable, written as `Name: value; Name: value`; InputError for what is none."""
    found = {}
    for part in filter(str.strip, re.split(r"\n|;(?=\s*[\w-]+:)|;\s*$", os.environ.get(variable, ""))):
        name, colon, value = part.partition(":")
        plain = value.isascii() and value.strip().isprintable()
        if not colon or not re.fullmatch(r"[\w-]+", name.strip(), re.ASCII) or not plain:
            raise InputError(f"{variable} holds what is no header: set it like `Name: value; Name: value`")
        found[name.strip()] = value.strip()
    return found


def kept_from_others(host: str, headers: Iterable[str]) -> dict[str, list[Callable]]:
    """Hooks of an HTTP client by which no headers with keys go along where a host sends a request on to another.

    The library itself takes off only the header Authorization.
    """
    names = (*headers, KEY_OF_AZURE)

    def take_off(request: object) -> None:
        for name in names if request.url.host != host else ():
            request.headers.pop(name, None)

    return {"request": [take_off]}


def masked(text: str, secrets: Iterable[str | None]) -> str:
    """A text with stars in place of secrets, of which one may hold another."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
