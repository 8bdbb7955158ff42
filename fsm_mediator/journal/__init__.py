"""Journals, which store records: the protocol, and implementations in memory, SQLite and PostgreSQL."""
