"""The logins of ``fsm-mediator ui``. A login is an ASGI app around the monitor that finds the operator of a request."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import stat
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from fsm_mediator.errors import DefinitionError
from fsm_mediator.ui.access import SAFETY_HEADERS, Operator

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_OPERATOR: Final = "fsm_mediator.operator"
_COOKIE: Final = "fsm_mediator"

LOOKS: Final = "look"
ACTS: Final = "act"
RIGHTS: Final = (LOOKS, ACTS)


def logged_in(request: Request) -> Operator | None:
    """The operator that a login has found for *request*. None if no login has found one.

    `Monitor` gets this function as *authorize*.
    """
    found: Operator | None = request.scope.get(_OPERATOR)
    return found


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    for name, value in SAFETY_HEADERS:
        response.headers[name.decode()] = value.decode()
    await response(scope, receive, send)


class OneTimeToken:
    """Admits only the browser that first opens the URL with the token. A cookie keeps that browser logged in.

    Args:
        app: The monitor.
        operator: The operator who makes the requests of this browser.

    Attributes:
        token: The token in the URL. None after a browser has used it.
    """

    def __init__(self, app: ASGIApp, operator: Operator) -> None:
        self._app = app
        self._operator = operator
        self.token: str | None = secrets.token_urlsafe(24)
        self._session = secrets.token_urlsafe(24)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A request with the token gets a cookie. A request with the cookie goes to the monitor."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        token = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")
        if token is not None and self.token is not None and hmac.compare_digest(token.encode(), self.token.encode()):
            self.token = None
            response: Response = RedirectResponse(request.url.path, 303)
            response.set_cookie(_COOKIE, self._session, httponly=True, samesite="strict", path="/")
            await _answer(response, scope, receive, send)
            return
        cookie = SimpleCookie(request.headers.get("cookie", "")).get(_COOKIE)
        if cookie is None or not hmac.compare_digest(cookie.value.encode(), self._session.encode()):
            words = "Open the URL that `fsm-mediator ui` printed. It lets one browser in; start it again for another.\n"
            await _answer(PlainTextResponse(words, 403), scope, receive, send)
            return
        await self._app({**scope, _OPERATOR: self._operator}, receive, send)


class PasswordFile:
    """Asks for a name and a password, and checks them against a file. Each line of the file is ``NAME:ROLE:PASSWORD``.

    Args:
        app: The monitor.
        path: The path of the file. Only the owner of the file may have permissions for it.

    Raises:
        DefinitionError: Other users have permissions for the file, a line is malformed, or the file has no line.
        OSError: The file cannot be read.
    """

    def __init__(self, app: ASGIApp, path: Path) -> None:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise DefinitionError(f"{path}: other users can read the passwords; chmod 600 {path}")
        self._app = app
        self._people: dict[str, tuple[Operator, str]] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, rest = line.partition(":")
            right, _, password = rest.partition(":")
            if not name or right not in RIGHTS or not password:
                raise DefinitionError(f"{path}, line {number}: write NAME:ROLE:PASSWORD, with the role look or act")
            self._people[name] = (Operator.acting(name) if right == ACTS else Operator(name)), password
        if not self._people:
            raise DefinitionError(f"{path} names no person; write a line NAME:ROLE:PASSWORD, with the role look or act")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: pass it to the monitor if its name and password are right, else ask for them."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        operator = self._operator_of(Request(scope).headers.get("authorization", ""))
        if operator is None:
            headers = {"www-authenticate": 'Basic realm="fsm-mediator", charset="UTF-8"'}
            await _answer(PlainTextResponse("Name and password, please.\n", 401, headers), scope, receive, send)
            return
        await self._app({**scope, _OPERATOR: operator}, receive, send)

    def _operator_of(self, header: str) -> Operator | None:
        scheme, _, encoded = header.partition(" ")
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        operator, expected = self._people.get(name, (None, secrets.token_urlsafe(16)))
        matches = hmac.compare_digest(password.encode(), expected.encode())
        return operator if scheme.lower() == "basic" and matches else None


class ProxyHeader:
    """Takes the operator's name from a header that a proxy sets after it has authenticated the person.

    Args:
        app: The monitor.
        header: The name of the header. The proxy must remove this header from requests that come from outside.
    """

    def __init__(self, app: ASGIApp, header: str) -> None:
        self._app = app
        self._header = header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request to the monitor, with the operator whom the header names."""
        name = Request(scope).headers.get(self._header, "").strip() if scope["type"] == "http" else ""
        operator = Operator.acting(name) if name else None
        await self._app({**scope, _OPERATOR: operator}, receive, send)
