"""manifest.json of a bundle, read strictly: what is used of it is of the right type, or it is refused."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tasks.settings import LprismError

MANIFEST = "manifest.json"
LARGEST_MANIFEST = 16 << 20
MARKS = (
    "recording_start", "baseline_start", "baseline_end", "fault_apply", "fault_start", "fault_end",
    "fault_revert", "recovery_start", "recovery_end", "recording_stop",
)  # fmt: skip

# A plain name: no separator, no leading dot, so that it lies in the bundle's folder.
FileName = Annotated[str, Field(pattern=re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.@+=,-]{0,200}\Z"))]
Name = Annotated[str, Field(pattern=re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,120}\Z"))]
Time = Annotated[int, Field(ge=0, le=4_000_000_000_000_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000_000)]


class _Part(BaseModel):
    # Keys that are not used here stay in the bundle, where the manifest lies as it was written.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Cell(_Part):
    """The cell that was carried out."""

    host: str
    engine: str
    engine_version: str
    model: str
    attached: bool = False  # not told before servers could be attached
    scenario: str
    anomaly: str | None
    strength: dict[str, str | int | float | bool | None]
    input_length: Count
    output_length: Count
    concurrency: Count
    mode: str
    repetition: Count


class Effect(_Part):
    """The victim's measures, in `unit`; a failed run may lack any."""

    metric: str | None = None
    unit: str | None = None
    before: float | None = None
    during: float | None = None
    after: float | None = None
    proved: bool | None = None
    undone: bool | None = None


class Mark(_Part):
    """A point in time of the run, ns since 1970 on the host's clock."""

    name: Literal[MARKS]  # type: ignore[valid-type]  # the tuple is the list of names
    epoch_ns: Time
    monotonic_ns: Time | None = None

    @property
    def offset_ns(self) -> int | None:
        """The realtime less the monotonic clock."""
        return None if self.monotonic_ns is None else self.epoch_ns - self.monotonic_ns


class Slo(_Part):
    """Objectives in ms; None where none is set."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None


class HostFacts(_Part):
    """What is used of the facts about the host."""

    cpu_model: str | None = None


class Phase(_Part):
    """A part of the run, on the orchestrator's clock."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    start_ns: Time
    duration_ns: Time


class Listed(_Part):
    """A file of the bundle."""

    name: FileName
    size_bytes: Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Capture(_Part):
    """A deep capture: its moments on the realtime clock as it was at its start, and that clock's offset."""

    name: FileName
    window: Literal["baseline", "fault"]
    profiler: Literal["torch", "command"]
    iterations: Count | None
    files: tuple[FileName, ...]
    lost: str | None
    start_ns: Time | None = None
    ready_ns: Time | None = None
    stop_ns: Time | None = None
    end_ns: Time | None = None
    offset_ns: int | None = None


class HostClock(_Part):
    """The host's clock less the orchestrator's, ns, and how far that may be wrong."""

    offset_ns: Annotated[int, Field(ge=-4_000_000_000_000_000_000, le=4_000_000_000_000_000_000)]
    uncertainty_ns: Time


class Manifest(_Part):
    """A run as its recorder tells it."""

    schema_version: Literal[1] = Field(alias="schema")
    run_id: Annotated[str, Field(pattern=re.compile(r"^r[0-9a-f]{10}\Z"))]
    campaign: Name
    status: Literal["complete", "failed"]
    reason: str | None
    cell: Cell
    engine_key: str
    run_order: Count
    slo: Slo
    host_facts: HostFacts
    marks: tuple[Mark, ...]
    phases: tuple[Phase, ...] = ()
    session: Annotated[str, Field(max_length=200)] | None = None  # a visit to the host
    effect: Effect | None
    files: tuple[Listed, ...]
    captures: tuple[Capture, ...] = ()
    clock: HostClock | None = None

    @field_validator("marks", "files", "captures")
    @classmethod
    def _each_once(cls, parts: tuple[Mark | Listed | Capture, ...]) -> tuple[Mark | Listed | Capture, ...]:
        names = [part.name for part in parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or MANIFEST in names:
            raise ValueError(f"{(twice or [MANIFEST])[0]} is listed twice, or lists itself")
        return parts


def read_manifest(bundle: Path) -> tuple[Manifest, bytes]:
    """The manifest of a bundle, and its bytes. Raises LprismError naming the file and the first bad key."""
    path = bundle / MANIFEST
    try:
        if path.is_symlink() or not path.is_file():
            raise LprismError(f"{bundle} is no bundle: it has no {MANIFEST}")
        if path.stat().st_size > LARGEST_MANIFEST:
            raise LprismError(f"{path} is larger than {LARGEST_MANIFEST >> 20} MiB: not a manifest of ours")
        content = path.read_bytes()
        return Manifest.model_validate_json(content), content
    except OSError as error:
        raise LprismError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole file"
        raise LprismError(f"{path}: {key}: {first['msg']}") from error
