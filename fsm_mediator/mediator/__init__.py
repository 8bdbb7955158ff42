"""Mediators, which own, drive, recover and command executions."""
