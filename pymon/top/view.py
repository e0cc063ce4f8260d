"""The live view: reads keys and the summary, and puts the lines of `pymon.top.screen` on the terminal."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from pymon.top import screen
from pymon.top.client import AskError, Client, Target
from pymon.top.document import SummaryError, decoded

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.app import ComposeResult
    from textual.events import Key, Resize

    from pymon.top.screen import Line, Watch

MANY = 1000
MANY_SECONDS = 5.0
"""Above `MANY` containers, this is the least time between two readings."""

_STYLES = {
    "": Style(),
    "bold": Style(bold=True),
    "dim": Style(dim=True),
    "chosen": Style(reverse=True),
    "good": Style(color="green"),
    "bad": Style(color="red", bold=True),
}


class Asked(NamedTuple):
    """What is watched, and how often, in seconds."""

    target: Target
    interval: float


class Board(Widget, can_focus=True):
    """The terminal but for the line in which a filter is typed."""

    DEFAULT_CSS = "Board { height: 1fr; background: ansi_default; color: ansi_default; }"

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch
        self._lines: list[Line] = []

    def redraw(self) -> None:
        """Draw the watch as it is now in the size of the terminal."""
        self._lines = screen.draw(self._watch, self.size.width, self.size.height)
        self.refresh()

    def on_resize(self, _: Resize) -> None:
        """Show as much as there is room for."""
        self.redraw()

    def render_line(self, y: int) -> Strip:
        """Return a line of the terminal."""
        line = self._lines[y] if y < len(self._lines) else []
        strip = Strip([Segment(text, _STYLES[style]) for text, style in line])
        return strip.adjust_cell_length(self.size.width, _STYLES[""])


class TopApp(App[str]):
    """`pymon top`. Ends with a text if something went wrong that should not have."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    Input { height: 1; border: none; padding: 0; background: ansi_default; color: ansi_default; display: none; }
    """
    BINDINGS: ClassVar = [("ctrl+c,ctrl+q", "quit", "End"), ("ctrl+z", "suspend_process", "Stop")]

    def __init__(self, watch: Watch, asked: Asked) -> None:
        super().__init__(ansi_color=True)
        self._watch = watch
        self._asked = asked
        self._board = Board(watch)
        self._filter = Input(
            placeholder="words, all of which must be there; Enter", compact=True, select_on_focus=False
        )
        self._polling: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        """Yield the table and the line of the filter."""
        yield self._board
        yield self._filter

    def on_mount(self) -> None:
        """Start to ask the server in the background, and end the program on SIGTERM and SIGHUP."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.exit)
        self._board.focus()
        self._polling = asyncio.create_task(self._poll())

    async def on_unmount(self) -> None:
        """Stop asking the server, and return when a request that is under way was cancelled."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    def panic(self, *_: RenderableType) -> None:
        """End without a traceback: this is called with one, for example when a key is no UTF-8."""
        self.exit(message=None, return_code=1, result="internal error: the terminal sent what cannot be read")

    # --- the numbers -----------------------------------------------------------------------------

    async def _poll(self) -> None:
        try:
            async with Client(self._asked.target) as client:
                while True:
                    begun = time.monotonic()
                    pause = max(self._asked.interval, await self._read(client))
                    await asyncio.sleep(max(0.0, begun + pause - time.monotonic()))
        except Exception as error:  # noqa: BLE001  # the last resort against a traceback
            self.exit(result=f"internal error: {type(error).__name__}: {error}", return_code=1)

    async def _read(self, client: Client) -> float:
        """Read and show once. Return the least time until the next reading, in seconds."""
        watch = self._watch
        pause = 0.0
        try:
            summary = await asyncio.to_thread(decoded, await client.summary())
        except AskError as error:
            watch.problem, pause = str(error), error.pause
        except SummaryError as error:
            watch.problem = str(error)
        else:
            watch.problem, watch.read_at = "", time.time()
            watch.model.update(summary)
            watch.order()
            if watch.mode == "table" and watch.chosen not in watch.model.containers:
                watch.chosen = None
        self._board.redraw()
        return max(pause, MANY_SECONDS if len(watch.model.containers) > MANY else 0.0)

    # --- keys ------------------------------------------------------------------------------------

    def on_key(self, event: Key) -> None:
        """Do what a key says. The line of the filter has its own keys."""
        if self._filter.has_focus:
            if event.key == "escape":
                self._end_filter(keep=False)
            return
        act = self._keys().get(event.key) or self._keys().get(event.character or "")
        if act is not None:
            event.prevent_default()
            act()
            self._board.redraw()

    def _keys(self) -> dict[str, Callable[[], object]]:
        watch = self._watch
        page = screen.rows_in_view(self._board.size.height)
        keys: dict[str, Callable[[], object]] = {
            "q": self.exit,
            "escape": self._back,
            "down": lambda: watch.move(1),
            "j": lambda: watch.move(1),
            "up": lambda: watch.move(-1),
            "k": lambda: watch.move(-1),
        }
        if watch.mode != "table":
            return keys
        return keys | {
            "?": lambda: self._mode("help"),
            "h": lambda: self._mode("help"),
            "enter": lambda: self._mode("one") if watch.rows else None,
            "pagedown": lambda: watch.move(page),
            "pageup": lambda: watch.move(-page),
            "home": self._first,
            "end": lambda: watch.move(len(watch.rows)),
            "right": lambda: watch.sort_by(1),
            ">": lambda: watch.sort_by(1),
            "left": lambda: watch.sort_by(-1),
            "<": lambda: watch.sort_by(-1),
            "r": self._reverse,
            "/": self._begin_filter,
        }

    def _mode(self, mode: str) -> None:
        watch = self._watch
        if mode == "one":
            watch.chosen = watch.rows[watch.at()].row.uuid
        watch.mode = mode

    def _first(self) -> None:
        self._watch.chosen = None

    def _back(self) -> None:
        watch = self._watch
        if watch.mode != "table":
            watch.mode = "table"
        else:
            watch.words = ""
            watch.order()

    def _reverse(self) -> None:
        self._watch.down = not self._watch.down
        self._watch.order()

    def _begin_filter(self) -> None:
        self._filter.value = self._watch.words
        self._filter.display = True
        self._filter.focus()

    def _end_filter(self, *, keep: bool) -> None:
        watch = self._watch
        if not keep:
            watch.words = ""
            watch.order()
        self._filter.display = False
        self._board.focus()
        self._board.redraw()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what the words typed so far leave."""
        if self._filter.has_focus:
            self._watch.words = event.value
            self._watch.order()
            self._board.redraw()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """Go back to the table, filtered."""
        self._end_filter(keep=True)


def watch_live(watch: Watch, asked: Asked) -> str | None:
    """Show until the user ends it. Return None, or one line about what went wrong."""
    app = TopApp(watch, asked)
    return app.run(mouse=False)
