"""SagaRegistry: the sagas that a mediator can drive, by name, version and shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fsm_mediator.definition.saga import Saga, all_definitions, shape_of
from fsm_mediator.definition.shape import Shape
from fsm_mediator.errors import DefinitionChangedError, DefinitionError, UnknownSagaError
from fsm_mediator.ids import is_branch
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.operators import next_moves
from fsm_mediator.journal.protocol import Definition
from fsm_mediator.journal.type_warnings import warn_of_payloads
from fsm_mediator.records import Acceptance


class SagaRegistry:
    """The registered sagas.

    Args:
        sagas: The sagas to register at the start.
        codec: Encodes the values of the journal. The registry checks that it can encode the types that a saga declares.
            None if the journal keeps objects.
        coroutines: Whether steps may be coroutine functions.

    Attributes:
        on_change: A function that is called when another saga was registered. None for no function.
        stored_shape: A function that returns the shape of a fingerprint from the journal. It returns None if the
            journal does not have the shape.

    Raises:
        DefinitionError: Two sagas have the same name and version, or the mediator cannot drive a saga.
    """

    def __init__(self, sagas: Iterable[Saga], *, codec: Codec | None, coroutines: bool) -> None:
        self._codec = codec
        self._coroutines = coroutines
        self.by_name: dict[str, Saga] = {}
        self.on_change: Callable[[], object] | None = None
        self.stored_shape: Callable[[str], str | None] = lambda _: None
        self._by_version: dict[tuple[str, str], Saga] = {}
        self._branches: dict[tuple[str, ...], Saga] = {}
        self._shapes: dict[Saga, str] = {}
        for saga in sagas:
            self.register(saga)

    def register(self, saga: Saga, *, latest: bool = True) -> Saga:
        """Register *saga*, and return it.

        A start by name uses the last saga of that name that was registered with ``latest=True``.

        Raises:
            DefinitionError: Another saga has the same name and version, or this mediator cannot drive *saga*.
        """
        if not isinstance(saga, Saga):
            raise DefinitionError(f"a mediator takes sagas, not {saga!r}; write Saga(name, [steps])")
        key = (saga.name, saga.version)
        known = self._by_version.get(key)
        if known is saga:
            return saga
        if known is not None:
            raise DefinitionError(
                f"two sagas are named {saga.name!r} in version {saga.version!r}; give the newer one another version"
            )
        self._check_callbacks(saga)
        warn_of_payloads(saga, self._codec)
        self._by_version[key] = saga
        self._register_branches(saga)
        if latest:
            self.by_name[saga.name] = saga
        else:  # an old definition does not change which saga the name starts
            self.by_name.setdefault(saga.name, saga)
        if self.on_change is not None:
            self.on_change()
        return saga

    def _check_callbacks(self, saga: Saga) -> None:
        if not self._coroutines:
            for part in saga.parts:
                for callback in (part.execute, part.compensate, part.probe):
                    if callback is not None and callback.is_coroutine:
                        raise DefinitionError(
                            f"saga {saga.name!r}, step {part.path!r}: {callback.label} is a coroutine function, which "
                            f"Mediator cannot run; use AsyncMediator, or make it a plain function"
                        )
        if self._codec is not None:
            self._codec.check_types(saga)
        for branches in saga.branches.values():
            for branch in branches.values():
                self._check_callbacks(branch)

    def _register_branches(self, saga: Saga) -> None:
        for branches in saga.branches.values():
            for branch in branches.values():
                self._branches.setdefault((branch.name, branch.fingerprint), branch)
                self._branches[branch.name, branch.version, branch.fingerprint] = branch
                self._register_branches(branch)

    def saga(self, saga: Saga | str) -> Saga:
        """The registered saga with the name *saga*. If *saga* is a saga and not a name, it is registered and returned.

        Raises:
            UnknownSagaError: No saga with this name is registered.
        """
        if isinstance(saga, str):
            try:
                return self.by_name[saga]
            except KeyError:
                raise UnknownSagaError(f"no saga is named {saga!r}; registered: {self._names()}") from None
        return self.register(saga, latest=False)

    def saga_of(self, acceptance: Acceptance) -> Saga:
        """The definition that can drive an execution. *acceptance* is the data with which the execution was accepted.

        Raises:
            UnknownSagaError: No saga with the name of the execution's saga is registered.
            DefinitionChangedError: No registered saga has the same shape. The message lists the differences.
        """
        if is_branch(acceptance.saga):  # the shape of a branch is part of its parent's shape
            shape = acceptance.fingerprint
            branch = self._branches.get((acceptance.saga, acceptance.version, shape))
            branch = branch or self._branches.get((acceptance.saga, shape))
            if branch is not None:
                return branch
        same = self._by_version.get((acceptance.saga, acceptance.version))
        if same is not None and same.fingerprint == acceptance.fingerprint:
            return same
        named = [saga for saga in self.sagas if saga.name == acceptance.saga]
        for saga in named[::-1]:
            if saga.fingerprint == acceptance.fingerprint:
                return saga
        who = f"execution {acceptance.saga_id!r} of saga {acceptance.saga!r} version {acceptance.version}"
        if not named:
            raise UnknownSagaError(
                f"{who} cannot be driven: no saga of that name is registered; registered: {self._names()}. "
                f"{next_moves(acceptance.saga_id)}"
            )
        nearest = same or named[-1]
        raise DefinitionChangedError(
            f"{who} cannot be driven: its definition had fingerprint {acceptance.fingerprint}, and the registered "
            f"version {nearest.version} has {nearest.fingerprint}: {self._differences(acceptance, nearest)}. "
            f"{next_moves(acceptance.saga_id)}"
        )

    def _differences(self, acceptance: Acceptance, nearest: Saga) -> str:
        """The differences between the registered saga *nearest* and the definition in *acceptance*, as text."""
        stored = self.stored_shape(acceptance.fingerprint)
        if stored is None:  # the execution was written before journals kept shapes
            return f"it has {', '.join(path for path, *_ in shape_of(nearest.parts))}"
        from fsm_mediator.definition.shape_changes import differences  # loaded when it is used

        return "; ".join(differences(Shape.from_json(stored), Shape.of(nearest)))

    def can_drive(self, acceptance: Acceptance) -> bool:
        """Whether a registered saga can drive an execution.

        *acceptance* is the data with which the execution was accepted.
        """
        try:
            self.saga_of(acceptance)
        except (UnknownSagaError, DefinitionChangedError):
            return False
        return True

    def knows(self, fingerprint: str) -> bool:
        """Whether a registered saga, or a branch of a registered saga, has this fingerprint."""
        sagas = any(saga.fingerprint == fingerprint for saga in self.sagas)
        return sagas or any(key[-1] == fingerprint for key in self._branches)

    def definitions(self) -> tuple[Definition, ...]:
        """The definitions of every registered saga and of its branches, for a `Driver`."""
        known = {each.fingerprint: each for saga in self.sagas for each in all_definitions(saga)}
        for each in known.values():
            if each not in self._shapes:  # cached, because each registration of a saga asks for all shapes again
                self._shapes[each] = Shape.of(each).to_json()
        return tuple(Definition(fingerprint, self._shapes[each]) for fingerprint, each in known.items())

    def _names(self) -> str:
        return ", ".join(sorted(self.by_name)) or "none"

    @property
    def sagas(self) -> tuple[Saga, ...]:
        """Every registered saga."""
        return tuple(self._by_version.values())
