"""Rows: converts records, acceptances, inbox items and drivers to rows of plain data, and back.

Journals in a database use this module. Every row that it makes can be converted back: it makes texts storable, and
refuses values that cannot be decoded again. It uses no connection.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from fsm_mediator.ciphers import Cipher
from fsm_mediator.errors import IllegalRecordError, JournalError, PayloadError
from fsm_mediator.journal.attention import NOW, next_attention_at
from fsm_mediator.journal.codec import UNREADABLE, Codec
from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.planning import Plan, Planned
from fsm_mediator.journal.protocol import Driver, Entry, Recoveries
from fsm_mediator.journal.sealing import (
    NO_VALUE,
    Details,
    KeptDetails,
    open_details,
    plain_details,
    seal,
    seal_details,
    unseal,
)
from fsm_mediator.journal.storable import Encode, encode_of, storable, stored_name
from fsm_mediator.records import Acceptance, Failure, InboxItem, Record, VerbAnswer
from fsm_mediator.states import ENDED, FAILED, PENDING, phase_of

Row: TypeAlias = tuple[Any, ...]

MESSAGE_LIMIT: Final = 16 * 1024
"""The maximum number of characters of an error's message that are kept."""

TRACEBACK_LIMIT: Final = 64 * 1024
"""The maximum number of characters of a traceback that are kept."""

MOST_NAMES: Final = 1000
"""The maximum number of numbered branches whose names a record lists. For more branches it has only their count."""

_ACCEPTED: Final = "accepted"


class UnencodableError(PayloadError, JournalError):
    """A value cannot be journaled. In a call with several commits, only the commit with this value is refused."""


# To rows


def encoded(value: Any, what: str, encode: Encode) -> bytes:
    """Return *value* as JSON that can be decoded again. *what* names the value in messages.

    Raises:
        PayloadError: The value cannot be encoded, or its JSON cannot be decoded.
    """
    json = encode(value, what)
    if value.__class__ is msgspec.Raw:
        try:
            msgspec.json.decode(json)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise PayloadError(f"{what} cannot be journaled: it is msgspec.Raw that holds no JSON: {error}") from error
    return json


def about_record(saga_id: str, seq: int) -> str:
    """The text to which a cipher binds the details of a record."""
    return f"{saga_id}/{seq}"


def about_item(saga_id: str, name: str) -> str:
    """The text to which a cipher binds the texts of an inbox item."""
    return f"{saga_id}/inbox/{name}"


def are_same(kept: Sequence[Row], rows: Sequence[Row], saga_id: str, cipher: Cipher | None) -> bool:
    """Whether two lists of rows have the same records. Sealed texts are opened: equal texts are sealed differently."""
    if cipher is None or len(kept) != len(rows):
        return kept == rows
    opened = ([open_details(row[5], cipher, about_record(saga_id, row[0])) for row in each] for each in (kept, rows))
    values = [[(row.step, bytes(row.value), row.error, row.reason) for row in each] for each in opened]
    return [row[:5] for row in kept] == [row[:5] for row in rows] and values[0] == values[1]


def record_rows(records: Sequence[Record], saga_id: str, codec: Codec) -> list[Row]:
    """The rows of *records*, without the number of their execution.

    Raises:
        PayloadError: A value cannot be journaled.
        JournalError: The numbers of the records do not follow one another.
    """
    rows = []
    seq = records[0].seq if records else 0
    for record in records:
        if record.seq != seq or record.saga_id != saga_id:
            raise JournalError(
                f"records of execution {saga_id!r} do not follow one another: {record.seq} of {record.saga_id!r} comes "
                f"in place of {seq}. Nothing was written"
            )
        rows.append((seq, record.event, record.source, record.target, record.at, _details_of(record, codec)))
        seq += 1
    return rows


def _details_of(record: Record, codec: Codec) -> str:
    """The details of *record* as JSON. If the codec has a cipher, secrets in them are sealed.

    Raises:
        PayloadError: The value of the record cannot be journaled.
    """
    rare = record.in_doubt or record.due_at is not None or record.reason is not None or record.abandoned
    rare = rare or record.actor is not None or record.carrier is not None or record.children is not None
    details = None
    if rare or record.value is not None or record.error is not None:
        details = Details(record.step, record.attempt, record.value)
        if record.error is not None:
            details.error = failure_row(record.error)
        if rare:
            details.in_doubt = record.in_doubt
            details.due_at = record.due_at
            details.reason = storable(record.reason)
            details.abandoned = record.abandoned
            details.actor = storable(record.actor)
            details.carrier = record.carrier
            details.children = None if record.children is None else _shortened(record.children)
    try:
        if details is None:
            return plain_details(record.step, record.attempt)
        json = codec.to_json(details)
    except Exception:  # a property or an iterator of the value can raise anything
        encoded(record.value, _value_of(record), codec.encode)  # raises an error with the reason
        raise PayloadError(
            f"record {record.seq} of execution {record.saga_id!r} cannot be journaled: a name in it holds half a "
            f"character (a lone surrogate)"
        ) from None
    if len(json) > codec.limit or record.value.__class__ is msgspec.Raw:
        encoded(record.value, _value_of(record), encode_of(record, codec))
    text = json.decode()
    if "null" in text:  # it may stand for a number that JSON does not have
        encoded(record.value, _value_of(record), encode_of(record, codec))
    cipher = codec.cipher
    return text if cipher is None else seal_details(text, cipher, about_record(record.saga_id, record.seq))


def _shortened(names: tuple[str, ...]) -> tuple[str, ...] | int:
    """The names of branches. If there are many, and they are 0, 1, 2 and so on, only the number of names."""
    return len(names) if len(names) > MOST_NAMES and names == tuple(map(str, range(len(names)))) else names


def _value_of(record: Record) -> str:
    return f"execution {record.saga_id!r}: the value of record {record.seq} ({record.event!r} of {record.step!r})"


def acceptance_row(acceptance: Acceptance, encode: Encode, cipher: Cipher | None) -> Row:
    """An acceptance as the row of the execution's record 0, without the number of the execution.

    Raises:
        PayloadError: The payload cannot be journaled.
    """
    payload = "null"
    if acceptance.payload is not None:
        payload = encoded(acceptance.payload, f"the payload of execution {acceptance.saga_id!r}", encode).decode()
    more = "" if acceptance.successor is None else f',"step":{msgspec.json.encode(acceptance.successor).decode()}'
    if acceptance.carrier is not None:
        more += f',"carrier":{msgspec.json.encode(acceptance.carrier).decode()}'
    details = f'{{"value":{payload}{more}}}'
    if cipher is not None:
        details = seal_details(details, cipher, about_record(acceptance.saga_id, 0))
    return (0, _ACCEPTED, "", PENDING, acceptance.at, details)


def planned_rows(plan: Plan, codec: Codec) -> list[Row]:
    """Planned branches as rows: deadline_at, dormant, and ``at`` and ``details`` of the branch's future record 0.

    Raises:
        PayloadError: A payload cannot be journaled.
    """
    later = {branch.successor for branch in plan.branches}
    rows = []
    for branch in plan.branches:
        *_, at, details = acceptance_row(branch, codec.json, codec.cipher)
        rows.append((branch.deadline_at, branch.saga_id in later, at, details))
    return rows


def ended_row(failure: Failure, saga_id: str, cipher: Cipher | None) -> str:
    """The error that ends planned branches, as JSON."""
    return msgspec.json.encode((failure.type, seal(storable(failure.message), cipher, f"{saga_id}/planned"))).decode()


def planned_from(row: Row, saga_id: str, cipher: Cipher | None) -> Planned:
    """The planned branches of *row*: first number, end, number of the first dormant branch, error that ended them."""
    first, end, dormant, ended = row
    failure = None
    if ended is not None:
        kind, message = msgspec.json.decode(ended, type=tuple[str, str])
        failure = Failure(kind, unseal(message, cipher, f"{saga_id}/planned") or "")
    return Planned(first, end, end if dormant is None else dormant, failure)


def execution_row(
    number: int,
    driver: int | None,
    state: str,
    at: float,
    mail: int,
    wake_at: float | None,
    *,
    unseen: bool | None = None,
    awaits: bool = False,
) -> Row:
    """The new values for an execution's row: driver, wake_at, attention, mail, ended_at, failed, parked, number.

    *mail*: the number of inbox items. *unseen*: whether any of the items is unseen. None if all of them are unseen.
    """
    attention = next_attention_at(state, driver is not None, mail if unseen is None else unseen, wake_at, awaits=awaits)
    ended_at = at if driver is None and state in ENDED and attention is None else None
    return driver, wake_at, attention, mail, ended_at, state == FAILED, phase_of(state), number


def item_row(item: InboxItem, saga_id: str, encode: Encode, cipher: Cipher | None) -> Row:
    """An inbox item as a row, without its number and the number of its execution.

    Raises:
        PayloadError: The value of the item cannot be journaled.
    """
    what = f"what is posted to execution {saga_id!r} ({item.kind} {item.name!r})"
    value = None if item.value is None else encoded(item.value, what, encode).decode()
    value, reason = (seal(text, cipher, about_item(saga_id, item.name)) for text in (value, storable(item.reason)))
    names = stored_name(item.kind, what), stored_name(item.name, what)
    carrier = None if item.carrier is None else msgspec.json.encode(item.carrier).decode()
    return *names, value, reason, storable(item.actor), carrier, item.at


def driver_row(driver: Driver) -> Row:
    """A driver as a row, without its number, last beat, lease, limits and definitions."""
    identity = driver.id, driver.host, driver.boot_id, driver.pid_namespace, driver.pid, driver.started
    return tuple(storable(text) if isinstance(text, str) else text for text in identity)


def answer_row(answer: VerbAnswer, cipher: Cipher | None) -> Row:
    """The answer to a verb as a row."""
    return answer.number, answer.name, answer.seq, seal(storable(answer.refusal), cipher, answer.name), answer.at


def answer_of(row: Row, cipher: Cipher | None) -> VerbAnswer:
    """The answer to a verb in *row*, a row that `answer_row` made."""
    number, name, seq, refusal, at = row
    return VerbAnswer(number, name, seq, unseal(refusal, cipher, name), at)


def fault_row(fault: Fault, saga_id: str, cipher: Cipher | None) -> tuple[str | None, ...]:
    """A fault as a row: type, field and message. The message is sealed, because it may contain a value."""
    kind, field, message = map(storable, msgspec.structs.astuple(fault))
    return kind, field, seal(message, cipher, f"{saga_id}/fault")


def fault_of(row: Sequence[str], saga_id: str, cipher: Cipher | None) -> Fault:
    """The fault in *row*, a row that `fault_row` made. Its message is opened with *cipher*."""
    kind, field, message = row
    return Fault(kind, field, unseal(message, cipher, f"{saga_id}/fault") or "")


def failure_row(failure: Failure) -> tuple[str, str, str]:
    """A failure as type, message and traceback, each cut to its limit."""
    limits = (MESSAGE_LIMIT, MESSAGE_LIMIT, TRACEBACK_LIMIT)
    kind, message, traceback = map(_cut, (failure.type, failure.message, failure.traceback), limits)
    return kind, message, traceback


def _cut(text: str, limit: int) -> str:
    if len(text) > limit:
        # The end of a traceback has the error, and its beginning has the origin of the call. So both are kept.
        left_out = len(text) - limit
        text = (
            f"{text[: limit // 4]}\n... {left_out:,} characters left out by the journal ...\n{text[-limit * 3 // 4 :]}"
        )
    return storable(text) or ""


# From rows

UNREADABLE_AS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError)
"""Errors that msgspec raises if a text is no JSON, has another shape, is nested too deeply, or is no text."""


def record_of(row: Row, saga_id: str, saga: str, cipher: Cipher | None) -> Record:
    """The record in *row*, which has the columns of the table ``records`` from ``seq`` on.

    Raises:
        IllegalRecordError: The details of the record are damaged, or nested too deeply.
    """
    seq, event, source, target, at, details = row
    try:
        kept = open_details(details, cipher, about_record(saga_id, seq))
    except UNREADABLE_AS as why:
        raise IllegalRecordError(
            f"execution {saga_id!r}: record {seq} cannot be read: its row is damaged, or nested too deeply ({why})", seq
        ) from why
    value = None if kept.value is NO_VALUE else kept.value
    error = None if kept.error is None else Failure(*kept.error)
    children = tuple(map(str, range(kept.children))) if isinstance(kept.children, int) else kept.children
    more = kept.in_doubt, kept.due_at, kept.reason, kept.abandoned, children, kept.actor, kept.carrier
    return Record(saga_id, saga, seq, event, source, target, at, kept.step, kept.attempt, value, error, *more)


def records_of_each(rows: Iterable[Row], cipher: Cipher | None) -> dict[str, list[Record]]:
    """The records of several executions, by id. An execution with a damaged record is left out.

    *rows* has the rows of each execution together, in order: the id, the saga's name, and then the row of `record_of`.
    """
    found: dict[str, list[Record]] = {}
    for saga_id, group in itertools.groupby(rows, operator.itemgetter(0)):
        with contextlib.suppress(IllegalRecordError):
            found[saga_id] = [record_of(tuple(row), saga_id, saga, cipher) for _, saga, *row in group]
    return found


def items_of(rows: Iterable[Row], saga_id: str, cipher: Cipher | None) -> tuple[InboxItem, ...]:
    """The inbox items in *rows*, rows that `item_row` made. Their texts are opened with *cipher*."""
    items = []
    for number, kind, name, *texts, actor, carrier, at in rows:
        text, reason = (unseal(each, cipher, about_item(saga_id, name)) for each in texts)
        value = None if text is None else msgspec.Raw(text.encode())
        trace = None if carrier is None else msgspec.json.decode(carrier, type=dict[str, str])
        items.append(InboxItem(kind, name, value, reason, at, number, actor, trace))
    return tuple(items)


def entry_of(row: Row, driver: Driver | None, alive: bool, *, cipher: Cipher | None) -> Entry:
    """The entry in *row*, which has the columns of ``sql.ENTRIES``. *alive*: whether *driver*, the owner, is alive."""
    _, saga_id, saga, version, fingerprint, payload, at, deadline_at, parent, state, changed_at, seq, *rest = row
    epoch, _, wake_at, mail, attention, *recoveries, queued = rest
    try:
        kept = open_details(payload, cipher, about_record(saga_id, 0))
    except UNREADABLE_AS:  # the driver reports the error: one bad row must not break a list
        kept = KeptDetails(value=UNREADABLE)
    acceptance = Acceptance(saga_id, saga, version, fingerprint, kept.value, at, deadline_at, parent, kept.step)
    if kept.carrier is not None:
        acceptance = msgspec.structs.replace(acceptance, carrier=kept.carrier)
    called = mail > 0 and attention == NOW
    counted = Recoveries(*recoveries)
    known = state, changed_at, seq, epoch, driver, alive, wake_at, mail, called, counted
    return Entry(acceptance, *known, queued=queued)
