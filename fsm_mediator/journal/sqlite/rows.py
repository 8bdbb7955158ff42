"""Rows: records, acceptances, inbox items and drivers as rows of the schema, and back.

Whatever is turned into a row here can be turned back: texts are made storable, values are refused if they are not. No
connection is used in this file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from fsm_mediator.errors import JournalError, PayloadError
from fsm_mediator.journal.codec import encode
from fsm_mediator.journal.protocol import Driver, Entry
from fsm_mediator.records import Acceptance, Failure, InboxItem, Record
from fsm_mediator.states import COMPENSATING, ENDED, EXECUTING, PENDING, PROBING, STUCK, STUCK_EXECUTING

Row: TypeAlias = tuple[Any, ...]

NOW: Final = -math.inf
"""The `attention` of what a driver should look at whatever the time is."""

MESSAGE_LIMIT: Final = 16 * 1024
"""Characters of an error's message that are kept."""

TRACEBACK_LIMIT: Final = 64 * 1024
"""Characters of a traceback that are kept."""

_ACCEPTED: Final = "accepted"
_UNFINISHED: Final = frozenset((PENDING, EXECUTING, PROBING, COMPENSATING))
_STUCK: Final = frozenset((STUCK, STUCK_EXECUTING))


class UnencodableError(PayloadError, JournalError):
    """A value that cannot be journaled, among commits that are written together: it stands for its own commit."""


def attention(state: str, held: bool, mail: int, wake_at: float | None, *, awaits: bool = False) -> float | None:
    """When a driver should look at an execution: the one that holds it at its inbox, any other to take it up.

    Args:
        state: Where it stands.
        held: Whether a driver holds it.
        mail: How much is in its inbox that no driver has seen.
        wake_at: When a driver must look at it though nothing came.
        awaits: Whether it is in the midst of nothing, and waits for that; a stuck one: for its branches.

    Returns:
        `NOW`: whatever the time is; None: not by itself.
    """
    if held:
        return NOW if mail else None
    phase = state.partition(".")[0]
    if phase in ENDED:
        return None
    if phase in _STUCK:
        return NOW if mail and awaits else None
    if mail or (phase in _UNFINISHED and not awaits):
        return NOW
    return wake_at


class _Details(msgspec.Struct, omit_defaults=True):
    """What a record says besides its event, states and time; only what is there is written, so that it can grow."""

    step: str | None = None
    attempt: int = 0
    value: Any = None
    error: tuple[str, str, str] | None = None
    in_doubt: bool = False
    due_at: float | None = None
    reason: str | None = None
    abandoned: bool = False
    children: tuple[str, ...] | None = None


_NOTHING: Final = msgspec.Raw()


class _KeptDetails(_Details, omit_defaults=True):
    value: msgspec.Raw = _NOTHING


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_KeptDetails).decode


# Into rows


def encoded(value: Any, what: str, limit: int) -> bytes:
    """*value* as JSON that can be read again.

    Raises:
        PayloadError: It cannot be encoded, would not come back, or takes more than *limit* bytes.
    """
    json = encode(value, what, limit)
    if value.__class__ is msgspec.Raw:
        try:
            msgspec.json.decode(json)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise PayloadError(f"{what} cannot be journaled: it is msgspec.Raw that holds no JSON: {error}") from error
    return json


def stored_name(name: str, what: str) -> str:
    """*name*, if it can be stored.

    Raises:
        PayloadError: It holds a NUL, or half a character (a lone surrogate).
    """
    if not is_text(name):
        raise PayloadError(
            f"{what} {name!r} cannot be journaled: it holds a NUL, or half a character (a lone surrogate)"
        )
    return name


def is_text(name: str) -> bool:
    """Whether *name* can be stored at all; what cannot be is not in any journal."""
    if name.isprintable() and name.isascii():
        return True
    if "\0" in name:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(text: str | None) -> str | None:
    """*text* with what cannot be stored (lone surrogates) spelled out."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def record_rows(records: Sequence[Record], saga_id: str, limit: int) -> list[Row]:
    """Records as rows, without the number of their execution.

    Raises:
        PayloadError: A value cannot be journaled.
        JournalError: They do not follow one another.
    """
    rows = []
    seq = records[0].seq - 1 if records else 0
    for record in records:
        seq += 1
        if record.seq != seq or record.saga_id != saga_id:
            raise JournalError(
                f"records of execution {saga_id!r} do not follow one another: {record.seq} of {record.saga_id!r} comes "
                f"where {seq} was to come. Nothing was written"
            )
        details = _Details(record.step, record.attempt, record.value)
        if record.error is not None:
            details.error = _failure_row(record.error)
        if record.in_doubt or record.due_at is not None or record.reason is not None or record.abandoned:
            details.in_doubt = record.in_doubt
            details.due_at = record.due_at
            details.reason = storable(record.reason)
            details.abandoned = record.abandoned
        if record.children is not None:
            details.children = record.children
        try:
            json = _encode(details)
        except Exception:  # whatever a property or an iterator of the value raises as well
            encoded(record.value, _value_of(record), limit)  # says why
            raise PayloadError(
                f"record {seq} of execution {saga_id!r} cannot be journaled: a name in it holds half a character "
                f"(a lone surrogate)"
            ) from None
        if len(json) > limit or b"null" in json or record.value.__class__ is msgspec.Raw:
            encoded(record.value, _value_of(record), limit)
        rows.append((seq, record.event, record.source, record.target, record.at, json.decode()))
    return rows


def _value_of(record: Record) -> str:
    return f"execution {record.saga_id!r}: the value of record {record.seq} ({record.event!r} of {record.step!r})"


def acceptance_row(acceptance: Acceptance, limit: int) -> Row:
    """What opens an execution, as its record 0, without the number of the execution.

    Raises:
        PayloadError: The payload cannot be journaled.
    """
    payload = encoded(acceptance.payload, f"the payload of execution {acceptance.saga_id!r}", limit)
    next_one = "" if acceptance.successor is None else f',"step":{_encode(acceptance.successor).decode()}'
    return (0, _ACCEPTED, "", PENDING, acceptance.at, f'{{"value":{payload.decode()}{next_one}}}')


def standing_row(
    number: int,
    driver: int | None,
    state: str,
    at: float,
    mail: int,
    wake_at: float | None,
    *,
    unseen: int | None = None,
    awaits: bool = False,
) -> Row:
    """How an execution stands from now on, as a row of `queries.STAND`; *unseen*: of its mail, if not all."""
    ended_at = at if driver is None and state in ENDED else None
    calls = attention(state, driver is not None, mail if unseen is None else unseen, wake_at, awaits=awaits)
    return driver, wake_at, calls, mail, ended_at, number


def item_row(item: InboxItem, saga_id: str, limit: int) -> Row:
    """An inbox item as a row, without its number and that of its execution.

    Raises:
        PayloadError: Its value cannot be journaled.
    """
    what = f"what is posted to execution {saga_id!r} ({item.kind} {item.name!r})"
    value = None if item.value is None else encoded(item.value, what, limit).decode()
    return stored_name(item.kind, what), stored_name(item.name, what), value, storable(item.reason), item.at


def driver_row(driver: Driver) -> Row:
    """A driver as a row, without its number, last beat and lease."""
    return tuple(storable(text) if isinstance(text, str) else text for text in msgspec.structs.astuple(driver))


def _failure_row(failure: Failure) -> tuple[str, str, str]:
    return (
        _cut(failure.type, MESSAGE_LIMIT),
        _cut(failure.message, MESSAGE_LIMIT),
        _cut(failure.traceback, TRACEBACK_LIMIT),
    )


def _cut(text: str, limit: int) -> str:
    if len(text) > limit:
        # The end of a traceback says what happened, its beginning where it came from.
        left_out = len(text) - limit
        text = (
            f"{text[: limit // 4]}\n... {left_out:,} characters left out by the journal ...\n{text[-limit * 3 // 4 :]}"
        )
    return storable(text) or ""


# Out of rows


def record_of(row: Row, saga_id: str, saga: str) -> Record:
    """The record that *row* is: its columns from ``seq`` on."""
    seq, event, source, target, at, details = row
    kept = _decode(details)
    return Record(
        saga_id,
        saga,
        seq,
        event,
        source,
        target,
        at,
        kept.step,
        kept.attempt,
        None if kept.value is _NOTHING else kept.value,
        None if kept.error is None else Failure(*kept.error),
        kept.in_doubt,
        kept.due_at,
        kept.reason,
        kept.abandoned,
        kept.children,
    )


def items_of(rows: Iterable[Row]) -> tuple[InboxItem, ...]:
    """The inbox items that *rows* are."""
    return tuple(
        InboxItem(kind, name, None if value is None else msgspec.Raw(value), reason, at, number)
        for number, kind, name, value, reason, at in rows
    )


def entry_of(row: Row, driver: Driver | None, alive: bool) -> Entry:
    """The entry that a row of `queries.ENTRIES` is."""
    _, saga_id, saga, version, fingerprint, payload, at, deadline_at, parent, state, changed_at, seq, *rest = row
    epoch, _, wake_at, mail, calls = rest
    kept = _decode(payload)
    acceptance = Acceptance(saga_id, saga, version, fingerprint, kept.value, at, deadline_at, parent, kept.step)
    return Entry(acceptance, state, changed_at, seq, epoch, driver, alive, wake_at, mail, mail > 0 and calls == NOW)
