"""Narration: describe records and states as text, for terminals, pictures and error messages."""

from __future__ import annotations

from collections.abc import Iterable

from fsm_mediator.error_types import DefinitionError
from fsm_mediator.records import Record
from fsm_mediator.states import ABANDON, COMPENSATING, PENDING, PHASES, split_state

WORDS = {
    "start": "begins",
    "executed": "is executed",
    "errored": "fails",
    "unsure": "is in doubt, its probe is asked",
    "retry_due": "is tried again",
    "rejected": "is given up",
    "in_doubt": "is given up in doubt",
    "exhausted": "is given up and waits for a person",
    "compensated": "is compensated",
    "compensation_errored": "fails to be compensated",
    "compensation_due": "is tried again to be compensated",
    "compensation_exhausted": "cannot be compensated and waits for a person",
    "retry": "is tried again, says a person",
    "settled_undone": "has no effect, says a person",
    "settled_done": "has its effect, says a person",
    "undo": "is undone, says a person",
}
"""For each event of the machine, the words that come after the name of the step: ``is executed``."""

PLACES = {
    "pending": "pending",
    "executing": "execute {}",
    "retrying": "wait to retry {}",
    "probing": "probe {}",
    "waiting": "wait in {}",
    "compensating": "compensate {}",
    "retrying_compensation": "wait to compensate {} again",
    "stuck": "stuck in {}",
    "stuck_executing": "stuck executing {}",
    "succeeded": "succeeded",
    "failed": "failed",
}
"""For each phase of the machine, a text in which ``{}`` stands for the path of the part."""

assert set(PLACES) == set(PHASES)


def in_words(record: Record) -> str:
    """A description of *record* as text: ``charge is executed``."""
    attempt = record.attempt + 1 if record.event in ("retry_due", "compensation_due") else record.attempt
    number = f", attempt {attempt}" if attempt > 1 or record.event in ("errored", "compensation_errored") else ""
    words = "is given up by a person; nothing is undone" if record.event == ABANDON else WORDS[record.event]
    return f"{record.step or 'the saga'} {words}{number}"


def place_in_words(state: str) -> str:
    """A description of *state* as text: ``compensate charge`` for ``compensating.charge``."""
    phase, path = split_state(state)
    return PLACES[phase].format(path)


def details(record: Record) -> list[str]:
    """One text for each further detail of *record*: its error, doubt, actor and reason, and the length of the wait."""
    found = []
    if record.error is not None and record.event not in ("retry_due", "compensation_due"):
        found.append(str(record.error))
    if record.abandoned:
        found.append("its thread may be running still")
    elif record.in_doubt and not record.target.startswith((COMPENSATING, PENDING)) and record.event != "retry_due":
        found.append("it may have had its effect")
    reason = record.reason if record.error is None or (record.reason or "") not in record.error.message else None
    if words := who_and_why(record.actor, reason):
        found.append(words)
    if record.due_at is not None and record.due_at > record.at:
        found.append(f"waits {span(record.due_at - record.at)}")
    return found


def who_and_why(actor: str | None, reason: str | None) -> str:
    """An actor and a reason as text: ``by ann: the power is back``. Empty if both are None or empty."""
    return ": ".join(filter(None, (actor and f"by {actor}", reason)))


def span(seconds: float) -> str:
    """A time span of *seconds* as text, in seconds, minutes, hours or days: ``3.5 h``."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def note_in_words(kind: str, value: object) -> str:
    """A note of the kind *kind* with the value *value*, as text: ``attributes: tenant=acme``."""
    if isinstance(value, dict):
        value = ", ".join(f"{name}={each}" for name, each in value.items())
    return kind.replace("_", " ") + ("" if value is None else f": {value}")


def timeline(records: Iterable[Record]) -> str:
    """The timeline of *records* as text: a line for each record, with its details below it.

    A line has the seconds since the first record, the event, and the next state.

    Raises:
        DefinitionError: *records* are not records.
    """
    if not isinstance(records, Iterable):
        raise DefinitionError(f"timeline() takes records, such as outcome.history, not {records!r}")
    lines = []
    first = None
    for record in records:
        if not isinstance(record, Record):
            raise DefinitionError(f"timeline() takes records, such as outcome.history; {record!r} is not a record")
        first = record.at if first is None else first
        lines.append(f"{record.at - first:9.3f} s  {in_words(record):<40} -> {place_in_words(record.target)}")
        # All lines of a message are indented, because a line further left would look like another record.
        lines += [f"{'':13}{line}" for detail in details(record) for line in detail.splitlines()]
    return "\n".join(lines)
