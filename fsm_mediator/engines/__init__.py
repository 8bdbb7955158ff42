"""Engines: sagas on durable execution engines. The engine's log takes the place of the journal.

``replay`` and ``driving`` are the interface for all engines. The engine logs records. A replay applies the logged
records and decides nothing again. The loop in ``driving`` waits whenever the execution waits. ``temporal`` and
``restate`` are the adapters; each needs its own extra. ``projection`` copies an engine's executions into a journal.
"""
