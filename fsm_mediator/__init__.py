"""fsm_mediator: sagas as explicit finite state machines.

A saga is one operation that several modules take part in, without depending on each other. A mediator drives the saga
step by step, with retries. If a step cannot succeed, the mediator compensates the completed steps, the newest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Context, FunctionStep, Step, step
from fsm_mediator.definition.waits import Choose, Parallel, Signal, Sleep
from fsm_mediator.errors import (
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
    SagaFailedError,
    SagaIdTakenError,
    SagaNotSucceededError,
    SagaStuckError,
    SagaUndoneError,
    SagaWaitingError,
    SiblingFailedError,
    SignalTimedOutError,
    StepRejectedError,
    StepSignalError,
    StillRunningError,
    UnknownExecutionError,
    UnknownSagaError,
)
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.protocol import Commit, Driver, Entry, Journal
from fsm_mediator.lazy import lazy_names as _lazy_names
from fsm_mediator.mediator.limits import Limits
from fsm_mediator.mediator.sync import Mediator
from fsm_mediator.records import Acceptance, Failure, Happened, InboxItem, NotHappened, Record
from fsm_mediator.retry import Retry

if TYPE_CHECKING:
    from fsm_mediator.ciphers import AesGcm
    from fsm_mediator.conformance import Conformance, ConformanceError, IllegalMove, Unchecked, conforms
    from fsm_mediator.definition.plugins import load_step, registered_steps
    from fsm_mediator.diagram import Diagram
    from fsm_mediator.explorer import Explorer, explore
    from fsm_mediator.journal.sqlite.journal import SQLiteJournal
    from fsm_mediator.mediator.aio import AsyncMediator
    from fsm_mediator.narration import timeline
    from fsm_mediator.observe.notices import Notice
    from fsm_mediator.observe.observers import LoggingObserver, Observer, RecordingObserver
    from fsm_mediator.saga_files import load_saga
    from fsm_mediator.statistics import Statistics, StepStatistics
    from fsm_mediator.upgrades import Comparison, StateVerdict, StrandedError, Verdict, compare
    from fsm_mediator.verifier import Report, VerificationError, Violation, verify
    from fsm_mediator.version import __version__ as __version__

_LATER = {
    "AesGcm": "fsm_mediator.ciphers",
    "AsyncMediator": "fsm_mediator.mediator.aio",
    "Comparison": "fsm_mediator.upgrades",
    "Conformance": "fsm_mediator.conformance",
    "ConformanceError": "fsm_mediator.conformance",
    "Diagram": "fsm_mediator.diagram",
    "Explorer": "fsm_mediator.explorer",
    "IllegalMove": "fsm_mediator.conformance",
    "LoggingObserver": "fsm_mediator.observe.observers",
    "Notice": "fsm_mediator.observe.notices",
    "Observer": "fsm_mediator.observe.observers",
    "RecordingObserver": "fsm_mediator.observe.observers",
    "Report": "fsm_mediator.verifier",
    "SQLiteJournal": "fsm_mediator.journal.sqlite.journal",
    "StateVerdict": "fsm_mediator.upgrades",
    "Statistics": "fsm_mediator.statistics",
    "StepStatistics": "fsm_mediator.statistics",
    "StrandedError": "fsm_mediator.upgrades",
    "Unchecked": "fsm_mediator.conformance",
    "Verdict": "fsm_mediator.upgrades",
    "VerificationError": "fsm_mediator.verifier",
    "Violation": "fsm_mediator.verifier",
    "__version__": "fsm_mediator.version",
    "compare": "fsm_mediator.upgrades",
    "conforms": "fsm_mediator.conformance",
    "explore": "fsm_mediator.explorer",
    "load_saga": "fsm_mediator.saga_files",
    "load_step": "fsm_mediator.definition.plugins",
    "registered_steps": "fsm_mediator.definition.plugins",
    "timeline": "fsm_mediator.narration",
    "verify": "fsm_mediator.verifier",
}
"""The module of each name that is imported at its first use. A first saga in memory does not need these modules."""

__all__ = [
    "Acceptance",
    "AesGcm",
    "AlreadyDrivenError",
    "AsyncMediator",
    "AttemptCrashedError",
    "AttemptError",
    "AttemptTimedOutError",
    "Choose",
    "Commit",
    "Comparison",
    "Conformance",
    "ConformanceError",
    "Context",
    "DeadlineExceededError",
    "DecisionError",
    "DefinitionChangedError",
    "DefinitionError",
    "DefinitionWarning",
    "Diagram",
    "Driver",
    "Entry",
    "Execution",
    "Explorer",
    "Failure",
    "FunctionStep",
    "Happened",
    "IllegalMove",
    "IllegalRecordError",
    "InboxItem",
    "InvalidSagaIdError",
    "Journal",
    "JournalError",
    "LeaseLostError",
    "Limits",
    "LoggingObserver",
    "Mediator",
    "MediatorClosedError",
    "MediatorError",
    "MemoryJournal",
    "MissingExtraError",
    "NoResultError",
    "NotHappened",
    "Notice",
    "Observer",
    "Outcome",
    "OutcomeUnknownError",
    "Parallel",
    "PayloadError",
    "Record",
    "RecordedError",
    "RecordingObserver",
    "RefusedError",
    "Report",
    "ResultRefusedError",
    "Retry",
    "RetryAfterError",
    "SQLiteJournal",
    "Saga",
    "SagaAbandonedError",
    "SagaCancelledError",
    "SagaFailedError",
    "SagaIdTakenError",
    "SagaNotSucceededError",
    "SagaStuckError",
    "SagaUndoneError",
    "SagaWaitingError",
    "SiblingFailedError",
    "Signal",
    "SignalTimedOutError",
    "Sleep",
    "StateVerdict",
    "Statistics",
    "Step",
    "StepRejectedError",
    "StepSignalError",
    "StepStatistics",
    "StillRunningError",
    "StrandedError",
    "Unchecked",
    "UnknownExecutionError",
    "UnknownSagaError",
    "Verdict",
    "VerificationError",
    "Violation",
    "compare",
    "conforms",
    "explore",
    "load_saga",
    "load_step",
    "registered_steps",
    "step",
    "timeline",
    "verify",
]

if not TYPE_CHECKING:  # hidden from type checkers: a module with __getattr__ accepts every name
    __getattr__, __dir__ = _lazy_names(__name__, globals(), _LATER)
