"""Requests to an ASGI app in this process, without a server and without a client library."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlencode

import attrs


@attrs.frozen
class Answer:
    """The answer of an app."""

    status: int
    headers: dict[str, str]
    text: str


async def ask(
    app: Any,
    path: str,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    root_path: str = "",
) -> Answer:
    """GET *path*, or POST *form* to it."""
    path, _, query = path.partition("?")
    body = b"" if form is None else urlencode(form).encode()
    given = {"host": "monitor.test", **(headers or {})}
    if form is not None:
        given.setdefault("content-type", "application/x-www-form-urlencoded")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET" if form is None else "POST",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("monitor.test", 80),
    }
    sent: list[dict[str, Any]] = []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    text = b"".join(message.get("body", b"") for message in sent[1:])
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], answered, text.decode())


def get(app: Any, path: str, **options: Any) -> Answer:
    """GET *path*."""
    return asyncio.run(ask(app, path, **options))


def post(app: Any, path: str, form: Mapping[str, str], **options: Any) -> Answer:
    """POST *form* as a browser does that shows a page of ours."""
    headers = {"sec-fetch-site": "same-origin", **options.pop("headers", {})}
    return asyncio.run(ask(app, path, form, headers=headers, **options))
