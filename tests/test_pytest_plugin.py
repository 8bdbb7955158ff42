"""The pytest plugin: one test for every fault, fixtures, and what was covered; only for those who ask for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

SETTINGS = """
[tool.pytest]
strict = true
filterwarnings = [
    "error",
    "ignore:Module already imported so cannot be rewritten",  # another test of this process imported the plugin
]
"""

SHOP = """
import pytest
from fsm_mediator import Retry
from tests.fake_services import ORDER, Forgets, Put, FakeService, shop
from fsm_mediator.testing import check_saga

"""


@pytest.fixture
def run(pytester: pytest.Pytester):
    """Runs a test file in this process, with the plugin asked for."""

    def run(code: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyprojecttoml(SETTINGS)
        pytester.makepyfile(SHOP + code)
        return pytester.runpytest_inprocess("-p", "fsm_mediator.testing.plugin", "-p", "no:cacheprovider", *arguments)

    return run


def test_marker_makes_one_test_of_every_fault(run):
    """Each fault is a test of its own, whose id a person can read; what was covered is told at the end."""
    result = run(
        """
@pytest.mark.saga(shop(), ORDER)
def test_checkout(saga_case):
    assert saga_case.outcome.ended
""",
        "-v",
    )

    result.assert_outcomes(passed=74)
    result.stdout.fnmatch_lines(
        [
            "*::test_checkout[[]checkout-no_fault] PASSED*",
            "*::test_checkout[[]checkout-charge-times_out_after_effect] PASSED*",
            "*::test_checkout[[]checkout-undo_charge-crashes_after_record_once] PASSED*",
            "*::test_checkout[[]checkout-is_undone] PASSED*",
            "saga checkout: 21 failure paths covered in 74 runs, 32 of 42 transitions",
        ]
    )


def test_fault_that_is_not_survived_fails_its_test(run):
    """Where a step has a bug, the tests of the faults that show it fail, with the timeline; no argument is needed."""
    result = run(
        """
@pytest.mark.saga(shop(Forgets), ORDER, only=["charge-is_rejected", "ship-is_rejected"])
def test_checkout():
    pass
"""
    )

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*saga 'checkout' does not survive 1 of 1 faults",
            "*fault      ship: every attempt is refused for good, and has done nothing",
            "*- 'charge': {}",
            "*0.000 s  the saga begins *",
            '*reproduce  check_saga(..., only="ship-is_rejected")',
            "FAILED *::test_checkout[[]checkout-ship-is_rejected]*",
        ]
    )


def test_pairs_strict_and_coroutines_are_to_be_had(run):
    """The marker takes what `check_saga` takes; one fault can be chosen by name, as any test."""
    result = run(
        """
class Slow(Put):
    retry = compensation_retry = Retry(attempts=2)
    in_doubt_on = Exception
    async def execute(self, order, context):
        return super().execute(order, context)

from fsm_mediator import Saga
def small():
    shelf = FakeService()
    return Saga("small", [Slow(shelf, "a")]), lambda: shelf.held

@pytest.mark.saga(small, ORDER, pairs=True, strict=True)
def test_small(saga_case):
    pass
""",
        "-k",
        "small-a-answer_lost_after_effect+undo_a or raises_after",
    )

    outcomes = result.parseoutcomes()
    assert outcomes["passed"] > 10
    assert "failed" not in outcomes


def test_checks_within_tests_are_counted_too(run):
    """What `check_saga` covers in an ordinary test is told as well."""
    result = run(
        """
def test_checkout():
    check_saga(shop(), ORDER, only="charge-is_rejected")
"""
    )

    result.stdout.fnmatch_lines(["saga checkout: 1 failure path covered in 2 runs, 6 of 42 transitions"])


def test_fixtures_bring_mediators_journals_and_time(run):
    """A mediator lives by the virtual clock, on the journal that it is given, and is closed at the end."""
    result = run(
        """
from fsm_mediator import MediatorClosedError, Saga, SagaFailedError
made = []

class Down(Put):
    retry = Retry(attempts=5, wait_initial=3600.0, wait_max=1e9)
    def execute(self, order, context):
        raise ValueError("down")

@pytest.mark.parametrize("journal", ["memory_journal", "sqlite_journal"])
def test_hours_take_no_time(mediator, virtual_clock, journal, request):
    saga = Saga("down", [Down(FakeService())], payload=dict)
    driver = mediator(saga, journal=request.getfixturevalue(journal))
    made.append((driver, saga))
    with pytest.raises(SagaFailedError):
        driver.run("down", ORDER, saga_id="d")
    assert sum(virtual_clock.slept) > 15 * 3600
    assert driver.outcome("d").failed

def test_closed():
    for driver, saga in made:
        with pytest.raises(MediatorClosedError):
            driver.run("down", ORDER)
"""
    )

    result.assert_outcomes(passed=3)


def test_misspelt_argument_of_the_marker_is_told(run):
    """An argument that the marker does not know is an error at collection, and names those there are."""
    result = run(
        """
@pytest.mark.saga(shop(), ORDER, strickt=True)
def test_checkout():
    pass
"""
    )

    result.stdout.fnmatch_lines(["*unknown argument 'strickt'; it takes saga(saga, payload=None, *"])


def test_marker_is_registered_and_described(run):
    """`pytest --markers` says what the marker takes."""
    run("", "--markers").stdout.fnmatch_lines(["@pytest.mark.saga(saga, payload=None, *one test for every fault*"])


def test_nothing_is_loaded_unasked():
    """Neither the package nor its kit loads pytest or Hypothesis, and no entry point makes pytest load the plugin."""
    code = (
        "import sys, fsm_mediator; assert 'fsm_mediator.testing' not in sys.modules; import fsm_mediator.testing; "
        "assert not {'pytest', '_pytest', 'hypothesis'} & set(sys.modules); from importlib.metadata import "
        "distribution; assert not distribution('fsm-mediator').entry_points.select(group='pytest11')"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_marker_without_a_saga_says_how_it_is_written(run):
    """A bare ``@pytest.mark.saga`` checks nothing, and is an error of usage."""
    result = run(
        """
@pytest.mark.saga
def test_checkout():
    pass
"""
    )

    result.stdout.fnmatch_lines(["*write @pytest.mark.saga(checkout)*"])
