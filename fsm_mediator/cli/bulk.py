"""The command that gives one verb to many executions."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import DID_NOT_SUCCEED, next_command, out, printable, progress_bar, say
from fsm_mediator.cli.driving import drive
from fsm_mediator.cli.loading import journal_for, load_app, load_journal
from fsm_mediator.cli.where import parse_where, where
from fsm_mediator.mediator.bulk import VERBS_IN_BULK, Batch, BulkResult, freeze
from fsm_mediator.mediator.finding import find

SHOWN: int = 10
"""Ids that a dry run prints."""


@click.command()
@click.argument("verb", type=click.Choice(VERBS_IN_BULK), required=False)
@where
@click.option("--argument", "pairs", multiple=True, metavar="NAME=JSON", help="A further argument: done=true.")
@click.option("--dry-run", is_flag=True, help="Only list the matching executions.")
@click.option("--resume", metavar="BATCH", help="Continue an interrupted batch: executions without a result.")
@click.option("--reason", "-r", help="Why; journaled for each.")
@options.actor
@options.app
@options.journal
def bulk(
    verb: str | None,
    words: tuple[str, ...],
    pairs: tuple[str, ...],
    dry_run: bool,
    resume: str | None,
    reason: str | None,
    actor: str | None,
    app: str | None,
    journal: str | None,
) -> None:
    """Give VERB to every execution that fits --where, one after another, and print a result for each.

    The ids are stored in the journal first: --resume continues an interrupted batch. Ends with 1 if some refused.
    """
    if resume is None and (verb is None or not words):
        raise click.UsageError("name a verb, and with --where the executions; or an interrupted batch with --resume")
    if dry_run and resume is None:
        with closing(load_journal(app, journal, read_only=True)[1]) as opened:
            _print_ids(verb, [entry.saga_id for entry in find(opened, parse_where(words), None, None)])
        return
    loaded = load_app(app)
    opened = journal_for(journal, loaded)
    if resume is None:
        assert verb is not None
        ids = [entry.saga_id for entry in find(opened, parse_where(words), None, None)]
        batch = freeze(opened, verb, ids, _arguments(pairs), reason, actor, time.time())
    else:
        batch = Batch(opened, resume)
    left = batch.left()
    if dry_run:
        _print_ids(batch.verb, left)
        return
    say(f"batch {batch.name}: {batch.verb} of {len(left)}; if it is interrupted: ", "dim")
    say(next_command("bulk", "--resume", batch.name), "dim")
    refused = _report(drive(loaded, opened, lambda mediator: _run(mediator, batch.name, len(left))))
    if refused:
        sys.exit(DID_NOT_SUCCEED)


def _arguments(pairs: Iterable[str]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not is_pair:
            raise click.BadParameter(f"--argument {pair!r}: give NAME=JSON, such as done=true")
        found[name] = options.parse_json(value, f"--argument {name}")
    return found


async def _run(mediator: Any, batch: str, count: int) -> list[BulkResult]:
    """All results of a batch, with a progress bar meanwhile."""
    results = []
    with progress_bar("working", f"{{task.completed}} of {count}") as advance:
        found = mediator.bulk(batch=batch)
        if hasattr(found, "__aiter__"):
            async for result in found:
                results.append(result)
                advance()
        else:
            for result in found:
                results.append(result)
                advance()
    return results


def _report(results: list[BulkResult]) -> int:
    """Print each result; returns how many were refused."""
    for result in results:
        say(printable(f"{result.saga_id}  {result.message}"), "green" if result.done else "red")
    refused = sum(not result.done for result in results)
    out.print(f"{len(results) - refused} done, {refused} refused", highlight=False)
    return refused


def _print_ids(verb: str | None, ids: list[str]) -> None:
    for saga_id in ids[:SHOWN]:
        say(printable(saga_id), "")
    more = f", {len(ids) - SHOWN} of them not shown" if len(ids) > SHOWN else ""
    out.print(f"{verb} would be given to {len(ids)} executions{more}", highlight=False)
