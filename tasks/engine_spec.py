"""The engines of a campaign spec: servers that are started, in a container or not, or run already."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from tasks import spec_form
from tasks.spec_errors import unknown

ROOT = Path(__file__).resolve().parent.parent
# Known and not run by a campaign: it gets an answer of its own, so that nobody looks for a typing error.
NOT_YET_ENGINES = ("xdit",)
MOST_ATTRIBUTES = 16  # of a probe point, as the probe has it

Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=4096)]
# It ends up on a command line, so it has no leading dash; paths and hub names have more letters than a word.
Model = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-][^\x00-\x1f\x7f]*$", max_length=4096)]
Flag = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*([-.][a-z0-9]+)*$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Port = Annotated[int, Field(ge=1, le=65_535)]
# No user, password, path or query: what is asked there is ours to say.
Url = Annotated[str, Field(pattern=r"^https?://([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$")]
ContainerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Image = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./:@-]{0,254}$")]
Option = Annotated[str, Field(pattern=r"^--?[A-Za-z][^\x00-\x1f\x7f]*$", max_length=4096)]
Point = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
Attribute = Annotated[str, Field(pattern=r"^(args\.\d+|kwargs\.[A-Za-z_]\w*|result)(\.\w+)*$")]
Scalar: TypeAlias = bool | int | float | str
FlagValue: TypeAlias = Scalar | list[Scalar] | dict[str, Scalar | dict[str, Scalar]] | None


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, json_schema_extra=spec_form.in_words
    )


class Container(_Part):
    """Where a server is started: `NAME`, a container that runs, or `{image: ..., options: [--ipc=host]}`."""

    name: ContainerName | None = None
    image: Image | None = None
    options: list[Option] = []

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, written: object) -> object:
        return {"name": written} if isinstance(written, str) else written

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.name is None) == (self.image is None):
            raise ValueError("a container is the name of one that runs, or {image: ..., options: [...]}")
        if self.name and self.options:
            raise ValueError("`options` are of a container that is made from an image")
        return self

    @model_serializer
    def _as_written(self) -> str | dict[str, object]:
        return self.name or {"image": self.image, "options": list(self.options)}


# Prefect checks what is typed into its form by this, before any validator of ours runs.
_WRITTEN_CONTAINER = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {
                    "image": {"type": "string"},
                    "options": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["image"],
                "additionalProperties": False,
            },
            {"type": "null"},
        ]
    }
)


class ProbePoint(_Part):
    """A function of the server whose calls are recorded: `package.module:Class.function`, with attributes."""

    point: Point
    attributes: Annotated[list[Attribute], Field(max_length=MOST_ATTRIBUTES)] = []


class Engine(_Part):
    """An inference server and how it is started; without `python` it is the one that lprism installed.

    With `attach` it is somebody else's: `python` has the load client then, `log` is the server's own log.
    """

    kind: Annotated[str, Field(json_schema_extra=lambda shown: shown.update(enum=known_engines()))]
    model: Model
    args: dict[Flag, FlagValue] = {}
    python: Text | None = None
    port: Port | None = None
    env: dict[Variable, SecretStr] = {}  # a token may stand there: never written out
    client_python: Text | None = None
    container: Annotated[Container | None, _WRITTEN_CONTAINER] = None
    attach: Url | None = None
    log: Text | None = None
    allow_faults: bool = False
    probe_points: list[ProbePoint] = []

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        return known_name("engine", kind, known_engines(), NOT_YET_ENGINES)

    @field_validator("env")
    @classmethod
    def _values(cls, env: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in env.items():
            text = value.get_secret_value()
            if "\0" in text:
                raise ValueError(f"the value of {name} has a NUL character")
            if text and not text.strip("*"):
                raise ValueError(f"the value of {name} was masked when this was written down: give it again")
        return env

    @model_validator(mode="after")
    def _of_somebody_else(self) -> Self:
        only = [key for key in ("log", "allow_faults") if getattr(self, key)]
        if self.attach is None:
            if only:
                raise ValueError(f"`{only[0]}` is for a server that is attached (attach: URL)")
            return self
        ours = ("args", "port", "container", "probe_points")
        if given := next((key for key in ours if getattr(self, key)), None):
            raise ValueError(f"the server at {self.attach} is somebody else's: leave out {given}")
        if self.log and self.kind != "vllm":
            raise ValueError("`log` is vLLM's, started with --enable-logging-iteration-details")
        return self

    def __str__(self) -> str:
        return f"{self.kind} {self.attach or self.model}"

    @property
    def given_env(self) -> dict[str, str]:
        """`env` with its values; never to be written down."""
        return {name: value.get_secret_value() for name, value in self.env.items()}

    @model_serializer(mode="wrap")
    def _as_written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Later keys only where they are used: the run ids of an older spec stay as they were."""
        first = ("kind", "model", "args", "python", "port", "env")
        return {key: value for key, value in write(self).items() if key in first or value}


def known_engines() -> list[str]:
    """Engine kinds that a campaign can run: modules of tasks/engines."""
    return [name for name in module_names(ROOT / "tasks" / "engines") if name not in NOT_YET_ENGINES]


def module_names(folder: Path) -> list[str]:
    """The public modules in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def known_name(what: str, name: str, known: Sequence[str], not_yet: Iterable[str]) -> str:
    """A name that is known. Raises ValueError with the nearest one."""
    if name in known:
        return name
    if name in not_yet:
        raise ValueError(f"{what} {name!r} is not run by campaigns yet: this version has {', '.join(known)}")
    raise ValueError(unknown(what, name, known))
