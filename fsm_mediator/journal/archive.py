"""Archive: writes executions to compressed files of JSON lines, outside of every journal, and reads them again.

The lines have the format of ``fsm-mediator export``: see ``lines.py``. A file is written completely or not at all, and
is never changed.
"""

from __future__ import annotations

import gzip
import os
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from fsm_mediator.ciphers import Cipher
from fsm_mediator.errors import JournalError
from fsm_mediator.ids import root_of
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.lines import Lines
from fsm_mediator.journal.note_rows import about_note
from fsm_mediator.journal.notes import Note
from fsm_mediator.journal.protocol import Entry, Journal, Written
from fsm_mediator.journal.rows import about_record
from fsm_mediator.journal.sealing import open_secrets, unseal
from fsm_mediator.records import Acceptance, Failure, Record
from fsm_mediator.redaction import Redaction

_GZIP: Final = b"\x1f\x8b"
"""The first bytes of every compressed file."""

ENDING: Final = ".jsonl.gz"


class Archive:
    """A folder of compressed files that hold ended executions.

    Texts that are sealed in the journal are sealed in the archive too, under the first key of the cipher.

    Args:
        folder: The folder. It is created together with the first file, and only its owner can read it.
        redaction: Hides parts of values and texts permanently.
    """

    def __init__(self, folder: str | os.PathLike[str], redaction: Redaction | None = None) -> None:
        self.folder: Final = Path(folder)
        self._redaction = redaction or Redaction()

    def add(self, journal: Journal, entries: Sequence[Entry]) -> Path:
        """Write executions with all their records into a new file. When this method returns, the file is on the disk.

        Raises:
            JournalError: The file cannot be written, or some records cannot be read.
        """
        cipher = journal.codec.cipher if journal.encodes else None
        encoded = []
        for line in Lines(cipher, self._redaction).of(journal, entries):
            if "unreadable" in line:
                raise JournalError(f"{line['unreadable']}; it is not archived. See fsm-mediator check")
            encoded.append(msgspec.json.encode(line))
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = self.folder / f"{at}-{uuid.uuid4().hex}{ENDING}"
        unfinished = path.with_name(f".{path.name}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(gzip.compress(b"\n".join(encoded) + b"\n"))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise JournalError(
                f"the archive {str(self.folder)!r} cannot be written: {error.strerror or error}; nothing was deleted"
            ) from error
        return path


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, compressed or not. For a folder: the lines of its archived files, in the order of writing.

    Raises:
        JournalError: A file cannot be read, or is damaged.
    """
    for each in sorted(path.glob(f"[!.]*{ENDING}")) if path.is_dir() else (path,):
        try:
            with each.open("rb") as file:
                compressed = file.read(len(_GZIP)) == _GZIP
            with gzip.open(each) if compressed else each.open("rb") as lines:
                yield from lines
        except (OSError, EOFError, zlib.error) as error:
            why = getattr(error, "strerror", None) or error
            raise JournalError(f"{each} cannot be read: {why}") from error


def archived_page(folder: Path, before: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """The lines of one archived file, the newest line first.

    The file is the newest file whose name sorts before *before*, or the newest of all files if *before* is None.

    Returns:
        The lines, and the *before* of the next page. This is the name of the file, or None if the file is the oldest.

    Raises:
        JournalError: The file cannot be read.
    """
    files = sorted(folder.glob(f"[!.]*{ENDING}"), reverse=True)
    older = [each for each in files if before is None or each.name < before]
    if not older:
        return [], None
    found = [_decoded(line, older[0]) for line in read_lines(older[0])]
    return found[::-1], older[0].name if len(older) > 1 else None


class ArchivedExecution:
    """An execution of an archive with its branches, as a read-only journal.

    Args:
        path: The folder of an archive, one of its files, or a file that ``export`` wrote.
        saga_id: The execution.
        cipher: Opens sealed texts.

    Raises:
        JournalError: A file cannot be read.
    """

    encodes: Final = True
    heartbeat: Final = None

    def __init__(self, path: Path, saga_id: str, cipher: Cipher | None = None) -> None:
        self.codec: Final = Codec(cipher=cipher)
        self._lines: dict[str, dict[str, Any]] = {}
        wanted = root_of(saga_id).encode()
        for line in read_lines(path):
            if wanted in line or b"\\" in line:
                found = _decoded(line, path)
                if root_of(str(found["saga_id"])) == root_of(saga_id):
                    self._lines.pop(found["saga_id"], None)
                    self._lines[found["saga_id"]] = found  # if archived twice, the last line counts

    def find(self, saga_id: str) -> Entry | None:
        """Find an execution by its id: see `Journal.find`."""
        line = self._lines.get(saga_id)
        if line is None:
            return None
        if "sealed" in line:
            payload, _, _ = open_secrets(line["sealed"], self.codec.cipher, about_record(saga_id, 0))
        else:
            payload = msgspec.Raw(msgspec.json.encode(line["payload"]))
        names = line["saga"], line["version"], line["fingerprint"]
        opened = Acceptance(saga_id, *names, payload, line["accepted_at"], line["deadline_at"], line["parent"])
        return Entry(opened, line["state"], line["changed_at"], line["records"], 1)

    def records(self, saga_id: str) -> list[Record]:
        """The records of an execution: see `Journal.records`."""
        return [self._record(each) for each in self._lines[saga_id]["history"]]

    def _record(self, line: dict[str, Any]) -> Record:
        known = {name: line[name] for name in Record.__struct_fields__ if name in line}
        texts = None if line["error"] is None else (line["error"]["message"], line["error"]["traceback"])
        value: msgspec.Raw | None = None
        if "sealed" in line:
            about = about_record(line["saga_id"], line["seq"])
            value, texts, known["reason"] = open_secrets(line["sealed"], self.codec.cipher, about)
        elif line["value"] is not None:
            value = msgspec.Raw(msgspec.json.encode(line["value"]))
        error = None if line["error"] is None else Failure(line["error"]["type"], *(texts or ()))
        children = None if line["children"] is None else tuple(line["children"])
        return Record(**{**known, "value": value, "error": error, "children": children})

    def inbox(self, saga_id: str) -> Written:  # noqa: ARG002
        """The items in the inbox of an execution. Always empty in an archive. See `Journal.inbox`."""
        return ()

    def entries(self, *, parent: str | None = None, **_: Any) -> Iterator[Entry]:
        """List all executions of the archive, or the branches of *parent*: see `Journal.entries`."""
        for saga_id in reversed(self._lines):
            entry = self.find(saga_id)
            if entry is not None and parent in (None, entry.acceptance.parent):
                yield entry

    def add_note(self, *_: Any, **_more: Any) -> int:
        """Raise `JournalError`, because an archive can only be read. See `NotesJournal.add_note`."""
        raise JournalError("an archive can only be read")

    def notes(self, saga_id: str, **_: Any) -> list[Note]:
        """The notes about one execution: see `NotesJournal.notes`."""
        found = [msgspec.convert(each, Note) for each in self._lines[saga_id].get("notes", ())]
        about = about_note(saga_id)
        return [msgspec.structs.replace(note, reason=unseal(note.reason, self.codec.cipher, about)) for note in found]

    def close(self) -> None:
        """Do nothing, because no file is open: see `Journal.close`."""


def _decoded(line: bytes, path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise JournalError(f"{path} has a line that is not an execution: {error}") from error
    if not isinstance(found.get("saga_id"), str) or "history" not in found:
        raise JournalError(f"{path} has a line that is not an execution: it has no saga_id, or no history")
    return found
