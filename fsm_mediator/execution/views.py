"""Views: if the journal encodes values, each attempt gets its own decoded copies of the payload and the results.

The copies prevent a difference after a crash. Without copies, a step could change a value in place, and later steps
would see the change. After a crash, the value is read from the journal, without the change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from fsm_mediator.definition.saga import Saga
from fsm_mediator.machine.parts import Part
from fsm_mediator.records import InboxItem


class Encoding(Protocol):
    """Makes copies of values, equal to the values that the journal returns. It also checks new values."""

    def payload(self, saga: Saga, value: Any) -> Any:
        """A copy of *value*, the payload of *saga*."""

    def result(self, part: Part, value: Any) -> Any:
        """A copy of *value*, the result of *part*."""

    def accept_payload(self, saga: Saga, payload: Any) -> Any:
        """A copy of a new payload. Raises an error if the payload is too large or has the wrong type."""

    def accept_result(self, part: Part, value: Any) -> Any:
        """A copy of a new result. Raises a `ResultRefusedError` if the result is too large or has the wrong type."""

    def decode_items(self, saga: Saga, items: Iterable[InboxItem]) -> Iterable[InboxItem]:
        """*items* of an inbox, with their values decoded."""


class Results(dict[str, Any]):
    """Results by name. An unknown name raises an error that lists the known names."""

    __slots__ = ()

    def __missing__(self, name: object) -> Any:
        raise unknown_result(name, self)


def unknown_result(name: object, known: Iterable[str]) -> KeyError:
    """The error for a *name* without a result. *known*: the names of the results that exist."""
    return KeyError(
        f"there is no result {name!r}; there are {', '.join(known) or 'none yet'}. A step has a result under its name "
        f"after it was executed. If a result may be missing: results.get({name!r})"
    )


class FreshResults(Mapping[str, Any]):
    """Results by name. Each result is decoded once, at its first use.

    Args:
        names: The names of the results.
        load: A function that gets the name of a result, and returns the decoded result.
    """

    __slots__ = ("_load", "_names", "_values")

    def __init__(self, names: Iterable[str], load: Callable[[str], Any]) -> None:
        self._names = dict.fromkeys(names)
        self._load = load
        self._values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            if name not in self._names:
                raise unknown_result(name, self._names)
            self._values[name] = self._load(name)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(dict(self))

    def changed(self) -> list[str]:
        """The names of the results that were changed in place since they were decoded."""
        return [name for name, value in self._values.items() if value != self._load(name)]
