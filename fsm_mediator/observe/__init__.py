"""Observers: functions that a driver calls with each record after its commit, in order and at most once per record."""
