"""Explorer: play through a saga by hand, before you write the code of its steps.

The explorer uses the same machine and rules that drive real executions. A person chooses the result of each effect.
Notebook libraries are imported only when a notebook shows the explorer.
"""

from __future__ import annotations

from fsm_mediator.explorer.explorer import Explorer, explore
from fsm_mediator.explorer.moments import Choice, Moment

__all__ = ["Choice", "Explorer", "Moment", "explore"]
