"""The path of a SQLite journal. It is checked before SQLite opens it, so that errors are easy to understand.

A file that may be in use in this process is never opened here. On POSIX systems, closing any descriptor of a file drops
all locks of the process on that file, even SQLite's locks (https://sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, TypeAlias

from fsm_mediator.errors import JournalError
from fsm_mediator.forking import CREATING

Identity: TypeAlias = tuple[int, int]
"""Device and inode of a file."""

_MOUNTS: Final = Path("/proc/self/mounts")
_NETWORK: Final = """
    9p acfs afs beegfs ceph cifs coda davfs fuse.davfs2 fuse.gcsfuse fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs gfs
    gfs2 gpfs lustre ncpfs nfs nfs4 ocfs2 pvfs2 smb3 smbfs vboxsf"""
_REMOTE: Final = frozenset(_NETWORK.split())
"""File systems whose locks or shared memory do not work between machines, or between a guest system and its host."""


def check(path: str, *, read_only: bool) -> None:
    """Check that a journal can be at *path*.

    Raises:
        JournalError: No journal can be at *path*. The message says why, and what to do.
    """
    where = Path(path)
    folder = where.parent
    try:
        if where.is_dir():
            raise JournalError(f"the journal {path!r} is a directory. Name a file in it: {str(where / 'sagas.db')!r}")
        if not folder.is_dir():
            what = "is not one" if folder.exists() else "does not exist"
            raise JournalError(
                f"the journal {path!r} cannot be opened: its directory {str(folder)!r} {what}. "
                f"Create it: mkdir -p {folder}"
            )
        exists = where.exists()
        if exists and not stat.S_ISREG(where.stat().st_mode):
            raise JournalError(f"the journal {path!r} is no regular file. Name another one")
    except (OSError, ValueError) as error:
        raise JournalError(f"the journal {path!r} cannot be opened: {error}. Name another file") from error
    if read_only and not exists:
        raise JournalError(
            f"the journal {path!r} does not exist, and was opened read-only. Check the path; the first mediator that "
            f"uses the journal creates it"
        )
    if not read_only:
        _check_permissions(where, exists)
    remote = remote_file_system(os.path.realpath(folder), _mounts())
    if remote is not None:
        raise JournalError(
            f"the journal {path!r} is on a network file system ({remote}), where SQLite's locks cannot be trusted. "
            f"Put it on a local disk"
        )


def _check_permissions(where: Path, exists: bool) -> None:
    if exists and not os.access(where, os.R_OK | os.W_OK):
        raise JournalError(
            f"the journal {str(where)!r} is read-only for this user. Change its permissions (chmod u+rw {where}), "
            f"or open it with read_only=True to look only"
        )
    if not os.access(where.parent, os.W_OK | os.X_OK):
        raise JournalError(
            f"the journal {str(where)!r} cannot be written: its directory {str(where.parent)!r} is read-only for this "
            f"user, and SQLite keeps two more files there while it is open. Change the permissions of the directory"
        )


def create(path: str) -> None:
    """Create the file, readable only by its owner, unless it exists. SQLite gives the files beside it the same mode.

    Raises:
        JournalError: The file cannot be created.
    """
    with CREATING:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            pass
        except (OSError, ValueError) as error:
            raise JournalError(
                f"the journal {path!r} cannot be created: {error}. Name a place that this user may write to"
            ) from error


def beside(path: str) -> tuple[str, str]:
    """The paths of the write-ahead log and of its index.

    SQLite keeps these files beside the journal while it is open.
    """
    real = os.path.realpath(path)  # SQLite follows a link to its target
    return f"{real}-wal", f"{real}-shm"


def owner_if_other(path: str) -> int | None:
    """The user id of the file's owner. None if the owner is this user, or if there is no file."""
    try:
        owner = Path(path).stat().st_uid
    except OSError:
        return None
    return None if not hasattr(os, "geteuid") or owner == os.geteuid() else owner


def check_owner(path: str) -> None:
    """Refuse a journal if its file or its log belongs to another user.

    Raises:
        JournalError: Such a file exists. Its owner could read and change the records.
    """
    for each in (path, *beside(path)):
        owner = owner_if_other(each)
        if owner is not None:
            raise JournalError(
                f"the journal {path!r} is not written to: {each!r} belongs to another user ({owner}), who could read "
                f"and change the records. Work as that user, name another file, or take it over, if you trust "
                f"its content: chown {os.geteuid()} {each}"
            )


def identity(path: str) -> Identity | None:
    """The device and inode of the file at *path*. None if there is no file."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def remote_file_system(folder: str, mounts: str) -> str | None:
    """The type of the network file system that *folder* is on. None if *folder* is on a local file system.

    *mounts* is the text of ``/proc/self/mounts``.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2:
            point = fields[1].encode("latin-1", "replace").decode("unicode_escape")  # a blank is written as \040
            inside = folder == point or folder.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):  # a later mount on the same point hides the earlier one
                best, kind = point, fields[2]
    return kind if kind in _REMOTE else None


def _mounts() -> str:
    try:
        return _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
