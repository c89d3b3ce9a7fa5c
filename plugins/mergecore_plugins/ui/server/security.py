"""Who may ask the server: this machine alone, with the key, by an address of the server itself; read `Guard`."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Mapping[str, str] = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""What every answer says; an answer may say something stricter itself."""

REFUSED = "Refused: open the address that `mergecore ui` printed when it started."


@dataclass(frozen=True)
class Guard:
    """Lets requests through to the page that come from the page itself.

    The key is in the address that is opened first; from then on it is in a cookie that no script can read and that no
    other site can make the browser send.
    """

    app: ASGIApp
    token: str = field(repr=False)
    port: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await _closed(send)
            return
        answer = self._answer(scope)
        await (answer or self.app)(scope, receive, _with_headers(send))

    def _answer(self, scope: Scope) -> Response | None:
        """What to say in place of the page; None where the page answers."""
        headers = Headers(scope=scope)
        if not self._from_here(scope, headers):
            return PlainTextResponse(REFUSED, 403)
        given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] == "GET" and "token" in given:
            return self._first(scope["path"], given)
        return None if self._is_key(self._cookie(headers)) else PlainTextResponse(REFUSED, 403)

    def _first(self, path: str, given: dict[str, list[str]]) -> Response:
        """Take the key out of an address, into a cookie."""
        if not self._is_key(given.pop("token")[-1]):
            return PlainTextResponse(REFUSED, 403)
        rest = f"?{urlencode(given, doseq=True)}" if given else ""
        there = RedirectResponse(f"/{path.lstrip('/')}{rest}", 303)
        there.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return there

    @property
    def cookie(self) -> str:
        """The name of the cookie; those of one machine go to all ports of it."""
        return f"mergecore-{self.port}"

    def _from_here(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request came from this machine, to an address of it, and from no page of another site."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return False
        origins = headers.getlist("origin")
        if any(one.lower() != f"http://{hosts[0].lower()}" for one in origins):
            return False
        if not origins and scope["method"] not in ("GET", "HEAD"):
            return False
        site = headers.get("sec-fetch-site", "none")
        return site in ("same-origin", "none") and _is_loopback(scope.get("client"))

    @property
    def _hosts(self) -> frozenset[str]:
        return frozenset(f"{name}:{self.port}" for name in ("127.0.0.1", "localhost"))

    def _cookie(self, headers: Headers) -> str:
        try:
            found = SimpleCookie("; ".join(headers.getlist("cookie"))).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _is_key(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


def _is_loopback(client: tuple[str, int] | None) -> bool:
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return wrapped


async def _closed(send: Send) -> None:
    await send({"type": "websocket.close", "code": 1008})
