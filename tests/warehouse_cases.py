"""Hand-made bundles of a few lines, for the tests of warehouse, ingest and validation."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.warehouse import memory_connection

S = 1_000_000_000
MS = 1_000_000
# The host's epoch is this far ahead of its monotonic clock; both are odd, so that a float would show.
OFFSET = 1_795_400_000_000_000_001
CAMPAIGN = "c-1"
RUN = "r0123456789"
MARKS = {
    "recording_start": 0, "baseline_start": 1, "baseline_end": 2, "fault_apply": 3, "fault_start": 4,
    "fault_end": 5, "fault_revert": 6, "recovery_start": 7, "recovery_end": 8, "recording_stop": 9,
}  # fmt: skip
NORMAL_MARKS = {name: s for name, s in MARKS.items() if name not in ("fault_apply", "fault_revert")}
EFFECT = {
    "metric": "victim_gflops", "unit": "GFLOP/s", "before": 2.0, "during": 1.0, "after": 2.0,
    "proved": True, "undone": True, "detail": "two threads",
}  # fmt: skip
CELL: dict[str, Any] = {
    "host": "lab", "engine": "vllm", "engine_version": "0.32.0", "model": "tiny", "engine_args": {},
    "scenario": "normal", "anomaly": None, "strength": {}, "input_length": 32, "output_length": 64,
    "concurrency": 4, "mode": "sentinel", "repetition": 1,
}  # fmt: skip
FAULT_CELL: dict[str, Any] = {
    **CELL,
    "scenario": "cpu_quota",
    "anomaly": "cpu_quota",
    "strength": {"share": 0.5},
}

Line = Mapping[str, Any] | bytes


def at(seconds: float) -> int:
    """Monotonic ns of a moment of the run."""
    return round(seconds * S)


def clock(mono_ns: int, off_by_ns: int = 0) -> dict[str, Any]:
    """A clock line, as every recorder writes it."""
    return {"type": "clock", "pid": 7, "realtime_ns": mono_ns + OFFSET + off_by_ns, "monotonic_ns": mono_ns}


def batch(start_s: float, ms: float = 10.0, **changes: object) -> dict[str, Any]:
    """A decode step of one request: 32 tokens in, 3 out so far."""
    start = at(start_s)
    return {
        "type": "batch", "source": "vllm_probe", "pid": 7, "rank": 0, "iteration": 1, "start_mono_ns": start,
        "execute_end_mono_ns": start + round(ms * MS) - MS, "end_mono_ns": start + round(ms * MS),
        "requests": [[32, 34, 1, 3]], "admitted": 0, "finished": 0, "preempted": 0, "prefix_hit_tokens": 0,
        **changes,
    }  # fmt: skip


def sample(end_s: float, *values: Sequence[object], seconds: float = 0.1) -> dict[str, Any]:
    """A sample of the sampler; by default of one counter."""
    rows = values or (["host_cpu_usage", "Host", None, None, 12.5],)
    return {"type": "sample", "mono_ns": at(end_s), "interval_ns": at(seconds), "values": [*rows]}


def steady(seconds: float = 9.0) -> list[dict[str, Any]]:
    """Samples as they should be: ten a second."""
    return [sample(tick / 10) for tick in range(1, round(seconds * 10) + 1)]


def jsonl(lines: Iterable[Line]) -> bytes:
    """Lines of JSON; bytes stay as they are, and get no newline."""
    return b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)


def write_bundle(
    folder: Path,
    batches: Sequence[Line] | None = None,
    counters: Sequence[Line] | None = None,
    files: Mapping[str, bytes] | None = None,
    marks: Mapping[str, float] = NORMAL_MARKS,
    **changes: object,
) -> Path:
    """Write a bundle with a true manifest; `changes` overwrite keys of it. Returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = dict(files or {})
    for name, lines in (("batches-7.jsonl", batches), ("counters.jsonl", counters)):
        if lines is not None:
            content[name] = jsonl(lines)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    listed = [
        {"name": name, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in content.items()
    ]
    manifest: dict[str, Any] = {
        "schema": 1, "run_id": RUN, "campaign": CAMPAIGN, "campaign_name": "c", "status": "complete",
        "reason": None, "cell": CELL, "engine_key": "e" * 16, "seed": 7, "run_order": 1,
        "slo": {"ttft_ms": 500.0, "tpot_ms": 30.0}, "host_facts": {"cpu_model": "a CPU", "cores": 2},
        "marks": [
            {"name": name, "epoch_ns": at(s) + OFFSET, "monotonic_ns": at(s)} for name, s in marks.items()
        ],
        "phases": [], "effect": None, "exit_codes": {"load": -15}, "files": listed, **changes,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def good_bundle(
    folder: Path,
    run_id: str = RUN,
    marks: Mapping[str, float] = NORMAL_MARKS,
    **changes: Any,  # noqa: ANN401 - keys of a manifest
) -> Path:
    """A bundle of a complete run that passes every check: a batch in each window, ten samples a second."""
    batches = [clock(0), batch(1.1), batch(4.1), batch(7.1), clock(at(9))]
    counters = [clock(0), *steady(), clock(at(9))]
    return write_bundle(folder, batches, counters, marks=marks, run_id=run_id, **changes)


def good_fault(
    folder: Path,
    run_id: str = RUN,
    marks: Mapping[str, float] = MARKS,
    **changes: Any,  # noqa: ANN401 - keys of a manifest
) -> Path:
    """The same with a fault that was proved and undone."""
    return good_bundle(folder, run_id, marks, **{"cell": FAULT_CELL, "effect": EFFECT, **changes})


def parts(home: Path, table: str) -> list[str]:
    """What lies in the lake of a table, whether it may be seen or not."""
    return sorted(path.stem.partition(".")[0] for path in (home / "lake" / table).rglob("*.parquet"))


def data_file(home: Path, table: str, part: str = RUN) -> Path:
    """The file of a part in the lake, if it was put there once."""
    (path,) = (home / "lake" / table).rglob(f"{part}.*.parquet")
    return path


def seal_file(home: Path, part: str = RUN, campaign: str = CAMPAIGN) -> Path:
    """The seal of a run that was loaded once."""
    return home / "lake" / "seals" / campaign / f"runs.{part}.1.json"


def frame(home: Path, table: str, *columns: str) -> list[tuple[Any, ...]]:
    """Some columns of the lake's rows, read past the seal, in order."""
    paths = [str(path) for path in sorted((home / "lake" / table).rglob("*.parquet"))]
    with memory_connection() as con:
        rows: list[tuple[Any, ...]] = con.read_parquet(paths).select(*columns).fetchall()
    return rows


def row(**values: object) -> pd.DataFrame:
    """A frame of one row."""
    return pd.DataFrame([values])
