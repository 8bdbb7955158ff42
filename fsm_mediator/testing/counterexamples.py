"""Names that are imported by tests which an earlier version of this library generated.

If a test calls one of these names, an error is raised. The error's message tells how to generate the test again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from fsm_mediator.errors import DefinitionError


def _outdated(*_args: Any, **_settings: Any) -> NoReturn:
    raise DefinitionError(
        "an earlier version of fsm_mediator generated this test. Generate it again: "
        "`fsm-mediator verify --counterexample DIR`, or Violation.to_pytest(); "
        "if verify() finds no violation, delete the test"
    )


Replay: Callable[..., NoReturn] = _outdated
actor: Callable[..., NoReturn] = _outdated
decided: Callable[..., NoReturn] = _outdated
