"""What the command line shows: a table of executions, one execution's timeline, and either as JSON."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.records import Failure, InboxItem, Record
from fsm_mediator.words import details, in_words, place_in_words

STYLES = {"succeeded": "green", "failed": "red", "stuck": "bold magenta", "stuck_executing": "bold magenta"}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(text: str) -> float:
    """Seconds, from ``90``, ``90s``, ``15m``, ``2h``, ``7d`` or ``4w``.

    Raises:
        ValueError: It is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration; write 90s, 15m, 2h, 7d or 4w")
    return float(match[1]) * SECONDS[match[2] or "s"]


def ago(at: float, now: float) -> str:
    """How long before *now*, for people."""
    seconds = max(0.0, now - at)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def plain(value: Any) -> Any:
    """*value* as JSON types: what a journal gave back encoded is decoded."""
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else msgspec.to_builtins(value, enc_hook=repr)


def entry_as_json(entry: Entry) -> dict[str, Any]:
    """An execution as JSON types."""
    acceptance = entry.acceptance
    return {
        "saga_id": acceptance.saga_id,
        "saga": acceptance.saga,
        "version": acceptance.version,
        "fingerprint": acceptance.fingerprint,
        "state": entry.state,
        "accepted_at": acceptance.at,
        "changed_at": entry.changed_at,
        "deadline_at": acceptance.deadline_at,
        "parent": acceptance.parent,
        "records": entry.seq,
        "wake_at": entry.wake_at,
        "inbox": entry.mail,
        "driver": None if entry.driver is None else {"process": str(entry.driver), "alive": entry.driver_alive},
        "payload": plain(acceptance.payload),
    }


def failure_as_json(failure: Failure | None) -> dict[str, str] | None:
    """A failure as JSON types."""
    return (
        None
        if failure is None
        else {
            "type": failure.type,
            "message": failure.message,
            "traceback": failure.traceback,
        }
    )


def record_as_json(record: Record) -> dict[str, Any]:
    """A record as JSON types."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return {**fields, "value": plain(record.value), "error": failure_as_json(record.error)}


def item_as_json(item: InboxItem) -> dict[str, Any]:
    """An inbox item as JSON types."""
    return {**msgspec.structs.asdict(item), "value": plain(item.value)}


def exported(journal: Journal, entries: Iterable[Entry]) -> Iterator[bytes]:
    """JSON lines: for each execution one line that has it, its inbox and all its records."""
    for entry in entries:
        yield msgspec.json.encode(
            {
                **entry_as_json(entry),
                "mail": [item_as_json(item) for item in journal.inbox(entry.saga_id)],
                "history": [record_as_json(record) for record in journal.records(entry.saga_id)],
            }
        )


def entries_table(entries: Iterable[Entry], now: float | None = None) -> Table:
    """Executions as a table."""
    now = time.time() if now is None else now
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("id", "saga", "state", "age", "since", "driven by"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        phase = entry.state.partition(".")[0]
        style = STYLES.get(phase, "yellow")
        driver = ""
        if entry.driver is not None:
            driver = str(entry.driver) if entry.driver_alive else f"{entry.driver} (gone)"
        wait = f" until {clock(entry.wake_at)}" if entry.wake_at is not None else ""
        table.add_row(
            escape(entry.saga_id),
            escape(f"{entry.acceptance.saga} {entry.acceptance.version}"),
            f"[{style}]{escape(entry.state)}[/]{wait}",
            ago(entry.acceptance.at, now),
            ago(entry.changed_at, now),
            escape(driver),
        )
    return table


def show(console: Console, entry: Entry, records: list[Record], mail: Iterable[InboxItem]) -> None:
    """One execution: what it is, and its timeline."""
    acceptance = entry.acceptance
    payload = msgspec.json.encode(plain(acceptance.payload)).decode()
    driver = "nobody" if entry.driver is None else f"{entry.driver}{'' if entry.driver_alive else ' (gone)'}"
    console.print(
        f"[bold]{escape(acceptance.saga_id)}[/]  {escape(acceptance.saga)} version {escape(acceptance.version)}"
    )
    style = STYLES.get(entry.state.partition(".")[0], "yellow")
    console.print(f"state    [{style}]{escape(entry.state)}[/] ({escape(place_in_words(entry.state))})")
    console.print(f"accepted {clock(acceptance.at)}   payload {escape(payload)}", overflow="ellipsis", no_wrap=True)
    console.print(f"held by  {escape(driver)}")
    for item in mail:
        console.print(f"inbox    {escape(item.kind)} {escape(item.name)} {escape(item.reason or '')}".rstrip())
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, justify in (
        ("#", "right"),
        ("at", "left"),
        ("after", "right"),
        ("what happened", "left"),
        ("then", "left"),
    ):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    before = acceptance.at
    for record in records:
        said = escape(in_words(record))
        if record.error is not None:
            said = f"[red]{said}[/]"
        said += "".join(f"\n[dim]{escape(detail)}[/]" for detail in details(record))
        then = escape(place_in_words(record.target))
        table.add_row(str(record.seq), clock(record.at), f"{record.at - before:.3f} s", said, then)
        before = record.at
    console.print()
    console.print(table)


def clock(at: float | None) -> str:
    """A point in time, local, for people."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
