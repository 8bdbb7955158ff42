"""Observers: who is told of each transition, after its commit, in order, at most once."""
