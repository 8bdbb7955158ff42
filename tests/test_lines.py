"""Lines of exports and archives: every field of an execution is there, and its texts are hidden or sealed."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import resource
import stat
from contextlib import closing
from pathlib import Path
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
from tests.commits import acceptance, found, in_a_write, opening, record
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
    assert line_of(Lines(redaction=Redaction([*NAMES, "type"])), journal) == hidden  # the type of an error stays
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
    """A branch that waits for its turn has no time. A branch that waits for a time has it. Neither has an owner."""
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


def test_each_text_of_a_record_is_sealed_without_the_others():
    """A value, an error or a reason alone is reason enough."""
    cipher = AesGcm(KEYS)
    texts: tuple[dict[str, Any], ...] = (
        {"value": SECRET},
        {"error": Failure("ValueError", SECRET)},
        {"reason": SECRET},
        {},
    )
    kept = MemoryJournal()
    kept.enlist(Driver("d-1"))
    records = tuple(record("o-1", number, **more) for number, more in enumerate(texts, 1))
    kept.write(Commit("o-1", records, "d-1", acceptance=acceptance("o-1")))

    lines = line_of(Lines(cipher), kept)["history"]

    assert ["sealed" in line for line in lines] == [True, True, True, False]
    assert SECRET not in json.dumps(lines)


def test_line_of_a_journal_without_its_key_stays_sealed():
    """What the journal could not open is written as it is kept; nothing of it is sealed a second time."""
    cipher = AesGcm(KEYS)
    with closing(SQLiteJournal(":memory:", cipher=cipher)) as kept:
        fill(kept, SECRET)
        kept.codec.cipher = None
        for lines in (Lines(), Lines(cipher)):
            line = line_of(lines, kept)
            assert (line["payload"], json.loads(bytes(open_secrets(line["sealed"], cipher, "o-1/0")[0]))) == (
                None,
                SECRET,
            )
            value, error, reason = open_secrets(line["history"][1]["sealed"], cipher, "o-1/2")
            assert (json.loads(bytes(value)), error, reason) == (SECRET, (SECRET, f"Traceback: {SECRET}"), SECRET)
            assert line["history"][1]["error"]["type"] == "ValueError"
            assert (line["history"][1]["value"], line["history"][1]["reason"]) == (None, None)
            item = line["mail"][0]
            assert json.loads(str(unseal(item["sealed"], cipher, "o-1/inbox/go"))) == SECRET
            assert unseal(item["reason"], cipher, "o-1/inbox/go") == SECRET
            assert unseal(line["notes"][0]["reason"], cipher, "o-1/note") == SECRET


# Files of an archive


def archived(folder: Any, *saga_ids: str, journal: Any = None) -> Any:
    """The file into which executions of a journal in memory are archived."""
    if journal is None:
        journal = MemoryJournal()
        journal.enlist(Driver("d-1"))
        for saga_id in saga_ids:
            journal.write(opening(saga_id, "succeeded", held=False))
    return Archive(folder).add(journal, [found(journal, saga_id) for saga_id in saga_ids])


def test_file_of_an_archive_is_on_the_disk_when_it_has_its_name(tmp_path, monkeypatch):
    """The whole content is synced before the file gets its name, and then the folder; nothing stays open."""
    synced: list[tuple[bool, int, list[str]]] = []
    sync = os.fsync
    folder = tmp_path / "a" / "b"

    def noted(file: int) -> None:
        status = os.fstat(file)
        names = sorted(each.name for each in folder.iterdir())
        synced.append((stat.S_ISDIR(status.st_mode), status.st_size, names))
        sync(file)

    before = len(list(Path("/dev/fd").iterdir()))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", noted)
        path = archived(folder, "o-1")

    assert len(list(Path("/dev/fd").iterdir())) == before
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{32}\.jsonl\.gz", path.name)
    assert [is_folder for is_folder, _, _ in synced] == [False, True]
    assert [names for _, _, names in synced] == [[f".{path.name}"], [path.name]]
    assert synced[0][1] == path.stat().st_size
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(folder.stat().st_mode)) == (0o600, 0o700)
    assert archived(folder, "o-2").parent == folder


def test_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    """A disk that is full, or a folder that is none: the error says why, and nothing half done stays."""
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"cannot be written: (File exists|Not a directory); nothing was deleted"):
        archived(tmp_path / "file", "o-1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(JournalError, match="cannot be written: File too large; nothing was deleted"):
            archived(tmp_path / "archive", "o-1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "archive").iterdir()) == []


def test_execution_whose_records_cannot_be_read_is_not_archived(tmp_path):
    """It would be deleted without its records; its line says what is wrong with them."""
    with closing(SQLiteJournal(":memory:")) as kept:
        kept.enlist(Driver("d-1"))
        kept.write(opening("o-1", "succeeded", held=False))
        in_a_write(kept, lambda cursor: cursor.execute("UPDATE records SET details = '{' WHERE seq = 1"))
        line = line_of(Lines(), kept)
        with pytest.raises(JournalError, match=r"record 1 cannot be read: .*; it is not archived"):
            archived(tmp_path / "archive", "o-1", journal=kept)
    assert "record 1 cannot be read" in line["unreadable"]
    assert line["history"] == []
    assert not (tmp_path / "archive").exists()


def test_archive_of_a_sealed_journal_is_sealed_with_its_cipher(tmp_path):
    """Nobody names the cipher: it is that of the journal."""
    cipher = AesGcm(KEYS)
    with closing(SQLiteJournal(":memory:", cipher=cipher)) as kept:
        fill(kept, SECRET)
        path = archived(tmp_path / "archive", "o-1", journal=kept)
    assert SECRET.encode() not in gzip.decompress(path.read_bytes())
    entry = ArchivedExecution(path, "o-1", cipher).find("o-1")
    assert entry is not None
    assert (plain(entry.acceptance.payload), entry.epoch) == (SECRET, 1)


def test_last_line_of_an_execution_counts_and_ids_may_be_escaped(tmp_path):
    """An execution that was archived twice is as it was the last time; another program may have written the file."""
    kept = MemoryJournal()
    kept.enlist(Driver("d-1"))
    kept.write(opening("o-1", "waiting.g", held=False, children=(acceptance("o-1/g.a", parent="o-1"),)))
    first, branch = line_of(Lines(), kept), line_of(Lines(), kept, "o-1/g.a")
    later = json.dumps({**first, "version": "later"}).replace('"o-1"', '"\\u006f-1"').encode()
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"\n".join([json.dumps(first).encode(), json.dumps(branch).encode(), later, b""]))

    again = ArchivedExecution(path, "o-1")

    assert [(entry.saga_id, entry.acceptance.version) for entry in again.entries()] == [
        ("o-1", "later"),
        ("o-1/g.a", "1"),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"cannot be read: No such file or directory"),
        (b"\x1f\x8bhalf", r"cannot be read: "),
        (b'{"saga_id": "o-1"', r"a line that is not an execution: Input data was truncated"),
        (b'{"saga_id": "o-1"}', r"it has no saga_id, or no history"),
        (b'{"saga_id": 7, "history": [], "of": "o-1"}', r"it has no saga_id, or no history"),
        (b'{"history": [], "of": "o-1"}', r"it has no saga_id, or no history"),
        (b'["o-1"]', r"a line that is not an execution: Expected `object`"),
    ],
)
def test_file_that_is_no_archive_is_named_with_what_is_wrong(tmp_path, content, words):
    """A missing file, a damaged one, and one of another kind."""
    path = tmp_path / "export"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JournalError, match=f"{path}.*{words}"):
        ArchivedExecution(path, "o-1")
