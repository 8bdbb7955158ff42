"""Refusals: the verbs and settings of an `AsyncMediator` that no engine has. Each refusal suggests an alternative."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from fsm_mediator.errors import RefusedError

_PROJECTION: Final = "the journal of a projection (fsm_mediator.engines.projection)"

SETTINGS: Final = {
    "around": "use interceptors of the worker (Temporal), or middleware of its app (Restate)",
    "close_grace": "a worker of {engine} ends its attempts itself; set its own grace",
    "journal": "{engine} stores the records; a projection copies them into a journal",
    "limits": "set max_workers of each worker; for one limit over all workers, use a journal in place of {engine}",
    "observers": "an observer would be called before {engine} has stored the record; read " + _PROJECTION,
    "park_after": "{engine} stores a waiting execution itself",
    "relays": "call tx.pass_on(mediator) yourself, about every second",
    "retention": "set the retention of {engine}; the journal of a projection has its own retention",
    "sleep": "{engine} measures the waits itself; its test server can skip them",
}
"""For each setting of an `AsyncMediator` that engines do not have, a text with the reason or an alternative."""

_ATTRIBUTES: Final = {
    "journal": "{engine} stores the records; use " + _PROJECTION,
    "settings": "only a worker of {engine} drives its executions",
}

ATTRIBUTES_MOVE: Final = "use `fsm-mediator attributes ID NAME=VALUE` on " + _PROJECTION


class _Refused:
    """A descriptor for a verb that no engine has. Each call of the verb is refused, whatever its arguments are.

    Args:
        move: The alternative that the message suggests.
    """

    def __init__(self, move: str) -> None:
        self._move = move
        self.__doc__ = f"Refused by every engine. Next: {move.format(engine='the engine')}."

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, mediator: Refusals | None, _owner: type) -> Callable[..., NoReturn]:
        if mediator is None:
            return self
        return functools.partial(mediator._refused_call, self._name, self._move)

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse a call of the verb on the class, without a mediator.

        Raises:
            RefusedError: Always.
        """
        raise RefusedError(f"no engine has {self._name!r}: {self._move.format(engine='the engine')}")


class Refusals:
    """The base class that refuses the verbs and settings of an `AsyncMediator` that engines do not have.

    Attributes:
        engine: The name of the engine, for messages.
    """

    engine: str = "this engine"

    abandon: _Refused = _Refused("end the execution in {engine} itself, which also undoes nothing")
    acknowledge: _Refused = _Refused("use a Mediator on " + _PROJECTION)
    again: _Refused = _Refused("call start with another id and the same payload")
    bulk: _Refused = _Refused("list the executions in " + _PROJECTION + ", and call the verb for each id")
    count: _Refused = _Refused("query " + _PROJECTION)
    daemon: _Refused = _Refused("run a worker of {engine}")
    enqueue: _Refused = _Refused("call start, which accepts the saga and does not drive it")
    executions: _Refused = _Refused("query " + _PROJECTION)
    hold: _Refused = _Refused("stop the workers of {engine}, or call cancel")
    holds: _Refused = _Refused("no execution is held on {engine}")
    notes: _Refused = _Refused("query " + _PROJECTION)
    preview: _Refused = _Refused("use a Mediator on " + _PROJECTION)
    recover: _Refused = _Refused("run a worker of {engine}")
    set_attributes: _Refused = _Refused(ATTRIBUTES_MOVE)
    stats: _Refused = _Refused("query " + _PROJECTION)
    unhold: _Refused = _Refused("no execution is held on {engine}; start a worker")
    watch: _Refused = _Refused("use a Mediator on " + _PROJECTION)

    if not TYPE_CHECKING:  # a type checker that sees __getattr__ accepts every name

        def __getattr__(self, name: str) -> NoReturn:
            move = _ATTRIBUTES.get(name)
            why = "" if move is None else f": {move.format(engine=self.engine)}"
            raise AttributeError(f"{type(self).__name__} has no {name!r}{why}", name=name, obj=self)

    def _refused_call(self, name: str, move: str, *_: Any, **__: Any) -> NoReturn:
        self._refuse(name, move)

    def _refuse(self, name: str, move: str) -> NoReturn:
        raise RefusedError(f"{type(self).__name__} has no {name!r}: {move.format(engine=self.engine)}")
