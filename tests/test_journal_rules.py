"""The small rules that every journal shares: bounds, times, names, and what a message of an error says."""

from __future__ import annotations

import math
import os
import re
import socket
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fsm_mediator import AesGcm, DefinitionError, JournalError, MemoryJournal, PayloadError, SQLiteJournal
from fsm_mediator.ciphers import CannotOpenError
from fsm_mediator.errors import LeaseLostError, RefusedError, UnknownExecutionError
from fsm_mediator.journal import memory_notes, memory_table
from fsm_mediator.journal.acknowledging import acknowledge, acknowledgement_of
from fsm_mediator.journal.attention import (
    ANSWERS_KEPT,
    NOW,
    PENDING_NOW,
    has_driver_look,
    is_too_late,
    next_attention_at,
    takes,
)
from fsm_mediator.journal.attributes import attribute_text, changed_attributes, checked_attributes, scalar_of
from fsm_mediator.journal.codec import Codec, is_nested_deeper
from fsm_mediator.journal.factory import is_postgres, open_journal, path_of, without_password
from fsm_mediator.journal.finding import Filter, failure_of, finds, for_finding, place_of_cursor
from fsm_mediator.journal.following import number_in, places_in
from fsm_mediator.journal.lines import plain
from fsm_mediator.journal.liveness import (
    OncePerProcess,
    is_alive,
    is_forgettable,
    process_exists,
    process_start_time,
    this_driver,
)
from fsm_mediator.journal.notes import Note
from fsm_mediator.journal.operators import Drivability, Fault, for_operators, has_operators, next_moves
from fsm_mediator.journal.optional import many_of
from fsm_mediator.journal.planning import Plan, Planned
from fsm_mediator.journal.protocol import (
    Commit,
    Definition,
    Driver,
    InboxChangedError,
    check_bounds,
    check_unless_mail,
    is_journal,
    new_token,
)
from fsm_mediator.journal.retention import Retention, with_branches
from fsm_mediator.journal.rows import (
    MESSAGE_LIMIT,
    MOST_NAMES,
    TRACEBACK_LIMIT,
    execution_row,
    failure_row,
    record_of,
    record_rows,
)
from fsm_mediator.journal.sealing import (
    is_sealed,
    key_of,
    open_details,
    reseal,
    reseal_details,
    seal,
    seal_details,
    unseal,
    why_sealed,
)
from fsm_mediator.journal.sqlite.errors import is_busy, is_statement_error, to_journal_error
from fsm_mediator.journal.storable import is_text, storable
from fsm_mediator.records import Failure, InboxItem, Record, VerbAnswer
from tests.commits import DRIVER, Clock, acceptance, ending, found, going_on, opening, record, rows
from tests.drivers import journal
from tests.secrets_app import KEYS

__all__ = ["journal"]

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into Linux's /proc")

# When a driver is called


@pytest.mark.parametrize(
    ("state", "held", "mail", "wake_at", "awaits", "at"),
    [
        ("executing.a", True, 0, 9.5, False, None),
        ("executing.a", True, 1, 9.5, False, NOW),
        ("stuck.a", False, 0, 9.5, False, None),
        ("stuck.a", False, 1, None, False, NOW),
        ("succeeded", False, 0, None, False, None),
        ("succeeded", False, 1, None, False, NOW),
        ("pending", False, 0, None, False, PENDING_NOW),
        ("pending", False, 1, None, False, NOW),
        ("pending", False, 0, None, True, None),
        ("executing.a", False, 0, 9.5, False, NOW),
        ("executing.a", False, 0, 9.5, True, 9.5),
        ("executing.a", False, 1, 9.5, True, NOW),
        ("probing.a", False, 0, None, False, NOW),
        ("compensating.a", False, 0, None, False, NOW),
        ("retrying.a", False, 0, 9.5, False, 9.5),
        ("waiting.a", False, 0, None, False, None),
        ("waiting.a", False, 1, None, False, NOW),
    ],
)
def test_driver_is_called_when_there_is_work(state, held, mail, wake_at, awaits, at):
    """At once for an effect or for news, at a time for a wait, and never for what has ended or is stuck."""
    assert next_attention_at(state, held, mail, wake_at, awaits=awaits) == at


@pytest.mark.parametrize(
    ("kind", "calls", "taken"),
    [
        ("signal", ["executing.a", "waiting.w"], []),
        ("child", ["executing.a", "waiting.w", "stuck.a", "stuck_executing.a"], []),
        ("retry", ["executing.a", "waiting.w", "stuck.a", "stuck_executing.a", "succeeded", "failed"], ["succeeded"]),
    ],
)
def test_item_is_taken_and_calls_a_driver_by_its_kind(kind, calls, taken):
    """A stuck execution is called by its branches and by verbs, an ended one by verbs; only a success takes a verb."""
    states = ("executing.a", "waiting.w", "stuck.a", "stuck_executing.a", "succeeded", "failed")
    assert [state for state in states if has_driver_look(kind, state)] == calls
    assert [state for state in states if takes(kind, state)] == [*states[:4], *taken]


@pytest.mark.parametrize(
    ("kind", "state", "due_at", "too_late"),
    [
        ("signal", "waiting.paid", 10.0, True),
        ("signal", "waiting.paid", 10.5, False),
        ("signal", "waiting.paid", None, False),
        ("signal", "waiting.sent", 10.0, False),
        ("cancel", "waiting.paid", 10.0, False),
    ],
)
def test_signal_is_too_late_once_its_wait_is_over(kind, state, due_at, too_late):
    """At the very moment of the end, it is over; other waits and other items are not concerned."""
    assert is_too_late(InboxItem(kind, "paid", at=10.0), state, due_at) is too_late


@pytest.mark.parametrize(
    ("driver", "state", "mail", "unseen", "ended_at"),
    [
        (None, "succeeded", 0, None, 5.0),
        (None, "failed", 0, None, 5.0),
        (None, "failed", 2, False, 5.0),
        (None, "succeeded", 1, None, None),
        (7, "succeeded", 0, None, None),
        (None, "stuck.a", 0, None, None),
    ],
)
def test_row_is_marked_as_ended_once_nobody_owns_it_and_no_verb_waits(driver, state, mail, unseen, ended_at):
    """A row with an owner, with a verb, or in another phase has not ended; the phase and the failure are noted."""
    row = execution_row(3, driver, state, 5.0, mail, 9.5, unseen=unseen)
    assert row[:2] == (driver, 9.5)
    assert row[3:] == (mail, ended_at, state == "failed", state.partition(".")[0], 3)


# Texts


def test_long_texts_of_an_error_are_cut_beyond_their_limits():
    """Up to the limit a text is kept; of a longer one, its beginning and its end, and how much is missing."""
    for place, limit in ((1, MESSAGE_LIMIT), (2, TRACEBACK_LIMIT), (0, MESSAGE_LIMIT)):
        texts = ["E", "m", "t"]
        texts[place] = "a" * (limit // 4) + "b" * (limit - limit // 4)
        assert failure_row(Failure(*texts)) == tuple(texts)
        texts[place] += "b" * 1500
        row = failure_row(Failure(*texts))
        words = "\n... 1,500 characters left out by the journal ...\n"
        assert row[place] == "a" * (limit // 4) + words + "b" * (limit * 3 // 4)
        assert [row[other] for other in range(3) if other != place] == [texts[n] for n in range(3) if n != place]
    assert (MESSAGE_LIMIT, TRACEBACK_LIMIT) == (16384, 65536)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"value": {"n": None}},
        {"error": Failure("ValueError", "m", "t")},
        {"in_doubt": True},
        {"due_at": 0.0},
        {"reason": ""},
        {"abandoned": True},
        {"children": ()},
        {"actor": ""},
        {"carrier": {}},
        {"step": None},
        {"attempt": 0},
    ],
    ids=lambda more: next(iter(more), "none"),
)
def test_record_with_one_optional_field_comes_back_from_its_row(more):
    """A record that differs in one field from a plain record is stored with this field."""
    given = record("x", 1, **more)
    (row,) = record_rows([given], "x", Codec())
    back = record_of(row, "x", "s", None)
    values = [None if each.value is None else msgspec.json.encode(each.value) for each in (given, back)]
    errors = [each.error and (each.error.type, each.error.message, each.error.traceback) for each in (given, back)]
    assert values[0] == values[1]
    assert errors[0] == errors[1]
    assert msgspec.structs.replace(back, value=None, error=None) == msgspec.structs.replace(
        given, value=None, error=None
    )


def test_name_of_a_step_with_half_a_character_is_refused():
    """The message says so, for a record with a value and for a record without one."""
    for value in (None, 1):
        with pytest.raises(PayloadError, match="a name in it holds half a character"):
            record_rows([record("x", 1, step="\ud800", value=value)], "x", Codec())


@pytest.mark.parametrize(
    ("children", "kept"),
    [
        (tuple(map(str, range(MOST_NAMES))), None),
        (tuple(map(str, range(MOST_NAMES + 1))), MOST_NAMES + 1),
        (tuple(map(str, range(1, MOST_NAMES + 2))), None),
    ],
    ids=["as many as are listed", "one more", "not numbered from 0"],
)
def test_names_of_many_branches_are_kept_as_their_count(children, kept):
    """A thousand names are listed; of more, only the count, if they are the numbers from 0."""
    ((*_, details),) = record_rows([record("x", 1, children=children)], "x", Codec())
    assert msgspec.json.decode(details)["children"] == (list(children) if kept is None else kept)


@pytest.mark.parametrize(
    ("text", "is_kept", "stored"),
    [
        ("plain", True, "plain"),
        ("ü€", True, "ü€"),
        ("tab\t", True, "tab\t"),
        ("nul \0", False, "nul \0"),
        ("half \ud800", False, "half \\ud800"),
    ],
)
def test_text_that_no_database_could_tell_is_known(text, is_kept, stored):
    """Names with a NUL or half a character are refused; in other texts half a character is written out."""
    assert is_text(text) is is_kept
    assert storable(text) == stored
    assert storable(None) is None


FIELDS: dict[str, Any] = {
    "step": "a.b",
    "attempt": 3,
    "value": {"n": [1.5, None]},
    "error": Failure("shop.Declined", "no", "Traceback"),
    "in_doubt": True,
    "due_at": 9.5,
    "reason": "why: ü",
    "abandoned": True,
    "children": ("a", "b"),
    "actor": "ann",
    "carrier": {"traceparent": "00-1"},
}


@pytest.mark.parametrize("field", [*FIELDS, "nothing", "everything"])
def test_each_field_of_a_record_comes_back_without_the_others(journal, field):
    """A record with one of them, with none, and with all of them."""
    chosen = FIELDS if field == "everything" else {name: each for name, each in FIELDS.items() if name == field}
    written = Record("x", "s", 1, "executed", "executing.a", "executing.b", 1.5, **chosen)
    journal.enlist(DRIVER)
    journal.write(Commit("x", (written,), "d-1", acceptance=acceptance("x")))

    (kept,) = journal.records("x")

    assert plain(kept.value) == written.value
    assert type(kept.value) is (msgspec.Raw if journal.encodes and written.value is not None else type(written.value))
    assert msgspec.structs.replace(kept, value=written.value) == written
    assert (kept.error and kept.error.traceback) == (written.error and written.error.traceback)
    assert kept.carrier == written.carrier


def test_each_field_of_an_acceptance_comes_back(journal):
    """Also of a branch, and of a branch that another one waits for."""
    fields = {"deadline_at": 99.5, "parent": "p", "successor": "x", "carrier": {"tracestate": "ü"}, "version": "2"}
    opened = acceptance("x", {"n": 1}, **fields, fingerprint="g", saga="t", at=1.5)
    child, later = (msgspec.structs.replace(opened, saga_id=saga_id) for saga_id in ("x/g.a", "x/g.b"))
    journal.enlist(DRIVER)
    journal.write(Commit("x", (), "d-1", acceptance=opened, children=(child,), dormant=(later,)))
    for each in (opened, child, later):
        kept = found(journal, each.saga_id).acceptance
        assert plain(kept.payload) == {"n": 1}
        assert msgspec.structs.replace(kept, payload=each.payload) == each
        assert kept.carrier == each.carrier


@pytest.mark.parametrize("more", [{}, {"value": [1]}, {"reason": "why"}, {"actor": "ann"}, {"carrier": {"a": "b"}}])
def test_each_field_of_an_item_comes_back_without_the_others(journal, more):
    """The rule holds for a posted item and for an item in a commit."""
    item = InboxItem("signal", "paid", **{"at": 4.5, **more})
    journal.enlist(DRIVER)
    journal.write(opening("x", "executing.a"))
    journal.write(opening("y", "executing.a", posts=(("x", item),)))
    assert journal.post("x", item)
    for kept in journal.inbox("x"):
        assert plain(kept.value) == item.value
        assert type(kept.value) is (msgspec.Raw if journal.encodes and item.value is not None else type(item.value))
        assert msgspec.structs.replace(kept, value=item.value, number=0) == item
        assert kept.carrier == item.carrier
    assert len(journal.inbox("x")) == 2


# Attributes


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("n" * 64, "t" * 256, "t" * 256),
        ("ok", 2**63 - 1, 2**63 - 1),
        ("ok", -(2**63), -(2**63)),
        ("ok", 2.0, 2),
        ("ok", -2.0, -2),
        ("ok", float(2**53 - 1), 2**53 - 1),
        ("ok", float(2**53), float(2**53)),
        ("ok", -float(2**53), -float(2**53)),
        ("ok", 2.5, 2.5),
        ("ok", True, True),
        ("ok", "", ""),
    ],
)
def test_attribute_is_kept_as_it_is_looked_up(name, value, kept):
    """A float without a fraction is the integer, up to where floats are exact; the bounds themselves are kept."""
    found_value = checked_attributes({name: value})[name]
    assert (found_value, type(found_value)) == (kept, type(kept))
    assert scalar_of(attribute_text(kept)) == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("n" * 65, 1), ("", 1), ("a b", 1), ("a\tb", 1), ("a=b", 1), ("a@b", 1), ("half \ud800", 1), (7, 1)),
        *(("ok", "t" * 257), ("ok", "half \ud800"), ("ok", "nul \0"), ("ok", 2**63), ("ok", -(2**63) - 1)),
        *(("ok", math.nan), ("ok", math.inf), ("ok", None), ("ok", [1]), ("ok", b"x")),
    ],
)
def test_attribute_that_could_not_be_found_again_is_refused(name, value):
    """The error names the attribute, or its name; a value of None only removes one."""
    with pytest.raises(PayloadError, match=r"attribute"):
        checked_attributes({name: value})
    assert checked_attributes({"ok": None}, removes=True) == {"ok": None}
    with pytest.raises(PayloadError, match="33 are given"):
        checked_attributes({f"n{number}": 1 for number in range(33)})
    assert len(checked_attributes({f"n{number}": 1 for number in range(32)})) == 32


def test_change_of_attributes_is_what_is_set_and_what_is_removed():
    """Values are JSON; a text that is no JSON scalar is itself."""
    assert changed_attributes({"a": 1, "b": None, "c": "x", "d": False}) == (
        {"a": "1", "c": '"x"', "d": "false"},
        ["b"],
    )
    assert [scalar_of(text) for text in ("1", "1.5", "true", '"1"', "[1]", "null", "x", "\ud800")] == [
        *(1, 1.5, True, "1", "[1]", "null", "x", "\ud800")
    ]


# Times, bounds and tokens


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        *(("90s", 90.0), ("15m", 900.0), ("12h", 43200.0), ("30d", 2592000.0), ("4w", 2419200.0)),
        *(("1y", 31536000.0), (" 1.5h ", 5400.0), (7, 7.0), (0, 0.0)),
    ],
)
def test_retention_takes_a_time_in_every_unit(duration, seconds):
    """Seconds, minutes, hours, days, weeks, years, or a number of seconds."""
    assert Retention({"failed": duration}).kept == {"failed": seconds}


@pytest.mark.parametrize("duration", ["", "s", "1.h", "1 h", "1hh", "1M", "-1s", "1e3s", True, -1, [1]])
def test_retention_of_no_time_is_refused(duration):
    """The error names the state, and what a time looks like."""
    words = " (seconds)" if not isinstance(duration, str) else f": {duration!r} is not a duration; write 90s, 15m, 12h"
    with pytest.raises(DefinitionError, match=re.escape(f"retention of 'failed'{words}")):
        Retention({"failed": duration})


def test_family_of_an_execution_is_all_of_its_branches_at_any_depth(journal):
    """An execution comes before its branches; others are not of its family."""
    deep = acceptance("p/g.a/h.b", parent="p/g.a")
    journal.enlist(DRIVER)
    journal.write(
        opening("p", "waiting.g", children=(acceptance("p/g.a", parent="p"), acceptance("p/g.b", parent="p")))
    )
    journal.write(opening("other", "executing.a", children=(deep,)))

    whole = [entry.saga_id for entry in with_branches(journal, found(journal, "p"))]

    assert whole == ["p", "p/g.b", "p/g.a", "p/g.a/h.b"]


@pytest.mark.parametrize("before", ["today", True, math.nan, [1]])
def test_time_that_is_none_is_refused(before):
    """SQLite would sort a text after all numbers, and delete everything."""
    with pytest.raises(DefinitionError, match=r"before=.* is not a time"):
        check_bounds(before, None)
    for limit in ("1", 1.0, True):
        with pytest.raises(DefinitionError, match="limit"):
            check_bounds(None, limit)
    for fine in (None, 1, 1.5, math.inf, -math.inf):
        check_bounds(fine, 1)


def test_tokens_fit_into_every_database_and_differ():
    """A token is a number of 63 bits, and none comes twice."""
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(0 <= token < 2**63 for token in tokens)
    assert max(tokens) > 2**62


@pytest.mark.parametrize(
    ("number", "kind", "is_refused"), [(5, "signal", False), (6, "signal", True), (6, "cancel", False)]
)
def test_only_an_unread_item_of_the_name_stops_a_commit(number, kind, is_refused):
    """What the driver has seen, and what has another kind, does not."""
    commit = Commit("x", (), unless_mail=("signal", "paid"), seen=5)
    mail = [InboxItem(kind, "paid", number=number), InboxItem("signal", "sent", number=9)]
    if is_refused:
        with pytest.raises(InboxChangedError, match="'x' has an unread"):
            check_unless_mail(commit, mail)
    else:
        check_unless_mail(commit, mail)


# Drivers


@pytest.mark.parametrize(
    ("changes", "exists"),
    [
        ({}, True),
        ({"id": "engine:d", "pid": 0}, True),
        ({"started": "1"}, False),
        ({"started": ""}, None),
        ({"boot_id": "another"}, None),
        ({"boot_id": ""}, None),
        ({"pid_namespace": "another"}, None),
        ({"pid": 2**22 + 1}, False),
        ({"pid": os.getppid(), "started": "1"}, False),
    ],
    ids=["this", "engine", "reused pid", "no start", "boot", "no boot", "namespace", "no process", "other process"],
)
@linux
def test_driver_is_alive_as_long_as_its_process_or_else_its_lease(changes, exists):
    """A process that can be seen decides; otherwise the lease does, to the second, and after a week it is forgotten."""
    week = 7 * 24 * 3600.0
    driver = msgspec.structs.replace(this_driver(), **changes)
    assert process_exists(driver) is exists
    assert is_alive(driver, 1000.0, 30.0, 1030.0) is (exists is not False)
    assert is_alive(driver, 1000.0, 30.0, 1030.5) is (exists is True)
    assert is_forgettable(driver, 1000.0, 1000.0 + week) is (exists is False)
    assert is_forgettable(driver, 1000.0, 1001.0 + week) is (exists is not True)


@linux
def test_process_that_has_ended_is_dead_before_its_parent_has_noticed():
    """A zombie has a number and a start; it will never run again."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    driver = msgspec.structs.replace(this_driver(), pid=process.pid, started=process_start_time(str(process.pid)))
    assert driver.started == process_start_time(str(process.pid))
    assert process_exists(driver) is True
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start_time(str(process.pid)) == ""
    assert process_exists(driver) is False
    process.communicate()
    assert process_start_time(str(process.pid)) is None
    assert process_exists(driver) is False


@linux
def test_driver_of_a_process_names_that_process():
    """Also in a forked child: what the parent has looked up about itself is not taken over."""
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        return len(calls)

    once = OncePerProcess(count)
    assert [once(), once(), len(calls)] == [1, 1, 1]
    driver = this_driver()
    assert (driver.pid, driver.started) == (os.getpid(), process_start_time(str(os.getpid())))
    assert (driver.boot_id, driver.host) == (
        Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        socket.gethostname(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests may have left threads
        child = os.fork()
    if child == 0:
        anew = this_driver()
        right = anew.started == process_start_time(str(os.getpid())) and anew.pid == os.getpid()
        os._exit(0 if right and [once(), once(), len(calls)] == [2, 2, 2] else 1)
    assert os.waitpid(child, 0)[1] == 0
    once.cache_clear()
    assert once() == 2


def test_driver_without_a_process_is_kept_for_a_week():
    """Nothing is known of it but its lease."""
    driver = Driver("d")
    assert process_exists(driver) is None
    assert [is_alive(driver, 1000.0, 30.0, now) for now in (1030.0, 1030.5)] == [True, False]


def test_driver_is_shown_in_words():
    """An engine by its name, a process by its number and its machine."""
    shown = [str(Driver("d", "shop-1", pid=42)), str(Driver("d", pid=42)), str(Driver("engine:x", "Restate"))]
    assert shown == ["process 42 on shop-1", "process 42 on this machine", "the engine Restate"]


# Cursors


@pytest.mark.parametrize(("cursor", "count", "numbers"), [("7", 1, [7]), ("7:8:0", 3, [7, 8, 0]), ("0", 1, [0])])
def test_cursor_of_a_follower_is_its_numbers(cursor, count, numbers):
    """As many as the journal needs; the first is the number of the change."""
    assert places_in(cursor, count) == numbers
    assert number_in(cursor) == numbers[0]
    assert number_in("") == 0
    for wrong in (
        f"{cursor}:1",
        "",
        "x",
        "-1",
        f":{cursor}",
        f"{cursor[:-1]}x",
        *(["1:x:2", "x:1:2"] if count > 1 else []),
    ):
        with pytest.raises(JournalError, match="is not a cursor of this journal"):
            places_in(wrong, count)


def test_cursor_of_a_listing_is_a_number_that_fits():
    """18 digits fit into every database; anything else was not given by a listing."""
    assert place_of_cursor("9" * 18) == 10**18 - 1
    for wrong in ("9" * 19, "", "x", "-1", "1.5", 7, None):
        with pytest.raises(JournalError, match="no cursor"):
            place_of_cursor(wrong)  # type: ignore[arg-type]


# Names of journals


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        *(("sagas.db", "sagas.db"), (":memory:", ":memory:"), ("sqlite://", ":memory:"), ("sqlite:///", ":memory:")),
        *(("sqlite:///:memory:", ":memory:"), ("sqlite:///sub/sagas.db", "sub/sagas.db")),
        ("sqlite:////var/lib/sagas.db", "/var/lib/sagas.db"),
    ],
)
def test_path_of_a_journal_is_read_from_its_url(spec, path):
    """Three slashes are a file of this directory, four are from the root."""
    assert path_of(spec) == path
    assert not is_postgres(spec)


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("sagas.db", "sagas.db"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("postgresql://app:secret@db/shop", "postgresql://app@db/shop"),
        ("postgres://app@db/shop", "postgres://app@db/shop"),
        ("postgresql://db/shop?password=secret&x=1", "postgresql://db/shop&x=1"),
        ("mysql://a:b@c@host/db", "mysql://a@host/db"),
    ],
)
def test_password_is_not_shown(spec, shown):
    """Neither that of the user nor that of the query is in a message."""
    assert without_password(spec) == shown
    assert is_postgres(spec) is spec.startswith("postgres")


def test_journal_that_cannot_be_opened_is_named_without_its_password():
    """A wrong scheme, a missing slash, an empty name, and an object that is no journal."""
    for wrong, words in {
        "mysql://app:secret@db": r"journal='mysql://app@db': there is no journal for 'mysql://'",
        "sqlite://sagas.db": r"three slashes, or four from the root: 'sqlite:///sagas.db'",
        "": "names no file",
        7: "journal=7 is not a journal",
    }.items():
        with pytest.raises(DefinitionError, match=words):
            open_journal(wrong)  # type: ignore[arg-type]


# Errors of SQLite


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            sqlite3.SQLITE_BUSY,
            "another process kept it locked for longer than 1.5 seconds (X). Nothing was written; try",
        ),
        (sqlite3.SQLITE_LOCKED, "a table in it is locked (X). Nothing was written; try again"),
        (sqlite3.SQLITE_FULL, "the disk is full, or a limit of its size is reached (X)"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "the file, its directory or its file system is read-only for this user (X)"),
        (sqlite3.SQLITE_PERM, "this user may not (X). Nothing was written; mend the permissions"),
        (sqlite3.SQLITE_AUTH, "this user may not (X). Nothing was written; mend the permissions"),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, "(-wal, -shm), cannot be opened (X)"),
        (sqlite3.SQLITE_IOERR_FSYNC, "the disk failed, or is full (X)"),
        (sqlite3.SQLITE_CORRUPT, "the file is damaged (X). Nothing was written; restore it from a backup"),
        (sqlite3.SQLITE_NOTADB, "it is not a SQLite file, or its beginning was overwritten (X)"),
        (sqlite3.SQLITE_NOMEM, "memory is short (X)"),
        (sqlite3.SQLITE_TOOBIG, "a value is larger than SQLite takes (X)"),
        (sqlite3.SQLITE_MISUSE, "what SQLite said (X). Nothing was written; this should not happen: please report it"),
    ],
)
def test_error_of_sqlite_says_what_happened_and_what_to_do(code, words):
    """Whatever SQLite adds to a code, the message is that of its kind; nothing was written, or the next move begins."""
    error = sqlite3.OperationalError("what SQLite said")
    error.sqlite_errorcode, error.sqlite_errorname = code, "X"

    written, read = (to_journal_error(error, "sagas.db", doing, 1.5) for doing in ("written", "read"))

    assert words in str(written)
    assert str(written).startswith("the journal 'sagas.db' could not be written: ")
    what, _, move = str(written).partition(". Nothing was written; ")
    assert str(read) == what.replace("written", "read", 1) + ". " + move[0].upper() + move[1:]
    assert written.__cause__ is error
    assert is_busy(error) is (code == sqlite3.SQLITE_BUSY)
    assert is_statement_error(error) is (code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_TOOBIG))


@pytest.mark.parametrize(
    ("error", "words", "of_one_statement"),
    [
        (msgspec.DecodeError("truncated"), "the file is damaged (DecodeError). Restore it", True),
        (sqlite3.OperationalError("Could not decode to UTF-8 column"), "the file is damaged (OperationalError)", True),
        (OverflowError("too large"), "too large (OverflowError). This should not happen", True),
        (sqlite3.ProgrammingError("closed"), "closed (ProgrammingError). This should not happen", True),
    ],
)
def test_error_without_a_code_is_worded_by_its_kind(error, words, of_one_statement):
    """A row that cannot be decoded is damage. Any other error is reported unchanged."""
    assert words in str(to_journal_error(error, "sagas.db", "read"))
    assert is_statement_error(error) is of_one_statement
    assert not is_busy(error)


# Sealed texts


def test_stored_text_is_sealed_under_the_first_key_once():
    """A plain text is sealed, one under another key is sealed again, and one under the first key stays as it is."""
    old, new, both = (AesGcm({name: KEYS[name] for name in names}) for names in (("old",), ("new",), ("new", "old")))
    under_old, under_new = str(seal("text", old, "about")), str(seal("text", new, "about"))
    assert (key_of(under_old), key_of(f'{{"sealed":"{under_new}"}}'), key_of("sealed:" + "k" * 100)) == (
        "old",
        "new",
        "k" * 80,
    )
    again = reseal(under_old, both, "about", "new")
    assert key_of(str(again)) == "new"
    assert unseal(again, new, "about") == unseal(reseal("text", both, "about", "new"), new, "about") == "text"
    assert reseal(under_new, both, "about", "new") == under_new
    assert reseal(None, both, "about", "new") is None
    marked = seal("sealed:odd", None, "about")
    assert unseal(reseal(marked, both, "about", "new"), new, "about") == "sealed:odd"
    with pytest.raises(CannotOpenError, match="the key 'old' is missing"):
        reseal(under_old, new, "about", "new")


def test_details_of_a_record_are_sealed_under_the_first_key_once():
    """Value, error and reason are sealed together; the type of the error, and every other field, stay readable."""
    old, new, both = (AesGcm({name: KEYS[name] for name in names}) for names in (("old",), ("new",), ("new", "old")))
    plain = '{"step":"a","value":{"n":1},"error":["ValueError","m","t"],"reason":"r","actor":"ann"}'
    sealed = seal_details(plain, old, "x/1")
    kept = msgspec.json.decode(sealed)
    assert (kept["step"], kept["error"], kept["actor"]) == ("a", ["ValueError", "", ""], "ann")
    assert not {"value", "reason"} & set(kept)
    again = reseal_details(sealed, both, "x/1", "new")
    assert key_of(again) == "new"
    opened = open_details(again, new, "x/1")
    assert (opened.error, bytes(opened.value), opened.reason) == (("ValueError", "m", "t"), b'{"n":1}', "r")
    assert reseal_details(again, both, "x/1", "new") == again
    assert key_of(reseal_details(plain, both, "x/1", "new")) == "new"
    assert seal_details('{"step":"a"}', new, "x/1") == '{"step":"a"}'
    for part in ('{"value":1}', '{"error":["E","m","t"]}', '{"reason":"r"}'):
        assert key_of(seal_details(part, new, "x/1")) == "new"
    with pytest.raises(CannotOpenError, match="the key 'old' is missing"):
        reseal_details(sealed, new, "x/1", "new")


def test_sealed_value_says_which_key_is_missing():
    """Without a cipher, and with another one."""
    value = msgspec.Raw(b"sealed:new:abc")
    assert is_sealed(value)
    assert not is_sealed(b"sealed:new:abc")
    assert not is_sealed(msgspec.Raw(b'"sealed:"'))
    assert why_sealed(value, None).startswith("is sealed with the key 'new'. Give the journal its cipher")
    assert "cannot open it: the key 'new' is missing" in why_sealed(value, AesGcm({"old": KEYS["old"]}))
    assert "the key 'n\ufffd\ufffdw'" in why_sealed(msgspec.Raw("sealed:nüw:abc".encode()), None)
    assert f"the key '{'k' * 80}'." in why_sealed(msgspec.Raw(b"sealed:" + b"k" * 100), None)


# What cannot be driven


@pytest.mark.parametrize(
    ("why", "field"),
    [
        ("Expected `int`, got `str` - at `$.lines[0].count`", "$.lines[0].count"),
        ("Object missing required field `currency` - at `$.price`", "$.price.currency"),
        ("Object missing required field `currency`", "$.currency"),
        ("truncated", "$"),
    ],
)
def test_fault_names_the_field(why, field):
    """From the words of the decoder, or of the error itself."""
    error = PayloadError("the payload cannot be read")
    error.type = "Order"
    error.__cause__ = ValueError(why)
    assert Fault.of(error) == Fault("Order", field, "the payload cannot be read")
    assert Fault.of(JournalError(why)) == Fault("", field, why)


def test_execution_is_undrivable_for_a_fault_or_an_unknown_definition(journal):
    """Unless it has ended, or its owner lives; if no driver knows anything, only faults count."""
    journal.enlist(DRIVER)
    opened = {"fingerprint": "unknown"}
    journal.write(opening("held", "executing.a", opened=opened))
    journal.write(opening("free", driver=None, opened=opened))
    journal.write(opening("ended", "succeeded", held=False, opened=opened))
    journal.write(opening("faulty", driver=None))
    for saga_id in ("faulty", "ended"):
        journal.note_fault(saga_id, 1, Fault("Order", "$.n", "no number"))

    def undrivable() -> dict[str, Any]:
        look = Drivability(journal)
        entries = {entry.saga_id: entry for entry in journal.entries()}
        return {name: (look.why_not(entry), look.is_undrivable(entry)) for name, entry in entries.items()}

    nobody, fault = (
        "no living driver knows its definition",
        "a driver could not decode it: no number (type Order, field $.n)",
    )
    assert undrivable() == {
        "held": (None, False),
        "ended": (None, False),
        "free": (nobody, False),
        "faulty": (fault, True),
    }
    journal.enlist(Driver("d-2", definitions=(Definition("f", "{}"),)))
    assert undrivable()["free"] == (nobody, True)
    journal.enlist(Driver("d-3", definitions=(Definition("unknown", "{}"),)))
    assert undrivable()["free"] == (None, False)
    assert undrivable()["faulty"] == (fault, True)
    assert "fsm-mediator abandon x/1 --reason" in next_moves("x/1")


def test_alert_is_acknowledged_until_the_execution_moves(journal):
    """A failed attempt that is repeated is no move; an ended or unknown execution has no alert to acknowledge."""
    journal.enlist(DRIVER)
    journal.write(opening("x", "executing.a"))
    entry = found(journal, "x")
    assert acknowledgement_of(journal, "x") is None

    first = acknowledge(journal, entry, "known", "ann", 7.0)
    assert (first.kind, first.saga_id, first.value) == ("acknowledged", "x", {"state": "executing.a", "seq": 1})
    kept = acknowledgement_of(journal, "x")
    assert kept is not None
    assert (kept.actor, kept.reason, kept.at) == ("ann", "known", 7.0)
    errored = msgspec.structs.replace(record("x", 2, "retrying.a"), event="errored")
    journal.write(Commit("x", (errored,), "d-1"))
    assert acknowledgement_of(journal, "x") == kept
    journal.write(going_on("x", 3))
    assert acknowledgement_of(journal, "x") is None
    acknowledge(journal, found(journal, "x"), None, None, 8.0)
    assert acknowledgement_of(journal, "x") is not None

    journal.write(ending("x", 4))
    with pytest.raises(RefusedError, match="has ended as 'succeeded': it has no alerts"):
        acknowledge(journal, found(journal, "x"), None, None, 9.0)
    unknown = msgspec.structs.replace(entry, acceptance=acceptance("unknown"))
    with pytest.raises(UnknownExecutionError, match="unknown"):
        acknowledge(journal, unknown, None, None, 9.0)


# What is found


def test_failure_of_an_execution_is_the_last_part_that_was_given_up():
    """Without one, it is the last error; the step is where the execution is, or where it failed."""
    failed = [
        msgspec.structs.replace(record("x", seq, step=step, error=error and Failure(error)), event=event)
        for seq, (event, step, error) in enumerate(
            [("errored", "a", "Early"), ("rejected", "b", "Given"), ("executed", "c", None), ("errored", "d", "Late")],
            1,
        )
    ]
    assert failure_of("failed", failed) == ("Given", "b")
    assert failure_of("failed", failed[:1]) == ("Early", "a")
    assert failure_of("stuck.z", failed) == ("Given", "z")
    assert failure_of("stuck.z", []) == (None, "z")
    assert failure_of("failed", []) == (None, None)


@pytest.mark.parametrize(
    ("states", "may_have_ended", "failed_alone", "phases"),
    [
        ((), True, False, []),
        (("failed",), True, True, ["failed"]),
        (("failed", "succeeded"), True, False, ["failed", "succeeded"]),
        (("stuck",), False, False, ["stuck", "stuck_executing"]),
        (("stuck_executing", "succeeded"), True, False, ["stuck_executing", "succeeded"]),
    ],
)
def test_filter_of_states_says_what_can_fit(states, may_have_ended, failed_alone, phases):
    """A journal looks only where something can be."""
    chosen = Filter(states=states)
    assert (chosen.may_have_ended, chosen.failed_alone, chosen.phases) == (may_have_ended, failed_alone, phases)


@pytest.mark.parametrize(("levels", "is_deeper"), [(3, True), (4, False), (5, False)])
def test_depth_is_counted_to_the_level(levels, is_deeper):
    """Lists and objects count alike, and brackets in texts do not count."""
    assert is_nested_deeper(b'[{"a]":[{"[[[[[":1}]}]', levels) is is_deeper
    assert is_nested_deeper(b"[[],[],[],[],[[[[]]]]]", levels + 1) is is_deeper


# What a journal in memory forgets


def test_tokens_of_notes_and_prunings_are_remembered_up_to_a_number(monkeypatch):
    """A repeated call is known by its token as long as it is one of the last; an older one is done again."""
    monkeypatch.setattr(memory_notes, "TOKENS_KEPT", 2)
    monkeypatch.setattr(memory_table, "TOKENS_KEPT", 2)
    kept = MemoryJournal()
    kept.enlist(DRIVER)
    note = Note("seen", saga="s")
    assert [kept.add_note(note, token=token) for token in (1, 2, 1, 2, 3, 2, 1)] == [1, 2, 1, 2, 3, 2, 4]
    assert [kept.add_note(note) for _ in range(2)] == [5, 6]

    deleted: list[int] = []
    for token in (7, 8, 7, 9, 7):
        kept.write(opening(f"x-{len(deleted)}", "failed", held=False))
        deleted.append(kept.prune(math.inf, token=token))
    assert deleted == [1, 1, 2, 1, 1]


def test_answers_are_kept_for_a_day(journal):
    """An answer that is a day old when another is written is still there, and a moment later it is not."""
    journal.enlist(DRIVER)
    journal.write(opening("x", "executing.a"))
    day = 24 * 3600.0
    assert day == ANSWERS_KEPT
    for number, (name, at) in enumerate((("old", 10.0), ("day", 20.0), ("new", 20.0 + day)), 1):
        journal.write(Commit("x", (), "d-1", token=number, answers=(VerbAnswer(number, name, None, "no", at),)))
    assert [journal.answer(name) is not None for name in ("old", "day", "new")] == [False, True, True]
    journal.forget_answer("day")
    assert journal.answer("day") is None
    journal.forget_answer("day")


def test_planned_branches_are_those_that_were_neither_created_nor_ended(journal):
    """For ten planned branches, the journal returns where the branches that are not created yet begin and end."""
    journal.enlist(DRIVER)
    names = [f"x/g.{number}" for number in range(6)]
    branches = tuple(
        acceptance(name, number, parent="x", successor=names[number + 2] if number < 4 else None)
        for number, name in enumerate(names)
    )
    journal.write(opening("x", "waiting.g", plan=Plan(branches)))
    assert journal.planned("x") == Planned(0, 6, 2, None)
    steps = [((0, 3), Planned(3, 6, 3, None)), ((0, 3), Planned(3, 6, 3, None)), ((3, 4), Planned(4, 6, 4, None))]
    for number, (creates, left) in enumerate(steps, 1):
        journal.write(Commit("x", (), "d-1", token=number, plan=Plan(creates=creates)))
        assert journal.planned("x") == left
    assert [(entry.saga_id, entry.wake_at) for entry in journal.entries(parent="x")] == [
        *((names[3], math.inf), (names[2], math.inf), (names[1], None), (names[0], None)),
    ]
    journal.write(Commit("x", (), "d-1", token=9, plan=Plan(ends=Failure("E", "over"))))
    journal.write(Commit("x", (), "d-1", token=10, plan=Plan(creates=(4, 6))))
    assert journal.planned("x") == Planned(4, 6, 4, Failure("E", "over"))
    assert len(list(journal.entries(parent="x"))) == 4
    assert journal.planned("unknown") is None
    assert journal.count_branches("x") == {"pending": 4}


def test_lease_is_renewed_after_a_third_of_it(tmp_path):
    """A driver that beats more often writes nothing; one whose clock was set back renews at once."""
    clock = Clock()
    kept = SQLiteJournal(tmp_path / "sagas.db", lease=30.0, clock=clock, durability="normal")
    kept.enlist(DRIVER)
    last = []
    for now in (1009.5, 1010.0, 1019.5, 1020.0, 900.0):
        clock.now = now
        kept.beat("d-1")
        last += rows(kept, "SELECT beat_at FROM drivers")
    assert last == [(1000.0,), (1010.0,), (1010.0,), (1020.0,), (900.0,)]
    assert (kept.heartbeat, SQLiteJournal(":memory:", lease=1.5).heartbeat) == (1.0, 0.5)
    kept.close()


class Lacking:
    """A journal of somebody's own, without one of the methods."""

    def __init__(self, inner: Any, name: str) -> None:
        self.inner = inner
        self.name = name

    def __getattr__(self, name: str) -> Any:
        if name == self.name:
            raise AttributeError(name)
        return getattr(self.inner, name)


@pytest.mark.parametrize("name", ["write", "write_all", "claim", "heartbeat", "codec", "entries", "close"])
def test_object_that_lacks_a_member_of_a_journal_is_none(name):
    """Every required member is checked. Members that were added later are not required."""
    assert not is_journal(Lacking(MemoryJournal(), name))
    for optional in ("claim_some", "forgotten", "check", "turns"):
        assert is_journal(Lacking(MemoryJournal(), optional))


@pytest.mark.parametrize("name", ["find_all", "claim_all", "records_of_all"])
def test_journal_that_lacks_a_method_for_many_executions_is_used_one_by_one(tmp_path, name):
    """All three methods are needed. The journal is a journal without them, too."""
    kept = SQLiteJournal(tmp_path / "sagas.db")
    lacking: Any = Lacking(kept, name)
    assert many_of(lacking) is None
    assert is_journal(lacking)
    assert many_of(kept) is kept
    assert many_of(MemoryJournal()) is None
    kept.close()


@pytest.mark.parametrize("name", ["answer", "forget_answer", "known", "shape", "note_fault", "faults"])
def test_journal_that_lacks_a_method_for_operators_takes_no_verbs(name):
    """The error names what a journal needs; nothing is undrivable there."""
    lacking: Any = Lacking(MemoryJournal(), name)
    assert not has_operators(lacking)
    with pytest.raises(JournalError, match=f"lacks one of .*{name}"):
        for_operators(lacking)
    assert (Drivability(lacking).known, Drivability(lacking).faults) == (None, {})
    assert has_operators(MemoryJournal())


@pytest.mark.parametrize("name", ["search", "count", "count_after", "attributes"])
def test_journal_that_lacks_a_method_for_finding_lists_by_state_and_saga(name):
    """The error names what a journal needs."""
    lacking = Lacking(MemoryJournal(), name)
    assert not finds(lacking)
    with pytest.raises(JournalError, match=f"lacks one of .*{name}"):
        for_finding(lacking)
    assert finds(MemoryJournal())


def test_attributes_of_a_deleted_execution_are_gone(journal):
    """Neither is it found by them, nor are they listed."""
    journal.enlist(DRIVER)
    notes = (Note("attributes", "x", value={"tenant": "acme"}),)
    journal.write(opening("x", "failed", held=False, notes=notes))
    journal.write(opening("y", "failed", held=False))
    assert journal.attributes(["x", "y", "unknown"]) == {"x": {"tenant": "acme"}}
    assert journal.prune_these(["x"], math.inf) == 1
    assert journal.attributes(["x", "y"]) == {}


def test_execution_is_called_by_what_no_driver_has_seen(journal):
    """The number of items is always told; only an unseen item of an execution without an owner, or of one, calls."""
    journal.enlist(DRIVER)
    journal.write(opening("begins", "executing.a", driver=None))
    journal.write(opening("held", "executing.a"))
    journal.write(opening("parks", "executing.a"))
    journal.write(opening("stuck", "executing.a"))

    def told() -> dict[str, tuple[int, bool]]:
        return {entry.saga_id: (entry.mail, entry.called) for entry in journal.entries()}

    assert set(told().values()) == {(0, False)}
    for saga_id in ("held", "parks", "stuck"):
        journal.post(saga_id, InboxItem("signal", "paid"))
    assert told() == {"begins": (0, False), "held": (1, True), "parks": (1, True), "stuck": (1, True)}
    (item,) = journal.inbox("parks")
    journal.write(going_on("parks", 2, "waiting.w", held=False, seen=item.number))
    journal.write(going_on("stuck", 2, "stuck.a", held=False))
    assert told() == {"begins": (0, False), "held": (1, True), "parks": (1, False), "stuck": (1, False)}
    journal.post("parks", InboxItem("signal", "sent"))
    journal.post("stuck", InboxItem("retry", "v-1"))
    assert told() == {"begins": (0, False), "held": (1, True), "parks": (2, True), "stuck": (2, True)}
    assert sorted(journal.claimable(0.0, 9)) == ["begins", "parks", "stuck"]
    assert journal.claimable(0.0, 2) == ["begins", "parks"]
    assert journal.claimable(0.0, 0) == []


@pytest.mark.parametrize("after_a_full_batch", [False, True])
def test_driver_that_nobody_enlisted_can_do_nothing(journal, after_a_full_batch):
    """It neither renews a lease nor claims nor opens; a driver that was dismissed is as unknown."""
    journal.enlist(DRIVER)
    journal.enlist(Driver("d-2"))
    journal.write(opening("free", driver=None))
    journal.write(opening("other", driver=None))
    if after_a_full_batch:
        assert [entry.saga_id for entry in journal.claim_some("d-1", 0.0, 1)] == ["free"]
    journal.dismiss("d-2")
    for driver_id in ("nobody", "d-2"):
        for use in (
            lambda driver_id=driver_id: journal.beat(driver_id),
            lambda driver_id=driver_id: journal.claim_some(driver_id, 0.0, 9),
            lambda driver_id=driver_id: journal.claim("other", driver_id),
            lambda driver_id=driver_id: journal.write(opening("new", "executing.a", driver=driver_id)),
        ):
            with pytest.raises(LeaseLostError, match="never enlisted, or was dismissed"):
                use()
        journal.dismiss(driver_id)
        assert journal.turns(driver_id) == []
    assert found(journal, "other").driver is None
    assert journal.find("new") is None
    with pytest.raises(UnknownExecutionError, match="'unknown'"):
        journal.claim("unknown", "d-1")
    journal.release("unknown", 1)
    assert not journal.post("unknown", InboxItem("cancel"))


def test_what_is_claimed_is_chosen_by_kind_and_then_by_age(journal):
    """First what is due now, then what is due by its time, then what is pending; some are skipped, some are left."""
    journal.enlist(DRIVER)
    journal.write(opening("pending", driver=None))
    for saga_id, wake_at in (("later", 20.0), ("due-2", 10.0), ("due-1", 9.0)):
        journal.write(opening(saga_id, "retrying.a", held=False, wake_at=wake_at))
    journal.write(opening("now", "executing.a", held=False))
    journal.write(opening("skipped", "executing.a", held=False, opened={"fingerprint": "g"}))
    journal.write(opening("left", "executing.a", held=False))
    assert journal.next_wake() == 9.0
    assert journal.claimable(10.0, 9, ("g",)) == ["pending", "due-2", "due-1", "now", "left"]

    claimed = [entry.saga_id for entry in journal.claim_some("d-1", 10.0, 3, ("g",), ("left",))]
    claimed += [entry.saga_id for entry in journal.claim_some("d-1", 10.0, 9, ("g",), ("left",))]

    assert claimed == ["now", "due-1", "due-2", "pending"]
    assert {entry.saga_id for entry in journal.entries() if entry.driver is not None} == set(claimed)
    assert (journal.next_wake(), journal.claimable(9.9, 9)) == (20.0, ["skipped", "left"])
    assert journal.beat("d-1", everything=True) == ("pending", "due-2", "due-1", "now")
    assert journal.beat("d-1") == ()


def test_signal_past_the_end_of_its_wait_is_refused_by_the_clock_of_the_journal(journal):
    """At the end itself it is over; a signal for another wait, or without a clock, is taken, with the clock's time."""
    journal.enlist(DRIVER)
    waits = msgspec.structs.replace(record("x", 1, "waiting.paid"), due_at=10.0)
    journal.write(Commit("x", (waits,), "d-1", held=False, acceptance=acceptance("x"), wake_at=10.0))

    assert not journal.post("x", InboxItem("signal", "paid", at=1.0), clock=lambda: 10.0, token=1)
    assert journal.inbox("x") == ()
    assert journal.post("x", InboxItem("signal", "paid", at=1.0), clock=lambda: 9.5, token=2)
    assert journal.post("x", InboxItem("signal", "sent", at=1.0), clock=lambda: 11.0, token=3)
    assert journal.post("x", InboxItem("signal", "sent", at=1.0), clock=lambda: 12.0, token=3)  # a repetition
    assert journal.post("x", InboxItem("signal", "paid", at=13.0))
    assert journal.post("x", InboxItem("retry", "v-1", at=1.0), clock=lambda: 14.0)
    for more in ({"clock": lambda: 15.0}, {"token": 4}, {"token": 5}, {}):
        assert journal.post("x", InboxItem("retry", "v-1", at=1.0), **more)  # a verb is known by its name
    assert [(item.name, item.at) for item in journal.inbox("x")] == [
        *(("paid", 9.5), ("sent", 11.0), ("paid", 13.0), ("v-1", 14.0)),
    ]
    numbers = [item.number for item in journal.inbox("x")]
    assert numbers == sorted(set(numbers))
    assert [item.number for item in journal.inbox_after("x", numbers[1])] == numbers[2:]
    assert journal.inbox_after("x", numbers[-1]) == journal.inbox_after("unknown", 0) == ()
