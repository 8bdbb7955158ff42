"""Every error of fsm_mediator, and nothing else.

::

    MediatorError
    ├── DefinitionError (ValueError)         a step, a saga or a setting is wrong; raised when it is defined
    │   └── MissingExtraError (ImportError)  an optional dependency is not installed
    ├── SagaNotSucceededError                what ``run`` raises; carries ``.outcome``
    │   ├── SagaFailedError                  compensated: every effect was undone, or is listed in ``leftovers``
    │   ├── SagaStuckError                   waits for a person
    │   └── SagaWaitingError                 parked on a signal, a point in time or its children
    ├── StillRunningError (TimeoutError)     ``run(timeout=...)`` stopped waiting; the saga goes on
    ├── StepSignalError                      what a step may raise to say more than "it failed"
    │   ├── StepRejectedError                refused, no effect, do not retry
    │   ├── OutcomeUnknownError              the effect may or may not have happened
    │   └── RetryAfterError                  try again, not before so many seconds
    ├── AttemptError                         what the mediator records when an attempt gave no answer of its own
    │   ├── AttemptTimedOutError (TimeoutError)
    │   ├── AttemptCrashedError              the process that drove it ended
    │   ├── ResultRefusedError               the step returned something that cannot be journaled
    │   ├── SignalTimedOutError (TimeoutError)  a signal did not come in time
    │   └── DecisionError                    what decides a choice, a sleep or a group told nonsense
    ├── SagaCancelledError                   why a saga failed: somebody cancelled it
    │   └── SiblingFailedError               why a branch failed: another branch of its group did
    ├── DeadlineExceededError                why a saga failed: its deadline passed
    ├── SagaUndoneError                      why a saga failed: a person undid it after it had succeeded
    ├── SagaAbandonedError                   why a saga failed: a person gave it up, for no driver could drive it
    ├── RecordedError                        stands for an exception of which only the record is left
    ├── RefusedError                         a verb that is not possible in the state the execution is in
    │   ├── AlreadyDrivenError               ... because somebody is driving it
    │   ├── InvalidSagaIdError (ValueError)  the text cannot be a saga_id
    │   ├── SagaIdTakenError (ValueError)    the id belongs to another saga or another payload
    │   └── MediatorClosedError              the mediator was closed
    ├── UnknownSagaError (LookupError)       no such saga is registered
    ├── UnknownExecutionError (LookupError)  no execution has this id
    ├── NoResultError (LookupError)          ``result_of`` a step that has no result
    ├── PayloadError (ValueError)            a payload that cannot be encoded, is too large or of another type
    └── JournalError                         the journal could not be opened, read or written
        ├── LeaseLostError                   another driver took the execution over; nothing was written
        ├── DefinitionChangedError           the journal knows an execution that this definition cannot drive
        └── IllegalRecordError               records that the machine cannot have produced

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
