"""Observers: functions that are called with each record after its commit, in order, at most once per record."""
