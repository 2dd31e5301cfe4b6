"""What of this machine's surroundings may be why a server cannot be reached."""

import os
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def network_hint(url: str, error: BaseException) -> str:
    """Which variable of the environment may be why a server cannot be reached; empty if none is."""
    if "CERTIFICATE" in str(error).upper():
        return ", its certificate is not trusted: see SSL_CERT_FILE and SSL_CERT_DIR"
    proxies = [name for name in PROXIES if os.environ.get(name)]
    if proxies and not proxy_bypass(urlsplit(url).hostname or ""):
        return f", through the proxy of {' or '.join(proxies)}: see it and NO_PROXY"
    return ""
