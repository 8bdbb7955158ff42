"""Servers and a network that fail: a TCP proxy that cuts, delays and half-closes, and a standby."""

from __future__ import annotations

import contextlib
import random
import socket
import threading

import psycopg

from tests.postgres_server import Server


class Proxy:
    """A TCP proxy in front of a server: it does to each connection what it is told, at a random moment.

    Args:
        port: Of the server, on 127.0.0.1.
        seed: Of its luck.
    """

    def __init__(self, port: int, seed: int) -> None:
        self._server = port
        self._luck = random.Random(seed)  # noqa: S311 - a test's
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.slow = threading.Event()
        self.done: dict[str, int] = {"cut": 0, "half": 0, "delay": 0}
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server))
            except OSError:
                client.close()
                continue
            self.pairs.append((client, server))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.slow.is_set():
                    threading.Event().wait(0.3)
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def disturb(self) -> None:
        """Cut one connection, close one half of one, or be slow for a while."""
        how = self._luck.choice(list(self.done))
        self.done[how] += 1
        if how == "delay":
            self.slow.set()
            threading.Timer(1.0, self.slow.clear).start()
            return
        open_pairs = [pair for pair in self.pairs if pair[0].fileno() >= 0]
        if open_pairs:
            client, server = self._luck.choice(open_pairs)
            with contextlib.suppress(OSError):
                if how == "cut":
                    client.shutdown(socket.SHUT_RDWR)
                    server.shutdown(socket.SHUT_RDWR)
                else:  # what the client sends is heard no more; what the server says still comes
                    self._luck.choice((client, server)).shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Cut all, and take no connection any more."""
        self._listener.close()
        for pair in self.pairs:
            for each in pair:
                each.close()


class Standby(Server):
    """A server that follows another one by streaming replication, until it is promoted."""

    def __init__(self, primary: Server) -> None:
        self.primary = primary
        super().__init__()

    def initialise(self) -> None:
        """As `Server.initialise`: a copy of the primary."""
        at = f"host={self.primary.folder} port={self.primary.port} user=postgres application_name=standby"
        self.run(
            "pg_basebackup", "-D", str(self.data), "-d", at, "-R", "-X", "stream", "-C", "-S", "standby", "-c", "fast"
        )

    def follow_in_step(self) -> None:
        """Have the primary wait for the standby at each commit."""
        self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self.primary.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Be the primary from now on."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")
