"""Test your own sagas: the real steps under every fault, their promises, properties over random plans, a pytest plugin.

Nothing here is imported by ``fsm_mediator`` itself. What needs Hypothesis is imported when it is first asked for; the
extra ``testing`` brings it.
"""

from __future__ import annotations

from fsm_mediator.testing.check import Case, Report, SagaBrokenError, check_saga
from fsm_mediator.testing.clock import VirtualClock
from fsm_mediator.testing.faults import Fault, FaultPlan, plans
from fsm_mediator.testing.promises import Promise, PromiseBrokenError, PromiseReport, check_promises
from fsm_mediator.testing.stage import InjectedError

__all__ = [
    "Case",
    "Fault",
    "FaultPlan",
    "InjectedError",
    "Promise",
    "PromiseBrokenError",
    "PromiseReport",
    "Report",
    "SagaBrokenError",
    "VirtualClock",
    "check_promises",
    "check_saga",
    "plans",
]
