"""24 cells on two OpenSSH hosts, vLLM and SGLang in turn, killed (-9) three times at random and resumed.

    python -m tests.bench_campaign [--engines vllm,sglang] [--cells 24] [--kills 3] [--seed 7] [--folder DIR]

The hosts are this machine behind two sshd, each server on a CPU of its own; the engines are the ones that
lprism installed. Half of the cells are normal, half a sham fault: two hosts of one machine share cores. At
the end every bundle is verified against its digests, and a table out of v_overhead, in Markdown, says where
each host's time went and what it waited on us a cell. A cell takes half a minute to a minute of its host:
24 of them with three kills 15 to 25 minutes on two cores.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tasks import books
from tasks.host import facts, ports
from tasks.lab.install import installed_for
from tasks.lab.tiny_model import SERVE_ARGS, make_tiny_model
from tasks.lake_tables import publish
from tasks.remote import Address
from tasks.settings import cache_path
from tasks.status import status
from tasks.traces.bundle import bundles_of, ingest_bundle
from tasks.warehouse import open_published
from tests import openssh
from tests.test_campaign import CAMPAIGN, RUNNER

LIMIT_S = 3600.0
PARTS = {
    "server_start_s": "starting servers", "load_s": "load client, to the first batches",
    "warmup_s": "warm up", "windows_s": "windows", "fault_s": "fault: measures, on, off",
    "connect_s": "connect, lease, check", "stop_s": "stop load and recorders",
    "fetch_s": "fetch, compare recovery", "between_s": "between cells", "waited_s": "**host waits on us**",
    "total_s": "**all**",
}  # fmt: skip


def say(line: str) -> None:
    """Print it at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def spec_of(hosts: list[Address], engines: list[str], cells: int, seed: int) -> dict[str, Any]:
    """`cells` cells in all: half of them normal, half a sham fault, on each host and engine alike."""
    cpus = facts.usable_cpus()
    model = str(make_tiny_model(cache_path()))
    return {
        "name": "many", "seed": seed, "repetitions": cells // (len(hosts) * len(engines) * 2),
        "hosts": [
            {
                "name": host.name, "address": host.address, "user": host.user, "port": host.port,
                "group": "alike", "identity_file": str(host.identity_file),
                "known_hosts": str(host.known_hosts), "allow_faults": True,
                "engine_cpus": [cpus[at % len(cpus)]],
            }
            for at, host in enumerate(hosts)
        ],
        "engines": [
            {
                "kind": kind, "model": model, "args": SERVE_ARGS[kind],
                "python": str(installed_for(kind).python),
            }
            for kind in engines
        ],
        "workload": {"input_lengths": [32], "output_lengths": [64], "concurrency": [4]},
        "scenarios": ["normal", "sham"],
        "windows": {"warmup_s": 3, "baseline_s": 5, "fault_s": 5, "recovery_s": 5},
        "limits": {"busy_host": "wait", "max_consecutive_failures": 4},
    }  # fmt: skip


def killed_and_resumed(words: list[str], record: Path, kills: int, seed: int) -> int:
    """Run the campaign, killing its process at random moments; returns its exit code in the end."""
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    for number in range(kills):
        after_s = chance.uniform(30, 240)
        with subprocess.Popen([*words, resumed(record)]) as child:
            try:
                child.wait(after_s)
            except subprocess.TimeoutExpired:
                child.kill()
                say(f"kill {number + 1} after {after_s:.0f} s")
    return subprocess.run([*words, resumed(record)], check=False, timeout=LIMIT_S).returncode


def resumed(record: Path) -> str:
    """How to run what was planned, or to begin."""
    return "pending" if record.exists() else ""


def where_time_went(home: Path) -> list[dict[str, Any]]:
    """The rows of v_overhead over every bundle of the campaign."""
    for bundle in bundles_of(home, CAMPAIGN):
        ingest_bundle(home, bundle)
    publish(home)
    with open_published(home) as con:
        rows: list[dict[str, Any]] = con.table("v_overhead").to_arrow_table().to_pylist()
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print, as Markdown, the seconds of each part by host, and what a cell's host waited for us."""
    hosts = sorted({row["host"] for row in rows})
    say(f"| where the time went, s | {' | '.join(hosts)} | a cell, median |")
    say("|---" * (len(hosts) + 2) + "|")
    for column, what in PARTS.items():
        spent = {host: sum(row[column] or 0 for row in rows if row["host"] == host) for host in hosts}
        seen = [row[column] for row in rows if row[column] is not None]
        median = f"{statistics.median(seen):.2f}" if seen else ""
        say(f"| {what} | {' | '.join(f'{spent[host]:.1f}' for host in hosts)} | {median} |")
    waits, cpu = [row["waited_s"] for row in rows], [row["sampler_cpu_pct"] or 0.0 for row in rows]
    if rows:
        say(
            f"\na host waited on us {statistics.median(waits):.2f} s a cell in the median, at most "
            f"{max(waits):.2f} s; the sampler took {statistics.median(cpu):.2f} % of a core in the median"
        )


def main() -> int:
    """Do it all; the exit code is 0 if every planned cell is complete and whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--engines", default="vllm,sglang")
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    place = given.folder or Path(tempfile.mkdtemp(prefix="lprism-many-"))
    place.mkdir(parents=True, exist_ok=True)
    home, began = place / "home", time.monotonic()
    with ExitStack() as stack:
        hosts = []
        for name in ("one", "two"):
            (place / name).mkdir()
            hosts.append(stack.enter_context(openssh.serving(place / name, ports.free(None), name)))
        spec = spec_of(hosts, given.engines.split(","), given.cells, given.seed)
        (place / "spec.json").write_text(json.dumps(spec))
        words = [sys.executable, "-c", RUNNER, str(place / "spec.json"), str(home)]
        code = killed_and_resumed(words, home / "bundles" / CAMPAIGN / books.RECORD, given.kills, given.seed)
        said, took_s = status(home, CAMPAIGN), time.monotonic() - began
    bundles = sorted((home / "bundles" / CAMPAIGN).glob("r*/manifest.json"))
    manifests = [json.loads(path.read_text()) for path in bundles]
    wrong = [what for path in bundles for what in books.verified(path.parent)]
    for one in manifests:
        if one["status"] != "complete":
            say(f"{one['run_id']} {one['cell']['engine']} {one['cell']['host']}: {str(one['reason'])[:300]}")
    show(where_time_went(home))
    counts = ", ".join(f"{said[key]} {key}" for key in ("complete", "failed", "pending"))
    files = sum(len(one["files"]) for one in manifests)
    say(f"{counts} of {said['planned']}; {len(bundles)} bundles of {files} files verified, {len(wrong)} "
        f"damaged; {took_s:.0f} s; {place}")  # fmt: skip
    return 0 if code == 0 and said["complete"] == said["planned"] and not wrong else 1


if __name__ == "__main__":
    raise SystemExit(main())
