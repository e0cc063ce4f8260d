"""The agent's side of a fetch."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from pymon.apps.protocol import MAX_LINE_BYTES, AppError, line_of, read_answer

if TYPE_CHECKING:
    from pathlib import Path

    from pymon.apps.protocol import Ask


async def ask_fetcher(path: Path, ask: Ask, seconds: float) -> bytes:
    """Return the body that the fetcher at a Unix socket gets. Raises AppError.

    seconds: how long it may take; with more than the ask says, the fetcher tells what was too slow. The fetch ends when
    this is cancelled, because the fetcher notices that the connection has ended.
    """
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(os.fspath(path), limit=MAX_LINE_BYTES)
            writer.write(line_of(ask))
            return await reader.readexactly(read_answer(await reader.readuntil(b"\n"), ask.max_bytes))
    except TimeoutError:
        raise AppError("timeout", "no answer in time") from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise AppError("fetcher", "the fetcher ended without an answer") from None
    except OSError as error:
        raise AppError("fetcher", f"the fetcher cannot be asked: {error.strerror or error}") from None
    finally:
        if writer is not None:
            writer.transport.abort()
