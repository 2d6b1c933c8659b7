"""What a deep capture costs: a real engine under load, two windows of it, with and without Python stacks.

    python -m tests.bench_capture [--engine vllm] [--iterations 50] [--repetitions 1] [--home DIR]

Each capture: iterations asked and told by the trace, events and size, how long the engine stood still while
the trace was written, how long the whole took, and how much slower the captured decode steps were than the
plain ones of the same window and batch size (medians). The bundles stay in --home, for tests.bench_timeline.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tasks.books import close_campaign, open_campaign
from tasks.lab.demo import demo_spec
from tasks.lake_tables import lake_connection
from tasks.plan import plan
from tasks.settings import pin_telemetry_off
from tasks.spec import parse_spec
from tasks.traces.bundle import bundles_of, ingest_bundle, ingest_campaign
from tasks.work import open_session

COST = """
WITH steps AS (
    SELECT
        c.capture_name, b.batch_size, b.interval_ns,
        b.start_ns BETWEEN c.ready_ns AND c.end_ns - c.stalled_ns
            AND b.start_ns + b.interval_ns < c.end_ns - c.stalled_ns AS captured,
        b.run_window = c.run_window AS plain
    FROM captures AS c
    INNER JOIN batches AS b USING (run_id)
    WHERE b.forward_mode = 'decode' AND b.interval_ns IS NOT NULL
),
medians AS (
    SELECT
        capture_name, batch_size,
        MEDIAN(interval_ns) FILTER (WHERE captured) AS captured_ns,
        MEDIAN(interval_ns) FILTER (WHERE plain) AS plain_ns,
        COUNT(*) FILTER (WHERE captured) AS steps
    FROM steps
    GROUP BY ALL
)
SELECT
    c.capture_name, c.lost, c.iterations_asked, c.iterations, c.events, c.size_bytes / 1e6,
    c.stalled_ns / 1e9, (c.end_ns - c.start_ns) / 1e9, m.plain_ns / 1e6, m.captured_ns / 1e6,
    m.captured_ns / m.plain_ns, m.steps
FROM captures AS c
LEFT JOIN (
    SELECT * FROM medians QUALIFY ROW_NUMBER() OVER (PARTITION BY capture_name ORDER BY steps DESC) = 1
) AS m USING (capture_name)
ORDER BY c.start_ns
"""
COLUMNS = (
    "capture", "lost", "asked", "told", "events", "MB", "stall_s", "whole_s", "plain_ms", "captured_ms",
    "ratio", "steps",
)  # fmt: skip


def spec_of(given: argparse.Namespace, *, stack: bool) -> dict[str, Any]:
    """The demo's campaign with short windows and deep captures."""
    spec = demo_spec(given.engine, given.repetitions, sorted(os.sched_getaffinity(0)))
    windows = {"warmup_s": 3.0, "baseline_s": 4.0, "fault_s": 4.0, "recovery_s": 2.0}
    return {
        **spec, "name": "deep", "modes": [{"deepdive": {"stack": stack}}],
        "scenarios": [given.scenario], "windows": {**windows, "deep_iterations": given.iterations},
    }  # fmt: skip


def carry_out(spec: dict[str, Any], campaign: str, home: Path) -> None:
    """Run the campaign, and load what came of it."""
    parsed = parse_spec(spec, "bench")
    cells = plan(parsed, campaign)
    open_campaign(parsed, home, campaign, cells)
    with open_session(parsed, parsed.hosts[0], home, campaign) as session:
        session.preflight(cells)
        for cell in cells:
            say(f"{campaign} {cell.scenario}: {session.run(cell, len(cells))}")
    close_campaign(home, campaign)
    for bundle in bundles_of(home, campaign):
        say(f"ingested {ingest_bundle(home, bundle)}")
    ingest_campaign(home, campaign)


def show(home: Path, campaign: str) -> None:
    """Print a line for each capture of the campaign."""
    say(f"{campaign}: " + "  ".join(f"{name:>11}" for name in COLUMNS))
    with lake_connection(home, campaign) as con:
        for row in con.execute(COST).fetchall():
            shown = (f"{value:.3f}" if isinstance(value, float) else str(value) for value in row)
            say(f"{campaign}: " + "  ".join(f"{value:>11}" for value in shown))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--scenario", default="cpu_compute_squeeze_out")
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--stack", choices=("off", "on", "both"), default="both")
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    pin_telemetry_off()
    with tempfile.TemporaryDirectory() as folder:
        home = given.home or Path(folder)
        for stack in (False, True):
            if given.stack in ("both", "on" if stack else "off"):
                campaign = f"deep-{given.engine}-{'stack' if stack else 'plain'}"
                carry_out(spec_of(given, stack=stack), campaign, home)
                show(home, campaign)


if __name__ == "__main__":
    main()
