"""A deadline for a database server that does not answer, although its connection stays open.

Neither TCP nor libpq notices a server whose process is stopped: its kernel acknowledges what is sent, and a statement
timeout is the server's own. So a thread shuts the socket down when the server takes too long, and the statement that
waits for it fails at once.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

import psycopg


class Watch:
    """Shuts a connection down unless `extend` is called every `seconds` seconds, until the block ends.

    For use with `with`. cut: whether the connection was shut down.
    """

    def __init__(self, connection: psycopg.Connection[Any], seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._condition = threading.Condition()
        self._ended = False
        self.cut = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="directory's deadline", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._condition:
            self._ended = True
            self._condition.notify()

    def extend(self) -> None:
        """Count the time from now on."""
        self._until = time.monotonic() + self._seconds

    def shut_down(self) -> None:
        """Shut the connection down now. May be called in any thread."""
        with self._condition:
            if not self._ended:  # afterwards the descriptor may be another's
                self._ended = self.cut = True
                self._condition.notify()
                shut_down(self._connection)

    def _run(self) -> None:
        with self._condition:
            while not self._ended:
                left = self._until - time.monotonic()
                if left <= 0:
                    break
                self._condition.wait(left)
        self.shut_down()


def shut_down(connection: psycopg.Connection[Any]) -> None:
    """Shut down the socket of a connection, in both directions. The descriptor stays open."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as other:
            other.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):  # it is closed already
        return
