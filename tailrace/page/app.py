"""The page's addresses, and which view each shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from alerts import silences
from alerts.errors import StoreError
from probes.window import Pair
from tailrace.draw import style
from tailrace.errors import TailraceError
from tailrace.page import guard, silence_views
from tailrace.page.incident_views import SHOW, IncidentDetail, IncidentList, silenced_by
from tailrace.page.keys import Keys
from tailrace.page.live import STREAMS, Streams
from tailrace.page.overview import Overview
from tailrace.page.pair_detail import SPANS, PairDetail
from tailrace.page.pair_list import SORTS, PairList
from tailrace.page.render import HERE, render
from tailrace.page.silence_views import LENGTHS, SilenceList
from tailrace.page.source import Source
from tailrace.page.views import View, digest

THEME: Final = "tailrace-theme"
THEMES: Final = ("auto", "light", "dark")
LOGIN_S: Final = 1.0
"""A wrong password is answered so much later, and others wait for it."""
LOGINS_WAITING: Final = 8
STATIC: Final[Mapping[str, str]] = {
    "page.js": "text/javascript",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
}


def application(
    source: Source, keys: Keys, *, listening: str, hosts: Collection[str], password: bool = False
) -> Starlette:
    """Return the application.

    Args:
        source: what it shows.
        keys: who may look.
        listening: the address that is listened at.
        hosts: names under which it is reached beside its addresses.
        password: whether visitors log in by a password.
    """
    pages = Pages(source, keys)
    routes = [
        Route("/events", pages.events),
        Route("/silences", pages.silence, methods=["POST"]),
        Route("/silences/{id}/end", pages.end_silence, methods=["POST"]),
        Route("/theme", pages.theme, methods=["POST"]),
        Route("/login", pages.login, methods=["GET", "POST"]),
        Route("/static/{name}", static),
        Route("/{path:path}", pages.page),
    ]
    guarded = Middleware(
        guard.Guard, keys=keys, listening=listening, hosts=hosts, password=password
    )
    return Starlette(
        routes=routes,
        middleware=[guarded],
        exception_handlers={StoreError: _in_words, TailraceError: _in_words},
    )


class Pages:
    """What answers at each address."""

    def __init__(self, source: Source, keys: Keys) -> None:
        self._source, self._keys = source, keys
        self._streams = Streams(source)
        self._login, self._logins = asyncio.Lock(), 0

    def view(self, path: str, query: Mapping[str, str], *, session: str) -> View | None:
        """Return the view at an address, for a session; None if there is none."""
        view: View | None = None
        if path == "/":
            view = Overview()
        elif path == "/incidents":
            view = IncidentList(show=query.get("show", ""))
        elif path == "/pairs":
            view = PairList(
                search=query.get("q", ""),
                sort=query.get("sort", ""),
                page=_number(query.get("page", "")) or 1,
            )
        elif path == "/silences":
            view = SilenceList(form=self._keys.form(session), made=query.get("made", ""))
        elif path == "/pair" and (pair := _pair(query)):
            view = PairDetail(self._source, pair, span=query.get("span", ""))
        elif incident := self._source.incident(path.removeprefix("/incidents/")):
            view = IncidentDetail(self._source, incident)
        return view

    def _view_at(self, request: Request, address: str) -> View | None:
        of = urlsplit(address)
        query = dict(parse_qsl(of.query, keep_blank_values=True))
        return self.view(of.path, query, session=request.state.session)

    def page(self, request: Request) -> Response:
        """Answer with a whole page."""
        snapshot = self._source.current()
        view = self.view(request.url.path, request.query_params, session=request.state.session)
        if view is None:
            return _not_found()
        return self._whole(request, view, snapshot=snapshot)

    def _whole(
        self, request: Request, view: View, *, status: int = 200, error: str = "", **more: Any
    ) -> Response:
        snapshot = more.pop("snapshot", None) or self._source.current()
        now = time.time()
        parts = view.parts(snapshot, now)
        have = ",".join(digest(part) for part in parts.values())
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        here = more.pop("here", here)
        html = render(
            view.template,
            view=view,
            parts=parts,
            snapshot=snapshot,
            now=now,
            here=here,
            events="/events?" + urlencode({"of": here, "have": have}),
            token=self._keys.form(request.state.session),
            theme=_theme(request),
            themes=THEMES,
            sorts=SORTS,
            spans=SPANS,
            show=SHOW,
            lengths=LENGTHS,
            error=error,
            form=request.state.form,
            matcher=silenced_by,
        )
        return HTMLResponse(html, status_code=status)

    async def events(self, request: Request) -> Response:
        """Answer with a stream of what changes in a view."""
        view = self._view_at(request, request.query_params.get("of", ""))
        if view is None:
            return _not_found()
        if self._streams.open >= STREAMS:
            return PlainTextResponse(
                f"More than {STREAMS} views are open: close some.\n", status_code=503
            )
        # After an interruption nobody knows what the visitor has
        again = "last-event-id" in request.headers
        have = () if again else request.query_params.get("have", "").split(",")
        return StreamingResponse(self._streams.of(view, have=have), media_type="text/event-stream")

    def silence(self, request: Request) -> Response:
        """Add a silence."""
        form = request.state.form
        back = _own(form.get("back", ""))
        try:
            made = silence_views.add(self._source.state_dir, form, now=time.time())
        except ValueError as error:
            return self._again(request, back, f"No silence was made: {error}.")
        return RedirectResponse(f"/silences?made={made.id}", status_code=303)

    def end_silence(self, request: Request) -> Response:
        """End a silence."""
        try:
            silences.end(self._source.state_dir, request.path_params["id"], now=time.time())
        except StoreError as error:
            if error.reason != "missing":
                raise
            return self._again(request, "/silences", f"{error}.")
        return RedirectResponse("/silences", status_code=303)

    def _again(self, request: Request, back: str, error: str) -> Response:
        """Answer with the view of a form, with what was written in it and what is wrong."""
        view = self._view_at(request, back)
        if not isinstance(view, IncidentDetail | PairDetail | SilenceList):
            back = "/silences"
            view = SilenceList(form=self._keys.form(request.state.session))
        return self._whole(request, view, status=422, here=back, error=error)

    def theme(self, request: Request) -> Response:
        """Take light, dark, or what the system has."""
        form = request.state.form
        response = RedirectResponse(_own(form.get("back", "")), status_code=303)
        if form.get("theme") in THEMES:
            response.set_cookie(THEME, form["theme"], max_age=31_536_000, samesite="strict",
                                httponly=True)  # fmt: skip
        return response

    async def login(self, request: Request) -> Response:
        """Ask for the password; one wrong one a second at most is looked at."""
        error, status = "", 200
        if request.method == "POST":
            if self._logins >= LOGINS_WAITING:
                return PlainTextResponse("Too many try to log in; wait a little.\n", 429)
            self._logins += 1
            try:
                async with self._login:
                    if self._keys.is_password(request.state.form.get("password", "")):
                        response = RedirectResponse("/", status_code=303)
                        return guard.let_in(request, self._keys, response)
                    await asyncio.sleep(LOGIN_S)
            finally:
                self._logins -= 1
            error, status = "This is not the password of [page] password_file.", 401
        return HTMLResponse(
            render("login.html", error=error, theme=_theme(request)), status_code=status
        )


async def static(request: Request) -> Response:
    """Answer with a file of the page's own."""
    name = request.path_params["name"]
    if name == "draw.css":
        return Response(style.CSS, media_type="text/css")
    if name not in STATIC:
        return _not_found()
    return Response((HERE / "static" / name).read_bytes(), media_type=STATIC[name])


def _not_found() -> Response:
    return PlainTextResponse("There is nothing at this address. The page begins at /\n", 404)


def _in_words(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", status_code=500)


def _pair(query: Mapping[str, str]) -> Pair | None:
    port = _number(query.get("port", ""))
    if port is None or not (query.get("client") and query.get("server")):
        return None
    return Pair(query["client"], query["server"], port, query.get("transport", "tcp"))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None


def _own(address: str) -> str:
    """Return an address if it is one of this page's, else where it begins."""
    parts = urlsplit(address)
    own = not parts.scheme and not parts.netloc and address.startswith("/")
    return address if own and "\\" not in address else "/"


def _theme(request: Request) -> str:
    theme = request.cookies.get(THEME, "auto")
    return theme if theme in THEMES else "auto"
