"""The command that applies one verb, such as ``retry``, to many executions."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import closing, nullcontext
from typing import Any

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import DID_NOT_SUCCEED, next_command, out, printable, progress_bar, say
from fsm_mediator.cli.driving import drive
from fsm_mediator.cli.loading import App, journal_for, load_app, load_journal
from fsm_mediator.cli.where import parse_where, where
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.mediator.bulk import PRUNE, VERBS_IN_BULK, Batch, BulkResult, fitting, freeze
from fsm_mediator.mediator.finding import find

SHOWN: int = 10
"""The maximum number of ids that a dry run prints."""


@click.command()
@click.argument("verb", type=click.Choice(VERBS_IN_BULK), required=False)
@where
@click.option(
    "--argument",
    "pairs",
    multiple=True,
    metavar="NAME=JSON",
    help="An argument of the verb: done=true, result=7, name=approve.",
)
@click.option("--dry-run", is_flag=True, help="Only list the matching executions.")
@click.option(
    "--resume", metavar="BATCH", help="Continue an interrupted batch with the executions that have no result."
)
@click.option("--reason", "-r", help="The reason. It is journaled for each execution.")
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
    """Apply VERB, such as retry, to every execution that matches --where.

    The command processes one execution after another, and prints a result for each. It stores the ids of the executions
    in the journal first, so that --resume can continue an interrupted batch. Exits with 1 if an execution refused VERB.
    The verb prune deletes ended executions with their branches, and needs no app.
    """
    if resume is None and (verb is None or not words):
        raise click.UsageError("name a verb, and select executions with --where; or continue a batch with --resume")
    if dry_run and resume is None:
        with closing(load_journal(app, journal, read_only=True)[1]) as opened:
            _print_ids(verb, _fitting(opened, verb, words))
        return
    if resume is not None:
        with closing(load_journal(app, journal, read_only=True)[1]) as opened:
            verb = Batch(opened, resume).verb
    loaded, opened = _opened(verb, app, journal)
    if resume is None:
        assert verb is not None
        ids = _fitting(opened, verb, words)
        batch = freeze(opened, verb, ids, _arguments(pairs), reason, actor, time.time())
    else:
        batch = Batch(opened, resume)
    left = batch.left()
    if dry_run:
        _print_ids(batch.verb, left)
        return
    say(f"batch {batch.name}: {batch.verb} of {len(left)}; if it is interrupted: ", "dim")
    say(next_command("bulk", "--resume", batch.name), "dim")
    with nullcontext() if loaded else closing(opened):
        results = drive(loaded or App(()), opened, lambda mediator: _run(mediator, batch.name, len(left)))
    if _report(results):
        sys.exit(DID_NOT_SUCCEED)


def _fitting(journal: Journal, verb: str | None, words: tuple[str, ...]) -> list[str]:
    return [entry.saga_id for entry in find(journal, fitting(verb, parse_where(words)), None, None)]


def _opened(verb: str | None, app: str | None, journal: str | None) -> tuple[App | None, Journal]:
    """The app and the journal. The app is None for the verb ``prune``, which needs no app."""
    if verb == PRUNE:
        return None, load_journal(app, journal)[1]
    loaded = load_app(app)
    return loaded, journal_for(journal, loaded)


def _arguments(pairs: Iterable[str]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not is_pair:
            raise click.BadParameter(f"--argument {pair!r}: give NAME=JSON, such as done=true")
        is_bare = name == "name" and not value.startswith('"')  # the name of a signal may be given without quotes
        found[name] = value if is_bare else options.parse_json(value, f"--argument {name}")
    return found


async def _run(mediator: Any, batch: str, count: int) -> list[BulkResult]:
    """Apply the verb of the batch named *batch* to its executions, and return all results.

    A progress bar shows the number of results. *count* is the number of executions.
    """
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
    """Print each result. Returns the number of executions that refused the verb."""
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
