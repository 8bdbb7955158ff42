"""The verifier: searches every failure path of a saga, with the same machine and rules that run in production.

`verify` runs the search, the module `laws` checks each transition, and `Report` and `Violation` have the result.
"""

from fsm_mediator.verifier.report import Report, VerificationError
from fsm_mediator.verifier.rules_table import LAWS, RULES
from fsm_mediator.verifier.state_space import verify
from fsm_mediator.verifier.violation import Violation

__all__ = ["LAWS", "RULES", "Report", "VerificationError", "Violation", "verify"]
