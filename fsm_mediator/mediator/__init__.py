"""Mediators: the drivers that ask an execution what is to be done, do it, feed what came of it, and journal it."""
