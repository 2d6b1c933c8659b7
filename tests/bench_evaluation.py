"""How well Sentinel finds real faults on a real server, and how quiet it is: one engine, five campaigns.

    python -m tests.bench_evaluation plan --engine vllm
    python -m tests.bench_evaluation run --engine vllm [--home DIR] [--minutes 15] [--parts train,full]
    python -m tests.bench_evaluation score --engine vllm [--home DIR] [--figures DIR] [--json]

`run` works through the campaigns evaluation-ENGINE-PART on this machine (host `lab`, CPU build, tiny model,
server and fault on one CPU, we on the other). It begins no further cell once the minutes are over, and the
same command goes on where it ended or was killed. The parts: `train`, normal runs of several workloads, the
only ones that models learn from; `pilot`, what signatures may be tuned on, judged by nothing; `full`, ten
runs of each fault that slows this server, at full strength, and of sham; `doses`, five of each at two lower
strengths, and five of each fault that hardly slows it; `shift`, ten in which more requests come in the
middle window and nothing is injected; `normal`, long sessions.

`score` reads the lake alone: it trains on `train`, judges all parts but the pilot by the champion's five
limits, `train` itself by models and limits that were fitted without the run, and writes `detection_metrics`
(evaluation `live`). Prints Markdown, or JSON; draws with --figures.
"""

import argparse
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import books
from tasks.host.facts import usable_cpus
from tasks.plan import Cell, estimate_s, plan
from tasks.progress import Progress, listening
from tasks.session import HostSession
from tasks.settings import LprismError
from tasks.spec import CampaignSpec, parse_spec
from tasks.work import campaign_at_work, keep_off_engine_cpus, work
from tests.bench_evaluation_tables import tables

if TYPE_CHECKING:
    from tasks.sentinel.metrics import Judged

Row = dict[str, Any]


def fault(name: str, strength: Row) -> Row:
    """A scenario of a spec."""
    return {"anomaly": name, "strength": strength}


ENGINES = ("vllm", "sglang")
LOOPBACK = {"interface": "lo", "peer": "127.0.0.2"}
# Of each fault that slows the server full strength and two lower ones.
STRENGTHS: dict[str, tuple[Row, ...]] = {
    "cpu_compute_squeeze_out": ({"share_pct": 100}, {"share_pct": 50}, {"share_pct": 20}),
    "cpu_quota": ({"quota_pct": 30}, {"quota_pct": 60}, {"quota_pct": 85}),
}
# Those that a tiny model on one machine hardly feels: its weights fit a cache, its tokens a slow network.
UNFELT: dict[str, Row] = {"cpu_swap": {"gb": 4}, "network_contention": {**LOOPBACK, "mbit": 10}}
ONE_LOAD = {"input_lengths": [32], "output_lengths": [64], "concurrency": [4]}
LOADS = {"input_lengths": [32, 128], "output_lengths": [64], "concurrency": [4, 8, 12]}
TRAIN, PILOT, FULL, DOSES, SHIFT, NORMAL = "train", "pilot", "full", "doses", "shift", "normal"
JUDGED = (TRAIN, FULL, DOSES, SHIFT, NORMAL)
AT_FULL = ["sham", *(fault(name, doses[0]) for name, doses in STRENGTHS.items())]
# Scenarios, workloads, repetitions, seconds of each window.
PARTS: dict[str, tuple[list[Any], Row, int, float]] = {
    TRAIN: (["normal"], LOADS, 3, 15.0),
    PILOT: (AT_FULL, ONE_LOAD, 2, 8.0),
    FULL: (AT_FULL, ONE_LOAD, 10, 8.0),
    DOSES: (
        [
            *(fault(name, dose) for name, doses in STRENGTHS.items() for dose in doses[1:]),
            *(fault(name, dose) for name, dose in UNFELT.items()),
        ],
        ONE_LOAD, 5, 6.0,
    ),
    SHIFT: (["normal"], ONE_LOAD, 10, 6.0),
    NORMAL: (["normal"], LOADS, 1, 130.0),
}  # fmt: skip
MEASURES_S = 8.0  # a fault's cell beside the others: its victim's measures; memory takes 5 s a GiB to fill
SHIFTED, LEFT_OUT = "workload_shift", "normal, left out of the training"
RENAMED = {SHIFT: SHIFTED, TRAIN: LEFT_OUT}
MORE_REQUESTS = 6
LIVE = "live"
MIDDLE = "fault window"


class OutOfTime(LprismError):
    """The minutes are over; what is left stays for the next time."""


def name_of(engine: str, part: str) -> str:
    """The name of a campaign and of its one instance, so that the same command goes on with it."""
    return f"evaluation-{engine}-{part}"


def spec_of(engine: str, part: str) -> CampaignSpec:
    """The spec of one part."""
    from tasks.lab.demo import TPOT_MS, demo_spec

    scenarios, load, repetitions, seconds = PARTS[part]
    changes: Row = {
        "name": name_of(engine, part),
        "scenarios": scenarios,
        "workload": load,
        "windows": {"warmup_s": 3.0, "baseline_s": seconds, "fault_s": seconds, "recovery_s": seconds},
        "slo": {"ttft_ms": 1000.0, "tpot_ms": TPOT_MS[engine]},
    }
    return parse_spec({**demo_spec(engine, repetitions, usable_cpus()), **changes}, changes["name"])


def seconds_of(engine: str, part: str) -> tuple[int, float]:
    """Cells of a part, and about how many seconds they take."""
    spec = spec_of(engine, part)
    cells = plan(spec, spec.name)
    return len(cells), estimate_s(spec, cells) + MEASURES_S * sum(cell.has_fault for cell in cells)


def run_part(engine: str, part: str, home: Path, deadline: float) -> None:
    """Run what is left of a part until the deadline (time.monotonic), and put it into the lake.

    Raises OutOfTime when cells are left.
    """
    from tasks.traces.bundle import bundles_of, ingest_bundle, ingest_campaign

    spec = spec_of(engine, part)
    cells = plan(spec, spec.name)
    begun = (books.folder_of(home, spec.name) / books.RECORD).exists()
    try:
        if not begun or books.to_run(home, spec.name, cells, failed_too=True):
            keep_off_engine_cpus(spec)
            with campaign_at_work(spec, home, spec.name, cells, books.FAILED if begun else "") as shared:
                work(shared, spec.hosts[0], HostSession.preflight, until(deadline, part == SHIFT))
    finally:
        for bundle in bundles_of(home, spec.name):
            ingest_bundle(home, bundle)
        ingest_campaign(home, spec.name)


def until(deadline: float, is_shifted: bool) -> Callable[[HostSession, Cell, int], str]:  # noqa: FBT001 - of a part
    """Run cells, but begin none after the deadline."""

    def run(session: HostSession, cell: Cell, cells: int) -> str:
        if time.monotonic() > deadline:
            raise OutOfTime("the minutes are over")
        if not is_shifted:
            return session.run(cell, cells)
        with more_load_in_the_middle(session):
            return session.run(cell, cells)

    return run


@contextmanager
def more_load_in_the_middle(session: HostSession) -> Iterator[None]:
    """While the middle window of a run lasts, MORE_REQUESTS more at once than its client sends."""
    ended = threading.Event()
    ended.set()
    threads: list[threading.Thread] = []

    def listener(progress: Progress) -> None:
        if progress.phase == MIDDLE and session.server:
            ended.clear()
            server = session.server
            threads.extend(
                threading.Thread(target=ask, args=(server.url, server.model, ended), daemon=True)
                for _ in range(MORE_REQUESTS)
            )
            for thread in threads:
                thread.start()
        else:
            ended.set()

    with listening(listener):
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join(60)


def ask(url: str, model: str, ended: threading.Event) -> None:
    """One request after another, as long as those of the campaign, until `ended`."""
    seed = threading.get_ident()
    while not ended.is_set():
        seed = (seed * 1_103_515_245 + 12_345) % 2**31
        prompt = [10 + (seed >> place) % 480 for place in range(ONE_LOAD["input_lengths"][0])]
        asked = {"model": model, "prompt": prompt, "max_tokens": 64, "ignore_eos": True}
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/completions", json.dumps(asked).encode(), head)  # noqa: S310 - our server's http
        with suppress(OSError), urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
            answer.read()


def has_runs(home: Path, campaign: str) -> bool:
    """Whether a complete run of a campaign lies in the lake."""
    from tasks.lake_tables import lake_connection

    with lake_connection(home, campaign) as con:
        return "complete" in {status for (status,) in con.table("runs").select("status").fetchall()}


def scored(engine: str, home: Path, parts: Sequence[str] = JUDGED) -> list[Row]:
    """Train on `train`, judge all parts but the pilot, and write the rows of detection_metrics returned.

    Their incidents and named causes are written, too, by the same models.
    """
    import pandas as pd

    from tasks.deepdive.diagnose import diagnose_campaign
    from tasks.lake import write_frame
    from tasks.lake_tables import publish
    from tasks.sentinel.backtest import judged_by
    from tasks.sentinel.detect import detect_campaign
    from tasks.sentinel.metrics import run_rows
    from tasks.sentinel.registry import train_campaign

    campaign, found = name_of(engine, TRAIN), []
    there = {part: name_of(engine, part) for part in parts if has_runs(home, name_of(engine, part))}
    for model_id in train_campaign(home, campaign, spec_of(engine, TRAIN).seed).champions:
        judged: list[Judged] = []
        for part, name in there.items():
            some = judged_by(home, model_id, [name])[1]
            judged += [replace(one, scenario=RENAMED.get(part, one.scenario)) for one in some]
        head = {"model_id": model_id, "campaign": campaign, "evaluation": LIVE}
        rows = [{**head, **row} for row in run_rows(judged)]
        write_frame(home, "detection_metrics", campaign, f"{model_id}-{LIVE}", pd.DataFrame(rows))
        found += rows
    for name in there.values():
        detect_campaign(home, name, trained_on=campaign)
        diagnose_campaign(home, name)
    publish(home)
    return found


def say(line: str) -> None:
    """Print it at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Do what is asked; the exit code of `run` is 0 once everything is there, 3 while cells are left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("plan", "run", "score"))
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--home", type=Path, default=Path("lprism-home"))
    parser.add_argument("--minutes", type=float, default=15.0, help="begin no further cell after these")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--figures", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    home, parts = given.home.absolute(), given.parts.split(",")
    if given.what == "plan":
        return show_plan(given.engine, parts)
    if given.what == "run":
        return run_parts(given.engine, parts, home, given.minutes)
    rows = scored(given.engine, home)
    (home / f"evaluation-{given.engine}.json").write_text(json.dumps(rows, indent=1))
    for line in (
        [json.dumps(rows, indent=1)]
        if given.json
        else tables(rows, {name: doses[0] for name, doses in STRENGTHS.items()})
    ):
        say(line)
    if given.figures:
        from tests.bench_evaluation_figures import draw

        draw(home, given.engine, rows, given.figures)
    return 0


def show_plan(engine: str, parts: Sequence[str]) -> int:
    """Print how many cells each part has, and how long it takes."""
    total = 0.0
    for part in parts:
        cells, seconds = seconds_of(engine, part)
        total += seconds
        say(f"{name_of(engine, part)}: {cells} cells, about {seconds / 60:.0f} minutes")
    say(f"in all about {total / 60:.0f} minutes, and 45 s each time that `run` begins again")
    return 0


def run_parts(engine: str, parts: Sequence[str], home: Path, minutes: float) -> int:
    """Run what is left of these parts until the minutes are over."""
    deadline = time.monotonic() + 60 * minutes
    for part in parts:
        with suppress(OutOfTime):
            run_part(engine, part, home, deadline)
        known = list(books.outcomes(home, name_of(engine, part)).values())
        cells, complete = seconds_of(engine, part)[0], known.count(books.COMPLETE)
        say(f"{name_of(engine, part)}: {complete} of {cells} complete, {known.count(books.FAILED)} failed")
        if time.monotonic() > deadline and complete < cells:
            return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
