"""Whole sagas, one a file, to copy and change. ``docs/cookbook.md`` shows each with its picture."""
