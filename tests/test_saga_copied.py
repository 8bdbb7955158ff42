"""A saga that is copied: by me, or by a settings class that copies what it holds."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from fsm_mediator import Mediator, Saga, step


@dataclasses.dataclass
class AppSettings:
    """An app's settings, as frameworks keep them."""

    saga: Saga
    limits: dict[str, int]


def charge(payload: Any) -> str:
    """Answer."""
    return "charged"


SHOP = Saga("shop", [step(charge)])


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda saga: dataclasses.asdict(AppSettings(saga, {"charges": 3}))["saga"],
    ],
    ids=["copy", "deepcopy", "asdict"],
)
def test_copy_of_a_saga_is_the_saga(copied):
    """A saga is immutable, so that a copy is the saga itself: it runs, and knows the executions of the first."""
    again = copied(SHOP)

    assert again is SHOP
    with Mediator(again) as mediator:
        assert mediator.run("shop").results == {"charge": "charged"}
