"""The command ``ui``: the operator's pages, served on this machine."""

from __future__ import annotations

import asyncio
import functools
import getpass
import ipaddress
import signal
import socket
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import err, say
from fsm_mediator.cli.loading import App, load_journal
from fsm_mediator.errors import MissingExtraError
from fsm_mediator.mediator.sync import Mediator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp

GRACE: Final = 2
"""The number of seconds for which the server, when it ends, waits for its open connections."""


@click.command()
@options.journal
@options.app
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8420, show_default=True, help="The port. 0 chooses a free port."
)
@click.option("--read-only", is_flag=True, help="Allow no verbs.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with lines NAME:ROLE:PASSWORD. ROLE is look or act.",
)
@click.option("--behind-proxy-header", metavar="NAME", help="The HTTP header in which a proxy sends the person's name.")
@click.option(
    "--archive",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Also show the executions of this archive.",
)
@click.option("--root-path", default="", help="The path under which a proxy serves the pages, such as /sagas.")
def ui(
    journal: str | None,
    app: str | None,
    host: str,
    port: int,
    read_only: bool,
    password_file: Path | None,
    behind_proxy_header: str | None,
    archive: Path | None,
    root_path: str,
) -> None:
    """Serve the operator's pages.

    The pages show all problems and each execution with its verbs. Without --app the pages are read-only, and none of
    your code is loaded. Only the first browser that opens the printed URL is let in. An address that other machines can
    reach is refused unless --password-file or --behind-proxy-header says who may enter.
    """
    if not _is_of_this_machine(host) and password_file is None and behind_proxy_header is None:
        raise click.UsageError(
            f"--host {host} can be reached from other machines: say who may enter, with --password-file FILE or, "
            f"behind a proxy that lets people in, --behind-proxy-header NAME"
        )
    try:
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("the operator's pages", "ui") from error
    loaded, found = load_journal(app, journal, read_only=app is None, wants_app=True)
    with closing(found) as opened, socket.create_server((host, port)) as listening:
        listen = functools.partial(
            _listen, listening, read_only, password_file, behind_proxy_header, archive, root_path
        )
        asyncio.run(_serve(loaded, opened, listen))


def _is_of_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _serve(app: App | None, journal: Any, listen: Callable[[Any], Awaitable[None]]) -> None:
    if app is None:
        await listen(journal)
    elif app.has_coroutines:
        from fsm_mediator.mediator.aio import AsyncMediator

        async with AsyncMediator(*app.sagas, journal=journal, **app.settings) as mediator:
            await listen(mediator)
    else:
        with Mediator(*app.sagas, journal=journal, **app.settings) as mediator:
            await listen(mediator)


async def _listen(
    listening: socket.socket,
    read_only: bool,
    password_file: Path | None,
    header: str | None,
    archive: Path | None,
    root_path: str,
    mediator: Any,
) -> None:
    """Serve the pages on the socket *listening* until Ctrl-C or SIGTERM. *mediator* may also be a journal."""
    import uvicorn

    from fsm_mediator.ui import Monitor, Operator
    from fsm_mediator.ui.logins import OneTimeToken, PasswordFile, ProxyHeader, logged_in

    monitor = Monitor(mediator, authorize=logged_in, read_only=read_only, archive=archive)
    query = ""
    served: ASGIApp
    if password_file is not None:
        served = PasswordFile(monitor, password_file)
    elif header is not None:
        served = ProxyHeader(monitor, header)
    else:
        served = door = OneTimeToken(monitor, Operator.acting(getpass.getuser()))
        query = f"?token={door.token}"
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"http://{shown}:{port}{root_path}/{query}")
    err.print("stop with Ctrl-C", style="dim")
    settings = uvicorn.Config(
        served, root_path=root_path, log_level="warning", timeout_graceful_shutdown=GRACE, lifespan="off"
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # the server raises the signal again after its end
        signal.signal(number, lambda *_: None)
    await uvicorn.Server(settings).serve(sockets=[listening])
