"""One screen for a running campaign: the phase, the cell, the time left; plain lines where nobody watches."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from tasks import progress
from tasks.cli.output import printable

PREFECT_START_S = 8.0


class Clock:
    """Turns the phases said so far into the share done and the seconds left.

    `queues_s` are the seconds of each host's work, which hosts do side by side: the one that has most left
    decides. What is said of no host, or of one without a queue, counts to the `rest_s` before and after.
    """

    def __init__(self, rest_s: float, queues_s: Mapping[str, float] | None = None) -> None:
        self._expected_s = {"": rest_s, **(queues_s or {})}
        self._done_s = dict.fromkeys(self._expected_s, 0.0)
        self._phases = dict.fromkeys(self._expected_s, (0.0, time.monotonic()))
        self.total_s = self.left_s

    def begin(self, expected_s: float, host: str = "") -> None:
        """A phase began; the one before it on that host is done."""
        queue = host if host in self._expected_s else ""
        self._done_s[queue] += self._phases[queue][0]
        self._phases[queue] = expected_s, time.monotonic()

    def _left_of(self, queue: str) -> float:
        phase_s, began = self._phases[queue]
        done_s = self._done_s[queue] + min(time.monotonic() - began, phase_s)
        return max(self._expected_s[queue] - done_s, 0.0)

    @property
    def left_s(self) -> float:
        """Seconds left, by what the phases to come are expected to take."""
        hosts = [self._left_of(queue) for queue in self._expected_s if queue]
        return self._left_of("") + max(hosts, default=0.0)

    @property
    def done_s(self) -> float:
        """Seconds' worth of work done, by the same measure."""
        return self.total_s - self.left_s


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
    rest_s: float,
    queues_s: Mapping[str, float] | None = None,
    first: str = "start Prefect",
    first_s: float = PREFECT_START_S,
) -> Iterator[None]:
    """Show what is said by `tasks.progress` in this process until the block ends; seconds as for a Clock."""
    if not sys.stderr.isatty():
        with progress.listening(_say_line):
            yield
        return
    clock = Clock(rest_s, queues_s)
    clock.begin(first_s)
    columns = (
        BarColumn(24),
        TimeElapsedColumn(),
        TimeLeft(clock),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2, transient=True) as bar:
        now: dict[str, str] = {}  # on each host
        task = bar.add_task(first, total=clock.total_s)

        def show(said: progress.Progress) -> None:
            clock.begin(said.expected_s, said.host)
            now[said.host] = _words(said)
            shown = [words for host, words in now.items() if host] if said.host else [now[""]]
            bar.update(task, description="; ".join(shown))

        with progress.listening(show):
            yield


def _say_line(said: progress.Progress) -> None:
    print(f"{time.strftime('%H:%M:%S')} {_words(said)}", file=sys.stderr, flush=True)  # noqa: T201  the log of a run nobody watches


def _words(said: progress.Progress) -> str:
    host = f"{said.host}: " if said.host and said.detail != said.host else ""
    cell = f"cell {said.cell} of {said.cells}: " if said.cell else ""
    return printable(host + cell + said.phase + (f" ({said.detail})" if said.detail else ""))
