"""One screen for a running campaign: the phase, the cell, the time left; plain lines where nobody watches."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from tasks import progress
from tasks.cli.output import printable

PREFECT_START_S = 8.0


class Clock:
    """Turns the phases said so far into the share done and the seconds left."""

    def __init__(self, total_s: float) -> None:
        self._total_s = total_s
        self._done_s = 0.0
        self._phase_s = 0.0
        self._phase_began = time.monotonic()

    def begin(self, expected_s: float) -> None:
        """A phase began; the one before it is done."""
        self._done_s += self._phase_s
        self._phase_s, self._phase_began = expected_s, time.monotonic()

    @property
    def done_s(self) -> float:
        """Seconds' worth of work done, by what its phases were expected to take."""
        return min(self._done_s + min(time.monotonic() - self._phase_began, self._phase_s), self._total_s)

    @property
    def left_s(self) -> float:
        """Seconds left by the same measure."""
        return self._total_s - self.done_s


class TimeLeft(ProgressColumn):
    """The seconds left, as minutes and seconds."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def render(self, task: Task) -> Text:
        """Also moves the bar on: this is called at every refresh."""
        task.completed = self._clock.done_s
        left = round(self._clock.left_s)
        return Text(f"{left // 60}:{left % 60:02} left")


@contextmanager
def campaign_screen(
    total_s: float, first: str = "start Prefect", first_s: float = PREFECT_START_S
) -> Iterator[None]:
    """Show what is said by `tasks.progress` in this process until the block ends."""
    if not sys.stderr.isatty():
        with progress.listening(_say_line):
            yield
        return
    clock = Clock(total_s)
    clock.begin(first_s)
    columns = (
        BarColumn(24),
        TimeElapsedColumn(),
        TimeLeft(clock),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2, transient=True) as bar:
        task = bar.add_task(first, total=total_s)

        def show(said: progress.Progress) -> None:
            clock.begin(said.expected_s)
            bar.update(task, description=_words(said))

        with progress.listening(show):
            yield


def _say_line(said: progress.Progress) -> None:
    print(f"{time.strftime('%H:%M:%S')} {_words(said)}", file=sys.stderr, flush=True)  # noqa: T201  the log of a run nobody watches


def _words(said: progress.Progress) -> str:
    cell = f"cell {said.cell} of {said.cells}: " if said.cell else ""
    return printable(cell + said.phase + (f" ({said.detail})" if said.detail else ""))
