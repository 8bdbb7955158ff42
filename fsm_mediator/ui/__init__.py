"""Monitor: web pages for operators. Mount it into an app, or start it with ``fsm-mediator ui``.

The pages show the executions with problems and the details of each execution. Operators can use verbs such as
``retry``. The monitor needs the extra ``ui``.
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
