"""Tools to test your own sagas.

`check_saga` runs the real steps under every fault. `check_promises` tests the promises of single steps.
`check_together` runs several executions at once. There are also Hypothesis strategies, and a pytest plugin.

``fsm_mediator`` itself does not import this package. Names that need Hypothesis are imported at their first use. The
extra ``testing`` installs Hypothesis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_mediator.lazy import lazy_names as _lazy_names
from fsm_mediator.testing.check import check_saga
from fsm_mediator.testing.clock import VirtualClock
from fsm_mediator.testing.contracts import Promise, PromiseBrokenError, PromiseReport, check_promises
from fsm_mediator.testing.faults import Fault, FaultPlan, plans
from fsm_mediator.testing.injection import InjectedError
from fsm_mediator.testing.report import Case, CheckReport, SagaBrokenError
from fsm_mediator.testing.together import InterferenceError, TogetherReport, check_together

if TYPE_CHECKING:
    from fsm_mediator.testing.stateful import SagaMachine, SagaMachineError, saga_state_machine
    from fsm_mediator.testing.strategies import acceptance_of, fault_plans, histories, sagas

_LATER = {
    "SagaMachine": "fsm_mediator.testing.stateful",
    "SagaMachineError": "fsm_mediator.testing.stateful",
    "acceptance_of": "fsm_mediator.testing.strategies",
    "fault_plans": "fsm_mediator.testing.strategies",
    "histories": "fsm_mediator.testing.strategies",
    "saga_state_machine": "fsm_mediator.testing.stateful",
    "sagas": "fsm_mediator.testing.strategies",
}
"""The names that are imported at their first use, each with its module. These modules import Hypothesis."""

__all__ = [
    "Case",
    "CheckReport",
    "Fault",
    "FaultPlan",
    "InjectedError",
    "InterferenceError",
    "Promise",
    "PromiseBrokenError",
    "PromiseReport",
    "SagaBrokenError",
    "SagaMachine",
    "SagaMachineError",
    "TogetherReport",
    "VirtualClock",
    "acceptance_of",
    "check_promises",
    "check_saga",
    "check_together",
    "fault_plans",
    "histories",
    "plans",
    "saga_state_machine",
    "sagas",
]

if not TYPE_CHECKING:  # a type checker that sees __getattr__ accepts every name
    __getattr__, __dir__ = _lazy_names(__name__, globals(), _LATER)
