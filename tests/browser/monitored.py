"""The app whose operator's page these tests open: its sagas, its mediator, and the page, which a header lets in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fsm_mediator import Mediator, OutcomeUnknownError, Retry, Saga, Signal, step
from fsm_mediator.ui import Monitor, Operator

FOLDER = Path(os.environ.get("MONITORED_FOLDER", "."))
HOSTILE = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
ONCE = Retry(attempts=1)


@step
def reserve(order: Any) -> str:
    """Reserve the item."""
    return f"reserved {order}"


@reserve.compensation
def unreserve(order: Any) -> None:
    """Give it back."""


@step(retry=ONCE, pivot=True)
def charge(order: Any) -> bool:
    """Take the money; the answer is lost until the file ``mended`` is there."""
    if not (FOLDER / "mended").exists():
        raise OutcomeUnknownError(HOSTILE)
    return True


@step
def ship(order: Any) -> str:
    """Send the parcel."""
    return "sent"


order = Saga("order", [reserve, Signal("approve", payload=bool), charge, ship])
mediator = Mediator(order, journal=FOLDER / "sagas.db")


def who(request: Any) -> Operator | None:
    """The operator whom the header names: everybody but ben may act."""
    name = request.headers.get("x-user")
    if name is None:
        return None
    return Operator(name) if name == "ben" else Operator.acting(name)


app = Monitor(mediator, authorize=who, secret=b"the same in both processes")
