"""What a run records, as a spec says it: `sentinel`, the light way, or `deepdive`, with deep captures."""

import re
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from tasks.spec_errors import unknown

SENTINEL = "sentinel"
DEEPDIVE = "deepdive"
PLACES = ("output", "session", "url")
"""What a profiler's command line may name: its output file, the server's process session and URL."""

Word = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=4096)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,80}$")]
_PLACE = re.compile(r"\{([a-z_]+)\}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Profiler(_Part):
    """An installed profiler: a command that records until SIGTERM, and the file that it leaves.

    `{output}`, `{session}` and `{url}` in a word stand for what PLACES says; `start_s` is how long it takes
    until it records.
    """

    command: Annotated[list[Word], Field(min_length=1)]
    output: FileName = "result.json.gz"
    start_s: Annotated[float, Field(ge=0, le=600)] = 1.0

    @field_validator("command")
    @classmethod
    def _known(cls, command: list[str]) -> list[str]:
        for name in _PLACE.findall(" ".join(command)):
            if name not in PLACES:
                raise ValueError(unknown("place", name, PLACES))
        return command

    def words(self, **places: object) -> list[str]:
        """The command line with its places filled in."""
        return [_PLACE.sub(lambda found: str(places[found[1]]), word) for word in self.command]


class DeepDive(_Part):
    """A capture in the baseline window and one in the fault window, on these workloads (none named: on all).

    The torch profiler's, with Python stacks only where `stack` says so, or the `profiler`'s. `export_s` is
    how long the engine may stall while a trace is written.
    """

    workloads: list[str] = []
    stack: bool = False
    profiler: Profiler | None = None
    export_s: Annotated[float, Field(gt=0, le=3600)] = 120.0


class Mode(_Part):
    """`sentinel`, `deepdive`, or `{deepdive: {workloads: [in512_out256_conc8], ...}}`."""

    deepdive: DeepDive | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, written: object) -> object:
        if isinstance(written, dict) and list(written) == [DEEPDIVE]:
            return {DEEPDIVE: written[DEEPDIVE] or {}}
        if isinstance(written, Mode) or written == {}:
            return written
        name = next(iter(written), None) if isinstance(written, dict) else written
        if name not in (SENTINEL, DEEPDIVE) or isinstance(written, dict):  # a tuple: it may be a list
            raise ValueError(unknown("mode", str(name), (SENTINEL, DEEPDIVE)))
        return {DEEPDIVE: {}} if name == DEEPDIVE else {}

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The word on the mode axis."""
        return DEEPDIVE if self.deepdive else SENTINEL

    def covers(self, workload: str) -> bool:
        """Whether a workload is run in this mode."""
        return self.deepdive is None or not self.deepdive.workloads or workload in self.deepdive.workloads

    @model_serializer
    def _as_written(self) -> str | dict[str, object]:
        told = self.deepdive.model_dump(mode="json", exclude_defaults=True) if self.deepdive else {}
        return {DEEPDIVE: told} if told else self.name


# Prefect checks what is typed into its form by this, before any validator of ours runs.
WRITTEN_MODE = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {DEEPDIVE: {"anyOf": [{"type": "object"}, {"type": "null"}]}},
                "required": [DEEPDIVE],
                "additionalProperties": False,
            },
        ]
    }
)
