"""An app with a secret in every text: payload, result, error, signal, reasons; and a process of it that is killed."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

from fsm_mediator import LoggingObserver, Mediator, Parallel, Retry, Saga, Signal, SQLiteJournal, step
from fsm_mediator.ciphers import AesGcm
from fsm_mediator.redaction import RedactingFilter

SECRET = "4111-TOPSECRET"  # noqa: S105 - it is none
KEYS = {"new": "A" * 42 + "A=", "old": "B" * 42 + "A="}
ONCE = Retry(attempts=1)


@step
def charge(payload: Any) -> dict[str, str]:
    """Return a secret."""
    return {"card": f"{SECRET}-result"}


@charge.compensation
def refund(payload: Any) -> None:
    """Fail with a secret, so that the saga is stuck."""
    raise ValueError(f"{SECRET}-refund")


@step(retry=ONCE)
def ship(payload: Any) -> None:
    """Fail with a secret; or be killed."""
    if Path("dies").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError(f"{SECRET}-error")


@step
def pack(payload: Any) -> str:
    """Return a secret from a branch."""
    return f"{SECRET}-packed"


checkout = Saga(
    "checkout",
    [Parallel("halves", [Saga("left", [pack])]), Signal("go", timeout=3600), charge, ship],
    compensation_retry=ONCE,
)


def journal(path: Any, *key_ids: str, **settings: Any) -> SQLiteJournal:
    """The journal, with these keys."""
    return SQLiteJournal(path, cipher=AesGcm({key_id: KEYS[key_id] for key_id in key_ids or ("new",)}), **settings)


def main() -> None:
    """Drive until it is killed, with all that a process logs in a file."""
    handler = logging.FileHandler("app.log")
    handler.addFilter(RedactingFilter([f"/{SECRET}\\S*/"]))
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])
    with Mediator(checkout, journal=journal("sagas.db"), observers=[LoggingObserver()]) as mediator:
        mediator.start("checkout", {"card": f"{SECRET}-payload"}, saga_id="o-1")
        mediator.signal("o-1", "go", {"card": f"{SECRET}-signal"})
        mediator.wait("o-1", timeout=60, check=False)
        mediator.retry("o-1", reason=f"{SECRET}-reason")
        Path("dies").touch()
        mediator.run("checkout", {"card": f"{SECRET}-second"}, saga_id="o-2", check=False)
        mediator.signal("o-2", "go", {"card": f"{SECRET}-signal"})
        mediator.wait("o-2", timeout=60, check=False)


if __name__ == "__main__":
    main()
