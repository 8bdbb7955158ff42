"""Codec: payloads, results and signal values as JSON, by msgspec. A value that would not come back is refused.

A value is encoded and decoded again before it is accepted, and steps see the decoded value: the same with and without a
crash. Decoding is by type: the saga's ``payload``, the return annotation of a step's `execute`.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Any, Final, Never, NoReturn

import msgspec

from fsm_mediator.definition.saga import Saga, find_signal
from fsm_mediator.errors import DefinitionError, IllegalRecordError, PayloadError, ResultRefusedError
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.machine.parts import Part
from fsm_mediator.records import SIGNAL, Acceptance, Failure, InboxItem, Record

MAX_BYTES: Final = 1024 * 1024
"""The default limit of one encoded value."""

_encoder = msgspec.json.Encoder()


def encode(value: Any, what: str, limit: int = MAX_BYTES) -> bytes:
    """*value* as JSON.

    Raises:
        PayloadError: It cannot be encoded, holds numbers that JSON does not know, or takes more than *limit* bytes.
    """
    try:
        encoded = _encoder.encode(value)
    except Exception as error:  # a property or an iterator of the value can raise anything
        raise PayloadError(
            f"{what} cannot be journaled: {error}. Plain data can be: attrs, dataclasses, TypedDict, msgspec.Struct "
            f"and what JSON knows"
        ) from error
    if len(encoded) > limit:
        raise PayloadError(
            f"{what} takes {len(encoded):,} bytes as JSON, more than the limit of {limit:,}. Keep large things "
            f"elsewhere and pass their name, or raise the limit: journal=SQLiteJournal(path, max_value_bytes=...)"
        )
    # The encoder writes null for NaN, which would come back as None. Only a value with a null in it is searched.
    if b"null" in encoded and value is not None and _holds_no_number(msgspec.to_builtins(value, enc_hook=_of_raw)):
        raise PayloadError(
            f"{what} cannot be journaled: it holds NaN or an infinite number, which JSON does not know. Use None, or a "
            f"text"
        )
    return encoded


def _of_raw(_: Any) -> None:
    """Called for `msgspec.Raw` alone: it is JSON already, which has no NaN."""


def _holds_no_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(_holds_no_number, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_holds_no_number, value))


def decode(raw: bytes | msgspec.Raw, type: Any, what: str) -> Any:
    """The value that *raw* holds, as *type*.

    Raises:
        PayloadError: It holds none of that type.
    """
    try:
        return _decoder(type).decode(raw)
    except Exception as error:  # a __post_init__ can raise anything
        raise PayloadError(f"{what} does not come back from the journal as {_name(type)}: {error!r}") from error


def check_types(saga: Saga) -> None:
    """Check that the payload and the results of a saga have types that can be decoded.

    Raises:
        DefinitionError: Names the type and where it stands.
    """
    places = [(f"saga {saga.name!r}: payload", saga.payload)]
    places += [(f"saga {saga.name!r}, step {part.path!r}: the result", result_type(part)) for part in saga.parts]
    for where, type in places:
        if type is not None:
            try:
                _decoder(type)
                _refuse_opaque(type)
            except Exception as error:  # a NameError, for one, where a field's annotation cannot be resolved
                raise DefinitionError(
                    f"{where} is annotated as {_name(type)}, which msgspec cannot decode: {error}. Use attrs, a "
                    f"dataclass, a TypedDict, a msgspec.Struct or JSON types, or a journal that keeps objects "
                    f"(journal=None)"
                ) from error


def _refuse_opaque(type: Any) -> None:
    """Raise TypeError for a class that msgspec accepts in a decoder, but cannot decode anything as."""
    from msgspec import inspect

    seen: set[int] = set()
    todo: list[Any] = [inspect.type_info(type)]
    while todo:
        info = todo.pop()
        if isinstance(info, inspect.CustomType):
            raise TypeError(f"{_name(info.cls)} is an ordinary class")
        if isinstance(info, (tuple, list)):
            todo += info
        elif isinstance(info, msgspec.Struct) and id(info) not in seen:
            seen.add(id(info))
            todo += [getattr(info, field) for field in info.__struct_fields__]


def roundtrip_payload(saga: Saga, payload: Any, limit: int = MAX_BYTES) -> Any:
    """*payload* as every step will see it.

    Raises:
        PayloadError: It cannot be encoded, is too large, or does not come back as the saga's payload type.
    """
    if payload is None and saga.payload is None:
        return None
    what = f"the payload of saga {saga.name!r}"
    return decode(encode(payload, what, limit), Any if saga.payload is None else saga.payload, what)


def roundtrip_result(part: Part, value: Any, limit: int = MAX_BYTES) -> Any:
    """A result as the steps after *part* will see it.

    Raises:
        ResultRefusedError: It cannot be encoded, is too large, or does not come back as annotated.
    """
    type = result_type(part)
    if value is None and (type is Any or type is NoneType):
        return None  # the same after a round trip, and many steps return nothing
    what = f"the result of step {part.path!r}"
    try:
        return decode(encode(value, what, limit), type, what)
    except PayloadError as error:
        raise ResultRefusedError(f"{error} (the step took effect all the same)") from error


class JournalEncoding:
    """Payloads and results as a journal that encodes gives them back.

    Args:
        limit: The most bytes of a value.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def payload(self, saga: Saga, value: Any) -> Any:
        """As `roundtrip_payload`."""
        return roundtrip_payload(saga, value, self._limit)

    def result(self, part: Part, value: Any) -> Any:
        """As `roundtrip_result`, of a value that was accepted."""
        return roundtrip_result(part, value, sys.maxsize)


def result_type(part: Part) -> Any:
    """The type that the part's results are decoded as."""
    returns = part.execute.returns if part.execute is not None else part.returns
    return Any if returns is NoReturn or returns is Never else returns  # it always raises: there is no result


def decode_acceptance(saga: Saga, acceptance: Acceptance) -> Acceptance:
    """*acceptance* with its payload decoded, if it is encoded."""
    if not isinstance(acceptance.payload, msgspec.Raw):
        return acceptance
    what = f"the payload of execution {acceptance.saga_id!r}"
    payload = decode(acceptance.payload, Any if saga.payload is None else saga.payload, what)
    return msgspec.structs.replace(acceptance, payload=payload)


def decode_records(saga: Saga, records: Iterable[Record]) -> Iterator[Record]:
    """*records* with their encoded values decoded.

    Raises:
        IllegalRecordError: A value belongs to a part that the saga does not have.
    """
    for record in records:
        if isinstance(record.value, msgspec.Raw):
            try:
                part = saga.part(record.step or "")
            except LookupError as error:
                raise IllegalRecordError(str(error), record.seq) from error
            what = f"execution {record.saga_id!r}, record {record.seq}: the result of {record.step!r}"
            kind = list[str] if record.event == "compensated" else result_type(part)  # the leftovers of a group
            yield msgspec.structs.replace(record, value=decode(record.value, kind, what))
        else:
            yield record


def roundtrip_signal(part: Part, value: Any, limit: int = MAX_BYTES) -> Any:
    """A signal's value as the saga will see it.

    Raises:
        PayloadError: It cannot be encoded, is too large, or is of another type than the signal's.
    """
    what = f"the value of signal {part.path!r}"
    json = encode(value, what, limit)
    try:
        return decode(json, part.returns, what)
    except PayloadError as error:
        raise PayloadError(f"signal {part.path!r} takes a {_name(part.returns)}: {error.__cause__}") from error


def decode_items(saga: Saga, items: Iterable[InboxItem]) -> tuple[InboxItem, ...]:
    """*items* with their encoded values decoded."""
    return tuple(_decoded_item(saga, item) if isinstance(item.value, msgspec.Raw) else item for item in items)


def _decoded_item(saga: Saga, item: InboxItem) -> InboxItem:
    kind: Any = Any
    if item.kind == SIGNAL:
        found = find_signal(saga, item.name)
        kind = Any if found is None else found.part.returns
    return msgspec.structs.replace(item, value=decode(item.value, kind, f"the value of {item.kind} {item.name!r}"))


def encoded_item(saga_id: str, item: InboxItem, limit: int) -> InboxItem:
    """*item* with its value encoded.

    Raises:
        PayloadError: It cannot be encoded, or is too large.
    """
    if item.value is None:
        return item
    raw = msgspec.Raw(encode(item.value, f"execution {saga_id!r}: {item.name!r}", limit))
    return msgspec.structs.replace(item, value=raw)


def encoded_commit(commit: Commit, limit: int) -> Commit:
    """*commit* as a journal that encodes gives it back: values encoded, errors as text.

    Raises:
        PayloadError: A value cannot be encoded, or is too large.
    """
    what = f"execution {commit.saga_id!r}: a value"

    def raw(value: object) -> msgspec.Raw:
        return msgspec.Raw(encode(value, what, limit))

    def accepted(opened: Acceptance) -> Acceptance:
        return msgspec.structs.replace(opened, payload=raw(opened.payload))

    def recorded(record: Record) -> Record:
        value = None if record.value is None else raw(record.value)
        error = record.error and Failure(record.error.type, record.error.message, record.error.traceback)
        return msgspec.structs.replace(record, value=value, error=error)

    return msgspec.structs.replace(
        commit,
        records=tuple(map(recorded, commit.records)),
        acceptance=commit.acceptance and accepted(commit.acceptance),
        children=tuple(map(accepted, commit.children)),
        dormant=tuple(map(accepted, commit.dormant)),
        posts=tuple((saga_id, encoded_item(saga_id, item, limit)) for saga_id, item in commit.posts),
    )


def _name(type: Any) -> str:
    return getattr(type, "__qualname__", None) or repr(type)


def _decoder(type: Any) -> msgspec.json.Decoder[Any]:
    try:
        return _known_decoder(type)
    except TypeError:
        return msgspec.json.Decoder(type)  # an unhashable annotation cannot be cached; a wrong one fails here again


@functools.lru_cache(maxsize=1024)
def _known_decoder(type: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type)
