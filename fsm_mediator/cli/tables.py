"""The output about executions: a table, the timeline of one execution, and both as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from rich.markup import escape as escape_markup

from fsm_mediator.cli.console import err, next_command, out, print_columns, printable, say
from fsm_mediator.cli.trees import Line, Signals, is_dormant, tree, what_next
from fsm_mediator.errors import IllegalRecordError
from fsm_mediator.execution.rules import NOT_BEGUN
from fsm_mediator.ids import place_of
from fsm_mediator.journal.operators import Drivability, next_moves
from fsm_mediator.journal.planning import planned_of
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.journal.repair import damage_of
from fsm_mediator.narration import details, in_words, place_in_words
from fsm_mediator.records import SIGNAL, VERBS, Record
from fsm_mediator.states import ENDED, phase_of

STYLES: Final = {"succeeded": "green", "failed": "red", "stuck": "bold magenta", "stuck_executing": "bold magenta"}
INDENT: Final = "  "


# As JSON


def _plain(value: Any) -> Any:
    """*value* as JSON types; a value that the journal returned encoded is decoded."""
    if not isinstance(value, msgspec.Raw):
        return msgspec.to_builtins(value, enc_hook=repr)
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:  # the other executions are shown all the same
        return f"(unreadable: {error})"


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
        "payload": _plain(acceptance.payload),
    }


def _record_as_json(record: Record) -> dict[str, Any]:
    error = record.error
    failure = error and {"type": error.type, "message": error.message, "traceback": error.traceback}
    return {**msgspec.structs.asdict(record), "value": _plain(record.value), "error": failure}


def exported(journal: Journal, entries: Iterable[Entry]) -> Iterator[bytes]:
    """JSON lines: one for each execution, with its inbox and all its records. Records that cannot be read are named."""
    for entry in entries:
        inbox = [{**msgspec.structs.asdict(item), "value": _plain(item.value)} for item in journal.inbox(entry.saga_id)]
        records, why = _records_of(journal, entry)
        more: dict[str, Any] = {} if why is None else {"unreadable": why}
        if (planned := planned_of(journal, entry.saga_id)) is not None:
            more["planned"] = {**planned._asdict(), "ended": planned.ended and str(planned.ended)}
        history = list(map(_record_as_json, records))
        yield msgspec.json.encode({**entry_as_json(entry), "mail": inbox, "history": history, **more})


def _records_of(journal: Journal, entry: Entry) -> tuple[list[Record], str | None]:
    """The records of an execution; or none, and why they cannot be read, which is printed as well."""
    try:
        return journal.records(entry.saga_id), None
    except IllegalRecordError as error:
        err.print(str(error), style="yellow", markup=False, highlight=False)
        return [], str(error)


# For people


def _escape(text: str) -> str:
    """*text*, shown unchanged by rich and by the terminal."""
    return escape_markup(printable(text))


def _ago(at: float, now: float) -> str:
    """The time from *at* to *now*."""
    seconds = max(0.0, now - at)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _clock(at: float) -> str:
    """A point in time, in the local time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _name(line: Line) -> str:
    """The id; below its parent a branch has only its own part of it."""
    saga_id = line.entry.saga_id
    return place_of(saga_id) if line.depth else saga_id


def _driver(entry: Entry) -> str:
    return "" if entry.driver is None else f"{entry.driver}{'' if entry.driver_alive else ' (gone)'}"


def _line(text: str) -> None:
    """Print a line of markup, which only the terminal breaks."""
    out.print(text, highlight=False, soft_wrap=True)


def _state(line: Line, now: float) -> str:
    """The state in colour, with the end of its wait, or with the phases of its branches."""
    entry = line.entry
    more = ""
    if is_dormant(entry):
        more = " (dormant)"
    elif line.branches:
        more = f" ({', '.join(f'{count} {phase}' for phase, count in sorted(line.branches.items()))})"
    elif entry.wake_at is not None:
        day, hour = _clock(entry.wake_at).split()
        more = f" until {hour}" if day == _clock(now).split()[0] else f" until {day} {hour[:5]}"
    return f"[{STYLES.get(phase_of(entry.state), 'yellow')}]{_escape(entry.state)}[/]{_escape(more)}"


def list_(lines: list[Line], look: Drivability, signals: Signals | None = None) -> None:
    """Print executions with their branches below them, and the next command for the first few that need a person."""
    now = time.time()
    any_driven = any(line.entry.driver is not None for line in lines)  # else the other columns get the room
    rows = [_header("id", "saga", "state", "age", "since", *(("driven by",) if any_driven else ()))]
    for line in lines:
        entry, indent = line.entry, INDENT * line.depth
        if line.left:
            command = f"fsm-mediator list --parent {entry.saga_id}"
            rows.append([f"{indent}[dim]... {line.left} more: {_escape(command)}[/]"])
            continue
        rows.append(
            [
                indent + _escape(_name(line)),
                "" if line.depth else _escape(f"{entry.acceptance.saga} {entry.acceptance.version}"),
                _state(line, now) + (" [red](undrivable)[/]" if _is_undrivable(entry, look) else ""),
                _ago(entry.acceptance.at, now),
                _ago(entry.changed_at, now),
                *((_escape(_driver(entry)),) if any_driven else ()),
            ]
        )
    print_columns(rows, spare=(3, 5, 4, 1))
    undrivable = [line.entry for line in lines if not line.left and _is_undrivable(line.entry, look)]
    if undrivable:
        first = undrivable[0]
        say(f"undrivable: {len(undrivable)}. {first.saga_id!r}: {printable(look.why_not(first) or '')}", "red")
        say(f"next: {next_command('show', first.saga_id)}", "dim")
    certain = (line for line in lines if line.entry.wake_at is None or signals is not None)
    commands = list(filter(None, (what_next(line, signals) for line in certain)))
    for command in commands[:3]:
        say(f"next: {command}", "dim")
    if len(commands) > 3:
        out.print(f"      and {len(commands) - 3} more that wait for a person", style="dim")


def _is_undrivable(entry: Entry, look: Drivability) -> bool:
    """Whether to mark it. Where no driver is alive at all, nothing is wrong with the execution."""
    return bool(look.known or entry.saga_id in look.faults) and look.why_not(entry) is not None


def show(journal: Journal, entry: Entry, look: Drivability, signals: Signals | None = None) -> None:
    """Print one execution: its facts, its present branches, the next command, and its timeline.

    *signals* are the signals of the app; None: unknown.
    """
    now = time.time()
    lines = list(tree(journal, entry))
    planned = planned_of(journal, entry.saga_id)
    not_begun = 0 if planned is None else planned.end - planned.first
    here = lines[0].branches.total() - lines[0].branches[NOT_BEGUN]
    others = sum(1 for _ in journal.entries(parent=entry.saga_id)) - here
    acceptance = entry.acceptance
    saga_id = _escape(acceptance.saga_id)
    payload = _escape(msgspec.json.encode(_plain(acceptance.payload)).decode())
    words = "" if entry.state in ENDED else f", {_escape(place_in_words(entry.state))}"
    _line(f"[bold]{saga_id}[/]  {_escape(acceptance.saga)} version {_escape(acceptance.version)}")
    _line(f"state    {_state(lines[0], now)}{words}")
    out.print(f"accepted {_clock(acceptance.at)}   payload {payload}", overflow="ellipsis", no_wrap=True)
    if acceptance.parent is not None:
        _line(f"branch   of {_escape(acceptance.parent)}")
    _line(f"held by  {_escape(_driver(entry) or 'nobody')}")
    if (why := look.why_not(entry)) is not None:
        _line(f"[red]nobody can drive it: {_escape(why)}[/]")
        _line(f"         {_escape(next_moves(entry.saga_id))}")
    for fault in damage_of(journal, entry.saga_id):
        say(f"damaged  {printable(fault)}; see fsm-mediator check", "red")
    if entry.recoveries.total:
        _line(f"died     {entry.recoveries.total} of its drivers since it last got further (see max_recoveries)")
    if is_dormant(entry):
        out.print("dormant  it begins when another branch of its group has settled (at_most)")
    records, _ = _records_of(journal, entry)
    failed = entry.state in ENDED or any(record.event in ("rejected", "in_doubt", "undo") for record in records)
    for item in journal.inbox(entry.saga_id):
        moot = "moot: the saga failed, or ended, before it" if item.kind == SIGNAL and failed else item.reason or ""
        name = "" if item.kind in VERBS else f" {_escape(item.name)}"
        _line(f"inbox    {_escape(item.kind)}{name} {_escape(moot)}".rstrip())
    if others:
        more = " more" if len(lines) > 1 else ""
        ends = f" ({not_begun} {NOT_BEGUN})" if not_begun and entry.state in ENDED else ""
        _line(f"branches {others}{more}{ends}: fsm-mediator list --parent {saga_id}")
    for line in lines[1:]:
        text = f"[dim]... {line.left} more[/]" if line.left else f"{_escape(_name(line))}  {_state(line, now)}"
        _line(f"         {INDENT * (line.depth - 1)}{text}")
    for line in lines:
        if (next_ := what_next(line, signals)) is not None:
            say(f"next     {next_}", "dim")
    out.print()
    print_columns(_timeline(records, acceptance.at), spare=(1, 2))


def _header(*names: str) -> list[str]:
    return [f"[bold]{name}[/]" for name in names]


def _timeline(records: Sequence[Record], before: float) -> list[list[str]]:
    """A row for each record, and one for each line of its details."""
    rows = [_header("#".rjust(len(str(len(records)))), "at", "after", "what happened", "then")]
    for record in records:
        words = _escape(in_words(record))
        if record.error is not None:
            words = f"[red]{words}[/]"
        after = f"{record.at - before:.3f} s"
        number = str(record.seq).rjust(len(str(len(records))))
        rows.append([number, _clock(record.at), after, words, _escape(place_in_words(record.target))])
        rows += [[f"    [dim]{_escape(line)}[/]"] for detail in details(record) for line in detail.splitlines()]
        before = record.at
    return rows
