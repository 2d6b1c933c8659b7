"""Which cells of a campaign wait for which host; every host's thread asks it for the next one."""

import threading
from collections import deque
from collections.abc import Collection, Sequence

from tasks.books import FAILED, PENDING
from tasks.plan import Cell
from tasks.settings import LprismError
from tasks.spec import Host

CELL_TRIES = 3  # a cell under which the link was lost so often is a failed one


class CampaignIncomplete(LprismError):
    """Cells are left that no host could run; `complete` of them are."""

    def __init__(self, text: str, complete: int) -> None:
        super().__init__(text)
        self.complete = complete


class Board:
    """The cells of a campaign, shared by the threads of its hosts. `cells` is how many the campaign has."""

    def __init__(self, waiting: Sequence[Cell], hosts: Sequence[Host], cells: int) -> None:
        self.cells = cells
        self.stopped = threading.Event()
        self.statuses = {cell.run_id: PENDING for cell in waiting}
        self.reasons: dict[str, str] = {}  # why a host gave up, by its name
        self.finished = {host.name: 0 for host in hosts}
        self._groups = {host.name: host.group or host.name for host in hosts}
        self._own = {host.name: deque(cell for cell in waiting if cell.host == host.name) for host in hosts}
        self._orphans: dict[str, deque[Cell]] = {group: deque() for group in self._groups.values()}
        self._at_work = set(self._own)
        self._idle: set[str] = set()  # these wait for what others leave, and leave nothing themselves
        self._losses: dict[str, int] = {}
        self._changed = threading.Condition()

    def mine(self, host: str) -> list[Cell]:
        """The cells that wait for a host, and those that its group was left."""
        with self._changed:
            return [*self._own[host], *self._orphans[self._groups[host]]]

    def has_more(self, host: str) -> bool:
        """Whether a cell waits for a host; waits itself while another of its group may still leave some.

        Raises KeyboardInterrupt once the campaign is stopped.
        """
        with self._changed:
            while not self.stopped.is_set():
                if self.mine(host):
                    return True
                if not self._others_at_work(host, but=self._idle):
                    return False
                self._idle.add(host)
                self._changed.notify_all()
                self._changed.wait(1.0)
                self._idle.discard(host)
        raise KeyboardInterrupt

    def take(self, host: str) -> Cell | None:
        """The next cell of a host, as soon as there is one; None when all is done, or KeyboardInterrupt."""
        with self._changed:
            if not self.has_more(host):
                return None
            return (self._own[host] or self._orphans[self._groups[host]]).popleft()

    def _others_at_work(self, host: str, but: Collection[str] = ()) -> bool:
        group, others = self._groups[host], self._at_work - {host, *but}
        return any(self._groups[other] == group for other in others)

    def put_back(self, host: str, cell: Cell) -> None:
        """The link was lost under this cell: it is the first that the host tries again."""
        with self._changed:
            self._losses[cell.run_id] = self._losses.get(cell.run_id, 0) + 1
            self._own[host].appendleft(cell)

    def last_try(self, cell: Cell) -> bool:
        """Whether the cell fails if the link is lost once more."""
        return self._losses.get(cell.run_id, 0) >= CELL_TRIES - 1

    def done(self, host: str, cell: Cell, status: str) -> None:
        """A cell has its bundle, made on this host."""
        with self._changed:
            self.statuses[cell.run_id] = status
            self.finished[host] += 1

    def leave(self, host: str, error: BaseException | None = None, *, hand_over: bool = True) -> None:
        """A host takes no more cells; what waits for it goes to its group, if others of that are at work."""
        with self._changed:
            self._at_work.discard(host)
            if error is not None:
                self.reasons.setdefault(host, str(error) or repr(error))
            if hand_over and self._others_at_work(host):
                self._orphans[self._groups[host]].extend(self._own[host])
                self._own[host].clear()
            self._changed.notify_all()

    def stop(self) -> None:
        """End it all: every thread raises KeyboardInterrupt where it is, and cleans its host."""
        self.stopped.set()
        with self._changed:
            self._changed.notify_all()

    def count(self, status: str) -> int:
        """How many of the cells of this board have a status."""
        with self._changed:
            return sum(one == status for one in self.statuses.values())

    def judge(self, campaign: str) -> None:
        """Raise CampaignIncomplete when cells are left, with what every host said that gave up."""
        pending = self.count(PENDING)
        if pending:
            complete = self.cells - pending - self.count(FAILED)
            done = f"{complete} of {self.cells} cells complete"
            failed = f", {self.count(FAILED)} failed" if self.count(FAILED) else ""
            reasons = "; ".join(self.reasons.values()) or "interrupted"
            raise CampaignIncomplete(
                f"{campaign}: {done}{failed}, {pending} pending: {reasons}\n"
                f"`lprism campaign resume {campaign}` goes on with it",
                complete,
            )
