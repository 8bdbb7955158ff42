"""Engines: sagas on durable execution engines. The engine's log takes the place of the journal.

``replay`` and ``driving`` are the seam: an engine logs records, a replay folds them and judges nothing, and the loop
waits where the execution does. ``temporal`` and ``restate`` are the adapters, each with an extra of its own.
``projection`` follows an engine into a journal.
"""
