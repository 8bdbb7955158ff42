"""The example of two banks: no money is lost or made, whatever is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.bank import ACCOUNTS, FIRST_BALANCE, problems_of

Rows = tuple[list[int], list[tuple[str, str]]]
BALANCES = [FIRST_BALANCE] * ACCOUNTS


def of(north: list[tuple[str, str]], south: list[tuple[str, str]], states: dict[str, str]) -> list[str]:
    """The problems of banks whose sum is right."""
    return problems_of(set(states), states, [(BALANCES, north), (BALANCES, south)])


def test_banks_whose_rows_are_right_have_no_problem():
    """A transfer that succeeded, one that was paid back, and one that was refused before anything moved."""
    north = [("t-1", "withdraw"), ("t-2", "withdraw"), ("t-2", "refund")]
    assert of(north, [("t-1", "deposit")], {"t-1": "succeeded", "t-2": "failed", "t-3": "failed"}) == []


@pytest.mark.parametrize(
    ("north", "south", "state"),
    [
        ([("t-1", "withdraw")] * 2, [("t-1", "deposit")], "succeeded"),
        ([("t-1", "withdraw")], [("t-1", "deposit")] * 2, "succeeded"),
        ([("t-1", "withdraw")], [], "succeeded"),
        ([("t-1", "withdraw")], [], "failed"),
        ([("t-1", "withdraw"), ("t-1", "refund"), ("t-1", "refund")], [], "failed"),
        ([("t-1", "withdraw")], [("t-1", "deposit")], "stuck"),
    ],
)
def test_transfer_that_moved_money_twice_or_by_half_is_found(north, south, state):
    """The rows tell, also where the sum happens to be right."""
    assert len(of(north, south, {"t-1": state})) == 1


def test_money_and_orders_that_are_missing_are_found():
    """A balance that is off by one; an order that nobody drove; a transfer that nobody ordered."""
    banks: list[Rows] = [([FIRST_BALANCE + 1, *BALANCES[1:]], []), (BALANCES, [])]
    assert problems_of({"t-1"}, {"t-2": "failed"}, banks) == [
        "there were 16000 in all, and there are 16001",
        "t-1 was never driven",
        "t-2 was never ordered",
    ]


def transfer(*arguments: object) -> None:
    """Run the example, in a process that has no threads, since it forks."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.bank", *map(str, arguments)],
        cwd=Path(__file__).parent.parent,
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.bank
def test_money_is_kept_through_kills():
    """Two workers are killed in turn at random moments; BANK_KILLS times, or twenty."""
    transfer(os.environ.get("BANK_KILLS") or 20)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(20))
def test_money_is_kept_through_a_thousand_kills(seed):
    """Fifty for each seed."""
    transfer(50, seed)
