"""Refusals: the verbs and settings of an `AsyncMediator` that no engine has. Each refusal suggests an alternative."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from fsm_mediator.errors import RefusedError

_FOLLOW: Final = "follow {engine} into a journal (fsm_mediator.engines.projection)"

SETTINGS: Final = {
    "around": "a worker of {engine} has interceptors, which are called around each attempt",
    "close_grace": "the workers of {engine} end the attempts, and have their own grace period",
    "journal": "the log of {engine} replaces the journal; a projection copies executions into a journal",
    "limits": "max_workers limits the attempts of each worker; for one limit for all workers, use a journal",
    "observers": "an observer would get records before {engine} has them; use a projection, and observe its journal",
    "park_after": "{engine} stores all waiting executions",
    "relays": "call tx.pass_on(mediator) yourself, about every second",
    "retention": "{engine} has its own retention; the journal of a projection also has its own retention",
    "sleep": "{engine} controls the time of waits; its test server can skip time",
}
"""The settings of an `AsyncMediator` that engines do not have, each with the reason or an alternative."""

_ATTRIBUTES: Final = {
    "journal": "the log of {engine} replaces the journal; " + _FOLLOW + ", and use that journal",
    "settings": "only the workers of {engine} drive its executions",
}

ATTRIBUTES_MOVE: Final = (
    _FOLLOW + ", and set them there after the execution has begun: fsm-mediator attributes ID NAME=VALUE"
)


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

    abandon: _Refused = _Refused("terminate it in {engine} itself, which does not compensate either")
    acknowledge: _Refused = _Refused(_FOLLOW + ", and use this verb of a Mediator on that journal")
    again: _Refused = _Refused("start an execution with another id and the same payload")
    bulk: _Refused = _Refused(_FOLLOW + ", list its executions, and call the verb for each id")
    count: _Refused = _Refused(_FOLLOW + ", and count there")
    daemon: _Refused = _Refused("run a worker of {engine}")
    enqueue: _Refused = _Refused("use start, which only accepts the saga; or use a journal in your own database")
    executions: _Refused = _Refused(_FOLLOW + ", and list its executions")
    hold: _Refused = _Refused("stop the workers of {engine}, so that no attempt begins; or cancel the execution")
    holds: _Refused = _Refused("no execution is held on {engine}")
    notes: _Refused = _Refused(_FOLLOW + ", and read the notes there")
    preview: _Refused = _Refused(_FOLLOW + ", and use a Mediator on that journal")
    recover: _Refused = _Refused("run a worker: {engine} gives it the executions to drive, also after a crash")
    set_attributes: _Refused = _Refused(ATTRIBUTES_MOVE)
    stats: _Refused = _Refused(_FOLLOW + ", and count there")
    unhold: _Refused = _Refused("no execution is held on {engine}; start a worker")
    watch: _Refused = _Refused(_FOLLOW + ", and watch with a Mediator on that journal")

    if not TYPE_CHECKING:  # a type checker that sees __getattr__ accepts every name

        def __getattr__(self, name: str) -> NoReturn:
            move = _ATTRIBUTES.get(name)
            why = "" if move is None else f": {move.format(engine=self.engine)}"
            raise AttributeError(f"{type(self).__name__} has no {name!r}{why}", name=name, obj=self)

    def _refused_call(self, name: str, move: str, *_: Any, **__: Any) -> NoReturn:
        self._refuse(name, move)

    def _refuse(self, name: str, move: str) -> NoReturn:
        raise RefusedError(f"{type(self).__name__} has no {name!r}: {move.format(engine=self.engine)}")
