"""Mediators: they own, drive, recover and command executions."""
