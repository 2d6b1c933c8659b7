"""The campaign spec: what a user may write, and what is said when it cannot be used.

`parse_spec` takes what YAML or Prefect's form holds, `load_spec` a file. Both raise `SpecError` alone, whose
message names the file, the key and the nearest valid one. Dumping a spec gives what `parse_spec` takes, the
values of `env` excepted: those are masked, and what is masked is refused.
"""

import importlib
import itertools
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from tasks import spec_form
from tasks.engine_spec import (
    ROOT,
    Container,
    Engine,
    FlagValue,
    Port,
    ProbePoint,
    Scalar,
    Text,
    known_name,
    module_names,
)
from tasks.host import strengths
from tasks.modes import DEEPDIVE, WRITTEN_MODE, DeepDive, Mode, Profiler
from tasks.settings import SpecError
from tasks.spec_errors import in_words
from tasks.yaml_file import read_mapping

LAB = "lab"
NORMAL = "normal"
SHAM = "sham"

# The last word of a name: `api-key`, `HF_TOKEN`, but not `max-num-batched-tokens` or `tokenizer`.
SECRET = re.compile(r"(?:^|[-_.])(?:keys?|token|secrets?|passwords?)$", re.IGNORECASE)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
# Never a leading dash: the word ends up on command lines.
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,254}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Milliseconds = Annotated[float, Field(gt=0, le=3_600_000)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Cpus = Annotated[list[Annotated[int, Field(ge=0, le=65_535)]], Field(min_length=1)]
T = TypeVar("T")


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, json_schema_extra=spec_form.in_words
    )


class Host(_Part):
    """A machine that is measured; `lab` is the loopback one, which campaigns start themselves."""

    name: Name
    address: Word | None = None
    user: Word | None = None
    port: Port | None = None
    identity_file: Text | None = None
    known_hosts: Text | None = None
    group: Name | None = None  # a host that is lost hands its cells to the others of its group
    allow_faults: bool = False
    engine_cpus: Cpus | None = None
    our_cpus: Cpus | None = None
    gpus: list[Annotated[int, Field(ge=0, le=1023)]] = []

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        keys = ("address", "user", "port", "identity_file", "known_hosts")
        dialled = ", ".join(key for key in keys if getattr(self, key))
        if self.name == LAB and dialled:
            raise ValueError(f"the host {LAB!r} is started by the campaign itself: leave out {dialled}")
        if self.name != LAB and self.address is None:
            raise ValueError(f"host {self.name!r} needs an address (any ssh_config alias will do)")
        return self

    @model_validator(mode="after")
    def _apart(self) -> Self:
        shared = sorted(set(self.engine_cpus or []) & set(self.our_cpus or []))
        if shared:
            raise ValueError(f"CPU {shared[0]} is in both engine_cpus and our_cpus")
        return self


class Workload(_Part):
    """The load, as a grid: every input length with every output length at every concurrency."""

    input_lengths: Annotated[list[Tokens], Field(min_length=1)]
    output_lengths: Annotated[list[Tokens], Field(min_length=1)]
    concurrency: Annotated[list[Annotated[int, Field(ge=1, le=100_000)]], Field(min_length=1)]

    @field_validator("*")
    @classmethod
    def _once(cls, values: list[int]) -> list[int]:
        return _each_once(values)

    @property
    def names(self) -> list[str]:
        """Every workload of the grid, as `runs.workload` has it."""
        axes = itertools.product(self.input_lengths, self.output_lengths, self.concurrency)
        return [f"in{i}_out{o}_conc{c}" for i, o, c in axes]


class Scenario(_Part):
    """`normal`, or an anomaly by its name, or `{anomaly: NAME, strength: {...}}`."""

    anomaly: str | None = None
    strength: dict[str, Scalar] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, written: object) -> object:
        if isinstance(written, str):
            written = {"anomaly": written}
        if not isinstance(written, dict) or {key for key in written if written[key] is not None} <= {
            "strength"
        }:
            raise ValueError("a scenario is a name, or {anomaly: NAME, strength: {...}}")
        return {**written, "anomaly": None} if written.get("anomaly") == NORMAL else written

    @model_validator(mode="after")
    def _known(self) -> Self:
        known_name("scenario", self.name, known_scenarios(), ())
        if self.anomaly is None and self.strength:
            raise ValueError("the scenario 'normal' injects nothing, so it has no strength")
        if self.anomaly is not None:
            known = importlib.import_module(f"injectors.{self.anomaly}").STRENGTH
            strengths.complete(self.anomaly, known, self.strength)
        return self

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The word on the scenario axis."""
        return NORMAL if self.anomaly is None else self.anomaly

    @model_serializer
    def _as_written(self) -> str | dict[str, object]:
        return {"anomaly": self.anomaly, "strength": self.strength} if self.strength else self.name


_SCENARIOS: list[JsonValue] = [NORMAL, *module_names(ROOT / "injectors")]
# Prefect checks what is typed into its form by this, before any validator of ours runs.
_WRITTEN_SCENARIO = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "title": "Name", "enum": _SCENARIOS},
            {
                "type": "object",
                "title": "With strength",
                "properties": {
                    "anomaly": {"type": "string", "enum": _SCENARIOS},
                    "strength": {"type": "object"},
                },
                "required": ["anomaly"],
                "additionalProperties": False,
            },
        ]
    }
)


class Windows(_Part):
    """Lengths in seconds of the parts of one run, and of a deep capture in engine iterations."""

    warmup_s: Annotated[float, Field(ge=0, le=86_400)] = 15.0
    baseline_s: Seconds = 10.0
    fault_s: Seconds = 10.0
    recovery_s: Seconds = 10.0
    deep_iterations: Annotated[int, Field(ge=1, le=100_000)] = 50

    @property
    def total_s(self) -> float:
        """From the first request to the end of the recovery window."""
        return self.warmup_s + self.baseline_s + self.fault_s + self.recovery_s


class Slo(_Part):
    """The service-level objective: incidents are held against `tpot_ms`; `ttft_ms` is recorded only."""

    ttft_ms: Milliseconds = 500.0
    tpot_ms: Milliseconds = 50.0


class Limits(_Part):
    """When to give up on a cell, and on a campaign."""

    cell_timeout_s: Seconds = 600.0
    max_consecutive_failures: Annotated[int, Field(ge=1)] = 3
    busy_host: Annotated[str, Field(json_schema_extra={"enum": ["refuse", "wait"]})] = "refuse"

    @field_validator("busy_host")
    @classmethod
    def _known(cls, busy_host: str) -> str:
        return known_name("busy_host", busy_host, ["refuse", "wait"], ())


class CampaignSpec(_Part):
    """A named experiment: hosts x engines x scenarios x workloads x modes x repetitions."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,40}$")]
    hosts: Annotated[list[Host], Field(min_length=1)]
    engines: Annotated[list[Engine], Field(min_length=1)]
    workload: Workload
    scenarios: Annotated[list[Annotated[Scenario, _WRITTEN_SCENARIO]], Field(min_length=1)]
    modes: Annotated[list[Annotated[Mode, WRITTEN_MODE]], Field(min_length=1)] = [Mode()]
    windows: Windows = Windows()
    slo: Slo = Slo()
    repetitions: Annotated[int, Field(ge=1, le=10_000)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 7
    limits: Limits = Limits()

    @field_validator("engines", "scenarios")
    @classmethod
    def _once(cls, values: list[object]) -> list[object]:
        return _each_once(values)

    @field_validator("modes")
    @classmethod
    def _each_mode_once(cls, modes: list[Mode]) -> list[Mode]:
        _each_once([mode.name for mode in modes])
        return modes

    @model_validator(mode="after")
    def _in_the_grid(self) -> Self:
        for name in self.deepdive.workloads if self.deepdive else []:
            known_name("workload", name, self.workload.names, ())
        return self

    @model_validator(mode="after")
    def _attached(self) -> Self:
        """A server of somebody else's is disturbed only in so many words, and is captured from outside."""
        fault = next((scenario.name for scenario in self.scenarios if scenario.anomaly), None)
        for engine in self.engines:
            if engine.attach and fault and not engine.allow_faults:
                raise ValueError(
                    f"scenario {fault!r} is a fault, and {engine} is somebody else's server: write "
                    "`allow_faults: true` beside `attach` if it may be disturbed"
                )
            if engine.attach and self.deepdive and not self.deepdive.profiler:
                raise ValueError(
                    f"{engine} is somebody else's server: only an installed `profiler` captures it"
                )
        return self

    @property
    def deepdive(self) -> DeepDive | None:
        """What its deep captures are; None where there are none."""
        return next((mode.deepdive for mode in self.modes if mode.deepdive), None)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        twice = [name for name, count in Counter(host.name for host in self.hosts).items() if count > 1]
        if twice:
            raise ValueError(f"two hosts are called {twice[0]!r}")
        if self.limits.cell_timeout_s <= self.windows.total_s:
            raise ValueError(
                f"limits.cell_timeout_s is {self.limits.cell_timeout_s:g}, "
                f"but the windows of one cell already take {self.windows.total_s:g} s"
            )
        return self

    @model_validator(mode="after")
    def _faults_allowed(self) -> Self:
        fault = next((scenario.name for scenario in self.scenarios if scenario.anomaly), None)
        closed = next((host.name for host in self.hosts if not host.allow_faults), None)
        if fault and closed:
            raise ValueError(
                f"scenario {fault!r} is a fault, and host {closed!r} does not have allow_faults: true"
            )
        return self


def load_spec(path: Path | str) -> CampaignSpec:
    """Read a campaign spec from a YAML file.

    Raises:
        SpecError: the file cannot be read, or what it holds is no spec.
    """
    return parse_spec(read_mapping(Path(path)), str(path))


def parse_spec(content: object, source: str = "campaign spec") -> CampaignSpec:
    """Check what YAML, JSON or Prefect's form holds; `source` is how messages call it.

    Raises:
        SpecError: one line on the first thing that is wrong, and one that counts the rest.
    """
    try:
        return CampaignSpec.model_validate(content)
    except ValidationError as error:
        raise SpecError(f"{source}: {in_words(error, _valid_keys(), ())}") from error


def _valid_keys() -> dict[str, list[str]]:
    sections: dict[str, type[BaseModel]] = {
        "": CampaignSpec,
        "hosts": Host,
        "workload": Workload,
        "scenarios": Scenario,
        "windows": Windows,
        "slo": Slo,
        "limits": Limits,
    }
    deep = [DEEPDIVE, *DeepDive.model_fields, *Profiler.model_fields]
    serving = [*Engine.model_fields, *Container.model_fields, *ProbePoint.model_fields]
    plain = {section: list(model.model_fields) for section, model in sections.items()}
    return {**plain, "modes": deep, "engines": serving}


def masked(args: Mapping[str, FlagValue]) -> dict[str, FlagValue]:
    """Arguments or variables as they may be written down: values whose names are those of secrets are not."""
    return {name: _masked(name, value) for name, value in args.items()}


def _masked(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever YAML holds, nested
    if SECRET.search(name) and value:
        return "***"
    return {inner: _masked(inner, it) for inner, it in value.items()} if isinstance(value, dict) else value


def known_scenarios() -> list[str]:
    """`normal`, and the modules of injectors: `sham` and the anomalies."""
    return [str(name) for name in _SCENARIOS]


def _each_once(values: list[T]) -> list[T]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value} is there twice: its runs could not be told apart")
    return values
