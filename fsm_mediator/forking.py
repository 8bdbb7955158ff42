"""Forking: what has to hold still while a process forks, and to begin anew in the child.

SQLite's connections must not be carried across a fork (https://sqlite.org/howtocorrupt.html, 2.6), nor may a lock be
copied while another thread holds it. So before a fork everything here is brought to rest; parent and child go on by
opening connections of their own.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Final, Protocol

logger = logging.getLogger("fsm_mediator")

CREATING: Final = threading.Lock()
"""Held while a SQLite file is created or connected to, and so never copied into a child while it is held."""

PATIENCE = 5.0
"""Seconds that a fork waits for those who write and read; a commit may take as long as other processes' locks last."""


class Forkable(Protocol):
    """Something that cannot be copied into a child as it is."""

    def rest(self, timeout: float) -> bool:
        """Come to rest within *timeout* seconds and stay so; whether it could."""

    def go_on(self) -> None:
        """In the parent: go on."""

    def begin_anew(self) -> None:
        """In the child: forget what the parent had."""


_known: weakref.WeakSet[Forkable] = weakref.WeakSet()
_forking = threading.Lock()
_resting: list[Forkable] = []


def watch(forkable: Forkable) -> None:
    """Have *forkable* come to rest before every fork, as long as it exists."""
    _known.add(forkable)


def _all() -> list[Forkable]:
    while True:
        try:
            return list(_known)
        except RuntimeError:  # another thread is just making one
            continue


def _before() -> None:
    # What is raised here ends no fork: Python says it and goes on, and what was half-way would stay so.
    _forking.acquire()
    for each in _all():
        try:
            rests = each.rest(PATIENCE)
        except BaseException:
            logger.exception("%r could not come to rest before the process forked", each)
            rests = False
        if rests:
            _resting.append(each)
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


def _in_parent() -> None:
    _after(_resting, lambda each: each.go_on())


def _in_child() -> None:
    _after(_all(), lambda each: each.begin_anew())


def _after(those: list[Forkable], go: Callable[[Forkable], None]) -> None:
    CREATING.release()
    try:
        for each in those:
            try:
                go(each)
            except BaseException:
                logger.exception("%r could not go on after the process forked", each)
    finally:
        _resting.clear()
        _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
