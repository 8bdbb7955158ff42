"""Storable: says which texts a journal can store, and encodes the values of a commit as a journal stores them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from fsm_mediator.errors import PayloadError
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.records import Acceptance, Failure, InboxItem, Record
from fsm_mediator.states import COMPENSATING, WAITING, phase_of

Encode: TypeAlias = Callable[[Any, str], bytes]
"""The type of `Codec.encode`, and of `Codec.json`, which encodes values that were accepted earlier."""


def stored_name(name: str, what: str) -> str:
    """Return *name* if it can be stored. *what* describes the name in the message.

    Raises:
        PayloadError: The name has a NUL, or half a character (a lone surrogate).
    """
    if not is_text(name):
        raise PayloadError(
            f"{what} {name!r} cannot be journaled: it holds a NUL, or half a character (a lone surrogate)"
        )
    return name


def is_text(name: str) -> bool:
    """Whether *name* can be stored. A name that cannot be stored never occurs in a journal."""
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
    """Return *text* with lone surrogates replaced by escapes, because they cannot be stored."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def encode_of(record: Record, codec: Codec) -> Encode:
    """The function that encodes the record's value. It checks the size only for results.

    Signals were accepted earlier, and leftovers are not a user's values. If a lowered limit refused them, the execution
    could never end.
    """
    return codec.json if phase_of(record.source) in (WAITING, COMPENSATING) else codec.encode


def encoded_commit(commit: Commit, codec: Codec) -> Commit:
    """Return *commit* with encoded values, and with errors as text. A durable journal returns records in this form.

    Raises:
        PayloadError: A value cannot be encoded, or is too large.
    """
    what = f"execution {commit.saga_id!r}: a value"

    def accepted(opened: Acceptance, encode: Encode) -> Acceptance:
        return msgspec.structs.replace(opened, payload=msgspec.Raw(encode(opened.payload, what)))

    def recorded(record: Record) -> Record:
        value = None if record.value is None else msgspec.Raw(encode_of(record, codec)(record.value, what))
        error = record.error and Failure(record.error.type, record.error.message, record.error.traceback)
        return msgspec.structs.replace(record, value=value, error=error)

    plan = commit.plan
    if plan is not None:
        ends = plan.ends and Failure(plan.ends.type, plan.ends.message)
        branches = tuple(accepted(branch, codec.json) for branch in plan.branches)
        plan = msgspec.structs.replace(plan, branches=branches, ends=ends)
    return msgspec.structs.replace(
        commit,
        plan=plan,
        records=tuple(map(recorded, commit.records)),
        acceptance=commit.acceptance and accepted(commit.acceptance, codec.encode),
        children=tuple(accepted(child, codec.json) for child in commit.children),
        dormant=tuple(accepted(child, codec.json) for child in commit.dormant),
        posts=tuple((saga_id, encoded_item(saga_id, item, codec.json)) for saga_id, item in commit.posts),
    )


def encoded_item(saga_id: str, item: InboxItem, encode: Encode) -> InboxItem:
    """Return *item* with its value encoded.

    Raises:
        PayloadError: The value cannot be encoded, or is too large.
    """
    if item.value is None:
        return item
    return msgspec.structs.replace(item, value=msgspec.Raw(encode(item.value, f"execution {saga_id!r}: {item.name!r}")))
