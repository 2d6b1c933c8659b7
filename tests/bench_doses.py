"""Dose and response: how much slower a real server's decode steps get at five strengths of two CPU faults.

    python -m tests.bench_doses [--home DIR] [--repetitions 2] [--figure FILE] [--campaign INSTANCE]

One campaign on this machine (host `lab`, CPU build of vLLM, tiny model, server and fault on one CPU): normal,
sham, cpu_swap, network_contention on loopback, and the two faults at five strengths each, shuffled. With
`--campaign` one that ran before is read again. Prints a row a run and a row a strength, draws the picture.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.host.facts import usable_cpus

DOSES: dict[str, tuple[str, str, list[int]]] = {
    "cpu_compute_squeeze_out": (
        "share_pct",
        "time that two threads burn (%)",
        [10, 25, 50, 75, 100],
    ),
    "cpu_quota": ("quota_pct", "CPU time that the server keeps (%)", [90, 75, 60, 45, 30]),
}
OTHERS: list[Any] = [
    "normal",
    "sham",
    {"anomaly": "cpu_swap", "strength": {"gb": 4}},
    {"anomaly": "network_contention", "strength": {"interface": "lo", "mbit": 50, "peer": "127.0.0.2"}},
]
WINDOWS = {"warmup_s": 3.0, "baseline_s": 6.0, "fault_s": 6.0, "recovery_s": 4.0}
STEPS = """
    SELECT r.run_id, r.scenario, r.strength, r.effect_metric, r.effect_before, r.effect_during,
        r.effect_after, r.effect_proved, r.effect_undone, b.run_window,
        avg(b.duration_ns) / 1e6 AS step_ms
    FROM runs AS r INNER JOIN batches AS b USING (run_id)
    WHERE r.campaign = $campaign AND r.status = 'complete' AND b.forward_mode = 'decode'
        AND b.run_window IN ('baseline', 'fault', 'recovery')
    GROUP BY ALL ORDER BY r.scenario, r.strength, r.run_id
"""


@dataclass
class Response:
    """One run: its scenario and strength, the victim's measures, and the mean decode step a window.

    The mean: a quota halts one step of many for long, and leaves the median where it was.
    """

    run_id: str
    scenario: str
    strength: dict[str, Any]
    effect: dict[str, Any]
    step_ms: dict[str, float]

    @property
    def slowdown(self) -> float:
        """Under the fault against before it."""
        return self.step_ms["fault"] / self.step_ms["baseline"]


def spec_of(repetitions: int) -> dict[str, Any]:
    """The campaign's spec."""
    from tasks.lab.demo import demo_spec

    doses = [
        {"anomaly": anomaly, "strength": {name: value}}
        for anomaly, (name, _, values) in DOSES.items()
        for value in values
    ]
    changes = {"name": "doses", "scenarios": [*OTHERS, *doses], "windows": WINDOWS}
    return {**demo_spec("vllm", repetitions, usable_cpus()), **changes}


def responses(home: Path, campaign: str) -> list[Response]:
    """What the warehouse holds of the campaign."""
    from tasks import warehouse

    with warehouse.open_published(home) as con:
        rows = con.execute(STEPS, {"campaign": campaign}).to_arrow_table().to_pylist()
    runs: dict[str, Response] = {}
    for row in rows:
        strength = json.loads(row["strength"] or "{}")
        effect = {name: value for name, value in row.items() if name.startswith("effect_")}
        one = runs.setdefault(row["run_id"], Response(row["run_id"], row["scenario"], strength, effect, {}))
        one.step_ms[row["run_window"]] = row["step_ms"]
    return [one for one in runs.values() if len(one.step_ms) == len(("baseline", "fault", "recovery"))]


def print_runs(found: list[Response]) -> None:
    """A Markdown row a run."""
    say("| scenario | strength | decode step, ms: before, during, after | victim | proved, undone |")
    say("|---|---|---|---|---|")
    for one in found:
        steps = ", ".join(f"{one.step_ms[name]:.1f}" for name in ("baseline", "fault", "recovery"))
        measures = [one.effect[f"effect_{when}"] for when in ("before", "during", "after")]
        shown = ", ".join("-" if value is None else f"{value:.4g}" for value in measures)
        given = " ".join(f"{name}={value}" for name, value in one.strength.items())
        proved = f"{one.effect['effect_proved']}, {one.effect['effect_undone']}"
        say(
            f"| {one.scenario} | {given} | {steps} | {shown} {one.effect['effect_metric'] or ''} | {proved} |"
        )


def print_doses(found: list[Response]) -> None:
    """A Markdown row a scenario and strength: median slowdown and its range."""
    groups: dict[str, list[float]] = defaultdict(list)
    for one in found:
        groups[" ".join([one.scenario, *(f"{k}={v}" for k, v in one.strength.items())])].append(one.slowdown)
    say("\n| scenario | slowdown (median) | range | runs |")
    say("|---|---|---|---|")
    for name, values in groups.items():
        around = f"{min(values):.2f}-{max(values):.2f}"
        say(f"| {name} | {statistics.median(values):.2f} | {around} | {len(values)} |")


def draw(found: list[Response], file: Path) -> None:
    """Slowdown against strength: a dot a run, a line through the medians, runs without a fault as a band."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "doses"  # the same bytes for the same figures
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(DOSES), figsize=(9, 3.6), sharey=True, layout="constrained")
    idle = [one.slowdown for one in found if one.scenario in ("normal", "sham")]
    for panel, (anomaly, (name, label, values)) in zip(panels, DOSES.items(), strict=True):
        runs = [(one.strength[name], one.slowdown) for one in found if one.scenario == anomaly]
        medians = [
            statistics.median([y for x, y in runs if x == value] or [float("nan")]) for value in values
        ]
        if idle:
            panel.axhspan(min(idle), max(idle), color="#bbbbbb", alpha=0.5, label="normal and sham")
        panel.plot(values, medians, color="#0072b2", label="median")
        panel.plot(*zip(*runs, strict=True), "o", color="#d55e00", markersize=4, label="one run")
        panel.set(title=anomaly, xlabel=label)
        panel.grid(alpha=0.3)
    panels[0].set_ylim(0, 1.05 * max(one.slowdown for one in found))
    panels[0].set_ylabel("mean decode step, fault / baseline")
    panels[0].legend(frameon=False)
    quotas = DOSES["cpu_quota"][2]
    panels[1].plot(quotas, [100 / quota for quota in quotas], "--", color="#555555", label="1 / quota")
    panels[1].legend(frameon=False)
    panels[1].invert_xaxis()  # a smaller quota is the stronger fault
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def say(line: str) -> None:
    """Print it."""
    sys.stdout.write(line + "\n")


def main() -> int:
    """Run the campaign if none is named, print the tables, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=Path("lprism-home"))
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--figure", type=Path, default=None)
    parser.add_argument("--campaign", default=None)
    given = parser.parse_args()
    from tasks.settings import pin_telemetry_off

    pin_telemetry_off()
    campaign = given.campaign
    if campaign is None:
        from tasks.cli.pipeline import run_pipeline
        from tasks.lake import campaigns_of
        from tasks.spec import parse_spec

        run_pipeline(parse_spec(spec_of(given.repetitions), "the doses' spec"), given.home.absolute())
        campaign = max(name for name in campaigns_of(given.home) if name.startswith("doses-"))
    found = responses(given.home.absolute(), campaign)
    print_runs(found)
    print_doses(found)
    draw(found, given.figure or given.home / "dose_response.svg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
