"""``python -m fsm_mediator`` is the command ``fsm-mediator``."""

from __future__ import annotations

from fsm_mediator.cli import main

if __name__ == "__main__":
    main()
