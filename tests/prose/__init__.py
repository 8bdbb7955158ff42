"""Plain English, held by a ratchet: sentences of pages, docstrings, comments and messages, and the rules for them.

``python -m tests.prose README.md`` lists the flagged sentences of files. The rules are in `rules`, the ceilings in
``ceilings.tsv``. A count may fall and never rise, and a new file begins at zero.
"""
