"""The same saga in a web app on FastAPI, on Flask and on Django; docs/embedding.md explains the details."""

from __future__ import annotations

from examples.in_apps.shop import order

__all__ = ["order"]
