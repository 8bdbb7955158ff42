"""Sagas in web apps: one module for each framework, and the module ``http`` with their common code."""
