"""Whether a server runs after a fault as it did before: its recovery's batches against its baseline's."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FEWEST = 20  # batches in each window; with fewer nothing is said
MOST = 1.25  # times as long or as short in the median is another server


@dataclass(frozen=True)
class Recovery:
    """The median batch of both windows, ms, first request of a forward to its end."""

    baseline_ms: float
    recovery_ms: float

    @property
    def differs(self) -> bool:
        """Whether the server is not the one that it was."""
        return not 1 / MOST <= self.recovery_ms / self.baseline_ms <= MOST

    def told(self) -> dict[str, float | bool]:
        """For the manifest."""
        return {"baseline_ms": self.baseline_ms, "recovery_ms": self.recovery_ms, "differs": self.differs}


def recovery_of(folder: Path, marks: Sequence[Mapping[str, Any]]) -> Recovery | None:
    """Compare the windows of a run by what its probe wrote; None where it wrote too little."""
    at = {mark["name"]: int(mark["monotonic_ns"]) for mark in marks}
    medians = []
    spans = list(_spans(folder))
    for window in ("baseline", "recovery"):
        start, end = at.get(f"{window}_start"), at.get(f"{window}_end")
        inside = [
            ended - began
            for began, ended in spans
            if start is not None and end is not None and start <= began and ended <= end
        ]
        if len(inside) < FEWEST:
            return None
        medians.append(statistics.median(inside) / 1e6)
    return Recovery(*medians) if min(medians) > 0 else None


def _spans(folder: Path) -> list[tuple[int, int]]:
    """(start, end) of every batch on the host's monotonic clock."""
    spans = []
    for path in folder.glob("batches-*.jsonl"):
        with path.open("rb") as file:
            spans += [_span(line) for line in file if b'"batch"' in line]
    return [span for span in spans if span]


def _span(line: bytes) -> Any:  # noqa: ANN401  a pair, or None for a line cut short
    try:
        said = json.loads(line)
        return int(said["start_mono_ns"]), int(said["end_mono_ns"])
    except (ValueError, KeyError, TypeError):
        return None
