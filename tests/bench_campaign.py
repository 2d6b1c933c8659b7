"""24 cells on two OpenSSH hosts, vLLM and SGLang in turn, killed (-9) three times at random and resumed.

    python -m tests.bench_campaign [--engines vllm,sglang] [--cells 24] [--kills 3] [--seed 7] [--folder DIR]

The hosts are this machine behind two sshd, each server on a CPU of its own; the engines are the ones that
lprism installed. Half of the cells are normal, half a sham fault: two hosts of one machine share cores. At
the end every bundle is verified against its digests, and a table says where each host's time went: by phase,
and what it waited on us a cell, from the end of one cell's recording to the load of the next.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tasks import books
from tasks.host import facts, ports
from tasks.lab.install import installed_for
from tasks.lab.tiny_model import SERVE_ARGS, make_tiny_model
from tasks.remote import Address
from tasks.settings import cache_path
from tasks.status import status
from tests import openssh
from tests.test_campaign import CAMPAIGN, RUNNER

LIMIT_S = 3600.0
OURS = ("stop load and recorders", "fetch", "compare recovery with baseline")


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


def where_time_went(manifests: list[dict[str, Any]]) -> None:
    """Print seconds by phase and host, and what a host waited on us a cell."""
    spent: dict[tuple[str, str], float] = defaultdict(float)
    by_session = defaultdict(list)
    for one in manifests:
        by_session[one["session"]].append(one)
        for phase in one["phases"]:
            spent[phase["name"], one["cell"]["host"]] += phase["duration_ns"] / 1e9
    hosts = sorted({host for _, host in spent})
    say(f"{'phase':34}" + "".join(f"{host:>10}" for host in hosts))
    for name in dict.fromkeys(name for name, _ in spent):
        say(f"{name:34}" + "".join(f"{spent[name, host]:9.1f}s" for host in hosts))
    waits = [wait for runs in by_session.values() for wait in waits_of(runs)]
    if waits:
        say(f"a host waited on us a cell: median {statistics.median(waits):.2f} s, most {max(waits):.2f} s")


def waits_of(runs: list[dict[str, Any]]) -> list[float]:
    """Of one session's cells in their order: what was spent in our own phases and between phases, s."""
    runs = sorted(runs, key=lambda one: one["phases"][0]["start_ns"])
    found = []
    for one, after in zip(runs, [*runs[1:], None], strict=True):
        wait = sum(phase["duration_ns"] for phase in one["phases"] if phase["name"] in OURS)
        if after:
            last = one["phases"][-1]
            wait += after["phases"][0]["start_ns"] - last["start_ns"] - last["duration_ns"]
        found.append(wait / 1e9)
    return found


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
        said = status(home, CAMPAIGN)
    bundles = sorted((home / "bundles" / CAMPAIGN).glob("r*/manifest.json"))
    manifests = [json.loads(path.read_text()) for path in bundles]
    wrong = [what for path in bundles for what in books.verified(path.parent)]
    for one in manifests:
        if one["status"] != "complete":
            say(f"{one['run_id']} {one['cell']['engine']} {one['cell']['host']}: {str(one['reason'])[:300]}")
    where_time_went(manifests)
    counts = ", ".join(f"{said[key]} {key}" for key in ("complete", "failed", "pending"))
    say(f"{counts} of {said['planned']}; {len(bundles)} bundles, {len(wrong)} damaged files; "
          f"{time.monotonic() - began:.0f} s; {place}")  # fmt: skip
    return 0 if code == 0 and said["complete"] == said["planned"] and not wrong else 1


if __name__ == "__main__":
    raise SystemExit(main())
