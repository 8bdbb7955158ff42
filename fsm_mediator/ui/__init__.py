"""Monitor: a web page for operators, to be mounted into an app or started with ``fsm-mediator ui``.

It shows what is wrong, one execution in full, and takes the verbs of an operator. It needs the extra ``ui``.
"""

from __future__ import annotations

from fsm_mediator.errors import MissingExtraError

try:
    from fsm_mediator.ui.access import LOOK, VERBS, Operator
    from fsm_mediator.ui.monitor import Monitor
except ImportError as _error:
    if not (_error.name or "").startswith(("starlette", "jinja2", "markupsafe")):
        raise
    raise MissingExtraError("the operator's pages", "ui") from _error

__all__ = ["LOOK", "VERBS", "Monitor", "Operator"]
