"""What a driver knows of the items that it has read from the inbox of an execution."""

from __future__ import annotations

from fsm_mediator import Execution, Saga, Signal
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.records import BEGIN, CHILD, LATE, RETRY, Acceptance, InboxItem


def test_each_item_is_received_once():
    """Items may come twice and in any order. Each is counted once, and only news are news."""
    saga = Saga("s", [Signal("ok")])
    active = ActiveExecution("x", Execution(saga, Acceptance("x", "s", saga.version, saga.fingerprint, None, 0.0)), 1)
    active.dormant = True
    verb = InboxItem(RETRY, "verb", number=7, carrier={"trace": "1"})
    items = [
        InboxItem(CHILD, "a", "succeeded", number=3),
        InboxItem(LATE, "ok", None, "first", number=4),
        verb,
        InboxItem(LATE, "ok", None, "second", number=5),
    ]

    assert not active.receive([])
    assert [active.receive(items), active.receive(items)] == [True, False]

    inbox = active.inbox
    assert (inbox.seen, inbox.received) == (7, {3, 4, 5, 7})
    assert (inbox.successes, inbox.trouble, inbox.late) == (1, False, "first; second")
    assert (inbox.verbs, inbox.carriers, active.dormant) == ([verb], [{"trace": "1"}], True)

    assert active.receive([InboxItem(CHILD, "b", "failed", number=2), InboxItem(BEGIN, number=6)])

    assert (inbox.seen, inbox.successes, inbox.trouble, active.dormant) == (7, 1, True, False)
    other = ActiveExecution("y")
    assert (other.inbox.seen, other.inbox.late, other.inbox.trouble) == (0, None, False)
