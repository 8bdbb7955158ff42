"""Sealing: decides which texts of a journal are sealed, and distinguishes a sealed text from a plain text.

This module seals and opens the texts that come from a user's code or from a person: values, messages and tracebacks of
errors, and reasons. Names, ids, states, times and the types of errors stay readable.
"""

from __future__ import annotations

import functools
from typing import Final

import msgspec

from fsm_mediator.ciphers import CannotOpenError, Cipher

MARK: Final = "sealed:"
"""The prefix of each sealed text. JSON never begins with it. A plain text that begins with it gets a second colon."""

NO_VALUE: Final = msgspec.Raw()
"""The value in the details of a record that has no value."""


class Details(msgspec.Struct, omit_defaults=True):
    """The fields of a record except event, states and time.

    Default values are not written, so fields can be added later.

    If *sealed* is set, it has the sealed `_Secrets`. Then *value* and *reason* are left out, and *error* has only its
    type.
    """

    step: str | None = None
    attempt: int = 0
    value: object = None
    error: tuple[str, str, str] | None = None
    in_doubt: bool = False
    due_at: float | None = None
    reason: str | None = None
    abandoned: bool = False
    sealed: str | None = None
    actor: str | None = None
    carrier: dict[str, str] | None = None
    children: tuple[str, ...] | int | None = None  # the last field. A number n stands for the names 0 to n - 1


class KeptDetails(Details, omit_defaults=True):
    """`Details` as they are read from a row. The value is still encoded."""

    value: msgspec.Raw = NO_VALUE


class _Secrets(msgspec.Struct, omit_defaults=True):
    value: msgspec.Raw = NO_VALUE
    error: tuple[str, str] | None = None  # message and traceback
    reason: str | None = None


_decode: Final = msgspec.json.Decoder(KeptDetails).decode
_decode_secrets: Final = msgspec.json.Decoder(_Secrets).decode


@functools.lru_cache(maxsize=1024)
def plain_details(step: str | None, attempt: int) -> str:
    """The details of a record with only a step and an attempt, as JSON. They have no secrets.

    Most records of a saga have such details, and the same few texts occur again and again.

    Raises:
        UnicodeEncodeError: The name of the step has half a character (a lone surrogate).
    """
    return msgspec.json.encode(Details(step, attempt)).decode()


def seal(text: str | None, cipher: Cipher | None, about: str) -> str | None:
    """Return *text* in the form that is stored: sealed if there is a cipher.

    The cipher binds the text to *about*, which names the row.
    """
    if text is None:
        return None
    if cipher is not None:
        return MARK + cipher.seal(text, about)
    return f"{MARK}:{text[len(MARK) :]}" if text.startswith(MARK) else text


def unseal(text: str | None, cipher: Cipher | None, about: str) -> str | None:
    """Open *text*, which was read from a table. If it cannot be opened, it is returned unchanged."""
    if text is None or not text.startswith(MARK):
        return text
    sealed = text[len(MARK) :]
    if sealed.startswith(":"):
        return MARK + sealed[1:]
    try:
        return text if cipher is None else cipher.open(sealed, about)
    except CannotOpenError:
        return text


def seal_secrets(
    value: msgspec.Raw, error: tuple[str, str] | None, reason: str | None, cipher: Cipher, about: str
) -> str:
    """The secret parts of a record, sealed: its value as JSON, the message and traceback of its error, its reason."""
    secrets = _Secrets(value, error, reason)
    return MARK + cipher.seal(msgspec.json.encode(secrets).decode(), about)


def seal_details(json: str, cipher: Cipher, about: str) -> str:
    """Seal the details of a record. *json* is plain; the result is the JSON that is stored."""
    kept = _decode(json)
    error = None if kept.error is None else kept.error[1:]
    if kept.value is NO_VALUE and error is None and kept.reason is None:
        return json
    kept.sealed = seal_secrets(kept.value, error, kept.reason, cipher, about)
    kept.value, kept.reason = NO_VALUE, None
    if kept.error is not None:
        kept.error = (kept.error[0], "", "")
    return msgspec.json.encode(kept).decode()


def open_details(json: bytes | str, cipher: Cipher | None, about: str) -> KeptDetails:
    """Decode and open the details of a record. If they cannot be opened, `is_sealed` is true for their *value*.

    Raises:
        msgspec.MsgspecError, UnicodeError, RecursionError, TypeError: The details are damaged.
    """
    kept = _decode(json)
    if kept.sealed is not None:
        kept.value, secret, kept.reason = open_secrets(kept.sealed, cipher, about)
        if kept.error is not None:
            kept.error = (kept.error[0], *(secret or ("", "")))
    return kept


def open_secrets(
    sealed: str, cipher: Cipher | None, about: str
) -> tuple[msgspec.Raw, tuple[str, str] | None, str | None]:
    """Open the parts that `seal_secrets` sealed. If they cannot be opened, `is_sealed` is true for the value."""
    text = unseal(sealed, cipher, about)
    if text is None or text.startswith(MARK):
        return msgspec.Raw(sealed.encode()), ("(sealed)", ""), None
    found = _decode_secrets(text)
    return found.value, found.error, found.reason


def reseal(text: str | None, cipher: Cipher, about: str, key_id: str) -> str | None:
    """Return *text*, a stored text, sealed under the key *key_id*, which is the first key of *cipher*.

    Raises:
        CannotOpenError: *text* is sealed, and cannot be opened.
    """
    if text is None or text.startswith(f"{MARK}{key_id}:"):
        return text
    plain = unseal(text, cipher, about)
    if plain == text and text.startswith(MARK):
        raise CannotOpenError(why_sealed(text.encode(), cipher))
    return seal(plain, cipher, about)


def reseal_details(json: str, cipher: Cipher, about: str, key_id: str) -> str:
    """Return *json*, the stored details of a record, sealed under the key *key_id*, the first key of *cipher*.

    Raises:
        CannotOpenError: The details are sealed, and cannot be opened.
        msgspec.MsgspecError, UnicodeError, RecursionError, TypeError: The details are damaged.
    """
    kept = _decode(json)
    if kept.sealed is None:
        return seal_details(json, cipher, about)
    if kept.sealed.startswith(f"{MARK}{key_id}:"):
        return json
    sealed, kept.sealed = kept.sealed, None
    kept.value, secret, kept.reason = open_secrets(sealed, cipher, about)
    if is_sealed(kept.value):
        raise CannotOpenError(why_sealed(kept.value, cipher))
    if kept.error is not None:
        kept.error = (kept.error[0], *(secret or ("", "")))
    return seal_details(msgspec.json.encode(kept).decode(), cipher, about)


def key_of(text: str) -> str:
    """The id of the key under which a text or the details of a record are sealed."""
    return text[text.find(MARK) + len(MARK) :][:80].partition(":")[0]


def is_sealed(value: object) -> bool:
    """Whether *value* is the text of a sealed value that could not be opened."""
    return isinstance(value, msgspec.Raw) and bytes(value).startswith(MARK.encode())


def why_sealed(value: bytes | msgspec.Raw, cipher: Cipher | None) -> str:
    """The reason why a sealed value cannot be opened, as text."""
    key_id = bytes(value).decode("ascii", "replace").removeprefix(MARK)[:80].partition(":")[0]
    if cipher is None:
        return f"is sealed with the key {key_id!r}. Give the journal its cipher (--cipher, on the command line)"
    return f"is sealed, and {cipher!r} cannot open it: the key {key_id!r} is missing or another one, or the row changed"
