"""The processor time of a PostgreSQL server.

DBOS's environment imports this module too, so it needs only the standard library.
"""

from __future__ import annotations

import os
from pathlib import Path


def server_seconds(postmaster: int) -> float:
    """The CPU time of all processes of the server. Processes that have ended count too."""
    ticks = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(folder.name) == postmaster:
                ticks += sum(map(int, fields[11:15]))
            elif int(fields[1]) == postmaster:
                ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")
