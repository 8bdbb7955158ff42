"""Forks: objects pause before the process forks, resume in the parent, and reset in the child.

An object takes part if it is passed to `register`. SQLite's connections must not be carried across a fork
(https://sqlite.org/howtocorrupt.html, 2.6), and a lock that another thread holds during the fork stays locked in the
child. A registered object has:

- ``reset()``: in the child, forget everything that belongs to the parent, and make new locks;
- ``pause(timeout)`` and ``resume()``, if it cannot be copied while it is in use. Before the fork, `pause` finishes the
  work under way within *timeout* seconds and starts no other, or returns False. In the parent, `resume` continues.

Only a weak reference to the object is kept, so it need not be unregistered. It must be hashable by identity. The order
of objects is not defined, so the `reset` of an object must not depend on the `reset` of another object.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar, runtime_checkable

logger: logging.Logger = logging.getLogger("fsm_mediator")

T = TypeVar("T")

CREATING: Final = threading.Lock()
"""A lock that is held while a SQLite file is created or opened.

A fork waits for it. So a child process never gets a copy of SQLite's own locks while they are locked.
"""

FORKING: Final = threading.Lock()
"""A lock that is held from before a fork until after it, in the parent and in the child."""

PATIENCE = 5.0
"""The number of seconds for which a fork waits for each object to pause.

This can take a while, because a commit may have to wait for the locks of other processes.
"""


class Forkable(Protocol):
    """An object with state that belongs to this process alone."""

    def reset(self) -> None:
        """Forget the state that belongs to the parent process. Called in the child process."""


@runtime_checkable
class Pausable(Forkable, Protocol):
    """An object that cannot be copied while it is in use."""

    def pause(self, timeout: float) -> bool:
        """Finish the running work and start no other, before the fork.

        Returns False if this takes longer than *timeout* seconds.
        """

    def resume(self) -> None:
        """Continue the work. Called in the parent process after the fork, if `pause` returned True."""


_known: weakref.WeakSet[Forkable] = weakref.WeakSet()
_paused: list[Pausable] = []


def register(forkable: Forkable) -> None:
    """Let *forkable* take part in every fork as long as it exists."""
    _known.add(forkable)


def registered() -> list[Forkable]:
    """Every registered object that still exists."""
    while True:
        try:
            return list(_known)
        except RuntimeError:  # another thread registers an object at this moment
            continue


def before_fork() -> None:
    """Acquire the locks `FORKING` and `CREATING`, and pause every registered object. Errors are logged."""
    # If a fork hook raises, Python prints the error and forks anyway. So an error must not end this function early.
    FORKING.acquire()
    for each in registered():
        if not isinstance(each, Pausable):
            continue
        try:
            paused = each.pause(PATIENCE)
        except BaseException:
            logger.exception("%r could not pause before the process forked", each)
            paused = False
        if paused:
            _paused.append(each)
        else:
            logger.warning(
                "%r was in use while the process forked; the child leaves the parent's connections alone", each
            )
    while True:
        try:
            CREATING.acquire()
            break
        except BaseException:
            logger.exception("interrupted just before the process forked")


def after_in_parent() -> None:
    """Resume every object that `before_fork` has paused, and release both locks. Errors are logged."""
    _after(_paused, lambda each: each.resume())


def after_in_child() -> None:
    """Reset every registered object, and release both locks. Errors are logged."""
    _after(registered(), lambda each: each.reset())


def _after(objects: Iterable[T], continue_with: Callable[[T], None]) -> None:
    CREATING.release()
    try:
        for each in objects:
            try:
                continue_with(each)
            except BaseException:
                logger.exception("%r could not go on after the process forked", each)
    finally:
        _paused.clear()
        FORKING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=before_fork, after_in_parent=after_in_parent, after_in_child=after_in_child)
