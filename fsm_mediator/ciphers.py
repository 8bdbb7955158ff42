"""Ciphers: a journal can seal its texts with a cipher, so that only a process with the key can read them.

`AesGcm` is built in. A cipher gets an encoded text and returns a sealed text. The module ``journal/sealing.py`` decides
which texts are sealed.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol, Self

from fsm_mediator.error_types import DefinitionError, MissingExtraError

KEY_BYTES: Final = 32
"""The length of a key of AES-256, in bytes."""

_NONCE_BYTES: Final = 12
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CannotOpenError(Exception):
    """A sealed text cannot be opened. The message has the reason, and never contains a part of the text."""


class Cipher(Protocol):
    """The protocol of a cipher, which seals texts and opens them. Threads may use a cipher at the same time."""

    def seal(self, text: str, about: str) -> str:
        """Seal *text*. Returns printable ASCII.

        *about* names the journal row of the text. The same *about* is needed to open the text again.
        """

    def open(self, sealed: str, about: str) -> str:
        """Open *sealed*, and return the original text. *about* is the argument with which the text was sealed.

        Raises:
            CannotOpenError: The key is missing, *sealed* was changed, or the text was sealed with another *about*.
        """


class AesGcm:
    """AES-256-GCM with several keys, each with an id. Needs the extra ``crypto``.

    The first key seals, and all keys open. To rotate keys, put a new key first, and keep the old keys until no text is
    sealed with them. Each text has its own random nonce: NIST SP 800-38D allows 2^32 texts for one key.

    Args:
        keys: The keys, by id. The first key seals. A key is 32 bytes, or their base64 text. An id has at most 64
            letters, digits, ``.``, ``_`` and ``-``. Ids are readable in the journal.

    Attributes:
        key_ids: The ids of the keys. The first key seals.

    Raises:
        DefinitionError: There is no key, or a key or an id is not allowed. The message never contains a key.
        MissingExtraError: cryptography is not installed.
    """

    def __init__(self, keys: Mapping[str, bytes | str]) -> None:
        if not isinstance(keys, Mapping) or not keys:
            raise DefinitionError("AesGcm: keys is a dictionary of ids and keys, with at least one: {'2026-11': key}")
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise MissingExtraError("AesGcm", "crypto") from error
        self._invalid = InvalidTag
        self._keys = {_checked_id(key_id): AESGCM(_key_bytes(key_id, key)) for key_id, key in keys.items()}
        self.key_ids: Final = tuple(self._keys)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The cipher with the keys in *text*. Each key is ``ID:BASE64``; spaces, commas or line breaks separate keys.

        Raises:
            DefinitionError: *text* contains anything other than such keys.
        """
        words = re.split(r"[\s,]+", text.strip())
        if not all(":" in word for word in words):
            raise DefinitionError("AesGcm: write the keys as ID:BASE64; the first key seals")
        return cls(dict(word.split(":", 1) for word in words))

    @staticmethod
    def new_key() -> str:
        """A new random key, in base64."""
        return base64.b64encode(os.urandom(KEY_BYTES)).decode()

    def seal(self, text: str, about: str) -> str:
        """Seal *text* with the first key: see `Cipher.seal`. The result is ``KEY_ID:BASE64``."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self.key_ids[0]].encrypt(nonce, text.encode(), _as_bytes(about))
        return f"{self.key_ids[0]}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, about: str) -> str:
        """Open *sealed* with the key that sealed it: see `Cipher.open`."""
        key_id, _, encoded = sealed.partition(":")
        key = self._keys.get(key_id)
        if key is None:
            raise CannotOpenError(f"the key {key_id!r} is missing")
        try:
            data = base64.b64decode(encoded, validate=True)
            return key.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _as_bytes(about)).decode()
        except (self._invalid, binascii.Error, ValueError):
            raise CannotOpenError(f"the key {key_id!r} is another one, or the row was changed") from None

    def __repr__(self) -> str:
        return f"AesGcm({', '.join(self.key_ids)})"


def _as_bytes(about: str) -> bytes:
    return about.encode(errors="surrogatepass")  # an execution's id with a lone surrogate is refused later


def _checked_id(key_id: Any) -> str:
    if not isinstance(key_id, str) or _KEY_ID.fullmatch(key_id) is None:
        raise DefinitionError(
            f"AesGcm: a key's id has at most 64 letters, digits, '.', '_' and '-'; {key_id!r} is no such id"
        )
    return key_id


def _key_bytes(key_id: str, key: Any) -> bytes:
    try:
        found = base64.b64decode(key, validate=True) if isinstance(key, str) else key
    except ValueError:
        found = None
    if not isinstance(found, bytes) or len(found) != KEY_BYTES:
        raise DefinitionError(f"AesGcm: the key {key_id!r} is not {KEY_BYTES} bytes, or these in base64")
    return found


def check_cipher(where: str, cipher: Any) -> None:
    """Refuse an object that is neither a cipher nor None.

    Raises:
        DefinitionError: *cipher* has no `seal` or no `open`.
    """
    if cipher is not None and not (callable(getattr(cipher, "seal", None)) and callable(getattr(cipher, "open", None))):
        raise DefinitionError(f"{where}: cipher is an AesGcm, or another cipher with seal and open, not {cipher!r}")
