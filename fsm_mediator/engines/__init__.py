"""Engines: sagas on durable execution engines. The log of the engine replaces the journal.

The modules ``replay`` and ``driving`` are the interface for all engines. The engine logs the records of an execution. A
replay of the log applies these records and makes no decision again. The folders ``temporal`` and ``restate`` are the
adapters. Each adapter needs its own extra. The module ``projection`` copies an engine's executions into a journal.
"""
