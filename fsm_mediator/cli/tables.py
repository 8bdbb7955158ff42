"""What the command line shows: a table of executions, one execution's timeline, and either as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from fsm_mediator.cli.console import printable
from fsm_mediator.cli.trees import Line, Signals, is_dormant, what_next
from fsm_mediator.ids import parent_of
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.narration import details, in_words, place_in_words
from fsm_mediator.records import Failure, InboxItem, Record
from fsm_mediator.states import ENDED, phase_of

STYLES = {"succeeded": "green", "failed": "red", "stuck": "bold magenta", "stuck_executing": "bold magenta"}
INDENT = "  "


def escape(text: str) -> str:
    """*text* as it stands, neither rich's markup nor the terminal's commands."""
    return escape_markup(printable(text))


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
        "wake_at": None if is_dormant(entry) else entry.wake_at,
        "dormant": is_dormant(entry),
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


def list_(console: Console, lines: list[Line], signals: Signals | None = None) -> None:
    """Executions, their branches below them, and what a person can type for the first few that wait for one."""
    now = time.time()
    table = Table(box=None, header_style="bold", pad_edge=False)
    held = any(line.entry.driver is not None for line in lines)  # else the room is for the others
    for column in ("id", "saga", "state", "age", "since", *(("driven by",) if held else ())):
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    for line in lines:
        entry = line.entry
        if line.left:
            told = f"fsm-mediator list --parent {entry.saga_id}"
            table.add_row(f"{INDENT * line.depth}[dim]... {line.left} more[/]", "", f"[dim]{escape(told)}[/]")
            continue
        saga = "" if line.depth else f"{entry.acceptance.saga} {entry.acceptance.version}"
        table.add_row(
            INDENT * line.depth + escape(_name(line)),
            escape(saga),
            _state(line, now),
            ago(entry.acceptance.at, now),
            ago(entry.changed_at, now),
            *((escape(_driver(entry)),) if held else ()),
        )
    console.print(table)
    certain = (line for line in lines if line.entry.wake_at is None or signals is not None)
    waiting = [next_ for line in certain if (next_ := what_next(line, signals)) is not None]
    for next_ in waiting[:3]:
        console.print(f"next: {next_}", style="dim", markup=False, highlight=False, soft_wrap=True)
    if len(waiting) > 3:
        console.print(f"      and {len(waiting) - 3} more that wait for a person", style="dim")


def _name(line: Line) -> str:
    """The id; of a branch below its parent only what it adds to that."""
    saga_id = line.entry.saga_id
    return saga_id.removeprefix(f"{parent_of(saga_id)}/") if line.depth else saga_id


def _driver(entry: Entry) -> str:
    return "" if entry.driver is None else f"{entry.driver}{'' if entry.driver_alive else ' (gone)'}"


def _state(line: Line, now: float) -> str:
    """The state with colours, and until when it is, or how its branches stand."""
    entry = line.entry
    style = STYLES.get(phase_of(entry.state), "yellow")
    more = ""
    if is_dormant(entry):
        more = " (dormant)"
    elif entry.wake_at is not None:
        more = f" until {_short(entry.wake_at, now)}"
    elif line.branches:
        more = f" ({', '.join(f'{count} {phase}' for phase, count in sorted(line.branches.items()))})"
    return f"[{style}]{escape(entry.state)}[/]{escape(more)}"


def show(
    console: Console,
    lines: list[Line],
    records: list[Record],
    mail: Iterable[InboxItem],
    signals: Signals | None = None,
    others: int = 0,
) -> None:
    """One execution: what it is, the branches that it waits for, what to type next, and its timeline.

    Args:
        console: Where to.
        lines: It, and the branches of the group that it stands in.
        records: Its records.
        mail: What is in its inbox.
        signals: Those of the app; None: not known.
        others: How many branches it has, or had, besides.
    """
    now = time.time()
    entry = lines[0].entry
    acceptance = entry.acceptance
    payload = msgspec.json.encode(plain(acceptance.payload)).decode()
    console.print(
        f"[bold]{escape(acceptance.saga_id)}[/]  {escape(acceptance.saga)} version {escape(acceptance.version)}"
    )
    words = "" if entry.state in ENDED else f", {escape(place_in_words(entry.state))}"
    console.print(f"state    {_state(lines[0], now)}{words}", highlight=False)
    console.print(f"accepted {clock(acceptance.at)}   payload {escape(payload)}", overflow="ellipsis", no_wrap=True)
    if acceptance.parent is not None:
        console.print(f"branch   of {escape(acceptance.parent)}")
    console.print(f"held by  {escape(_driver(entry) or 'nobody')}")
    if is_dormant(entry):
        console.print("dormant  it begins when another branch of its group has settled (at_most)")
    for item in mail:
        console.print(f"inbox    {escape(item.kind)} {escape(item.name)} {escape(item.reason or '')}".rstrip())
    if others:
        more = " more" if len(lines) > 1 else ""
        console.print(f"branches {others}{more}: fsm-mediator list --parent {escape(entry.saga_id)}", highlight=False)
    for line in lines[1:]:
        told = f"[dim]... {line.left} more[/]" if line.left else f"{escape(_name(line))}  {_state(line, now)}"
        console.print(f"         {INDENT * (line.depth - 1)}{told}", highlight=False)
    for line in lines:
        if (next_ := what_next(line, signals)) is not None:
            console.print(f"next     {next_}", style="dim", markup=False, highlight=False, soft_wrap=True)
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


def _short(at: float, now: float) -> str:
    """A point in time as short as it can be told: today only the time."""
    day, _, hour = clock(at).partition(" ")
    return hour if day == clock(now).partition(" ")[0] else f"{day} {hour[:5]}"


def clock(at: float | None) -> str:
    """A point in time, local, for people."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
