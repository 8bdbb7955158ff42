"""A proxy in front of PostgreSQL that counts a client's statements, and ends its connection at one of them."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

from tests.postgres_server import Server

When = Literal["before", "after"]


class StatementProxy:
    """Ends the connection at the statement with a number: before the server has it, or after it was executed.

    Args:
        server: The server.

    Attributes:
        port: Where clients connect to, on 127.0.0.1.
        at: The number of the statement, from 1. 0: none.
        when: Before the server has the statement; or after its answer, which the client does not get.
        strike: Called at that moment, before the connection ends.
        count: How many statements have come.
    """

    def __init__(self, server: Server) -> None:
        self._path = f"{server.folder}/.s.PGSQL.{server.port}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.at, self.count = 0, 0
        self.when: When = "before"
        self.strike: Callable[[], object] = lambda: None
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, address: str) -> str:
        """The address of a database of the server, through this proxy."""
        database = address.partition("@/")[2].partition("?")[0]
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable&gssencmode=disable"

    def arm(self, at: int, when: When) -> None:
        """Count from 0 again, and strike there."""
        self.at, self.when, self.count = at, when, 0

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._path)
                self._sockets += [client, server]
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        answered, muted = threading.Event(), threading.Event()

        def answer() -> None:
            with contextlib.suppress(OSError):
                for message in messages(server):
                    if not muted.is_set():
                        client.sendall(message)
                    elif message[:1] == b"Z":  # the server is ready for the next one
                        answered.set()
            answered.set()
            close(client)

        threading.Thread(target=answer, daemon=True).start()
        with contextlib.suppress(OSError):
            first = read(client, 4)
            server.sendall(first + read(client, struct.unpack("!I", first)[0] - 4))
            held = b""
            for message in messages(client):
                held += message
                if message[:1] in (b"Q", b"S"):  # a query, or the end of one that came in parts
                    self.count += 1
                    if self.count == self.at:
                        if self.when == "after":
                            muted.set()
                            server.sendall(held)
                            assert answered.wait(60)
                        self.strike()
                        break
                    server.sendall(held)
                    held = b""
                elif message[:1] not in b"PBDEC":
                    server.sendall(held)
                    held = b""
        close(server)
        close(client)

    def close(self) -> None:
        """Take no more connections, and end all."""
        self._listener.close()
        for each in self._sockets:
            close(each)
            each.close()


def messages(source: socket.socket) -> Iterator[bytes]:
    """The messages that come from there, until it ends."""
    while head := read(source, 5):
        yield head + read(source, struct.unpack("!I", head[1:])[0] - 4)


def read(source: socket.socket, size: int) -> bytes:
    """So many bytes; none where the source has ended."""
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


def close(each: Any) -> None:
    """End a connection in both directions."""
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
