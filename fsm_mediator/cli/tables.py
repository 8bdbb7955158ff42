"""The output of `list`, `show` and `export`: a table of executions, the timeline of one execution, and JSON lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from rich.markup import escape as escape_markup

from fsm_mediator.cli.console import err, next_command, out, print_columns, printable, say
from fsm_mediator.cli.trees import Line, Signals, is_dormant, tree, what_next
from fsm_mediator.errors import IllegalRecordError
from fsm_mediator.execution.rules import NOT_BEGUN
from fsm_mediator.ids import place_of
from fsm_mediator.journal.finding import attributes_of
from fsm_mediator.journal.lines import Lines, hide_reason, hide_texts, plain
from fsm_mediator.journal.notes import Note, notes_of
from fsm_mediator.journal.operators import Drivability, next_moves
from fsm_mediator.journal.planning import planned_of
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.journal.repair import damage_of
from fsm_mediator.journal.sealing import is_sealed, why_sealed
from fsm_mediator.mediator.holding import Held, hold_of
from fsm_mediator.narration import details, in_words, note_in_words, place_in_words, who_and_why
from fsm_mediator.records import SIGNAL, VERBS, Record
from fsm_mediator.redaction import Redaction
from fsm_mediator.states import ENDED, phase_of

STYLES: Final = {"succeeded": "green", "failed": "red", "stuck": "bold magenta", "stuck_executing": "bold magenta"}
INDENT: Final = "  "


# Output for programs: JSON lines.


def exported(journal: Journal, entries: Iterable[Entry], lines: Lines | None = None) -> Iterator[bytes]:
    """Yield one JSON line for each execution, with its inbox and all its records.

    If the records of an execution cannot be read, the reason is printed.
    """
    for line in (lines or Lines()).of(journal, entries):
        if "unreadable" in line:
            err.print(line["unreadable"], style="yellow", markup=False, highlight=False)
        yield msgspec.json.encode(line)


def _records_of(journal: Journal, entry: Entry) -> tuple[list[Record], str | None]:
    """The records of an execution, and None.

    If the records cannot be read, the result is an empty list and the reason. The reason is also printed.
    """
    try:
        return journal.records(entry.saga_id), None
    except IllegalRecordError as error:
        err.print(str(error), style="yellow", markup=False, highlight=False)
        return [], str(error)


# Output for people: tables and timelines.


def _escape(text: str) -> str:
    """*text*, escaped so that neither rich nor the terminal interprets it."""
    return escape_markup(printable(text))


def _ago(at: float, now: float) -> str:
    """The time from *at* to *now* as text, for example ``45s``, ``3m`` or ``2d``."""
    seconds = max(0.0, now - at)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _clock(at: float) -> str:
    """The time *at*, in seconds since the epoch, as text: the date and the time of day in the local time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _name(line: Line) -> str:
    """The id of a line's execution. For a branch that is listed below its parent, only the last part of the id."""
    saga_id = line.entry.saga_id
    return place_of(saga_id) if line.depth else saga_id


def _driver(entry: Entry) -> str:
    return "" if entry.driver is None else f"{entry.driver}{'' if entry.driver_alive else ' (gone)'}"


def _line(text: str) -> None:
    """Print *text*, a line with markup, without wrapping it."""
    out.print(text, highlight=False, soft_wrap=True)


def _state(line: Line, now: float) -> str:
    """The markup of an execution's state in colour, with the end of its wait or the phases of its branches."""
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
    """Print a table of executions, with the branches of an execution below it.

    Also prints commands that the user can run next, for the first few executions that need a person.
    """
    now = time.time()
    any_driven = any(line.entry.driver is not None for line in lines)  # if False, the table has no column for drivers
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
                _state(line, now) + (" [red](undrivable)[/]" if look.is_undrivable(entry) else ""),
                _ago(entry.acceptance.at, now),
                _ago(entry.changed_at, now),
                *((_escape(_driver(entry)),) if any_driven else ()),
            ]
        )
    print_columns(rows, spare=(3, 5, 4, 1))
    undrivable = [line.entry for line in lines if not line.left and look.is_undrivable(line.entry)]
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


def _why_not_driven(look: Drivability, entry: Entry) -> Iterator[str]:
    """Yield lines with the reason why no living driver can drive an execution, and with the user's next commands.

    Yields nothing if a living driver can drive it.
    """
    why = look.why_not(entry)
    if why is not None and look.is_undrivable(entry):
        yield f"[red]nobody can drive it: {_escape(why)}[/]"
        yield f"         {_escape(next_moves(entry.saga_id))}"
    elif why is not None:
        yield "         no driver is alive now; fsm-mediator serve starts one"


def show(
    journal: Journal,
    entry: Entry,
    look: Drivability,
    signals: Signals | None = None,
    redaction: Redaction = Redaction(),  # noqa: B008 - a Redaction never changes
) -> None:
    """Print one execution: its facts, its current branches, the next command, and its timeline.

    *signals* is the result of `signals_of` for the app. None if no app is loaded.
    """
    now = time.time()
    lines = list(tree(journal, entry))
    planned = planned_of(journal, entry.saga_id)
    not_begun = 0 if planned is None else planned.end - planned.first
    here = lines[0].branches.total() - lines[0].branches[NOT_BEGUN]
    others = sum(1 for _ in journal.entries(parent=entry.saga_id)) - here
    acceptance = entry.acceptance
    saga_id = _escape(acceptance.saga_id)
    shown = redaction.field("payload", plain(acceptance.payload))
    payload = _escape(msgspec.json.encode(shown).decode())
    words = "" if entry.state in ENDED else f", {_escape(place_in_words(entry.state))}"
    _line(f"[bold]{saga_id}[/]  {_escape(acceptance.saga)} version {_escape(acceptance.version)}")
    _line(f"state    {_state(lines[0], now)}{words}")
    out.print(f"accepted {_clock(acceptance.at)}   payload {payload}", overflow="ellipsis", no_wrap=True)
    _attributes(journal, entry)
    if acceptance.parent is not None:
        _line(f"branch   of {_escape(acceptance.parent)}")
    _line(f"held by  {_escape(_driver(entry) or 'nobody')}")
    for reason in _why_not_driven(look, entry):
        _line(reason)
    if is_sealed(acceptance.payload):
        _line(f"sealed   its payload {_escape(why_sealed(acceptance.payload, journal.codec.cipher))}")
    for fault in damage_of(journal, entry.saga_id):
        say(f"damaged  {printable(fault)}; see fsm-mediator check", "red")
    _hold(journal, entry)
    if entry.recoveries.total:
        _line(f"died     {entry.recoveries.total} of its drivers since it last got further (see max_recoveries)")
    if is_dormant(entry):
        out.print("dormant  it begins when another branch of its group has settled (at_most)")
    records, _ = _records_of(journal, entry)
    _show_inbox(journal, entry, records, redaction)
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
    hidden = [hide_texts(redaction, record) for record in records]
    notes = [hide_reason(redaction, note) for note in notes_of(journal, entry.saga_id)]
    print_columns(_timeline(hidden, notes, acceptance.at), spare=(1, 2))


def _show_inbox(journal: Journal, entry: Entry, records: Sequence[Record], redaction: Redaction) -> None:
    """Print a line for each item in the inbox of an execution."""
    failed = entry.state in ENDED or any(record.event in ("rejected", "in_doubt", "undo") for record in records)
    for item in journal.inbox(entry.saga_id):
        words = redaction.field("reason", who_and_why(item.actor, item.reason))
        moot = "moot: the saga failed, or ended, before it" if item.kind == SIGNAL and failed else words
        name = "" if item.kind in VERBS else f" {_escape(item.name)}"
        _line(f"inbox    {_escape(item.kind)}{name} {_escape(moot)}".rstrip())


def _attributes(journal: Journal, entry: Entry) -> None:
    """Print the attributes of an execution, if it has any."""
    if kept := attributes_of(journal, entry.saga_id):
        words = " ".join(f"{name}={msgspec.json.encode(value).decode()}" for name, value in kept.items())
        _line(f"known by {_escape(words)}")


def _hold(journal: Journal, entry: Entry) -> None:
    """Print the hold that an execution is under, if there is one."""
    note = None if entry.state in ENDED else hold_of(journal, entry)
    if note is not None:
        words = f"{Held.of(note)} {who_and_why(note.actor, note.reason)}".rstrip()
        _line(f"[yellow]on hold[/]  {_escape(words)}")


def _header(*names: str) -> list[str]:
    return [f"[bold]{name}[/]" for name in names]


def _timeline(records: Sequence[Record], notes: Sequence[Note], before: float) -> list[list[str]]:
    """The rows of a timeline: for each record and note one row, and one row for each line of its details.

    Records and notes are in the order of their times.
    """
    rows = [_header("#".rjust(len(str(len(records)))), "at", "after", "what happened", "then")]
    left = list(notes)
    for record in records:
        while left and left[0].at < record.at:
            rows += _note(left.pop(0))
        words = _escape(in_words(record))
        if record.error is not None:
            words = f"[red]{words}[/]"
        after = f"{record.at - before:.3f} s"
        number = str(record.seq).rjust(len(str(len(records))))
        rows.append([number, _clock(record.at), after, words, _escape(place_in_words(record.target))])
        rows += [[f"    [dim]{_escape(line)}[/]"] for detail in details(record) for line in detail.splitlines()]
        before = record.at
    return rows + [row for note in left for row in _note(note)]


def _note(note: Note) -> list[list[str]]:
    """The rows of a timeline for one note: the note itself, then the lines with its actor and reason."""
    words = _escape(note_in_words(note.kind, note.value))
    rows = [["", _clock(note.at), "", f"[cyan]{words}[/]", ""]]
    more = who_and_why(note.actor, note.reason)
    return rows + [[f"    [dim]{_escape(line)}[/]"] for line in more.splitlines()]
