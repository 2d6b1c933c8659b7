"""Reads and checks the signatures: what each cause looks like in counters, as data."""

from __future__ import annotations

import dataclasses
import string
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.settings import LprismError

if TYPE_CHECKING:
    from collections.abc import Iterable

SIGNATURES_FILE = Path(__file__).with_name("signatures.toml")
NONE = "none"
CAUSES = frozenset(
    {
        "cpu_compute_squeeze_out",
        "cpu_frequency_reduction",
        "cpu_quota",
        "cpu_swap",
        "gpu_instability",
        "gpu_memory_squeeze_out_NVLink",
        "gpu_memory_squeeze_out_PCIe",
        "gpu_preemption",
        "gpu_swap",
        "network_contention",
        "workload_change",
        "queueing",
        "frontend_starved",
    }
)
BATCH_MEASURES = frozenset(
    {
        "batch_size",
        "kv_tokens",
        "new_input_tokens",
        "waiting",
        "batches_out_of_domain",
        "decode_time",
        "step_gap",
        "step_gap_share",
    }
)
DERIVED = frozenset({"engine_cpus_usage"})
CALL_TIME_MEASURES = frozenset({"kernel_time", "comm_time", "copy_time", "op_time", "syscall_time"})
COUNTERS = (
    BATCH_MEASURES
    | CALL_TIME_MEASURES
    | DERIVED
    | frozenset(
        {
            "cpu_frequency",
            "cpu_steal",
            "cpu_usage",
            "disk_usage",
            "gpu_frequency",
            "gpu_link_receive",
            "gpu_link_transmit",
            "gpu_mem_frequency",
            "gpu_mem_used",
            "gpu_pcie_receive",
            "gpu_pcie_transmit",
            "gpu_power",
            "gpu_sm_frequency",
            "gpu_sm_occupancy",
            "gpu_sm_util",
            "gpu_temp",
            "gpu_throttle_reasons",
            "gpu_usage",
            "host_cpu_usage",
            "host_mem_usage",
            "host_swap_in",
            "host_swap_out",
            "host_swap_usage",
            "net_rx",
            "net_tx",
            "other_cpu_usage",
            "other_process_avx512_age",
            "other_process_cpu_usage",
            "pressure_cpu",
            "pressure_io",
            "pressure_memory",
            "process_cgroup_cpu_usage",
            "process_cgroup_mem_used",
            "process_cgroup_quota",
            "process_cgroup_throttled",
            "process_cgroup_throttled_periods",
            "process_cpu_usage",
            "process_gpu_mem_used",
            "process_gpu_usage",
            "process_mem_rss",
            "process_mem_swap",
            "process_mem_usage",
            "process_runq_wait",
        }
    )
)
EVIDENCE_FIELDS = frozenset({"before", "now", "device", "process", "pid"})
CHOICES = {
    "device": ("any", "busiest"),
    "statistic": ("median", "mean", "rate"),
    "change": ("up", "down", "above", "below", "within"),
    "by": ("difference", "fraction"),
}


@dataclass(frozen=True)
class Clause:
    """One thing that a cause does to one counter; the fields are explained at the top of signatures.toml."""

    counter: str
    device: str
    statistic: str
    change: str
    evidence: str
    by: str | None = None
    threshold: float | None = None
    low: float | None = None
    high: float | None = None
    weight: float = 1.0
    required: bool = False
    any_of: str | None = None
    contra: bool = False

    @property
    def compares(self) -> bool:
        """Whether the clause needs the reference, and not the incident's samples alone."""
        return self.change in {"up", "down"}


@dataclass(frozen=True)
class Signature:
    """A cause and its clauses; `without` and `most` are explained at the top of signatures.toml."""

    cause: str
    clauses: tuple[Clause, ...]
    without: tuple[str, ...] = ()
    most: float = 1.0


@dataclass(frozen=True)
class Rule:
    """A trivial rule: a counter's median beyond `factor` (below 1: under it) of the normal one."""

    cause: str
    counter: str
    factor: float


@dataclass(frozen=True)
class Signatures:
    """The whole file: the score that names a cause, causes, what lies outside, those of pairs, the rules."""

    threshold: float
    causes: tuple[Signature, ...]
    outside: tuple[Clause, ...]
    pairs: tuple[Signature, ...] = ()
    baseline: tuple[Rule, ...] = ()


def load_signatures(path: Path = SIGNATURES_FILE) -> Signatures:
    """Read and check a signatures file; LprismError names the file, the cause, the clause and the mistake."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LprismError(f"{path.name} cannot be read as TOML: {error}") from error
    _check_keys(content, ("threshold", "signature", "outside", "pair", "baseline"), path.name)
    threshold = _number(content.get("threshold"), f"{path.name}: threshold")
    causes = tuple(_signature(entry, path.name) for entry in content.get("signature", []))
    outside = tuple(_clause(entry, f"{path.name}, outside") for entry in content.get("outside", []))
    pairs = tuple(_signature(entry, path.name) for entry in content.get("pair", []))
    for some in (causes, pairs):
        _check_causes([signature.cause for signature in some if not signature.without], path.name)
    rules = tuple(_rule(entry, path.name) for entry in content.get("baseline", []))
    return Signatures(threshold, causes, outside, pairs, rules)


def _rule(entry: dict[str, Any], where: str) -> Rule:
    where = f"{where}, baseline {entry.get('cause', '?')}"
    _check_keys(entry, ("cause", "counter", "factor"), where)
    _check_known(entry.get("cause"), CAUSES, f"{where}: cause")
    _check_known(entry.get("counter"), COUNTERS, f"{where}: counter")
    factor = _number(entry.get("factor"), f"{where}: factor")
    if factor <= 0 or factor == 1:
        raise LprismError(f"{where}: factor must be above 0, and not 1")
    return Rule(entry["cause"], entry["counter"], factor)


def _signature(entry: dict[str, Any], where: str) -> Signature:
    _check_keys(
        entry, ("cause", "without", "most", "clause"), f"{where}, signature {entry.get('cause', '?')}"
    )
    cause = entry.get("cause")
    _check_known(cause, CAUSES, f"{where}: cause")
    without = tuple(entry.get("without", ()))
    for counter in without:
        _check_known(counter, COUNTERS, f"{where}, {cause}: without")
    most = _number(entry.get("most", 1.0), f"{where}, {cause}: most")
    if not 0 < most <= 1 or (most < 1) != bool(without):
        raise LprismError(f"{where}, {cause}: `without` and a `most` below 1 belong together")
    clauses = tuple(_clause(one, f"{where}, {cause}") for one in entry.get("clause", []))
    if not any(clause.required and not clause.contra for clause in clauses):
        raise LprismError(f"{where}, {cause}: no required clause, so anything would resemble it")
    for name in {clause.any_of for clause in clauses if clause.any_of}:
        if len({clause.required for clause in clauses if clause.any_of == name}) > 1:
            raise LprismError(f"{where}, {cause}: the alternatives {name!r} must be all required or none")
    return Signature(str(cause), clauses, without, most)


def _clause(entry: dict[str, Any], where: str) -> Clause:
    fields = dataclasses.fields(Clause)
    where = f"{where}, clause {entry.get('counter', '?')}"
    _check_keys(entry, [field.name for field in fields], where)
    missing = [
        field.name for field in fields if field.default is dataclasses.MISSING and field.name not in entry
    ]
    if missing:
        raise LprismError(f"{where}: missing {', '.join(missing)}")
    clause = Clause(**entry)
    _check_known(clause.counter, COUNTERS, f"{where}: counter")
    _check_choices(clause, where)
    _check_numbers(clause, where)
    _check_flags(clause, where)
    _check_evidence(clause, where)
    return clause


def _check_choices(clause: Clause, where: str) -> None:
    for name, allowed in CHOICES.items():
        value = getattr(clause, name)
        if not (name == "by" and value is None):
            _check_known(value, allowed, f"{where}: {name}")
    if clause.compares != (clause.by is not None):
        raise LprismError(f"{where}: `by` belongs to change up or down, and to no other")


def _check_numbers(clause: Clause, where: str) -> None:
    needed = ("low", "high") if clause.change == "within" else ("threshold",)
    for name in ("threshold", "low", "high"):
        value = getattr(clause, name)
        if name in needed:
            _number(value, f"{where}: {name}")
        elif value is not None:
            raise LprismError(f"{where}: change {clause.change} takes no {name}")
    if clause.compares and (clause.threshold or 0) <= 0:
        raise LprismError(f"{where}: threshold must be above 0; the direction is in `change`")
    if _number(clause.weight, f"{where}: weight") <= 0 or (clause.contra and clause.weight > 1):
        raise LprismError(f"{where}: weight must be above 0, and at most 1 where contra")


def _check_flags(clause: Clause, where: str) -> None:
    if not (isinstance(clause.required, bool) and isinstance(clause.contra, bool)):
        raise LprismError(f"{where}: required and contra are true or false")
    if clause.contra and (clause.required or clause.any_of):
        raise LprismError(f"{where}: what speaks against a cause is neither required nor any_of")
    if clause.any_of is not None and not isinstance(clause.any_of, str):
        raise LprismError(f"{where}: any_of is the name that the alternatives share")


def _check_evidence(clause: Clause, where: str) -> None:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(clause.evidence) if name is not None}
    except (ValueError, TypeError) as error:
        raise LprismError(f"{where}: evidence is not a template: {error}") from error
    for name in sorted(names):
        _check_known(name, EVIDENCE_FIELDS, f"{where}: evidence field")
    sample = {"before": 1.0, "now": 2.0, "device": "CPU 0", "process": "squeeze", "pid": 1}
    try:
        clause.evidence.format(**sample)
    except ValueError as error:
        raise LprismError(f"{where}: evidence does not render: {error}") from error


def _check_causes(causes: list[str], where: str) -> None:
    twice = sorted({cause for cause in causes if causes.count(cause) > 1})
    if not causes or twice:
        raise LprismError(f"{where}: {'twice: ' + ', '.join(twice) if twice else 'no [[signature]]'}")


def _check_keys(entry: dict[str, Any], allowed: Iterable[str], where: str) -> None:
    for key in entry:
        _check_known(key, allowed, f"{where}: key")


def _check_known(value: object, allowed: Iterable[str], where: str) -> None:
    known = sorted(allowed)
    if value in known:
        return
    near = get_close_matches(str(value), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    raise LprismError(f"{where}: unknown {value!r}; {hint}")


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LprismError(f"{where} must be a number, not {value!r}")
    return float(value)
