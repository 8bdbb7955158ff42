"""Sagas in web apps: one module for each framework, and ``http`` with their common code. Import what you need."""
