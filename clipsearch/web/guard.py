"""Access control: only a browser that was given the token may use the page, and only from the page itself.

Any web site can make a browser send requests to this server. Three checks stop that: the cookie is not sent with
cross-site requests (SameSite), the Host header must be ours (DNS rebinding), and Origin or Sec-Fetch-Site must name
our own page.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "clipsearch"
_ONE_YEAR = 365 * 24 * 3600  # seconds that browsers keep the cookie
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self';"
    " connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def new_token() -> str:
    """192 random bits, URL-safe."""
    return secrets.token_urlsafe(24)


class Guard:
    """Middleware that refuses unauthorised requests and adds security headers to every response.

    `host` is the address that the server listens on. The token in the first URL is exchanged for a cookie with another
    `secret`. The token is new in each run, so no URL in the browser's history gives access later; the secret is not, so
    that bookmarks do. `once` is a token for a single exchange: other users see it among the arguments of the browser.
    """

    def __init__(self, app: ASGIApp, token: str, host: str, secret: str, once: str | None = None) -> None:
        self._app, self._host, self._secret = app, host, secret
        self._token, self._once = token, once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, exchange its token for a cookie, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        response = self._check(Request(scope))
        if response is not None:
            response.headers["Connection"] = "close"  # strangers must not hold connections open
        await (response or self._app)(scope, receive, with_headers)

    def _check(self, request: Request) -> Response | None:
        """The response that ends the request here, or None to let it through."""
        if not self._is_own_host(request.headers.get("host", "")):
            return PlainTextResponse("Wrong host name. Open the address that `clipsearch serve` printed.\n", 421)
        if _is_cross_site(request):
            return PlainTextResponse("Requests from other web sites are refused.\n", 403)
        if request.url.path == "/" and "token" in request.query_params:
            return self._exchange(request)
        if not secrets.compare_digest(request.cookies.get(_cookie(request), "").encode(), self._secret.encode()):
            return PlainTextResponse("Not authorised. Open the address that `clipsearch serve` printed.\n", 401)
        return None

    def _is_own_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == self._host or name in LOOPBACK:
            return True
        # DNS rebinding needs a name, so an IP address is safe.
        return self._host not in LOOPBACK and _is_ip_address(name)

    def _exchange(self, request: Request) -> Response:
        given = request.query_params["token"].encode()
        if self._once is not None and secrets.compare_digest(given, self._once.encode()):
            self._once = None
        elif not secrets.compare_digest(given, self._token.encode()):
            return PlainTextResponse("Expired address. Open the one that `clipsearch serve` printed last.\n", 403)
        rest = urlencode([pair for pair in request.query_params.multi_items() if pair[0] != "token"])
        response = RedirectResponse(f"/?{rest}" if rest else "/", 303)
        response.set_cookie(_cookie(request), self._secret, _ONE_YEAR, httponly=True, samesite="strict")
        return response


def _cookie(request: Request) -> str:
    """The cookie name, with the port: browsers share cookies among all ports of a host."""
    return f"{COOKIE}-{request.url.port or 80}"


def _is_cross_site(request: Request) -> bool:
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers['host']}":
        return True
    if request.method not in ("GET", "HEAD"):
        return origin is None
    return site not in ("none", "same-origin") and request.url.path != "/"


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
