"""Codec: encodes payloads, results and signal values as JSON, with msgspec. It refuses values that cannot be decoded.

Before a value is accepted, it is encoded and decoded. Steps get the decoded value, so they get the same value with
and without a crash. A value is decoded as its declared type: the saga's ``payload``, or the return annotation of a
step's `execute`.
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Never, NoReturn

import msgspec

from fsm_mediator.definition.flatten import users_level
from fsm_mediator.definition.saga import Saga, find_signal
from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import DefinitionError, DefinitionWarning, IllegalRecordError, PayloadError, ResultRefusedError
from fsm_mediator.journal.plain import (
    Types,
    check_hooks,
    describe_change,
    from_plain,
    name_of_type,
    to_plain,
    types_within,
)
from fsm_mediator.machine.parts import Part
from fsm_mediator.models import is_model
from fsm_mediator.records import SIGNAL, Acceptance, Failure, InboxItem, Record

if TYPE_CHECKING:
    from fsm_mediator.ciphers import Cipher

MAX_BYTES: Final = 1024 * 1024
"""The default limit of one encoded value, in bytes."""

MAX_DEPTH: Final = 200
"""The maximum depth of nested lists and objects. Every Python can decode this depth, even deep in the call stack."""

UNREADABLE: Final = msgspec.Raw(b"")
"""Stands for a value whose row in the journal cannot be read."""


class Codec:
    """Encodes and decodes the values of one journal.

    Args:
        limit: The maximum size of one value, in bytes.
        types: The hooks for types that msgspec does not know.
        cipher: Seals texts: see ``sealing.py``. The journal applies the cipher when it writes and reads rows.

    Attributes:
        limit: The maximum size of one value, in bytes. The other arguments are attributes with the same names.
        to_json: Encodes any value, without a check.

    Raises:
        DefinitionError: *types* is not a pair of functions, or *cipher* is not a cipher.
    """

    def __init__(self, limit: int = MAX_BYTES, types: Types | None = None, cipher: Cipher | None = None) -> None:
        check_hooks("a journal", types)
        if cipher is not None:
            from fsm_mediator.ciphers import check_cipher  # loaded when it is used

            check_cipher("a journal", cipher)
        self.cipher = cipher
        self.limit = limit
        self.types = types
        to_hook, from_hook = types or (None, None)
        self._to_plain = functools.partial(to_plain, to_hook)
        self._from_plain = functools.partial(from_plain, from_hook)
        self.to_json: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=self._to_plain).encode
        self._to_sorted_json = msgspec.json.Encoder(enc_hook=self._to_plain, order="deterministic").encode
        self._decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
        self._compared: set[str] = set()
        self._warned: set[str] = set()

    # Values

    def json(self, value: Any, what: str) -> bytes:
        """Return *value* as JSON. The value was accepted earlier, so its size and its depth are not checked.

        *what* names the value in messages.

        Raises:
            PayloadError: The value cannot be encoded.
        """
        try:
            return self.to_json(value)
        except RecursionError as error:
            raise _too_deep(what) from error
        except Exception as error:  # a property or an iterator of the value can raise anything
            raise PayloadError(
                f"{what} cannot be journaled: {Failure.of(error).message}. Plain data can be: attrs, dataclasses, "
                f"TypedDict, msgspec.Struct, pydantic's models and what JSON knows; other types with "
                f"types=(to_plain, from_plain), a setting of the journal"
            ) from error

    def encode(self, value: Any, what: str) -> bytes:
        """Return *value* as JSON. *what* names the value in messages.

        Raises:
            PayloadError: The value cannot be encoded, is nested too deeply, holds numbers that JSON does not have, or
                is larger than the limit.
        """
        encoded = self.json(value, what)
        if len(encoded) > self.limit:
            raise PayloadError(
                f"{what} takes {len(encoded):,} bytes as JSON, more than the limit of {self.limit:,}. Keep large "
                f"things elsewhere and pass their name, or raise the limit: "
                f"journal=SQLiteJournal(path, max_value_bytes=...)"
            )
        if len(encoded) > MAX_DEPTH and is_nested_deeper(encoded, MAX_DEPTH):
            raise _too_deep(what)
        # The encoder writes null for NaN, and null is decoded as None. Only a value whose JSON has a null is searched.
        # `in` takes twice as long as `find`: it first tries to use b"null" as a number, and creates an error.
        if value is not None and encoded.find(b"null") >= 0 and self._holds_no_number(value):
            raise PayloadError(
                f"{what} cannot be journaled: it holds NaN or an infinite number, which JSON does not know. Use None, "
                f"or a text"
            )
        return encoded

    def _holds_no_number(self, value: Any) -> bool:
        def plain(each: Any) -> Any:  # `msgspec.Raw` is JSON already, which has no NaN
            return None if isinstance(each, msgspec.Raw) else self._to_plain(each)

        return _holds_no_number(msgspec.to_builtins(value, enc_hook=plain))

    def decode(self, raw: bytes | msgspec.Raw, type: Any, what: str) -> Any:
        """Decode *raw* as *type*. *what* names the value in messages.

        Raises:
            PayloadError: *raw* does not hold a value of this type.
        """
        if raw is UNREADABLE:
            raise PayloadError(f"{what} cannot be read: its row in the journal is damaged, or nested too deeply")
        try:
            return self._decoder(type).decode(raw)
        except Exception as error:  # a __post_init__ can raise anything
            from fsm_mediator.journal.sealing import is_sealed, why_sealed  # loaded when it is used

            if is_sealed(raw):
                raise PayloadError(f"{what} {why_sealed(raw, self.cipher)}") from None
            name = name_of_type(type)
            failed = PayloadError(f"{what} does not come back from the journal as {name}: {safe_repr(error, 1000)}")
            failed.type = name
            raise failed from error

    def _decoder(self, type: Any) -> msgspec.json.Decoder[Any]:
        try:
            decoder = self._decoders.get(type)
        except TypeError:
            return msgspec.json.Decoder(type, dec_hook=self._from_plain)  # an unhashable annotation cannot be cached
        if decoder is None:
            decoder = msgspec.json.Decoder(type, dec_hook=self._from_plain)
            if len(self._decoders) < 1024:
                self._decoders[type] = decoder
        return decoder

    # Values that are not accepted yet

    def accept_payload(self, saga: Saga, payload: Any) -> Any:
        """Return *payload* after encoding and decoding, as every step will get it.

        Raises:
            PayloadError: The payload cannot be encoded, is too large, or cannot be decoded as the saga's payload type.
        """
        if payload is None and saga.payload is None:
            return None
        return self._accept(payload, payload_type(saga), _payload_of(saga), in_order=True)

    def accept_signal(self, part: Part, value: Any) -> Any:
        """A signal's value after encoding and decoding, as the saga will get it.

        Raises:
            PayloadError: The value cannot be encoded, is too large, or does not have the type of the signal.
        """
        what = f"the value of signal {part.path!r}"
        self.encode(value, what)
        try:
            return self._accept(value, part.returns, what, in_order=True)
        except PayloadError as error:
            why = Failure.of(error.__cause__ or error).message
            raise PayloadError(f"signal {part.path!r} takes a {name_of_type(part.returns)}: {why}") from error

    def accept_result(self, part: Part, value: Any) -> Any:
        """A result of *part* after encoding and decoding, as the later steps will get it.

        Raises:
            ResultRefusedError: The result cannot be encoded, is too large, or cannot be decoded as the annotated type.
        """
        type = result_type(part)
        if value is None and (type is Any or type is NoneType):
            return None  # None is unchanged by a round trip, and many steps return None
        try:
            return self._accept(value, type, _result_of(part))
        except (PayloadError, DefinitionWarning) as error:  # a warning, if the user turns warnings into errors
            raise ResultRefusedError(f"{error} (the {part.kind.value} took effect all the same)") from error

    def _accept(self, value: Any, type: Any, what: str, *, in_order: bool = False) -> Any:
        """Return *value* after encoding and decoding.

        If *in_order* is True, the elements of each set in *value* get an order that is the same in every process.
        """
        back = self.decode(self.encode(value, what), type, what)
        if type is not Any:
            self.encode(back, what)  # checks the size of the text to write: default values of fields make it larger
        same = (in_order or type is Any) and are_equal(value, back)
        if type is Any and not (same and what in self._compared):
            self._warn_of_change(value, back, what)
        return self._in_order(value, back, type, what) if in_order and not same else back

    def _warn_of_change(self, value: Any, back: Any, what: str) -> None:
        """Warn if decoding changes *value*, which has no declared type. It warns at most once for each *what*."""
        if what in self._warned:
            return
        self._compared.add(what)
        try:
            change = describe_change(value, back)
        except RecursionError:  # this call is too deep in the stack: a later value is compared
            return
        if change is not None:
            self._warned.add(what)
            warnings.warn(
                f"{what} comes back from the journal changed: {change}. Steps see it as it comes back. Declare its "
                f"type: Saga(payload=...), Signal(payload=...), or the annotation of what the step returns",
                DefinitionWarning,
                stacklevel=users_level(),
            )

    def _in_order(self, value: Any, back: Any, type: Any, what: str) -> Any:
        """Return *back*, the decoded *value*, with each set of *value* as a sorted list.

        So two processes that start an execution with equal values write the same text.
        """
        try:
            ordered = self.decode(self._to_sorted_json(value), type, what)
        except TypeError:  # elements of different types have no order
            return back
        return back if are_equal(ordered, back) else _in_order_of(back, ordered)

    # Values that were accepted earlier. Each attempt gets copies, so the text for an error is made only for an error.

    def payload(self, saga: Saga, value: Any) -> Any:
        """A copy of an accepted payload, encoded and decoded as the journal does it."""
        if value is None and saga.payload is None:
            return None
        return self._copied(value, payload_type(saga), _payload_of, saga)

    def result(self, part: Part, value: Any) -> Any:
        """A copy of an accepted result, encoded and decoded as the journal does it."""
        type = result_type(part)
        if value is None and (type is Any or type is NoneType):
            return None
        return self._copied(value, type, _result_of, part)

    def _copied(self, value: Any, type: Any, name_of: Callable[[Any], str], about: Any) -> Any:
        """A copy of an accepted value. ``name_of(about)`` names the value in messages, and is only called for these."""
        try:
            return self._decoder(type).decode(self.to_json(value))
        except Exception:
            what = name_of(about)
            return self.decode(self.json(value, what), type, what)  # raises an error with the reason

    # Values from the journal

    def decode_acceptance(self, saga: Saga, acceptance: Acceptance) -> Acceptance:
        """Return *acceptance* with its payload decoded, if it is encoded."""
        if not isinstance(acceptance.payload, msgspec.Raw):
            return acceptance
        what = f"the payload of execution {acceptance.saga_id!r}"
        payload = self.decode(acceptance.payload, payload_type(saga), what)
        return msgspec.structs.replace(acceptance, payload=payload)

    def decode_records(self, saga: Saga, records: Iterable[Record]) -> Iterator[Record]:
        """Return *records* with their encoded values decoded.

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
                kind = list[str] if record.event == "compensated" else result_type(part)  # a group's leftovers
                yield msgspec.structs.replace(record, value=self.decode(record.value, kind, what))
            else:
                yield record

    def decode_items(self, saga: Saga, items: Iterable[InboxItem]) -> tuple[InboxItem, ...]:
        """Return *items* with their encoded values decoded."""
        return tuple(self._decoded(saga, item) if isinstance(item.value, msgspec.Raw) else item for item in items)

    def _decoded(self, saga: Saga, item: InboxItem) -> InboxItem:
        kind: Any = Any
        if item.kind == SIGNAL:
            found = find_signal(saga, item.name)
            kind = Any if found is None else found.part.returns
        value = self.decode(item.value, kind, f"the value of {item.kind} {item.name!r}")
        return msgspec.structs.replace(item, value=value)

    # Types

    def check_types(self, saga: Saga) -> None:
        """Check that the types of a saga's payload and results can be decoded.

        Raises:
            DefinitionError: A type cannot be decoded. The message names the type and its place in the saga.
        """
        places = [(f"saga {saga.name!r}: payload", saga.payload)]
        places += [(f"saga {saga.name!r}, step {part.path!r}: the result", result_type(part)) for part in saga.parts]
        for where, type in places:
            if type is not None:
                try:
                    self.check_type(type)
                except Exception as error:  # such as a NameError for a field's annotation
                    raise DefinitionError(
                        f"{where} is annotated as {name_of_type(type)}, which msgspec cannot decode: {error}. Use "
                        f"attrs, a dataclass, a TypedDict, a msgspec.Struct, a pydantic model or JSON types. You can "
                        f"also give the journal types=(to_plain, from_plain), or use a journal that keeps objects "
                        f"(journal=None)"
                    ) from error

    def check_type(self, type: Any) -> None:
        """Check that values of *type* can be decoded.

        msgspec makes a decoder for any class, even if the decoder cannot decode any value.

        Raises:
            Exception: Values cannot be decoded. The exception can have any type.
        """
        self._decoder(type)
        for info in types_within(type):
            if isinstance(info, msgspec.inspect.CustomType) and self.types is None and not is_model(info.cls):
                raise TypeError(f"{name_of_type(info.cls)} is an ordinary class")


def payload_type(saga: Saga) -> Any:
    """The type as which a saga's payload is decoded. `Any` if the saga declares none."""
    return Any if saga.payload is None else saga.payload


def result_type(part: Part) -> Any:
    """The type as which the results of a part are decoded."""
    returns = part.execute.returns if part.execute is not None else part.returns
    return Any if returns is NoReturn or returns is Never else returns  # always raises: no result


def _payload_of(saga: Saga) -> str:
    return f"the payload of saga {saga.name!r}"


def _result_of(part: Part) -> str:
    return f"the result of {'step' if part.execute is not None else part.kind.value} {part.path!r}"


def _too_deep(what: str) -> PayloadError:
    return PayloadError(
        f"{what} cannot be journaled: it is nested deeper than {MAX_DEPTH} levels. Keep it elsewhere and pass its "
        f"name, or pass it as a text"
    )


def is_nested_deeper(json: bytes, levels: int) -> bool:
    """Whether lists and objects in *json* are nested deeper than *levels*.

    The time is linear in the length of *json*.
    """
    if json.count(b"[") + json.count(b"{") <= levels:
        return False
    brackets = re.sub(_STRING, b"", json).translate(_ALL_SQUARE, _NO_BRACKETS)
    for _ in range(levels):
        brackets = brackets.replace(b"[]", b"")  # removes the innermost level
        if not brackets:
            return False
    return True


_STRING: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_ALL_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def _holds_no_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(_holds_no_number, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_holds_no_number, value))


def _in_order_of(back: Any, ordered: Any) -> Any:
    """Return *ordered*, but with the keys of its dictionaries in the order that they have in *back*."""
    if type(back) is dict and type(ordered) is dict:
        return {key: _in_order_of(value, ordered[key]) for key, value in back.items()}
    return ordered


def are_equal(value: Any, other: Any) -> bool:
    """Whether two values are equal. A comparison that raises counts as a difference."""
    try:
        return bool(value == other)
    except Exception:  # such as the comparison of arrays
        return False
