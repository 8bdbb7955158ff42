"""Whatever a real run of a saga without groups comes to, `verify` has walked.

`test_verify_covers` draws sagas made of sagas, of steps without settings. Here steps have every setting: pivots,
probes, time-outs. Their calls raise what the settings name, are late, or end their driver; the deadline passes, and a
person gives commands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fsm_mediator import MemoryJournal, OutcomeUnknownError, Saga, StepRejectedError
from fsm_mediator.verifier import attempts
from fsm_mediator.verifier.actions import ActionModel
from tests import ledger, test_laws, virtual
from tests.drivers import examples
from tests.ledger import Act, Plan, Role, plans
from tests.test_laws import IN_DOUBT_AT_THE_PIVOT, IS_UNDONE, TOO_LATE_TO_GO_BACK, plan, role
from tests.test_verify_covers import Walked, Watch, Watching, is_complete
from tests.virtual import AsyncDriver, SyncDriver

pytestmark = pytest.mark.once

TROUBLE: dict[str, Callable[[], BaseException]] = {
    "refused connection": lambda: ConnectionRefusedError("nobody there"),
    "doubtful group": lambda: ExceptionGroup("several", [ValueError("one"), OutcomeUnknownError("another")]),
    "refusals": lambda: ExceptionGroup("several", [StepRejectedError("one"), StepRejectedError("another")]),
    "mixed group": lambda: ExceptionGroup("several", [StepRejectedError("one"), ValueError("another")]),
}
"""What calls raise here, beside what the plans of the laws raise."""


class TooManySituationsError(Exception):
    """A saga is too large to be walked whole."""


@contextlib.contextmanager
def watched_driver(kind: Any, saga: Saga, journal: Any, found: list[Watch]) -> Iterator[Any]:
    """A driver of *saga*, watched at each commit where `verify` can walk all of it."""
    watch = Watch(Walked(saga), saga, journal)
    if not is_complete(watch.walked.report):
        raise TooManySituationsError
    found.append(watch)
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(virtual, "MORTAL", {"_runtime": lambda inner: Watching(inner, watch)})
        with virtual.driven(kind, saga, journal) as driver:
            watch.mediator = driver.mediator
            yield driver


def watched(planned: Plan, kind: Any) -> Watch:
    """Carry a plan out, and hold what it comes to against what is walked."""
    found: list[Watch] = []
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(ledger, "TROUBLE", ledger.TROUBLE | TROUBLE)
        patches.setattr(test_laws, "driven", lambda kind, saga, journal: watched_driver(kind, saga, journal, found))
        test_laws.carried_out(planned, kind, MemoryJournal(encode=True))
    return found[0]


@st.composite
def troubled(draw: st.DrawFn) -> Plan:
    """A plan of the laws, in which calls raise more."""
    planned = draw(plans(max_size=4))

    def more(act: Act) -> Act:
        if act.kind != "raises":
            return act
        return attrs.evolve(act, kind=draw(st.sampled_from(["raises", *TROUBLE])))

    def role_of(one: Role) -> Role:
        return attrs.evolve(one, execute=tuple(map(more, one.execute)), compensate=tuple(map(more, one.compensate)))

    return attrs.evolve(planned, roles=tuple(map(role_of, planned.roles)))


@pytest.mark.parametrize("kind", [SyncDriver, AsyncDriver])
@settings(
    max_examples=examples(200, 25),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@example(planned=IN_DOUBT_AT_THE_PIVOT)
@example(planned=TOO_LATE_TO_GO_BACK)
@example(planned=IS_UNDONE)
@given(planned=troubled())
def test_what_a_random_run_with_settings_comes_to_is_walked(kind: Any, planned: Plan) -> None:
    """Whatever my steps do and are set to, in doubt or late, before or after the pivot: `verify` has been there."""
    try:
        watch = watched(planned, kind)
    except TooManySituationsError:
        assume(False)

    watch.walked.report.raise_for_violations()
    assert watch.folds > 1
    assert watch.unknown == []


def without_doubt(patches: pytest.MonkeyPatch) -> None:
    """Have `verify` walk no attempt that may have had its effect, and does not say so."""
    every = attempts.attempts_of

    def some(*how: Any, **settings: Any) -> list[attempts.Possible]:
        return [one for one in every(*how, **settings) if not one.action.doubt]

    patches.setattr("fsm_mediator.verifier.actions.attempts_of", some)


def without_persons(patches: pytest.MonkeyPatch) -> None:
    """Have `verify` walk no command of a person."""
    patches.setattr(ActionModel, "_operator_can_say", lambda *_: iter(()))


@pytest.mark.parametrize(
    ("left_out", "planned", "state"),
    [
        (without_doubt, IN_DOUBT_AT_THE_PIVOT, "retrying.s1"),
        (without_doubt, plan(role("s0", "unknown", probes=True)), "probing.s0"),
        (without_persons, IS_UNDONE, "compensating.s1"),
    ],
)
def test_what_is_not_walked_is_noticed(left_out: Any, planned: Plan, state: str, monkeypatch: Any) -> None:
    """A `verify` without doubt, or without persons, does not know a run in which there is one."""
    left_out(monkeypatch)

    watch = watched(planned, SyncDriver)

    assert any(f"'{state}'" in unknown for unknown in watch.unknown), watch.unknown
