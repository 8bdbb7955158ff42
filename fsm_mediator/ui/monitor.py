"""Monitor: the ASGI app of the pages. It finds the operator of a request, chooses the page, and returns its HTML."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote

import jinja2
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Match, Mount, Route
from starlette.staticfiles import StaticFiles

from fsm_mediator.errors import (
    DefinitionError,
    JournalError,
    MediatorError,
    PayloadError,
    RefusedError,
    SagaIdTakenError,
    StillRunningError,
    UnknownExecutionError,
    UnknownSagaError,
)
from fsm_mediator.journal.factory import open_for_reading, open_journal
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.narration import place_in_words, span
from fsm_mediator.states import phase_of
from fsm_mediator.ui.access import LOOK, SAFETY_HEADERS, VERBS, FormTokens, Operator
from fsm_mediator.ui.batches import IN_BULK, Batches
from fsm_mediator.ui.live import digest_of, events
from fsm_mediator.ui.pages import FILTERS, Page, Pages
from fsm_mediator.ui.pictures import dark_rules
from fsm_mediator.ui.reading import Reader

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE: Final = Path(__file__).parent

MOST_BODY: Final = 1_000_000
"""The maximum number of bytes in the body of a submitted form."""

PageMaker = Callable[[Request], Awaitable[Page]]
Authorize = Callable[[Request], "Operator | Awaitable[Operator | None] | None"]

_STATUS: Final[tuple[tuple[type[MediatorError], int], ...]] = (
    (UnknownExecutionError, 404),
    (UnknownSagaError, 404),
    (StillRunningError, 202),
    (PayloadError, 422),
    (SagaIdTakenError, 409),
    (RefusedError, 409),
    (DefinitionError, 400),
    (JournalError, 503),
)


class Monitor:
    """The pages for operators, as an ASGI app. Mount it into FastAPI or Starlette, or serve it as its own app.

    ::

        def who(request):
            user = request.user                     # the user that your app has authenticated
            return Operator.acting(user.email) if user.is_staff else None

        app.mount("/sagas", Monitor(mediator, authorize=who))

    Args:
        mediator: The mediator that executes verbs: a `Mediator`, or an `AsyncMediator` on the same event loop. You can
            also pass a journal, or its path or URL. Then the pages are read-only and have no pictures.
        authorize: A function or a coroutine function that is called with each request. It returns the `Operator`, or
            None to answer with status 403.
        read_only: Whether to refuse all verbs from all operators.
        redact: A function that returns a text without its secrets. It is called with each text of payloads, results,
            errors and reasons before the text is shown.
        secret: The key of the tokens in forms. Pass the same key in every process that serves the same pages. If None,
            each process has a random key.
        archive: The folder of an `Archive` whose executions are shown too. None if there is no archive.

    Raises:
        DefinitionError: *mediator* is neither a mediator nor a journal, or *authorize* cannot be called.
    """

    def __init__(
        self,
        mediator: Any,
        *,
        authorize: Authorize,
        read_only: bool = False,
        redact: Callable[[str], str] | None = None,
        secret: bytes | None = None,
        archive: str | os.PathLike[str] | None = None,
    ) -> None:
        if not callable(authorize):
            raise DefinitionError(
                f"authorize={authorize!r} must be a function that takes the request and returns an Operator or None"
            )
        acts = hasattr(mediator, "journal") and hasattr(mediator, "sagas")
        self._mediator = mediator if acts else None
        journal: Journal = mediator.journal if acts else _readable(mediator)
        self._authorize = authorize
        self._read_only = read_only or not acts
        self._tokens = FormTokens(secret)
        self._reader = Reader(journal, mediator.sagas if acts else (), redact or str)
        archived = None if archive is None else Path(archive)
        batches = Batches(self._reader, self._mediator)
        self._pages = Pages(self._reader, batches, self._call if acts else None, archived)
        self._archive = archived
        self._templates = _templates(self._reader.clock)
        self._app = self._routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of a browser. Each response gets the security headers."""
        await self._app(scope, receive, _safely(send))

    def _routes(self) -> ASGIApp:
        pages = self._pages
        listed = (
            ("/", pages.now),
            ("/runs", pages.runs),
            ("/runs/{saga_id:path}", pages.run),
            ("/stuck", pages.stuck),
            ("/machines", pages.machines),
            ("/machines/{name}/{version}", pages.machine),
            ("/audit", pages.audit),
            ("/bulk", pages.bulk),
            ("/batches/{name}", pages.batch),
            *((("/archive", pages.archive), ("/archive/{saga_id:path}", pages.archived)) if self._archive else ()),
        )
        self._page_routes = [
            (page, Route(path, functools.partial(self._show, page), methods=["GET"])) for path, page in listed
        ]
        return Starlette(
            routes=[
                Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
                Route("/diagrams.css", self._sheet, methods=["GET"]),
                Route("/events", self._events, methods=["GET"]),
                Route("/do/{verb}/{saga_id:path}", self._act, methods=["POST"]),
                Route("/bulk", self._begin_batch, methods=["POST"]),
                Route("/batches/{name}", self._go_on_with_batch, methods=["POST"]),
                *(route for _, route in self._page_routes),
            ],
        )

    # The operator of a request.

    async def _operator(self, request: Request) -> Operator | None:
        found = self._authorize(request)
        operator = await found if inspect.isawaitable(found) else found
        if operator is None or LOOK not in operator.may:
            return None
        return operator.without(VERBS) if self._read_only else operator

    # Requests for pages.

    async def _show(self, page: PageMaker, request: Request) -> Response:
        operator = await self._operator(request)
        if operator is None:
            return self._answer(request, None, _message("You may not see this page."), 403)
        return self._answer(request, operator, *await self._made(page, request))

    async def _made(self, page: PageMaker, request: Request) -> tuple[Page, int]:
        """The page and its status code. If making the page fails, the page shows the error message."""
        try:
            return await page(request), 200
        except MediatorError as error:
            return self._failure(error)

    def _failure(self, error: MediatorError, back: str = "") -> tuple[Page, int]:
        status = next((number for kind, number in _STATUS if isinstance(error, kind)), 500)
        return _message(self._reader.redact(str(error)), back, "Not found" if status == 404 else "Not done"), status

    def _answer(self, request: Request, operator: Operator | None, page: Page, status: int = 200) -> Response:
        return HTMLResponse(self._render(request, operator, page), status, headers={"cache-control": "no-store"})

    def _render(self, request: Request, operator: Operator | None, page: Page) -> str:
        root = request.scope.get("root_path", "")
        path = request.scope["path"].removeprefix(root) or "/"  # `request.url` would cut the path at a "?" in an id
        query = f"?{request.url.query}" if request.url.query else ""
        html = self._templates.get_template(page.template).render(
            root=root,
            here=path,
            place=quote(path) + query,
            operator=operator,
            read_only=self._read_only,
            has_archive=self._archive is not None,
            form_token="" if operator is None else self._tokens.token_of(operator),
            **{"runs": "archive" if path.startswith("/archive") else "runs", **page.content},
        )
        return html.replace("PAGE-DIGEST", digest_of(html), 1)

    async def _sheet(self, _request: Request) -> Response:
        return Response(dark_rules(), media_type="text/css", headers={"cache-control": "max-age=3600"})

    # Requests for the events of a page.

    async def _events(self, request: Request) -> Response:
        operator = await self._operator(request)
        if operator is None:
            return Response(status_code=403)
        place = request.query_params.get("page", "/")
        path, _, query = place.partition("?")
        whole = request.scope.get("root_path", "") + unquote(path)
        scope = {**request.scope, "path": whole, "raw_path": quote(whole).encode(), "query_string": query.encode()}
        for page, route in self._page_routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return self._stream(request, operator, page, Request({**scope, **child}))
        return Response(status_code=404)

    def _stream(self, request: Request, operator: Operator, page: PageMaker, asked: Request) -> Response:
        async def render() -> str:
            made, _ = await self._made(page, asked)
            return self._render(asked, operator, made)

        stream = events(render, request.is_disconnected, request.query_params.get("known", ""))
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    # Submitted forms.

    async def _act(self, request: Request) -> Response:
        verb, saga_id = request.path_params["verb"], request.path_params["saga_id"]
        operator, form, refused = await self._form_for(request, verb)
        if operator is None or refused is not None:
            return self._refuse(request, operator, refused)
        root = request.scope.get("root_path", "")
        try:
            shown = await self._pages.act(verb, saga_id, form, operator.name)
        except MediatorError as error:
            return self._answer(request, operator, *self._failure(error, f"{root}/runs/{quote(saga_id)}"))
        return RedirectResponse(f"{root}/runs/{quote(shown)}", 303)

    async def _begin_batch(self, request: Request) -> Response:
        operator, form, refused = await self._form_for(request, None)
        verb = form.pop("verb", "")
        if operator is None or refused is not None or verb not in operator.may or verb not in IN_BULK:
            return self._refuse(request, operator, refused or (403, f"You may not use {verb!r} here."))
        asked = {name: form.get(name, "").strip() or None for name in FILTERS}
        try:
            name = await self._pages.batches.begin(verb, asked, form, operator.name)
        except MediatorError as error:
            return self._answer(request, operator, *self._failure(error))
        return RedirectResponse(f"{request.scope.get('root_path', '')}/batches/{quote(name)}", 303)

    async def _go_on_with_batch(self, request: Request) -> Response:
        operator, _, refused = await self._form_for(request, None)
        name = request.path_params["name"]
        if operator is None or refused is not None:
            return self._refuse(request, operator, refused)
        try:
            found = await run_in_threadpool(self._pages.batches.found, name)
        except MediatorError as error:
            return self._answer(request, operator, *self._failure(error))
        if found["batch"].verb not in operator.may:
            return self._refuse(request, operator, (403, f"You may not use {found['batch'].verb!r} here."))
        try:
            await run_in_threadpool(self._pages.batches.check_free, found["batch"])
        except MediatorError as error:
            here = f"{request.scope.get('root_path', '')}/batches/{quote(name)}"
            return self._answer(request, operator, *self._failure(error, here))
        self._pages.batches.go_on(name)
        return RedirectResponse(f"{request.scope.get('root_path', '')}/batches/{quote(name)}", 303)

    async def _form_for(
        self, request: Request, verb: str | None
    ) -> tuple[Operator | None, dict[str, str], tuple[int, str] | None]:
        """The operator, the fields of the submitted form, and the reason to refuse the form.

        The reason is a status code and a message, or None if the form is accepted. *verb* is the verb of the form. None
        for a batch, whose form has the verb.
        """
        operator = await self._operator(request)
        if operator is None or (operator.may == {LOOK} if verb is None else verb not in operator.may):
            why = "This monitor is read-only." if self._read_only else f"You may not use {verb or 'batches'!r} here."
            return operator, {}, (403, why)
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return operator, {}, (415, "A verb is sent as a form.")
        form = await _form_of(request)
        if form is None:
            return operator, {}, (413, f"The form has more than {MOST_BODY:,} bytes.")
        why_refused = self._tokens.why_refused(operator, request.headers, form.pop("form_token", ""))
        return operator, form, None if why_refused is None else (403, f"Refused: {why_refused}.")

    def _refuse(self, request: Request, operator: Operator | None, refused: tuple[int, str] | None) -> Response:
        status, words = refused or (403, "You may not see this page.")
        return self._answer(request, operator, _message(words), status)

    async def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call the method *name* of the `Mediator` or `AsyncMediator`, and return its result."""
        method = getattr(self._mediator, name)
        if inspect.iscoroutinefunction(method):
            return await method(*args, **kwargs)
        return await run_in_threadpool(method, *args, **kwargs)


def _message(words: str, back: str = "", title: str = "Not done") -> Page:
    return Page("message.html", {"title": title, "words": words, "back": back})


async def _form_of(request: Request) -> dict[str, str] | None:
    """The fields of the form in *request*. None if the form has more than `MOST_BODY` bytes."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            return None
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _readable(journal: Any) -> Journal:
    """The journal that a monitor without a mediator reads. *journal* is a journal, or its path or URL."""
    return open_for_reading(journal) if isinstance(journal, (str, os.PathLike)) else open_journal(journal)


def _safely(send: Send) -> Send:
    """*send*, wrapped so that each response has the security headers."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *SAFETY_HEADERS]
        await send(message)

    return sending


def _templates(clock: Callable[[], float]) -> jinja2.Environment:
    """The Jinja environment of the pages. It escapes all values in the templates."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters.update(ago=functools.partial(_ago, clock), words=place_in_words, phase=phase_of, url=_url, span=span)
    found.globals["infinity"] = math.inf
    return found


def _url(text: str) -> str:
    return quote(text, safe="/")


def _ago(clock: Callable[[], float], at: float) -> Markup:
    """A ``<time>`` element with the time *at* relative to now, such as "5 s ago". Its title has the exact time."""
    seconds = clock() - at
    words = f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"
    try:
        exact = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return Markup("{}").format(f"at {at}")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact.replace("T", " "), words)
