"""Lines of exports and archives: every field of an execution is there, and its texts are hidden or sealed."""

from __future__ import annotations

import json
import math
from contextlib import closing
from typing import Any

import msgspec
import pytest

from fsm_mediator import AesGcm, JournalError, MemoryJournal, SQLiteJournal
from fsm_mediator.journal.archive import ENDING, Archive, ArchivedExecution, archived_page, read_lines
from fsm_mediator.journal.lines import Lines, hide_reason, hide_texts, plain
from fsm_mediator.journal.notes import Note
from fsm_mediator.journal.protocol import Commit, Driver
from fsm_mediator.journal.sealing import open_secrets, unseal
from fsm_mediator.records import Failure, InboxItem
from fsm_mediator.redaction import HIDDEN, Redaction
from tests.commits import acceptance, found, opening, record
from tests.drivers import journal
from tests.secrets_app import KEYS, SECRET
from tests.test_secrets import fill

__all__ = ["journal"]

NAMES = ("payload", "value", "message", "traceback", "reason")


def line_of(lines: Lines, kept: Any, saga_id: str = "o-1") -> dict[str, Any]:
    """The line of one execution, as a reader of the file gets it."""
    (line,) = lines.of(kept, [found(kept, saga_id)])
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(line))
    return decoded


def expected(text: str, traceback: str, planned: str, owner: dict[str, Any]) -> dict[str, Any]:
    """The line of an execution that `fill` has filled, if each text that a user wrote is shown as *text*."""
    nothing = dict.fromkeys(("step", "value", "error", "due_at", "reason", "actor", "children"))
    first = {"saga_id": "o-1", "saga": "s", "attempt": 0, "in_doubt": False, "abandoned": False, **nothing}
    error = {"type": "ValueError", "message": text, "traceback": traceback}
    item = {"kind": "signal", "value": text, "reason": text, "actor": None, "at": 4.0}
    note = {"saga": None, "step": None, "value": None, "actor": "ann", "at": 0.0}
    return {
        "saga_id": "o-1",
        "saga": "s",
        "version": "1",
        "fingerprint": "f",
        "state": "retrying.a",
        "accepted_at": 1.0,
        "changed_at": 3.0,
        "deadline_at": None,
        "parent": None,
        "records": 2,
        "wake_at": None,
        "dormant": False,
        "inbox": 2,
        "driver": owner,
        "attributes": {},
        "cursor": None,
        "payload": text,
        "mail": [{**item, "name": name, "number": number} for number, name in enumerate(("go", "on"), 1)],
        "history": [
            {**first, "seq": 1, "event": "start", "source": "pending", "target": "executing.a", "at": 2.0},
            {
                **first,
                "seq": 2,
                "event": "errored",
                "source": "executing.a",
                "target": "retrying.a",
                "at": 3.0,
                "step": "a",
                "attempt": 1,
                "value": text,
                "error": error,
                "reason": text,
            },
        ],
        "planned": {"first": 0, "end": 2, "dormant": 2, "ended": planned},
        "notes": [{**note, "kind": "hold", "saga_id": "o-1", "reason": text, "number": 1}],
    }


def test_line_of_an_execution_has_every_field(journal):
    """State, times, owner, inbox, records, planned branches and notes; every text is shown, or hidden by its name."""
    fill(journal, SECRET)
    owner = {"process": str(found(journal, "o-1").driver), "alive": True}
    shown = expected(SECRET, f"Traceback: {SECRET}", f"ValueError: {SECRET}", owner)
    hidden = expected(HIDDEN, HIDDEN, HIDDEN, owner)
    hidden["attributes"] = shown["attributes"] = {"tenant": "acme", "vip": True}
    attributes = Note("attributes", "o-1", value={"vip": True, "tenant": "acme"})
    number = journal.add_note(attributes)
    for line, text in ((shown, None), (hidden, HIDDEN)):
        value = attributes.value if text is None else text
        line["notes"].append({**line["notes"][0], "kind": "attributes", "value": value, "actor": None, "reason": None})
        line["notes"][1]["number"] = number

    assert line_of(Lines(), journal) == shown
    assert line_of(Lines(redaction=Redaction(NAMES)), journal) == hidden
    assert line_of(Lines(redaction=Redaction([f"/{SECRET}/"])), journal)["planned"]["ended"] == f"ValueError: {HIDDEN}"


@pytest.mark.parametrize("sealed", [False, True], ids=["a plain journal", "a sealed journal"])
@pytest.mark.parametrize("hides", [False, True], ids=["as it is", "hidden"])
def test_sealed_line_opens_to_what_it_would_have_shown(tmp_path, sealed, hides):
    """Each text is sealed for its own place, after it was hidden; an archive gives back records, notes and payload."""
    cipher = AesGcm(KEYS)
    with closing(SQLiteJournal(":memory:", cipher=cipher if sealed else None)) as kept:
        fill(kept, SECRET)
        redaction = Redaction(NAMES) if hides else Redaction()
        line = line_of(Lines(cipher, redaction), kept)
        path = tmp_path / f"export{ENDING}"
        path.write_bytes(json.dumps(line).encode())
        archived = ArchivedExecution(path, "o-1", cipher)
        first, second = archived.records("o-1")
        (note,) = archived.notes("o-1")
        original = kept.records("o-1")

    text, traceback = (HIDDEN, HIDDEN) if hides else (SECRET, f"Traceback: {SECRET}")
    assert SECRET not in json.dumps(line)
    assert json.dumps(line).count("sealed:new:") == 8
    for item in line["mail"]:
        about = f"o-1/inbox/{item['name']}"
        assert json.loads(str(unseal(item["sealed"], cipher, about))) == text == unseal(item["reason"], cipher, about)
        assert item["value"] is None
    assert unseal(line["planned"]["ended"], cipher, "o-1") == (HIDDEN if hides else f"ValueError: {SECRET}")
    value, error, reason = open_secrets(line["history"][1]["sealed"], cipher, "o-1/2")
    assert (json.loads(bytes(value)), error, reason) == (text, (text, traceback), text)
    assert line["history"][1]["error"] == {"type": "ValueError", "message": "", "traceback": ""}
    assert (line["history"][1]["value"], line["history"][1]["reason"], line["payload"]) == (None, None, None)
    assert "sealed" not in line["history"][0]  # it has no text to seal
    assert (first.event, first.value, first.error) == ("start", None, None)
    assert (second.event, second.attempt, second.reason, second.error) == (
        "errored",
        1,
        text,
        Failure("ValueError", text),
    )
    assert second.error is not None
    assert second.error.traceback == traceback
    assert plain(second.value) == text
    assert note.reason == text
    entry = archived.find("o-1")
    assert entry is not None
    assert plain(entry.acceptance.payload) == text
    if not hides:
        assert [first, second] == original


def test_execution_of_an_archive_is_the_one_that_was_archived(journal, tmp_path):
    """Its entry, its records and its branches are read from the file; a deadline, a parent and children are kept."""
    failure = Failure("shop.Declined", "no funds", "Traceback ...")
    children = record("o-1", 1, "waiting.g", children=("a", "b"))
    last = record(
        "o-1", 2, "failed", value={"n": [1]}, error=failure, in_doubt=True, due_at=7.5, reason="why", actor="ann"
    )
    opened = acceptance("o-1", {"order": 1}, deadline_at=99.5, version="2", fingerprint="g", at=1.5)
    branch = acceptance("o-1/g.a", {"n": 2}, parent="o-1")
    journal.enlist(Driver("d-1"))
    journal.write(Commit("o-1", (children, last), "d-1", held=False, acceptance=opened, children=(branch,)))
    journal.write(opening("o-11", "executing.a"))
    entries = list(journal.entries())
    path = Archive(tmp_path / "archive").add(journal, entries)

    archived = ArchivedExecution(path, "o-1/g.a")

    assert [entry.saga_id for entry in archived.entries()] == ["o-1", "o-1/g.a"]
    assert [entry.saga_id for entry in archived.entries(parent="o-1")] == ["o-1/g.a"]
    assert archived.find("o-11") is None
    for saga_id in ("o-1", "o-1/g.a"):
        kept, again = found(journal, saga_id), archived.find(saga_id)
        assert again is not None
        assert (again.state, again.changed_at, again.seq) == (kept.state, kept.changed_at, kept.seq)
        assert plain(again.acceptance.payload) == plain(kept.acceptance.payload)
        assert msgspec.structs.replace(again.acceptance, payload=None) == msgspec.structs.replace(
            kept.acceptance, payload=None
        )
        records = [(msgspec.structs.replace(each, value=None), plain(each.value)) for each in archived.records(saga_id)]
        assert records == [
            (msgspec.structs.replace(each, value=None), plain(each.value)) for each in journal.records(saga_id)
        ]
    assert [each.error.traceback for each in archived.records("o-1") if each.error is not None] == ["Traceback ..."]
    assert archived.inbox("o-1") == ()
    assert archived.notes("o-1") == []
    with pytest.raises(JournalError, match="can only be read"):
        archived.add_note(Note("hold", "o-1"))


def test_line_of_a_dormant_branch_and_of_one_that_is_due():
    """A branch that waits for its turn has no time; one that waits for a time has it. Neither has an owner."""
    kept = MemoryJournal()
    kept.enlist(Driver("d-1"))
    kept.write(opening("p", "waiting.g", dormant=(acceptance("p/g.a", parent="p"),)))
    kept.write(opening("x", "retrying.a", held=False, wake_at=9.5))

    lines = {saga_id: Lines().entry(found(kept, saga_id)) for saga_id in ("p/g.a", "x")}

    assert found(kept, "p/g.a").wake_at == math.inf
    assert {saga_id: (line["wake_at"], line["dormant"], line["driver"]) for saga_id, line in lines.items()} == {
        "p/g.a": (None, True, None),
        "x": (9.5, False, None),
    }
    assert (lines["p/g.a"]["parent"], lines["p/g.a"]["state"]) == ("p", "pending")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(None, None, id="none"),
        pytest.param([1, {"a": {2}}], [1, {"a": [2]}], id="an object"),
        pytest.param(msgspec.Raw(b'{"n": [1.5, null]}'), {"n": [1.5, None]}, id="encoded"),
        pytest.param(msgspec.Raw(b"sealed:new:abc"), "(sealed)", id="sealed"),
        pytest.param(msgspec.Raw(b'{"n":'), "(unreadable: Input data was truncated)", id="damaged"),
    ],
)
def test_value_is_shown_in_plain_words(value, shown):
    """A value that cannot be opened or decoded says so, and every other value is JSON."""
    assert plain(value) == shown


def test_secrets_of_records_and_notes_are_hidden_by_their_names():
    """Message, traceback and reason are hidden one by one; the type of an error stays."""
    failed = record("o-1", 1, error=Failure("ValueError", "m", "t"), reason="r")
    for name, texts in {
        "message": (HIDDEN, "t", "r"),
        "traceback": ("m", HIDDEN, "r"),
        "reason": ("m", "t", HIDDEN),
    }.items():
        hidden = hide_texts(Redaction([name]), failed)
        assert hidden.error is not None
        assert (hidden.error.message, hidden.error.traceback, hidden.reason) == texts
        assert hidden.error.type == "ValueError"
    assert hide_texts(Redaction(NAMES), record("o-1", 1)) == record("o-1", 1)
    note = Note("hold", "o-1", actor="ann", reason="r")
    assert hide_reason(Redaction(["reason"]), note) == msgspec.structs.replace(note, reason=HIDDEN)


def test_pages_of_an_archive_are_its_files_newest_first(tmp_path):
    """Each file is a page, with its newest line first; the oldest file ends the list."""
    kept = MemoryJournal()
    kept.enlist(Driver("d-1"))
    for saga_id in ("a", "b", "c"):
        kept.write(opening(saga_id, "succeeded", held=False))
        kept.post(saga_id, InboxItem("signal"))
    archive = Archive(tmp_path / "archive")
    for number, saga_ids in enumerate((("a",), ("b", "c"))):
        made = archive.add(kept, [found(kept, saga_id) for saga_id in saga_ids])
        made.rename(made.with_name(f"{number}{ENDING}"))
    (tmp_path / "archive" / f".2{ENDING}").write_bytes(b"half")

    newest, before = archived_page(tmp_path / "archive", None)
    oldest, end = archived_page(tmp_path / "archive", before)

    assert ([line["saga_id"] for line in newest], before) == (["c", "b"], f"1{ENDING}")
    assert ([line["saga_id"] for line in oldest], end) == (["a"], None)
    assert archived_page(tmp_path / "archive", f"0{ENDING}") == archived_page(tmp_path / "none", None) == ([], None)
    assert [json.loads(line)["saga_id"] for line in read_lines(tmp_path / "archive")] == ["a", "b", "c"]
