"""How far a campaign is: by its bundles here, and by the leases of its hosts, wherever it is run from."""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tasks import books
from tasks.addresses import reachable
from tasks.books import COMPLETE, FAILED, PENDING
from tasks.host import lease
from tasks.remote import look
from tasks.settings import LprismError
from tasks.spec import LAB, Host, load_spec

AT_ONCE = 8


def status(home: Path, text: str) -> dict[str, Any]:
    """The state of the campaign that a spec file, an instance or a campaign's name means.

    {"campaign", "state": running | closed | interrupted | elsewhere, "pid", "planned", "complete",
    "failed", "pending", "hosts": [{"host", "complete", "failed", "pending", "holder", "doing", "error"}]};
    the counts are None where this home has no such campaign: then its hosts' leases alone say what goes on.

    Raises:
        SpecError: there is none, neither here nor as a spec file.
    """
    try:
        campaign = books.called(home, text)
    except LprismError:
        if not Path(text).is_file():
            raise
        spec = load_spec(text)
        return {
            "campaign": None, "state": "elsewhere", "pid": None, "planned": None, COMPLETE: None,
            FAILED: None, PENDING: None, "hosts": _hosts(home, list(spec.hosts), {}),
        }  # fmt: skip
    known, done = books.record(home, campaign), books.outcomes(home, campaign)
    counts = {host["name"]: Counter[str]() for host in known["spec"]["hosts"]}
    for cell in books.planned(known):
        counts[cell.host][done.get(cell.run_id, PENDING)] += 1
    whole: Counter[str] = sum(counts.values(), Counter())
    pid = books.runner(home, campaign)
    state = "running" if pid else "closed" if known["closed_ns"] else "interrupted"
    hosts = [Host.model_validate(host) for host in known["spec"]["hosts"]]
    return {
        "campaign": campaign, "state": state, "pid": pid, "planned": known["runs_planned"],
        **{one: whole[one] for one in (COMPLETE, FAILED, PENDING)}, "hosts": _hosts(home, hosts, counts),
    }  # fmt: skip


def _hosts(home: Path, hosts: list[Host], counts: Mapping[str, Counter[str]]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda host: _lease(home, host), hosts))
    return [
        {
            "host": host.name,
            **{one: counts[host.name][one] if counts else None for one in (COMPLETE, FAILED, PENDING)},
            **said,
        }
        for host, said in zip(hosts, found, strict=True)
    ]


def _lease(home: Path, host: Host) -> dict[str, Any]:
    """Who has a host and what they do; `error` where it cannot be asked."""
    try:
        holder = _lab(home) if host.name == LAB else _asked(home, host)
    except LprismError as error:
        return {"holder": None, "doing": None, "error": str(error)}
    if holder is None:
        return {"holder": None, "doing": None, "error": None}
    return {"holder": lease.told(holder), "doing": holder.get("doing"), "error": None}


def _asked(home: Path, host: Host) -> dict[str, Any] | None:
    with reachable(host, home) as address:
        return look(address)


def _lab(home: Path) -> dict[str, Any] | None:
    """The lab host is this machine; its keys are its campaign's alone."""
    folders = (home / "lab" / "host" / ".latencyprism" / "sessions").glob("*")
    return next((held for folder in folders if (held := lease.now(folder))), None)
