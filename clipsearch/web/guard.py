"""Who may ask: the browser that was given the token, on pages of our own and no others.

A web page that somebody visits can make the browser ask any address, that of this server too. The cookie is not sent
along then (SameSite), a name that was pointed to this machine is not ours (Host, against DNS rebinding), and what asks
for another page says so (Origin, Sec-Fetch-Site).
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
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
    " trusted-types 'none'"
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
    """What nobody guesses."""
    return secrets.token_urlsafe(24)


class Guard:
    """Stands before the application: refuses who must not ask, and puts the headers on every answer.

    `host` is the address that the server listens at. The token, in the first address, is exchanged for a cookie with
    another secret, so that none of the addresses in the browser's history opens anything later.
    """

    def __init__(self, app: ASGIApp, token: str, host: str) -> None:
        self._app, self._token, self._host = app, token, host
        self._secret = new_token()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, answer it with the cookie, or pass it on."""
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

        answer = self._answer(Request(scope))
        if answer is not None:
            answer.headers["Connection"] = "close"  # whoever is not let in holds nothing
        await (answer or self._app)(scope, receive, with_headers)

    def _answer(self, request: Request) -> Response | None:
        if not self._is_ours(request.headers.get("host", "")):
            return PlainTextResponse("This server has another name.\n", 421)
        if _is_of_another_page(request):
            return PlainTextResponse("This was asked by another page.\n", 403)
        if request.url.path == "/" and "token" in request.query_params:
            return self._exchange(request)
        if not secrets.compare_digest(request.cookies.get(_cookie(request), "").encode(), self._secret.encode()):
            return PlainTextResponse("Open the address that `clipsearch serve` has printed.\n", 401)
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == self._host or name in LOOPBACK:
            return True
        # An address in numbers is nobody's name: it cannot be pointed elsewhere.
        return self._host not in LOOPBACK and _is_number(name)

    def _exchange(self, request: Request) -> Response:
        if not secrets.compare_digest(request.query_params["token"].encode(), self._token.encode()):
            return PlainTextResponse("This address is of an earlier `clipsearch serve`.\n", 403)
        rest = urlencode([pair for pair in request.query_params.multi_items() if pair[0] != "token"])
        answer = RedirectResponse(f"/?{rest}" if rest else "/", 303)
        answer.set_cookie(_cookie(request), self._secret, httponly=True, samesite="strict")
        return answer


def _cookie(request: Request) -> str:
    """A name for each port, since browsers keep one jar for all of them."""
    return f"{COOKIE}-{request.url.port or 80}"


def _is_of_another_page(request: Request) -> bool:
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers['host']}":
        return True
    if request.method not in ("GET", "HEAD"):
        return origin is None
    return site not in ("none", "same-origin") and request.url.path != "/"


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
