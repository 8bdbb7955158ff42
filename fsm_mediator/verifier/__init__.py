"""The verifier: every failure path of a saga, walked through the machine and the judgements that really run.

`verify` walks, `laws` judge, `Report` and `Violation` tell.
"""

from fsm_mediator.verifier.laws import LAWS
from fsm_mediator.verifier.report import Report, VerificationError
from fsm_mediator.verifier.state_space import verify
from fsm_mediator.verifier.violation import Violation

__all__ = ["LAWS", "Report", "VerificationError", "Violation", "verify"]
