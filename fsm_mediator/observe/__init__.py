"""Observers: called for each transition after its commit, in order, at most once."""
