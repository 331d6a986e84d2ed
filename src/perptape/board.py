"""The live status of a recording, which it can neither hold up nor end."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import Self

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from perptape.status import MarketStatus
from perptape.wording import printable

Say = Callable[[object], None]
LEAVE_S = 0.5
"""How long the board may take to show the last, twice."""


class Board:
    """The live status: a table on a terminal, else a JSON line a second for each market.

    A thread of its own draws it, so that neither a stopped terminal, nor a pipe that nobody reads,
    nor a full disk under a log can hold up the recording or end it.
    """

    def __init__(self, tape: Path, *, as_json: bool, say: Say) -> None:
        self._tape, self._say, self._as_json = tape, say, as_json
        self._next: Queue[Sequence[MarketStatus] | None] = Queue(maxsize=1)
        self._thread = Thread(target=self._run, name="board", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Full):
            self._next.put(None, timeout=LEAVE_S)
        self._thread.join(LEAVE_S)
        if self._thread.is_alive():  # it will never end, and holds on to this output
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process

    def show(self, markets: Sequence[MarketStatus]) -> None:
        """Take what is to be shown, unless what came before is not shown yet."""
        with suppress(Full):
            self._next.put_nowait(markets)

    def _run(self) -> None:
        try:
            if self._as_json:
                self._print()
            else:
                self._draw()
        except (OSError, ValueError, SystemExit):  # the reader has gone; the recording goes on
            hush()

    def _print(self) -> None:
        while (markets := self._next.get()) is not None:
            for market in markets:
                self._say(msgspec.json.encode(market).decode())

    def _draw(self) -> None:
        with Live(console=Console(), auto_refresh=False) as live:
            while (markets := self._next.get()) is not None:
                live.update(status_table(self._tape, markets), refresh=True)


def hush() -> None:
    """Let nothing be printed any more: whoever read it has gone."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_terminal() -> bool:
    """Tell whether a person sees what is printed; there may be no output at all."""
    return sys.stdout is not None and sys.stdout.isatty()


STATE_STYLES = {"live": "green", "late": "yellow", "silent": "yellow", "connecting": "yellow"}


def status_table(tape: Path, markets: Sequence[MarketStatus]) -> Table:
    """Draw what ``record`` shows a person."""
    backlog = markets[0].backlog_frames if markets else 0
    free = markets[0].disk_free_b if markets else None
    room = "" if free is None else f", {free / 1e9:,.1f} GB free"
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=Text(
            f"recording into {printable(str(tape))} · {backlog:,} frames not yet in a segment{room}"
        ),
        title_justify="left",
        title_style="dim",
    )
    for head, justify in (("market", "left"), ("state", "left"), ("frames", "right")):
        table.add_column(head, justify="right" if justify == "right" else "left", no_wrap=True)
    table.add_column("last", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for market in markets:
        age = "" if market.last_age_s is None else f"{market.last_age_s:.1f} s ago"
        state = Text(market.state, style=STATE_STYLES.get(market.state, "red"))
        table.add_row(
            Text(market.market),
            state,
            f"{market.frames:,}",
            age,
            Text(printable(market.error or "")),
        )
    return table
