"""Explorer: play a saga through by hand, before one line of a step is written.

The saga that is played is the machine that runs, through the `feed` that decides; a person presses what comes of each
effect. Nothing here imports a notebook's libraries before a notebook asks for something to show.
"""

from __future__ import annotations

from fsm_mediator.explorer.explorer import Explorer, explore
from fsm_mediator.explorer.moments import Choice, Moment

__all__ = ["Choice", "Explorer", "Moment", "explore"]
