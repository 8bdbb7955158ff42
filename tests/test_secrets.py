"""Secrets: what users write is sealed wherever it is kept, and hidden wherever it is shown."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from fsm_mediator import (
    AesGcm,
    DefinitionError,
    JournalError,
    LoggingObserver,
    Mediator,
    PayloadError,
    Saga,
    SQLiteJournal,
    conforms,
)
from fsm_mediator.ciphers import CannotOpenError
from fsm_mediator.cli.commands import cli
from fsm_mediator.error_types import MissingExtraError
from fsm_mediator.journal import resealing
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.notes import Note
from fsm_mediator.journal.operators import Drivability, Fault
from fsm_mediator.journal.planning import Plan
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.resealing import for_resealing
from fsm_mediator.journal.sealing import seal, unseal
from fsm_mediator.mediator.bulk import Batch, freeze
from fsm_mediator.records import Acceptance, Failure, InboxItem, Record, VerbAnswer
from fsm_mediator.redaction import HIDDEN, RedactingFilter, Redaction
from tests.postgres_server import connections_of, server
from tests.secrets_app import KEYS, SECRET, charge, checkout, journal

ROOT = Path(__file__).parent.parent
KEY = f"new:{KEYS['new']}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what a killed process left: journal, write-ahead log, log file."""
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.secrets_app"]
    done = subprocess.run(command, cwd=folder, env=environment, timeout=120, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert SECRET.encode() not in done.stdout + done.stderr
    return folder


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def sealed(request, tmp_path):
    """A journal on each database, with a cipher."""
    cipher = AesGcm(KEYS)
    sqlite = request.param == "sqlite"
    made = SQLiteJournal(tmp_path / "sagas.db", cipher=cipher) if sqlite else server().journal(cipher=cipher)
    with closing(made):
        yield made


def shown(*words, code=0, **environment):
    """What a command prints."""
    result = CliRunner(env=environment).invoke(cli, [*map(str, words)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


# A killed process


def test_a_killed_process_leaves_no_plain_text(place):
    """Database, write-ahead log, log file, export: none holds what a user wrote."""
    export = place / "export.jsonl"
    shown("export", "-j", place / "sagas.db", "-o", export)
    shown("export", "-j", place / "sagas.db", "-o", place / "resealed.jsonl", FSM_MEDIATOR_CIPHER="env:K", K=KEY)
    assert (place / "sagas.db-wal").stat().st_size
    assert "checkout o-1" in (place / "app.log").read_text()
    found = [path.name for path in place.iterdir() if SECRET.encode() in path.read_bytes()]
    assert not found
    assert b"o-1" in export.read_bytes()


def test_with_the_key_all_of_it_is_there(place):
    """Payload, signal, results, errors, reasons, of the branch as well."""
    text = shown("export", "-j", place / "sagas.db", "--decrypt", FSM_MEDIATOR_CIPHER="env:K", K=KEY)
    ends = ("payload", "signal", "result", "error", "refund", "reason", "packed", "second")
    assert [end for end in ends if f"{SECRET}-{end}" not in text] == []


def test_another_process_with_the_key_goes_on(place, tmp_path):
    """What was sealed is what steps see."""
    with closing(sqlite3.connect(place / "sagas.db")) as old, closing(sqlite3.connect(tmp_path / "copy.db")) as new:
        old.backup(new)
    with closing(journal(tmp_path / "copy.db")) as opened, Mediator(checkout, journal=opened) as mediator:
        mediator.recover()
        outcome = mediator.wait("o-2", timeout=60, check=False)
        assert outcome.stuck
        assert outcome.results["charge"] == {"card": f"{SECRET}-result"}


def test_the_export_of_a_sealed_journal_conforms(place):
    """Moves need no key."""
    with closing(SQLiteJournal(place / "sagas.db", read_only=True)) as opened:
        assert conforms(opened, checkout).ok


# Without the key


def test_show_without_the_key_says_what_it_cannot_open(place):
    """Steps, states, times and types of errors are readable; it names the key that is missing."""
    text = shown("show", "o-1", "-j", place / "sagas.db")
    assert "ValueError: (sealed)" in text
    assert "sealed with the key 'new'" in text
    assert "--cipher" in text
    text = shown("--cipher", "env:K", "show", "o-1", "-j", place / "sagas.db", K=f"old:{KEYS['old']}")
    assert "AesGcm(old) cannot open it: the key 'new' is missing" in text


def test_show_with_the_key_opens_it(place, monkeypatch):
    """The key comes from a variable, or from an object of the app; the next command names where it comes from."""
    text = shown("--cipher", "env:K", "show", "o-1", "-j", place / "sagas.db", K=KEY)
    assert f"{SECRET}-payload" in text
    assert f"ValueError: {SECRET}-refund" in text
    assert "fsm-mediator --cipher env:K retry" in text
    (place / "keys_of_app.py").write_text(f"from fsm_mediator import AesGcm\ncipher = AesGcm({KEYS!r})\n")
    monkeypatch.syspath_prepend(place)
    text = shown("--cipher", "keys_of_app:cipher", "show", "o-1", "-j", place / "sagas.db")
    assert f"{SECRET}-payload" in text


def test_a_driver_without_the_key_drives_nothing(tmp_path):
    """It notes that it could not decode the execution; one with the key then drives it."""
    path = tmp_path / "sagas.db"
    saga = Saga("plain", [charge])
    with closing(journal(path)) as opened, Mediator(saga, journal=opened) as mediator:
        mediator.enqueue("plain", None, saga_id="p-1")
    with closing(SQLiteJournal(path)) as blind, Mediator(saga, journal=blind) as mediator:
        mediator.recover()
        (entry,) = blind.entries()
        assert "is sealed with the key 'new'" in (Drivability(blind).why_not(entry) or "")
        with pytest.raises(PayloadError, match="--cipher"):
            mediator.outcome("p-1")
    with closing(journal(path)) as opened, Mediator(saga, journal=opened) as mediator:
        mediator.recover()
        assert mediator.wait("p-1", timeout=60).results["charge"]["card"].startswith(SECRET)


# Keys


def test_keys_rotate(tmp_path):
    """A new key, put first, seals from now on; the old one opens what it sealed."""
    path = tmp_path / "sagas.db"
    for key_ids in (("old",), ("new", "old")):
        with closing(journal(path, *key_ids)) as opened, Mediator(checkout, journal=opened) as mediator:
            mediator.run("checkout", SECRET, saga_id=key_ids[0], check=False)
    with closing(sqlite3.connect(path)) as raw:
        query = "SELECT saga_id, details FROM records JOIN executions ON number = execution"
        rows = raw.execute(query).fetchall()
    used = {(saga_id, found[1]) for saga_id, text in rows if (found := re.search('"sealed":"sealed:([a-z]*):', text))}
    assert {pair for pair in used if "/" not in pair[0]} == {("old", "old"), ("new", "new")}
    with closing(journal(path, "new", "old")) as opened:
        (entry,) = (each for each in opened.entries() if each.saga_id == "old")
        assert msgspec.json.decode(entry.acceptance.payload) == SECRET


def everywhere(opened):
    """All texts of a journal's tables, as they are kept."""
    if isinstance(opened, SQLiteJournal):
        with closing(sqlite3.connect(opened.path)) as raw:
            return "\n".join(raw.iterdump())
    rows = [connections_of(opened).read(f"SELECT * FROM journal.{name}") for name in TABLES_OF_TEXTS]  # noqa: S608
    return str(rows)


TABLES_OF_TEXTS = ("records", "inbox", "answers", "faults", "notes", "planned")


def fill(opened, secret):
    """Have a secret in every text that a journal keeps; what comes back of them."""
    driver = this_driver()
    opened.enlist(driver)
    failure = Failure("ValueError", secret, f"Traceback: {secret}")
    first = Record("o-1", "s", 1, "start", "pending", "executing.a", 2.0)
    opened.write(Commit("o-1", (first,), driver.id, acceptance=Acceptance("o-1", "s", "1", "f", secret, 1.0)))
    branches = tuple(Acceptance(f"o-1/g.{n}", "s/g", "1", "f", secret, 1.0, parent="o-1") for n in range(2))
    record = Record("o-1", "s", 2, "errored", "executing.a", "retrying.a", 3.0, "a", 1, secret, failure, reason=secret)
    opened.write(Commit("o-1", (record,), driver.id, plan=Plan(branches)))
    opened.write(Commit("o-1", (), driver.id, token=7, plan=Plan(ends=failure)))
    for name in ("go", "on"):
        opened.post("o-1", InboxItem("signal", name, secret, secret, 4.0))
    answer = VerbAnswer(opened.inbox("o-1")[0].number, "verb-1", None, secret, 5.0)
    opened.write(Commit("o-1", (), driver.id, token=8, answers=(answer,)))
    opened.note_fault("o-1", 1, Fault("Order", "$.card", secret))
    opened.add_note(Note("hold", "o-1", actor="ann", reason=secret))
    opened.add_note(Note("hold", saga="s", actor="ann", reason=secret))
    freeze(opened, "resolve", ["o-1"], {"result": secret}, secret, "ann", 6.0)


def seen(opened):
    """All that comes back of it."""
    records = opened.records("o-1")
    return [
        *(opened.find("o-1"), records, [record.error.traceback for record in records if record.error]),
        *(opened.inbox("o-1"), opened.planned("o-1"), opened.answer("verb-1"), opened.faults()),
        [note for note in opened.notes() if note.kind != "batch"],
        [Batch(opened, note.value["batch"]).arguments for note in opened.notes(kind="batch")],
    ]


def test_an_old_key_is_retired_once_everything_is_sealed_anew(sealed):
    """After `reseal` no text needs the old key, or is in plain text; all of it comes back as it was."""
    sealed.codec.cipher = AesGcm({"old": KEYS["old"]})
    fill(sealed, SECRET)
    before = seen(sealed)
    opened = Acceptance("plain", "s", "1", "f", SECRET, 1.0)
    sealed.codec.cipher = None
    sealed.write(Commit("plain", (), None, held=False, acceptance=opened))
    assert "sealed:old:" in everywhere(sealed)
    assert SECRET in everywhere(sealed)
    sealed.codec.cipher = AesGcm({"new": KEYS["new"], "old": KEYS["old"]})
    counted: list[int] = []

    done = sealed.reseal(counted.append)

    assert done == (17, {})
    assert sum(counted) == 18  # one record has no secret
    assert "sealed:old:" not in everywhere(sealed)
    assert SECRET not in everywhere(sealed)
    assert sealed.reseal() == (0, {})
    sealed.codec.cipher = AesGcm({"new": KEYS["new"]})
    assert seen(sealed) == before
    assert msgspec.json.decode(sealed.find("plain").acceptance.payload) == SECRET
    with pytest.raises(JournalError, match="cannot seal its texts again"):
        for_resealing(object())
    sealed.codec.cipher = None
    with pytest.raises(DefinitionError, match="needs a cipher with key_ids"):
        sealed.reseal()


def test_what_cannot_be_opened_stays_and_is_counted(sealed):
    """A key that is missing is named; the rest is sealed anew, and the key can be given later."""
    sealed.codec.cipher = AesGcm({"old": KEYS["old"]})
    fill(sealed, SECRET)
    before = seen(sealed)
    sealed.codec.cipher = AesGcm({"new": KEYS["new"]})
    assert sealed.reseal() == (0, {"old": 16})
    sealed.codec.cipher = AesGcm({"new": KEYS["new"], "old": KEYS["old"]})
    assert sealed.reseal() == (16, {})
    assert seen(sealed) == before


def test_key_whose_id_begins_like_the_first_is_retired_too(sealed):
    """A text under `new2` is not taken for one under `new`."""
    sealed.codec.cipher = AesGcm({"new2": KEYS["old"]})
    fill(sealed, SECRET)
    before = seen(sealed)
    sealed.codec.cipher = AesGcm({"new": KEYS["new"], "new2": KEYS["old"]})
    assert sealed.reseal() == (16, {})
    sealed.codec.cipher = AesGcm({"new": KEYS["new"]})
    assert seen(sealed) == before


def test_text_that_a_driver_writes_meanwhile_is_not_overwritten(sealed):
    """The newer message of a fault stays, which was noted between the read and the write of its row."""

    class Meanwhile(AesGcm):
        def open(self, text, about):
            if about == "o-1/fault" and not noted:
                noted.append(about)
                sealed.note_fault("o-1", 1, Fault("Order", "$.card", "newer"))
            return super().open(text, about)

    noted: list[str] = []
    sealed.codec.cipher = AesGcm({"old": KEYS["old"]})
    fill(sealed, SECRET)
    sealed.codec.cipher = Meanwhile({"new": KEYS["new"], "old": KEYS["old"]})
    sealed.reseal()
    assert noted
    assert [fault.message for fault in sealed.faults().values()] == ["newer"]
    assert sealed.reseal() == (0, {})


def test_damaged_text_is_counted_and_the_rest_is_sealed(tmp_path):
    """A row that cannot be read does not keep the old key in use for the others."""
    path = tmp_path / "sagas.db"
    with closing(SQLiteJournal(path, cipher=AesGcm({"old": KEYS["old"]}))) as opened:
        fill(opened, SECRET)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE records SET details = '{' WHERE seq = 2")
    with closing(SQLiteJournal(path, cipher=AesGcm({"new": KEYS["new"], "old": KEYS["old"]}))) as opened:
        assert opened.reseal() == (15, {"": 1})
        assert "sealed:old:" not in everywhere(opened)


def test_resealing_goes_on_where_it_was_killed(sealed, monkeypatch):
    """Row by row, in small transactions: what is done is done."""
    sealed.codec.cipher = AesGcm({"old": KEYS["old"]})
    fill(sealed, SECRET)
    sealed.codec.cipher = AesGcm({"new": KEYS["new"], "old": KEYS["old"]})
    monkeypatch.setattr(resealing, "AT_ONCE", 1)

    def dies(_count):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        sealed.reseal(dies)
    assert "sealed:new:" in everywhere(sealed)
    assert 0 < sealed.reseal().changed < 14
    assert "sealed:old:" not in everywhere(sealed)


def test_reseal_on_the_command_line(tmp_path):
    """Old keys open, the first one seals; a missing one ends the command with 1."""
    path = tmp_path / "sagas.db"
    with closing(journal(path, "old")) as opened:
        fill(opened, SECRET)
    both, new = (",".join(f"{key_id}:{KEYS[key_id]}" for key_id in ids) for ids in (("new", "old"), ("new",)))
    words = ("--cipher", "env:K", "reseal", "-j", path)
    assert "16 texts could not be opened: the key 'old' is missing" in shown(*words, code=1, K=new)
    text = shown(*words, K=both)
    assert "16 rows sealed anew" in text
    assert "needs only the first key now" in text
    assert "0 rows sealed anew" in shown(*words, K=new)
    assert "needs a cipher" in " ".join(shown("reseal", "-j", path, code=6).split())


def test_a_text_moved_to_another_row_does_not_open(tmp_path):
    """Each sealed text belongs to its execution and its record: who can write rows cannot pass one off as another."""
    path = tmp_path / "sagas.db"
    with closing(journal(path)) as opened, Mediator(checkout, journal=opened) as mediator:
        for saga_id in ("a", "b"):
            mediator.run("checkout", {"of": saga_id}, saga_id=saga_id, check=False)
    with closing(sqlite3.connect(path)) as raw:
        payload = "SELECT details FROM records JOIN executions ON number = execution WHERE saga_id = ? AND seq = 0"
        (other,) = raw.execute(payload, ("b",)).fetchone()
        raw.execute(
            "UPDATE records SET details = ? WHERE seq = 0 AND execution = "
            "(SELECT number FROM executions WHERE saga_id = 'a')",
            (other,),
        )
        raw.commit()
    with closing(journal(path)) as opened, Mediator(checkout, journal=opened) as mediator:
        with pytest.raises(PayloadError, match="the row changed"):
            mediator.outcome("a")
        assert mediator.outcome("b").state == "waiting.go"


def test_keys_are_checked_and_never_named():
    """Length, base64, id; a message names the id alone."""
    for keys in ({}, {"a": b"short"}, {"a": "no base64!"}, {"a b": KEYS["new"]}, {"a": KEYS["new"][:-4]}, None):
        with pytest.raises(DefinitionError) as refused:
            AesGcm(keys)  # type: ignore[arg-type]
        assert "short" not in str(refused.value)
        assert KEYS["new"][:20] not in str(refused.value)
    with pytest.raises(DefinitionError, match="ID:BASE64"):
        AesGcm.from_text("just-a-key")
    with pytest.raises(DefinitionError, match="cipher is an AesGcm"):
        SQLiteJournal(":memory:", cipher="secret")  # type: ignore[arg-type]
    assert repr(AesGcm(KEYS)) == "AesGcm(new, old)"
    assert AesGcm.from_text(f"a:{AesGcm.new_key()},\n b:{AesGcm.new_key()}").key_ids == ("a", "b")


def test_a_changed_text_does_not_open():
    """Nor one with another key of the same id, nor one about something else."""
    cipher = AesGcm(KEYS)
    text = cipher.seal("päyload", "o-1/0")
    assert cipher.open(text, "o-1/0") == "päyload"
    assert cipher.seal("päyload", "o-1/0") != text
    flipped = text[:-5] + ("A" if text[-5] != "A" else "B") + text[-4:]
    for sealed, about in ((flipped, "o-1/0"), (text, "o-1/1"), (text[:10], "o-1/0"), ("new:%", "o-1/0")):
        with pytest.raises(CannotOpenError, match="another one, or the row was changed"):
            cipher.open(sealed, about)
    with pytest.raises(CannotOpenError, match="another one"):
        AesGcm({"new": KEYS["old"]}).open(text, "o-1/0")


def test_without_cryptography_the_extra_is_named(monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(MissingExtraError, match=r"fsm-mediator\[crypto\]"):
        AesGcm(KEYS)


def test_a_plain_text_that_looks_sealed_comes_back_as_it_was():
    """With a cipher and without."""
    for text in ("sealed:new:abc", "sealed::x", "sealed:", "other"):
        for cipher in (None, AesGcm(KEYS)):
            assert unseal(seal(text, cipher, "a"), cipher, "a") == text
    assert seal(None, None, "a") is unseal(None, None, "a") is None


# Rows


def test_every_text_of_a_row_is_sealed(sealed):
    """Record, payload, inbox, answers, faults, planned branches: each comes back, and none is kept as it is."""
    driver = this_driver()
    sealed.enlist(driver)
    opened = Acceptance("o-1", "s", "1", "f", {"card": SECRET}, 1.0)
    failure = Failure("ValueError", SECRET, f"Traceback: {SECRET}")
    first = Record("o-1", "s", 1, "start", "pending", "executing.a", 2.0)
    sealed.write(Commit("o-1", (first,), driver.id, acceptance=opened))
    branch = Acceptance("o-1/g.0", "s/g", "1", "f", SECRET, 1.0, parent="o-1")
    record = Record("o-1", "s", 2, "errored", "executing.a", "retrying.a", 3.0, "a", 1, SECRET, failure, reason=SECRET)
    commit = Commit("o-1", (record,), driver.id, plan=Plan((branch,)))
    sealed.write(commit)
    sealed.write(commit)  # the answer was lost: it is recognised, though each text is sealed anew
    other = msgspec.structs.replace(record, reason=f"{SECRET}, but another")
    with pytest.raises(Exception, match="cannot be its next"):
        sealed.write(msgspec.structs.replace(commit, records=(other,), plan=None))
    sealed.write(Commit("o-1", (), driver.id, token=7, plan=Plan(ends=failure)))
    assert sealed.post("o-1", InboxItem("signal", "go", {"card": SECRET}, SECRET, 4.0))
    (item,) = sealed.inbox("o-1")
    answer = VerbAnswer(item.number, "verb-1", None, f"refused: {SECRET}", 5.0)
    sealed.write(Commit("o-1", (), driver.id, token=8, taken=(), answers=(answer,)))
    sealed.note_fault("o-1", 1, Fault("Order", "$.card", SECRET))
    sealed.add_note(Note("hold", "o-1", value={"tenant": "acme"}, actor="ann", reason=SECRET))

    assert msgspec.json.decode(sealed.find("o-1").acceptance.payload) == {"card": SECRET}
    kept = sealed.records("o-1")[1]
    assert (msgspec.json.decode(kept.value), kept.error, kept.reason) == (SECRET, failure, SECRET)
    assert kept.error.traceback == failure.traceback
    assert (msgspec.json.decode(item.value), item.reason) == ({"card": SECRET}, SECRET)
    assert sealed.planned("o-1").ended == Failure("ValueError", SECRET)
    assert sealed.answer("verb-1") == answer
    assert sealed.faults()["o-1"].message == SECRET
    assert sealed.notes("o-1")[0].reason == SECRET
    assert [change.record for change in sealed.changes() if change.record is not None][1].reason == SECRET
    sealed.codec.cipher = None
    everything = [sealed.find("o-1"), *sealed.records("o-1"), *sealed.inbox("o-1"), sealed.planned("o-1")]
    everything += [sealed.answer("verb-1"), sealed.faults(), sealed.notes("o-1"), [*map(str, sealed.inbox("o-1"))]]
    assert SECRET not in str([bytes(each.value) for each in sealed.records("o-1") if each.value is not None])
    assert SECRET not in str(everything)
    assert sealed.notes("o-1")[0].value == {"tenant": "acme"}
    assert sealed.records("o-1")[1].error == Failure("ValueError", "(sealed)")


def test_journals_of_both_kinds_of_rows_are_read(tmp_path):
    """A cipher may be given to a journal that had none: what was written before stays as it is."""
    path = tmp_path / "sagas.db"
    for make in (SQLiteJournal, journal):
        with closing(make(path)) as opened, Mediator(checkout, journal=opened) as mediator:
            mediator.run("checkout", SECRET, saga_id=make.__name__, check=False)
    with closing(journal(path)) as opened:
        entries = list(opened.entries(saga="checkout"))
        assert [msgspec.json.decode(each.acceptance.payload) for each in entries] == [SECRET] * 2


# Redaction


def test_fields_and_texts_are_hidden():
    """A name hides a field at any depth, whatever its case; a regular expression hides what it matches."""
    hide = Redaction(["password", "card*", r"/\b\d{16}\b/", re.compile("hunter2")])
    value = {"user": {"Password": "x", "cardNumber": 1, "note": "4111111111111111 ok", "n": [None, 4111111111111111]}}
    hidden = {"Password": HIDDEN, "cardNumber": HIDDEN, "note": f"{HIDDEN} ok", "n": [None, HIDDEN]}
    assert hide.field("payload", value) == {"user": hidden}
    assert hide.text("hunter2 and 17") == f"{HIDDEN} and 17"
    assert Redaction(["payload"]).field("payload", value) == HIDDEN
    assert Redaction().field("payload", value) == value
    for patterns in ("password", [7], [""], ["/(/"], 5):
        with pytest.raises(DefinitionError, match="redact"):
            Redaction(patterns)  # type: ignore[arg-type]


def test_logs_are_redacted(caplog):
    """Those of `LoggingObserver`, and, by a filter, those of every logger with their tracebacks."""
    record = Record("o-1", "s", 1, "errored", "executing.a", "retrying.a", 3.0, error=Failure("ValueError", SECRET))
    with caplog.at_level(logging.INFO):
        LoggingObserver(redact=[f"/{SECRET}/"])(record)
        LoggingObserver(redact=["message"])(record)
    assert f"ValueError: {HIDDEN}" in caplog.messages[0]
    assert SECRET not in str([vars(each) for each in caplog.records])
    caplog.clear()
    hides = RedactingFilter([f"/{SECRET}/"])
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("fsm_mediator").exception("%s was raised", SECRET)
    LoggingObserver()(record)
    for each in caplog.records:
        assert hides.filter(each)
        assert SECRET not in logging.Formatter().format(each) + str({**vars(each), "exc_info": None})
    assert "Traceback" in logging.Formatter().format(caplog.records[0])


def test_the_command_line_redacts(place, tmp_path, monkeypatch):
    """By an option, and by ``pyproject.toml``; exports too."""
    monkeypatch.chdir(tmp_path)
    words = ("--cipher", "env:K", "--redact", "card")
    text = shown(*words, "--redact", f"/{SECRET}-[er]\\w+/", "show", "o-1", "-j", place / "sagas.db", K=KEY)
    assert f"ValueError: {HIDDEN}" in text
    assert SECRET not in text
    settings = {"redact": ["payload", "value", "message", "traceback", "reason"], "cipher": "env:K"}
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    Path("pyproject.toml").write_text(f"[tool.fsm-mediator]\n{lines}\n")
    for command in (("export", "--decrypt"), ("show", "o-1", "--json"), ("list", "--json")):
        text = shown(*command, "-j", place / "sagas.db", K=KEY)
        assert HIDDEN in text
        assert SECRET not in text


@pytest.mark.parametrize("suffix", ["svg", "dot", "mmd", "md"])
def test_pictures_are_redacted(place, tmp_path, suffix):
    """No format, no view and no frame of a picture has what must not be seen; without redaction it is there."""
    words = ("--cipher", "env:K", "--redact", f"/{SECRET}-\\w+/")
    drawn = ("render", "tests.secrets_app:checkout", "-j", place / "sagas.db", "--id", "o-1")
    moves = ("--animate",) if suffix == "svg" else ()
    for view in ("steps", "detail"):
        file = tmp_path / f"{view}.{suffix}"
        shown(*words, *drawn, "--view", view, "-o", file, *moves, K=KEY)
        assert "TOPSECRET" not in file.read_text()
        assert f"ValueError: {HIDDEN}" in file.read_text() or suffix in ("mmd", "md")
        shown("--cipher", "env:K", *drawn, "--view", view, "-o", file, *moves, K=KEY)
        plain = file.read_text()
        assert "TOPSECRET" in plain or suffix == "mmd" or (suffix, view) == ("md", "steps")
