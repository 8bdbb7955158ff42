"""Retry: which attempt waits how long, and which errors are worth another."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_mediator import DefinitionError, OutcomeUnknownError, Retry, RetryAfterError, StepRejectedError

numbers = st.floats(0, 1e9)
policies = st.builds(
    lambda waits, **others: Retry(wait_initial=min(waits), wait_max=max(waits), **others),
    st.tuples(numbers | st.integers(0, 10**6), numbers),
    attempts=st.none() | st.integers(1, 10_000),
    wait_jitter=numbers,
    wait_exp_base=st.floats(1, 1e6) | st.integers(1, 10**6),
)


def test_waits_double_until_the_longest() -> None:
    """By default: 0.1 s, 0.2 s, 0.4 s and so on, never more than 30 s."""
    retry = Retry(attempts=None)

    assert [retry.wait(attempt) for attempt in (1, 2, 3, 4, 9, 10, 11)] == [0.1, 0.2, 0.4, 0.8, 25.6, 30.0, 30.0]


def test_jitter_is_added_to_every_wait() -> None:
    """Chance adds up to wait_jitter seconds, the longest wait included."""
    retry = Retry(wait_initial=1, wait_max=2, wait_jitter=0.5)

    assert [retry.wait(1, 0.0), retry.wait(1, 0.5), retry.wait(1, 1.0), retry.wait(9, 1.0)] == [1.0, 1.25, 1.5, 2.5]


@given(policies, st.integers(1, 10**6), st.floats(0, 1))
def test_every_wait_is_a_number_within_bounds(retry: Retry, attempt: int, chance: float) -> None:
    """However many attempts there were, the wait is finite, not negative, and at most wait_max and the jitter."""
    wait = retry.wait(attempt, chance)

    assert 0 <= wait <= retry.wait_max + retry.wait_jitter
    assert retry.wait(attempt + 1, chance) >= wait


@given(st.integers(1, 10**6))
def test_no_wait_stays_no_wait(attempt: int) -> None:
    """A step that retries at once does so for ever: the wait does not jump to wait_max after a thousand attempts."""
    assert Retry(attempts=None, wait_initial=0, wait_jitter=0).wait(attempt) == 0
    assert Retry(attempts=None, wait_initial=0.0, wait_jitter=0, wait_exp_base=1e300).wait(attempt) == 0


def test_wait_is_a_float_however_the_numbers_are_given() -> None:
    """With whole numbers a wait after a million attempts is no number of a million digits."""
    wait = Retry(attempts=None, wait_initial=1, wait_max=60, wait_jitter=0, wait_exp_base=10).wait(10**9)

    assert wait == 60.0
    assert isinstance(Retry(wait_initial=1, wait_max=60, wait_jitter=0, wait_exp_base=2).wait(3), float)


@given(policies, st.integers(1, 20_000))
def test_allows_counts_the_first_attempt(retry: Retry, attempt: int) -> None:
    """`attempts=3` is three calls in all; None never ends."""
    assert retry.allows(attempt) is (retry.attempts is None or attempt + 1 <= retry.attempts)


def test_on_a_type_or_a_tuple_covers_subclasses() -> None:
    """`on=OSError` retries what is an OSError, and nothing else."""
    one, both = Retry(on=OSError), Retry(on=(OSError, KeyError))

    assert [one.covers(error) for error in (OSError(), ConnectionError(), KeyError())] == [True, True, False]
    assert [both.covers(error) for error in (ConnectionError(), KeyError(), ValueError())] == [True, True, False]


def test_on_a_predicate_is_asked() -> None:
    """`on` may look into the error, such as at a status code."""
    retry = Retry(on=lambda error: error.args == (503,))

    assert [retry.covers(ValueError(503)), retry.covers(ValueError(404))] == [True, False]


def test_predicate_that_raises_counts_as_no_and_leaves_a_note() -> None:
    """A broken predicate ends the attempts; the step's own error is still the error, with a note on it."""

    def broken(error: Exception) -> bool:
        raise ZeroDivisionError("oops")

    error = ValueError("mine")

    assert Retry(on=broken).covers(error) is False
    assert error.__notes__ == [
        "Retry.on raised ZeroDivisionError('oops') when asked about this error; that counts as no"
    ]


@pytest.mark.parametrize("on", [Exception, OSError, (OSError, StepRejectedError), lambda error: True])
def test_rejected_is_never_tried_again(on):
    """A step that says no means no, whatever `on` says."""
    assert Retry(on=on).covers(StepRejectedError("no")) is False


@pytest.mark.parametrize("on", [Exception, OSError, (OSError,), lambda error: False])
def test_retry_after_asks_for_itself(on):
    """A step that says "later" is tried later, whatever `on` says."""
    assert Retry(on=on).covers(RetryAfterError(3)) is True


def test_unknown_outcome_is_covered_as_any_error() -> None:
    """An answer in doubt is tried again if `on` says so."""
    assert Retry().covers(OutcomeUnknownError()) is True
    assert Retry(on=KeyError).covers(OutcomeUnknownError()) is False


def test_retry_is_a_value() -> None:
    """Two policies that say the same are the same; none can be changed, and a copy with a change is checked."""
    assert Retry(attempts=3) == Retry() != Retry(attempts=4)
    assert hash(Retry(attempts=3)) == hash(Retry())
    with pytest.raises(AttributeError):
        Retry().attempts = 5  # type: ignore[misc]
    with pytest.raises(DefinitionError):
        msgspec.structs.replace(Retry(), attempts=-1)


@pytest.mark.parametrize("on", [(Exception,), BaseException, ExceptionGroup, lambda error: True])
def test_group_of_refusals_is_never_worth_another_attempt(on):
    """Whatever `Retry.on` names, a group in which every leaf is a refusal ends the step, as a refusal does."""
    refusals = [StepRejectedError("one"), ExceptionGroup("inner", [StepRejectedError("another")])]

    assert not Retry(on=on).covers(ExceptionGroup("several", refusals))
    assert Retry(on=on).covers(ExceptionGroup("several", [*refusals, ValueError("third")]))
