"""Real crashes: run work in a forked child process, which can kill itself with SIGKILL."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable

from fsm_mediator.errors import DefinitionError, MediatorError


def kill() -> None:
    """Kill this process at once, with SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_child(work: Callable[[], object]) -> bool:
    """Run *work* in a child process. Returns whether the child was killed with SIGKILL.

    Raises:
        MediatorError: The child failed. Its standard error shows the cause.
        DefinitionError: This system cannot fork.
    """
    if not hasattr(os, "fork"):
        raise DefinitionError("processes cannot be killed on this system, because it has no fork")
    with warnings.catch_warnings():
        # Since 3.12, Python warns if a process with threads forks. The child does not need those threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status != 0:
        raise MediatorError(
            f"the child process that was to be killed ended by itself with status {status}; its standard error says why"
        )
    return False
