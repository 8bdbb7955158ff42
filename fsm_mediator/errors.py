"""Every error of fsm_mediator, and nothing else.

::

    MediatorError
    ├── DefinitionError (ValueError)         a step, a saga or a setting is wrong; raised at its definition
    │   └── MissingExtraError (ImportError)  an optional dependency is not installed
    ├── SagaNotSucceededError                raised by ``run``; has the attribute ``.outcome``
    │   ├── SagaFailedError                  compensated: every effect was undone, or is in ``leftovers``
    │   ├── SagaStuckError                   waits for a person
    │   └── SagaWaitingError                 parked: waits for a signal, a time or its branches
    ├── StillRunningError (TimeoutError)     ``run(timeout=...)`` stopped waiting; the saga continues
    ├── StepSignalError                      raised by a step to report more than a failure
    │   ├── StepRejectedError                refused, without an effect; do not retry
    │   ├── OutcomeUnknownError              the effect may or may not have happened
    │   └── RetryAfterError                  try again, but not before a number of seconds
    ├── AttemptError                         recorded if an attempt gave no answer
    │   ├── AttemptTimedOutError (TimeoutError)
    │   ├── AttemptCrashedError              the process that drove the attempt ended
    │   ├── ResultRefusedError               the step returned something that cannot be journaled
    │   ├── SignalTimedOutError (TimeoutError)  a signal did not come in time
    │   └── DecisionError                    the deciding function raised, or its answer is invalid
    ├── SagaCancelledError                   reason of a failure: the saga was cancelled
    │   └── SiblingFailedError               reason of a branch's failure: another branch failed
    ├── DeadlineExceededError                reason of a failure: the saga's deadline passed
    ├── SagaUndoneError                      reason of a failure: a person undid the saga after its success
    ├── SagaAbandonedError                   reason of a failure: a person gave up an undrivable saga
    ├── RecordedError                        replaces an exception that exists only as a record
    ├── RefusedError                         the verb is not possible in the execution's state
    │   ├── AlreadyDrivenError               ... because a driver is at work on it
    │   ├── InvalidSagaIdError (ValueError)  the text cannot be a saga_id
    │   ├── SagaIdTakenError (ValueError)    the id belongs to another saga or payload
    │   └── MediatorClosedError              the mediator was closed
    ├── UnknownSagaError (LookupError)       no such saga is registered
    ├── UnknownExecutionError (LookupError)  no execution has this id
    ├── NoResultError (LookupError)          ``result_of`` was called for a step without a result
    ├── PayloadError (ValueError)            a payload cannot be encoded, is too large or has another type
    └── JournalError                         the journal could not be opened, read or written
        ├── LeaseLostError                   another driver took over the execution; nothing was written
        ├── DefinitionChangedError           this definition cannot drive an execution in the journal
        └── IllegalRecordError               the machine cannot have produced these records

    DefinitionWarning (UserWarning)          a definition works, but not as its author may think
"""

from __future__ import annotations

from fsm_mediator.error_types import (
    AlreadyDrivenError,
    AttemptCrashedError,
    AttemptError,
    AttemptTimedOutError,
    DeadlineExceededError,
    DecisionError,
    DefinitionChangedError,
    DefinitionError,
    DefinitionWarning,
    IllegalRecordError,
    InvalidSagaIdError,
    JournalError,
    LeaseLostError,
    MediatorClosedError,
    MediatorError,
    MissingExtraError,
    NoResultError,
    OutcomeUnknownError,
    PayloadError,
    RecordedError,
    RefusedError,
    ResultRefusedError,
    RetryAfterError,
    SagaAbandonedError,
    SagaCancelledError,
    SagaIdTakenError,
    SagaUndoneError,
    SiblingFailedError,
    SignalTimedOutError,
    StepRejectedError,
    StepSignalError,
    StillRunningError,
    UnknownExecutionError,
    UnknownSagaError,
)
from fsm_mediator.execution.outcome import (
    SagaFailedError,
    SagaNotSucceededError,
    SagaStuckError,
    SagaWaitingError,
)

__all__ = [
    "AlreadyDrivenError",
    "AttemptCrashedError",
    "AttemptError",
    "AttemptTimedOutError",
    "DeadlineExceededError",
    "DecisionError",
    "DefinitionChangedError",
    "DefinitionError",
    "DefinitionWarning",
    "IllegalRecordError",
    "InvalidSagaIdError",
    "JournalError",
    "LeaseLostError",
    "MediatorClosedError",
    "MediatorError",
    "MissingExtraError",
    "NoResultError",
    "OutcomeUnknownError",
    "PayloadError",
    "RecordedError",
    "RefusedError",
    "ResultRefusedError",
    "RetryAfterError",
    "SagaAbandonedError",
    "SagaCancelledError",
    "SagaFailedError",
    "SagaIdTakenError",
    "SagaNotSucceededError",
    "SagaStuckError",
    "SagaUndoneError",
    "SagaWaitingError",
    "SiblingFailedError",
    "SignalTimedOutError",
    "StepRejectedError",
    "StepSignalError",
    "StillRunningError",
    "UnknownExecutionError",
    "UnknownSagaError",
]
