"""The demo: a campaign on this machine alone, as large as the machine and the time that it may take allow.

`SIZES` say how long it may take; the windows are what is left of that beside starts and loads. Each fault has
a strength that one core is known to feel; what the machine cannot have is left out with its reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lab.recipes import RECIPES
from tasks.lab.tiny_model import SERVE_ARGS
from tasks.plan import ANALYSIS_S, CELL_OVERHEAD_S, CLIENT_START_S, ENGINE_START_S
from tasks.spec import LAB, NORMAL, SHAM, CampaignSpec, parse_spec

NAME = "demo"
KINDS = tuple(recipe.kind for recipe in RECIPES.values())
SQUEEZE = "cpu_compute_squeeze_out"
WARM_S, RECOVERY_S = 3.0, 3.0
SHORTEST_S, LONGEST_S = 5.0, 10.0  # of the baseline and of the fault window
# About twice the quickest decode step of four requests seen on one core: SGLang has no kernels for it.
TPOT_MS = {"vllm": 35.0, "sglang": 90.0}
# The host is somebody's machine: memory is held in GiB, and of the network the loopback interface is shaped,
# towards an address that nobody else has, since the one that we come from is let through.
STRENGTHS: dict[str, dict[str, Any]] = {
    "cpu_quota": {"quota_pct": 30},
    "cpu_swap": {"gb": 2},
    "network_contention": {"interface": "lo", "mbit": 50, "peer": "127.0.0.2"},
}


@dataclass(frozen=True)
class Size:
    """How long a demo may take once everything is installed, and which engines and faults are in it.

    `faults` of None are all that the machine can have.
    """

    seconds: float
    engines: tuple[str, ...]
    faults: tuple[str, ...] | None = None


FULL = Size(14.5 * 60, KINDS)
QUICK = Size(5.5 * 60, KINDS[:1], (SQUEEZE, "cpu_quota"))


def demo_spec(
    engines: str | Sequence[str],
    repetitions: int,
    cpus: Sequence[int],
    faults: Sequence[str] = (SQUEEZE,),
    seconds: float | None = None,
) -> dict[str, Any]:
    """The demo's campaign spec on these CPUs; `seconds` bound it, else its windows are the longest.

    Server and fault share one CPU and everything of ours has another, where there are two: a fault is then
    felt by the server alone, and we are not felt at all. The objective is one that every engine keeps.
    """
    kinds = [engines] if isinstance(engines, str) else list(engines)
    pinned = {"engine_cpus": [cpus[0]], "our_cpus": [cpus[1]]} if len(cpus) > 1 else {}
    scenarios = [NORMAL, *map(scenario, faults)]
    runs = len(kinds) * repetitions * len(scenarios)
    return {
        "name": NAME,
        "hosts": [{"name": LAB, "allow_faults": True, **pinned}],
        "engines": [{"kind": kind, "model": "tiny", "args": SERVE_ARGS.get(kind, {})} for kind in kinds],
        "workload": {"input_lengths": [32], "output_lengths": [64], "concurrency": [4]},
        "scenarios": scenarios,
        "windows": windows(seconds, len(kinds), runs),
        "slo": {"ttft_ms": 1000.0, "tpot_ms": max(TPOT_MS.get(kind, 50.0) for kind in kinds)},
        "repetitions": repetitions,
        "seed": 7,
    }


def scenario(anomaly: str) -> str | dict[str, Any]:
    """An anomaly as a spec has it, at the strength of the demo."""
    strength = STRENGTHS.get(anomaly)
    return {"anomaly": anomaly, "strength": strength} if strength else anomaly


def windows(seconds: float | None, servers: int, runs: int) -> dict[str, float]:
    """Windows in s with which so many runs on so many servers take so long, analysis and starts included."""
    if seconds is None:
        return {"warmup_s": 4.0, "baseline_s": LONGEST_S, "fault_s": LONGEST_S, "recovery_s": 6.0}
    a_run = (seconds - ANALYSIS_S - servers * ENGINE_START_S) / runs - CLIENT_START_S - CELL_OVERHEAD_S
    each = round(min(max((a_run - WARM_S - RECOVERY_S) / 2, SHORTEST_S), LONGEST_S), 1)
    return {"warmup_s": WARM_S, "baseline_s": each, "fault_s": each, "recovery_s": RECOVERY_S}


def asked_of_this_machine(kinds: Sequence[str], anomalies: Sequence[str]) -> CampaignSpec:
    """A spec with all of these, to have the host checked for: it is never run."""
    wanted = [name for name in anomalies if name != NORMAL]
    return parse_spec(
        {**demo_spec(kinds, 1, ()), "name": "check", "scenarios": list(map(scenario, wanted))}, "the check"
    )


def here(findings: Sequence[Mapping[str, Any]], anomalies: Sequence[str]) -> dict[str, str | None]:
    """{anomaly: why this machine cannot have it, or None}, by the findings of `tasks.host_check`."""
    said = {str(row["check"]).partition(" ")[0]: row for row in findings}
    refused = {name: row["found"] for name, row in said.items() if not row["passed"]}
    return {name: refused.get(name) for name in anomalies if name in said}


def chosen_faults(can: Mapping[str, str | None], wanted: Sequence[str] | None) -> list[str]:
    """What the machine can have of the faults wanted, or of all and sham; empty without a real one."""
    names = [name for name in wanted or can if can.get(name, "") is None]
    return names if set(names) - {SHAM} else []


def unfinished(home: Path, spec: CampaignSpec) -> str | None:
    """The last demo of this spec in a home, if it was interrupted before its report was written."""
    from tasks.books import campaigns
    from tasks.pages.report import default_path

    asked = spec.model_dump(mode="json")
    for name, record in campaigns(home).items():
        if record["campaign_name"] == spec.name:
            same = all(record["spec"].get(key) == value for key, value in asked.items())
            return name if same and not default_path(home, name).is_file() else None
    return None
