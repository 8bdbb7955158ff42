"""Journals: where records are kept. The protocol, a journal in memory, and one in a SQLite file."""
