"""What one host does in a campaign: its cells one after another, over links that may go and come again."""

import getpass
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.addresses import reachable
from tasks.board import Board
from tasks.books import (
    COMPLETE,
    FAILED,
    close_campaign,
    folder_of,
    open_campaign,
    outcomes,
    reopen_campaign,
    running,
    to_run,
)
from tasks.fault import UndoFailed
from tasks.host.facts import usable_cpus
from tasks.plan import Cell
from tasks.progress import Progress, say
from tasks.remote import Address, HostBusy, LinkError, Supervisor, supervise
from tasks.session import CampaignStopped, HostSession
from tasks.settings import LprismError
from tasks.spec import LAB, CampaignSpec, Host

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # before each try to reach a host; a finished cell starts them again
OWN_LEASE_S = 90.0  # what we left on a host is undone, and the host free again, within this
BUSY_POLL_S = 5.0
BUSY_WAIT_S = 86_400.0

CheckHost = Callable[[HostSession, Sequence[Cell]], None]
RunCell = Callable[[HostSession, Cell, int], str]


@dataclass(frozen=True)
class Work:
    """A campaign as its hosts' threads share it."""

    spec: CampaignSpec
    home: Path
    campaign: str
    board: Board


def keep_off_engine_cpus(spec: CampaignSpec) -> None:
    """Run on our own CPUs when the host is this machine: every thread, and every process that we start.

    Raises LprismError when there are no such CPUs.
    """
    lab = next((host for host in spec.hosts if host.name == LAB), None)
    if lab and lab.our_cpus:
        missing = sorted(set(lab.our_cpus) - set(usable_cpus()))
        if missing:
            raise LprismError(f"our_cpus of {LAB}: no CPU {missing[0]} here; usable are {usable_cpus()}")
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), lab.our_cpus)


@contextmanager
def campaign_at_work(
    spec: CampaignSpec, home: Path, campaign: str, cells: Sequence[Cell], resume: str = ""
) -> Iterator[Work]:
    """The books of a campaign, open while the block lasts: nobody else runs it, and an interrupt ends it all.

    `resume` is empty for a new campaign, `pending` for one that goes on, `failed` to run failed cells again.

    Raises:
        LprismError: it cannot begin. CampaignIncomplete: in the end cells are left that no host could run.
    """
    with running(home, campaign):
        if resume:
            reopen_campaign(spec, home, campaign)
        else:
            open_campaign(spec, home, campaign, cells)
        waiting = to_run(home, campaign, cells, failed_too=resume == FAILED)
        board = Board(waiting, spec.hosts, len(cells))
        try:
            yield Work(spec, home, campaign, board)
        except BaseException:
            board.stop()
            raise
        board.judge(campaign)
        close_campaign(home, campaign)


def work(shared: Work, host: Host, check: CheckHost, run: RunCell) -> None:
    """Run every cell that is there for a host. Raises LprismError when it gives up, which the board knows."""
    board, pauses = shared.board, list(BACKOFF_S)
    try:
        while board.has_more(host.name):
            finished = board.finished[host.name]
            try:
                _visit(shared, host, check, run)
            except LinkError as error:
                if board.finished[host.name] > finished:
                    pauses = list(BACKOFF_S)
                if not pauses:
                    raise
                _pause(board, pauses.pop(0), str(error), host.name)
    except BaseException as error:
        board.leave(host.name, error, hand_over=not isinstance(error, CampaignStopped))
        raise
    board.leave(host.name)


def _visit(shared: Work, host: Host, check: CheckHost, run: RunCell) -> None:
    board = shared.board
    with open_session(shared.spec, host, shared.home, shared.campaign, board) as session:
        check(session, board.mine(host.name))
        while (cell := board.take(host.name)) is not None:
            session.last_try = board.last_try(cell)
            try:
                status = run(session, cell, board.cells)
            except LinkError:
                if session.last_try:
                    board.done(host.name, cell, FAILED)
                else:
                    board.put_back(host.name, cell)
                raise
            except (CampaignStopped, UndoFailed):
                board.done(host.name, cell, FAILED)
                raise
            except BaseException:
                board.put_back(host.name, cell)
                raise
            board.done(host.name, cell, status)


def _pause(board: Board, seconds: float, why: str, host: str) -> None:
    say(Progress("wait for the host", expected_s=seconds, detail=why, host=host))
    if board.stopped.wait(seconds):
        raise KeyboardInterrupt


@contextmanager
def open_session(
    spec: CampaignSpec, host: Host, home: Path, campaign: str, board: Board | None = None
) -> Iterator[HostSession]:
    """Connect to a host (the lab host is started first) and end everything there on leaving."""
    board = board or Board([], [host], 0)
    say(Progress("connect", expected_s=2.0, detail=host.name, host=host.name))
    start, began = time.time_ns(), time.monotonic_ns()
    with (
        reachable(host, home) as address,
        _leased(address, campaign, board, wait=spec.limits.busy_host == "wait") as supervisor,
    ):
        session = HostSession(supervisor, host, spec, home, campaign, supervisor.ask("facts"))
        took_ns = time.monotonic_ns() - began
        session.phases.append({"name": "connect", "start_ns": start, "duration_ns": took_ns})
        _sweep(supervisor, home, campaign)
        yield session
        _sweep(supervisor, home, campaign)
        say(Progress("stop the server", expected_s=3.0, detail=host.name, host=host.name))


def _sweep(supervisor: Supervisor, home: Path, campaign: str) -> None:
    """Delete what is on the host of runs whose whole bundle is here."""
    if (folder_of(home, campaign)).is_dir():
        known = outcomes(home, campaign)
        supervisor.ask("sweep", run_ids=[run_id for run_id, status in known.items() if status == COMPLETE])


@contextmanager
def _leased(address: Address, campaign: str, board: Board, *, wait: bool) -> Iterator[Supervisor]:
    """A supervisor on the host, as soon as its lease can be had."""
    with ExitStack() as stack:
        yield _first_free(stack, address, campaign, board, wait=wait)


def _first_free(stack: ExitStack, address: Address, campaign: str, board: Board, *, wait: bool) -> Supervisor:
    owner, began = f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}", time.monotonic()
    while True:
        session = f"{campaign}.{time.time_ns() // 1_000_000:x}"
        try:
            return stack.enter_context(supervise(address, session, owner, board.stopped))
        except HostBusy as busy:
            ours = str(busy.holder.get("session", "")).rpartition(".")[0] == campaign
            limit_s = OWN_LEASE_S if ours else BUSY_WAIT_S if wait else 0.0
            if time.monotonic() - began > limit_s:
                raise
            _pause(board, 1.0 if ours else BUSY_POLL_S, str(busy), address.name)
