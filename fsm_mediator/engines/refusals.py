"""Refusals: the verbs and settings of a mediator that no engine has. Each refusal suggests an alternative."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from fsm_mediator.errors import RefusedError

_FOLLOW: Final = "follow {engine} into a journal (fsm_mediator.engines.projection)"

SETTINGS: Final = {
    "around": "a worker of {engine} has interceptors, which are called around each attempt",
    "close_grace": "the workers of {engine} end attempts, and have a grace of their own",
    "journal": "the log of {engine} takes its place; a projection follows it into a journal",
    "limits": "bound the attempts of each worker by max_workers; for one limit over all, use a journal",
    "observers": "a record is observed before {engine} has it; follow it into a journal, and observe that",
    "park_after": "{engine} keeps what waits, whoever began it",
    "relays": "call tx.pass_on(mediator) yourself, every second or so",
    "retention": "{engine} has a retention of its own; that of a projection's journal is the journal's",
    "sleep": "{engine} keeps the time of what waits; its own test server can skip it",
}
"""Settings of a `Mediator` that engines do not have, and the next move."""

_ATTRIBUTES: Final = {
    "journal": "the log of {engine} takes its place; " + _FOLLOW + ", and give that to what asks for a journal",
    "settings": "nothing but a worker of {engine} drives its executions",
}

ATTRIBUTES_MOVE: Final = (
    _FOLLOW + ", and set them there once the execution has begun: fsm-mediator attributes ID NAME=VALUE"
)


class _Refused:
    """A verb that no engine has. Each call is refused, with any arguments.

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
        """Refuse the call. This is the call on the class, without a mediator.

        Raises:
            RefusedError: Always.
        """
        raise RefusedError(f"no engine has {self._name!r}: {self._move.format(engine='the engine')}")


class Refusals:
    """Base class that refuses the verbs and settings of an `AsyncMediator` that engines do not have.

    Attributes:
        engine: The name of the engine, for messages.
    """

    engine: str = "this engine"

    abandon: _Refused = _Refused("end it in {engine}'s own interface, which undoes nothing either")
    acknowledge: _Refused = _Refused(_FOLLOW + ", and let the alerts of a Mediator on that look: it takes this verb")
    again: _Refused = _Refused("start it under another id, with the payload of the earlier one")
    bulk: _Refused = _Refused(_FOLLOW + ", list that, and give the verb for each id")
    count: _Refused = _Refused(_FOLLOW + ", and count there")
    daemon: _Refused = _Refused("run a worker of {engine}")
    enqueue: _Refused = _Refused("use start, which accepts and does not drive; or a journal in your own database")
    executions: _Refused = _Refused(_FOLLOW + ", and list that")
    hold: _Refused = _Refused("stop the workers of {engine}, which then begin nothing; or cancel the execution")
    holds: _Refused = _Refused("nothing is held on {engine}")
    notes: _Refused = _Refused(_FOLLOW + ", and read them there")
    preview: _Refused = _Refused(_FOLLOW + ", and ask a Mediator on that")
    recover: _Refused = _Refused("run a worker: {engine} hands it what needs one, after a crash too")
    set_attributes: _Refused = _Refused(ATTRIBUTES_MOVE)
    stats: _Refused = _Refused(_FOLLOW + ", and count there")
    unhold: _Refused = _Refused("nothing is held on {engine}; start a worker")
    watch: _Refused = _Refused(_FOLLOW + ", and watch a Mediator on that")

    if not TYPE_CHECKING:  # a type checker that sees __getattr__ accepts every name

        def __getattr__(self, name: str) -> NoReturn:
            move = _ATTRIBUTES.get(name)
            why = "" if move is None else f": {move.format(engine=self.engine)}"
            raise AttributeError(f"{type(self).__name__} has no {name!r}{why}", name=name, obj=self)

    def _refused_call(self, name: str, move: str, *_: Any, **__: Any) -> NoReturn:
        self._refuse(name, move)

    def _refuse(self, name: str, move: str) -> NoReturn:
        raise RefusedError(f"{type(self).__name__} has no {name!r}: {move.format(engine=self.engine)}")
