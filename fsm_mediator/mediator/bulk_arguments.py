"""Arguments of a batch's verb. They are checked before the batch is confirmed, stored as JSON, and sealed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fsm_mediator.ciphers import Cipher
from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.journal.note_rows import about_batch
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.journal.sealing import MARK, seal, unseal, why_sealed
from fsm_mediator.records import RESOLVE, RETRY, SIGNAL, UNDO

_TAKEN: Final[Mapping[str, tuple[str, ...]]] = {
    RETRY: ("timeout",),
    RESOLVE: ("done", "result", "timeout"),
    UNDO: ("timeout",),
    SIGNAL: ("name", "value"),
    "again": ("despite_leftovers", "even_if_succeeded"),
    "hold": ("compensations",),
}
"""The names of the arguments that each verb takes."""


def check_arguments(verb: str, arguments: Mapping[str, Any], reason: str | None) -> None:
    """Refuse arguments with which the verb would fail for every execution.

    Raises:
        DefinitionError: An argument is unknown, is missing or has the wrong type.
    """
    taken = _TAKEN.get(verb, ())
    if unknown := [name for name in arguments if name not in taken]:
        takes = f"it takes {', '.join(taken)}" if taken else "it takes none"
        raise DefinitionError(f"bulk({verb!r}) has no argument {', '.join(map(repr, unknown))}: {takes}")
    if verb == SIGNAL and not (isinstance(arguments.get("name"), str) and arguments["name"]):
        raise DefinitionError(
            "bulk('signal') needs the name of the signal: arguments={'name': 'approve', 'value': True}, or "
            "--argument name=approve --argument value=true"
        )
    if verb == RESOLVE and not (reason and reason.strip()):
        raise DefinitionError("bulk('resolve') needs a reason: say how you made sure; the reason is journaled")
    if verb == RESOLVE and not (arguments.get("done") is None or isinstance(arguments["done"], bool)):
        raise DefinitionError(f"bulk('resolve'): done must be true or false, not {arguments['done']!r}")
    if verb == RESOLVE and arguments.get("done") is False and arguments.get("result") is not None:
        raise DefinitionError("bulk('resolve'): only a step that is done has a result")


def kept_arguments(journal: Journal, name: str, arguments: Mapping[str, Any]) -> Any:
    """The arguments of the batch *name*, in the form in which its note stores them.

    Raises:
        PayloadError: The arguments cannot be encoded as JSON.
    """
    encoded = journal.codec.encode(dict(arguments), "the arguments of a batch").decode()
    cipher = _cipher_of(journal)
    return msgspec.json.decode(encoded) if cipher is None else seal(encoded, cipher, about_batch(name))


def arguments_of(journal: Journal, name: str, kept: Any) -> dict[str, Any]:
    """The arguments of the batch *name*. *kept* is their stored form, from `kept_arguments`.

    Raises:
        JournalError: The arguments are sealed, and the journal's cipher cannot open them.
    """
    cipher = _cipher_of(journal)
    text = unseal(kept, cipher, about_batch(name)) if isinstance(kept, str) else None
    if text is not None and text.startswith(MARK):
        raise JournalError(f"the arguments of batch {name!r}: {why_sealed(text.encode(), cipher)}")
    found: dict[str, Any] = kept if text is None else msgspec.json.decode(text)
    return found


def _cipher_of(journal: Journal) -> Cipher | None:
    return journal.codec.cipher if journal.encodes else None
