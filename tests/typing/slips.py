"""Slips: each marked line is an error for mypy and for pyright, with these two codes; no other line is one."""

from __future__ import annotations

from fsm_mediator import Mediator, Saga, Step
from tests.typing.uses import Order, checkout

mediator = Mediator(checkout)


# A view, a theme or a format that there is not

checkout.diagram("step")  # error: arg-type, reportArgumentType
checkout.diagram(theme="drak")  # error: arg-type, reportArgumentType
checkout.diagram(them="dark")  # error: call-arg, reportCallIssue
checkout.diagram("steps", direction="left")  # error: arg-type, reportArgumentType
checkout.diagram(hide="retries")  # error: arg-type, reportArgumentType
mediator.run(checkout, Order("tea", 1)).diagram("states")  # error: arg-type, reportArgumentType
mediator.diagram("o-1", "states")  # error: arg-type, reportArgumentType


# A setting that there is not, or of another type

Saga("checkout", [], dead_line=3.0)  # error: call-arg, reportCallIssue
Saga("checkout", [], deadline="3 s")  # error: arg-type, reportArgumentType
Mediator(checkout, journals="sagas.db")  # error: call-arg, reportCallIssue


class Refund(Step):
    """A step whose setting has another type."""

    timeout = "3 s"  # error: assignment, reportAssignmentType
