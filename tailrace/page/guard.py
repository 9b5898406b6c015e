"""What stands before the page: whose requests are answered, and what every answer carries.

A browser sends its cookies wherever a page tells it to, so knowing the visitor is not enough: the
request must be for a name of ours (or a stranger's name could be made to point here), come from
our own page, and change something only by a form that we gave out.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.page.keys import SESSION_S, Keys

COOKIE: Final = "tailrace"
BODY_BYTES: Final = 8192
FIELDS: Final = 20
BODY_S: Final = 10.0
OPEN_PATHS: Final = ("/static/", "/login")
"""Whoever asks may have these: nothing in them is of this host."""

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # not "no-referrer": with that, browsers do not say where our own forms come from
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_NAMES: Final = (
    "Open it by the address that `tailrace page` prints; a further name goes into the "
    "configuration as [page] hosts."
)
_STRANGER: Final = (
    "This page shows what runs on this host, so it asks for a token. Open the address that "
    "`tailrace run` printed at its start; `tailrace page` prints it again."
)
_WRONG_ADDRESS: Final = (
    "The token in this address is not the one of this page. `tailrace page` prints the right "
    "address."
)
_CROSS_SITE: Final = (
    "This request comes from another site, and none may use this page. Open its address yourself: "
    "in a new tab, by the address bar."
)
_NO_ORIGIN: Final = (
    "A form must say which page it comes from (Origin or Sec-Fetch-Site), and this request does "
    "not."
)
_NOT_OURS: Final = (
    "This form is not one of this page's, or too old. Go back, reload the page and send it again."
)


class RefusedError(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        why: what is wrong and what to do, for the person before the browser.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Guard:
    """Lets through what may come through, as ASGI middleware."""

    def __init__(
        self, app: ASGIApp, *, keys: Keys, listening: str, hosts: Collection[str], password: bool
    ) -> None:
        """Stand before an application.

        Args:
            app: it.
            keys: who may look.
            listening: the address that is listened at.
            hosts: names under which it is reached beside its addresses.
            password: whether visitors log in by a password and not by a token.
        """
        self._app, self._keys, self._password = app, keys, password
        self._everywhere = not ipaddress.ip_address(listening).is_loopback
        self._names = {"localhost", *hosts}
        if self._everywhere:
            self._names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        request = Request(scope, receive)
        try:
            answer: ASGIApp = await self._admitted(request)
        except RefusedError as refused:
            answer = _words(refused)
        await answer(scope, receive, send_guarded)

    async def _admitted(self, request: Request) -> ASGIApp:
        """Return what answers a request.

        Raises:
            RefusedError: nothing does.
        """
        self._check_host(request)
        _check_site(request)
        session = request.cookies.get(cookie_of(request), "")
        known = self._keys.is_session(session, time.time())
        request.state.session = session if known else ""
        request.state.form = {}
        if request.method == "POST":
            request.state.form = await _form(request)
        if request.url.path.startswith(OPEN_PATHS):
            return self._app
        if not self._password and "token" in request.query_params:
            return self._enter(request)
        if not known:
            return self._turn_away()
        if request.method == "POST":
            given = request.state.form.get("form", "")
            if not self._keys.is_form(given, session):
                raise RefusedError(403, _NOT_OURS)
        return self._app

    def _check_host(self, request: Request) -> None:
        given = request.headers.get("host", "")
        name = (urlsplit(f"//{given}").hostname if _is_plain(given) else None) or ""
        if name in self._names:
            return
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            address = None
        # An address is no name that a stranger could have pointed here
        if address is not None and (self._everywhere or address.is_loopback):
            return
        raise RefusedError(403, f"This page is not called {given[:200]!r}. {_NAMES}")

    def _enter(self, request: Request) -> Response:
        if not self._keys.is_token(request.query_params["token"]):
            raise RefusedError(401, _WRONG_ADDRESS)
        return let_in(request, self._keys, RedirectResponse("/", status_code=303))

    def _turn_away(self) -> Response:
        if self._password:
            return RedirectResponse("/login", status_code=303)
        raise RefusedError(401, _STRANGER)


def cookie_of(request: Request) -> str:
    """Return the cookie's name: browsers keep one jar for all ports of a host."""
    port = urlsplit(f"//{request.headers['host']}").port
    return f"{COOKIE}-{port or 80}"


def let_in(request: Request, keys: Keys, response: Response) -> Response:
    """Return a response that makes the visitor known."""
    response.set_cookie(
        cookie_of(request),
        keys.session(time.time()),
        max_age=round(SESSION_S),
        httponly=True,
        samesite="strict",
    )
    return response


def _is_plain(host: str) -> bool:
    try:
        parts = urlsplit(f"//{host}")
        return bool(parts.netloc == host and parts.port != 0)
    except ValueError:
        return False


def _check_site(request: Request) -> None:
    """Refuse what another site's page asked for; other ports of this host are other sites."""
    site = request.headers.get("sec-fetch-site")
    if site not in (None, "none", "same-origin"):
        raise RefusedError(403, _CROSS_SITE)
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers["host"]:
        raise RefusedError(403, _CROSS_SITE)
    if request.method == "POST" and origin is None and site != "same-origin":
        raise RefusedError(403, _NO_ORIGIN)


async def _form(request: Request) -> dict[str, str]:
    """Return what a form says, read here and so bounded in size and time."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RefusedError(415, "A form of this page is sent as application/x-www-form-urlencoded.")
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > BODY_BYTES:
                    raise RefusedError(413, f"What is sent here has at most {BODY_BYTES} bytes.")
    except TimeoutError:
        raise RefusedError(408, "The form took too long to arrive.") from None
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError:
        raise RefusedError(400, "The form is not in UTF-8, or has too many fields.") from None


def _words(refused: RefusedError) -> Response:
    return Response(
        f"{refused.why}\n", status_code=refused.status, media_type="text/plain; charset=utf-8"
    )
