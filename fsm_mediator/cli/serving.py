"""The command ``serve``: a daemon that recovers and wakes executions, and can send alerts and serve metrics."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import attrs
import click

from fsm_mediator.alerts import Alerts
from fsm_mediator.cli import options
from fsm_mediator.cli.console import err, say
from fsm_mediator.cli.driving import run_daemon
from fsm_mediator.cli.lag import ShownLag
from fsm_mediator.cli.loading import journal_for, load_app
from fsm_mediator.prometheus import Numbers
from fsm_mediator.statistics.side_store import filling


@click.command()
@options.app
@options.journal
@click.option("--alert-url", envvar=options.ALERT_VARIABLE, help="The URL of a webhook for alerts.")
@click.option(
    "--stuck-for",
    type=options.Duration(),
    default="10m",
    show_default=True,
    help="Report executions that are stuck for this time.",
)
@click.option(
    "--undriven-for",
    type=options.Duration(),
    default="5m",
    show_default=True,
    help="Report executions without a driver for this time.",
)
@click.option(
    "--attempts",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Report a step after this number of failed attempts.",
)
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), help="Serve /metrics for Prometheus here. 0 chooses a free port."
)
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="The address for --metrics-port.")
def serve(
    app: str | None,
    journal: str | None,
    alert_url: str | None,
    metrics_port: int | None,
    metrics_host: str,
    **limits: Any,
) -> None:
    """Run the daemon, which recovers and wakes executions.

    It runs until Ctrl-C or SIGTERM.
    """
    loaded = load_app(app)
    watching: list[Any] = [] if alert_url is None else [Alerts(alert_url, **limits)]
    with ExitStack() as stack:
        if metrics_port is not None:
            watching.append(numbers := Numbers())
            port = stack.enter_context(numbers.served(metrics_host, metrics_port))
            say(f"numbers at http://{metrics_host}:{port}/metrics", "dim", to=err)
        settings = {name: (*loaded.settings.get(name, ()), *watching) for name in ("observers", "relays")}
        settings["relays"] += (ShownLag(),)
        watched = attrs.evolve(loaded, settings={**loaded.settings, **settings})
        opened = journal_for(journal, loaded, creates=True)
        stack.callback(opened.close)  # `filling` may open the journal again after the mediator has closed it
        stack.enter_context(filling(opened))
        run_daemon(watched, opened)
