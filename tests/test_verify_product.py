"""A branch seen as a word, held against the product at random: random sagas, with groups that fail fast and others.

`verify` walks a group without the insides of its branches. The product walks every execution together with every other.
Wherever the product comes, `verify` has been; and what is wrong in the product, `verify` finds as well.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fsm_mediator import Choose, Parallel, Retry, Saga, Signal, Sleep, verify
from tests.drivers import examples
from tests.product import Product, TooManyWorldsError
from tests.test_verify_waits import GROUP_FAULTS, as_walked, made

pytestmark = pytest.mark.once


@st.composite
def branches(draw: st.DrawFn, names: Any) -> Any:
    """A step, a short saga, a wait, or a saga with a group of its own."""
    kind = draw(st.sampled_from(["step", "step", "step", "saga", "signal", "sleep", "group"]))
    if kind == "signal":
        return Signal(next(names), timeout=1.0)
    if kind == "sleep":
        return Sleep(next(names), 1.0)
    one = made(next(names), compensates=draw(st.booleans()), retry=Retry(attempts=draw(st.integers(1, 2))))
    if kind == "step":
        return one
    if kind == "group":
        before = [made(next(names), compensates=draw(st.booleans()))] if draw(st.booleans()) else []
        return Saga(next(names), [*before, Parallel("inner", [one])])
    return Saga(next(names), [one, made(next(names), compensates=draw(st.booleans()))])


@st.composite
def sagas(draw: st.DrawFn) -> Saga:
    """A group, perhaps with a step before it and a step after it."""
    names = iter(f"p{number}" for number in range(100))
    parts = [made("before", compensates=draw(st.booleans()))] if draw(st.booleans()) else []
    how: dict[str, Any] = {"on_failure": draw(st.sampled_from(["cancel", "settle"]))}
    kind = draw(st.sampled_from(["parallel", "parallel", "each", "choice"]))
    if kind == "each":
        parts.append(Parallel.each("group", draw(branches(names)), over=lambda payload: [], **how))
    else:
        several = [draw(branches(names)) for _ in range(draw(st.integers(1, 2)))]
        if kind == "choice":
            parts.append(Choose("group", {one.name: one for one in several}, by=lambda payload: several[0].name))
        else:
            parts.append(Parallel("group", several, at_most=draw(st.sampled_from([None, 1])), **how))
    if draw(st.booleans()):
        parts.append(made("after", compensates=draw(st.booleans())))
    return Saga("drawn", parts)


def search(number: int, most: int, **how: Any) -> None:
    """Hold so many random sagas, of so many worlds at the most, against their product."""

    @settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck), **how)
    @given(sagas(), st.none() | st.sampled_from(list(GROUP_FAULTS)), st.booleans())
    def holds(saga: Saga, fault: str | None, told: bool) -> None:
        with pytest.MonkeyPatch.context() as patches:
            if fault is not None:
                GROUP_FAULTS[fault](patches)
            try:
                product = Product(saga, to_the_end=fault is None, most=most, thorough=False, told=told)
            except TooManyWorldsError:
                assume(False)
            report = verify(saga)
            assert report.ok or fault is not None, str(report)
            assert not (product.wrong and report.ok), product.wrong
            if fault is None:
                assert product.wrong == set()
                assert product.reached <= as_walked(saga)

    holds()


def test_wherever_random_branches_come_together_verify_has_been():
    """However a group is put together, and though it fails fast: seeing its branches as words loses nothing."""
    search(examples(60, 4), 300)


@pytest.mark.torture
def test_wherever_many_random_branches_come_together_verify_has_been(torture_seconds):
    """As above, with larger sagas, for as long as there is time."""
    until = time.monotonic() + torture_seconds / 4
    while time.monotonic() < until:
        search(5, 20_000, database=None)


@pytest.mark.parametrize(("on_failure", "fails_fast"), [("cancel", True), ("settle", False)])
def test_product_cancels_the_branches_beside_one_that_failed(on_failure, fails_fast):
    """The product that `verify` is held against has groups that fail fast, and groups that do not."""
    group = Parallel("fan", [made("x", compensates=False), Sleep("y", 1.0)], on_failure=on_failure)

    product = Product(Saga("s", [group]), thorough=False, told=True)

    assert bool(product.failed_fast) is fails_fast
    assert product.wrong == set()
