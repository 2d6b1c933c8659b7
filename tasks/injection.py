"""One fault by hand: checked, measured, applied, held, measured, undone, judged."""

import contextlib
import importlib
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import server as servers
from tasks.addresses import reachable
from tasks.fault import PART_S, Fault, UndoFailed
from tasks.host import strengths
from tasks.host.facts import usable_cpus
from tasks.progress import Progress, say
from tasks.remote import HostError, supervise
from tasks.settings import LprismError, SpecError
from tasks.spec import LAB, NORMAL, CampaignSpec, Host, known_scenarios
from tasks.spec_errors import unknown

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
SHORTEST_S, LONGEST_S = 1.0, 86_400.0
LOOK_EVERY_S = 0.25
SETTLED_S = 8.0  # what connecting, checking and the measures take beside the fault itself, roughly


@dataclass(frozen=True)
class Injection:
    """What is asked for; `pid` is a process of the server, on the host."""

    anomaly: str
    strength: Mapping[str, Any]
    seconds: float
    gpus: Sequence[int] = ()
    pid: int | None = None
    python: str | None = None

    @property
    def expected_s(self) -> float:
        """How long all of it should take."""
        return self.seconds + SETTLED_S


def anomalies() -> list[str]:
    """What can be injected: the modules of injectors."""
    return [name for name in known_scenarios() if name != NORMAL]


def parameters_of(anomaly: str) -> strengths.Parameters:
    """The strength that an anomaly takes. Raises SpecError naming the nearest anomaly."""
    if anomaly not in anomalies():
        raise SpecError(unknown("anomaly", anomaly, anomalies()))
    found: strengths.Parameters = importlib.import_module(f"injectors.{anomaly}").STRENGTH
    return found


def catalogue() -> list[dict[str, Any]]:
    """Every anomaly: what it is in one line, the victim's measure, and its strength, a parameter a row."""
    return [_entry(anomaly, importlib.import_module(f"injectors.{anomaly}")) for anomaly in anomalies()]


def _entry(anomaly: str, injector: Any) -> dict[str, Any]:  # noqa: ANN401 - a module
    strength = [{"name": name, **part._asdict()} for name, part in injector.STRENGTH.items()]
    meaning = (injector.__doc__ or "").partition("\n")[0]
    measure = {"metric": injector.METRIC, "unit": injector.UNIT}
    return {"anomaly": anomaly, "meaning": meaning, **measure, "strength": strength}


def strength_from(anomaly: str, words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE words as a complete strength, defaults filled in. Raises SpecError."""
    known = parameters_of(anomaly)
    given: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise SpecError(f"strength {word!r} is not KEY=VALUE")
        if name in given:
            raise SpecError(f"strength {name!r} is given twice")
        given[name] = _number(value) if isinstance(known.get(name), strengths.Number) else value
    try:
        return strengths.complete(anomaly, known, given)
    except strengths.Unusable as error:
        raise SpecError(str(error)) from error


def _number(text: str) -> float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text  # refused in the words of the parameter


def duration_s(text: str) -> float:
    """Seconds of `30s`, `2m`, `1500ms`, `1h`. Raises SpecError."""
    found = DURATION.fullmatch(text)
    if found is None:
        raise SpecError(f"{text!r} is no duration: write a number and its unit, such as 30s or 2m")
    seconds = float(found[1]) * SECONDS[found[2]]
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise SpecError(f"a fault lasts from {SHORTEST_S:g} s to {LONGEST_S / 3600:g} h, not {text}")
    return seconds


def serving_python(host: Host, spec: CampaignSpec | None) -> str | None:
    """The interpreter of the engine on the host where one is known: the spec's, or the one installed here."""
    named = next((engine.python for engine in spec.engines if engine.python), None) if spec else None
    if named or host.name != LAB:
        return named
    from tasks.lab.install import installed
    from tasks.lab.recipes import RECIPES

    engines = (installed(name) for name in RECIPES)
    return next((str(engine.python) for engine in engines if engine), None)


def inject(host: Host, home: Path, asked: Injection) -> dict[str, Any]:
    """Carry the fault out; returns what was done and seen, with `error` where it was not as it should be.

    Raises HostError when the host refuses it, with what is missing, and KeyboardInterrupt once it is undone.
    """
    say(Progress("connect", expected_s=2.0, detail=host.name))
    with (
        _out_of_the_way(host),
        reachable(host, home) as address,
        supervise(address, f"inject-{time.time_ns()}") as supervisor,
    ):
        fault = Fault(supervisor, asked.anomaly, asked.strength)
        acts_on = _planned(fault, host, asked)
        windows: dict[str, int | None] = {"applied_ns": None, "reverted_ns": None}
        error = None
        try:
            _carry_out(fault, asked.seconds, windows)
        except UndoFailed as raised:
            error = str(raised)
        except LprismError as raised:
            if "applied_ns" not in fault.effect:  # nothing was done, or it was taken back half-way
                raise _refusal(host, asked, raised) from raised
            error = str(raised)
        windows["applied_ns"] = fault.effect.pop("applied_ns", None)
        return {
            "host": host.name, "anomaly": asked.anomaly, **acts_on, "detail": None, "before": None,
            "during": None, "after": None, **fault.effect, "windows": windows, "error": error,
        }  # fmt: skip


@contextlib.contextmanager
def _out_of_the_way(host: Host) -> Iterator[None]:
    """Where the host is this machine, keep this process and all that it starts off the server's CPUs."""
    bound = os.sched_getaffinity(0)
    if host.name == LAB:
        here = {"usable_cpus": usable_cpus()}
        _check_cpus(host, servers.our_cpus(host, here), here)
        os.sched_setaffinity(0, servers.our_cpus(host, here))
    try:
        yield
    finally:
        os.sched_setaffinity(0, bound)


def _planned(fault: Fault, host: Host, asked: Injection) -> dict[str, Any]:
    """Have the host look whether it can have the fault; returns what it will act on. Raises HostError."""
    say(Progress("check", expected_s=2.0, detail=asked.anomaly))
    facts = fault.supervisor.ask("facts")
    cpus, ours = servers.engine_cpus(host, facts), servers.our_cpus(host, facts)
    try:
        _check_cpus(host, [*cpus, *ours], facts)
        fault.supervisor.ask("bind", cpus=ours)
        target = None if asked.pid is None else fault.supervisor.ask("session_of", pid=asked.pid)
        fault.plan(
            cpus=cpus, seconds=asked.seconds + PART_S, log=f"{fault.supervisor.folder}/fault.log",
            gpus=asked.gpus, python=asked.python, target=target,
        )  # fmt: skip
    except HostError as error:
        raise _refusal(host, asked, error) from error
    return {"strength": fault.strength, "cpus": cpus, "gpus": list(asked.gpus), "process_session": target}


def _refusal(host: Host, asked: Injection, error: LprismError) -> HostError:
    why = str(error).removeprefix(f"{host.name}: ")
    return HostError(f"{host.name} cannot have {asked.anomaly}: {why}")


def _check_cpus(host: Host, cpus: Sequence[int], facts: Mapping[str, Any]) -> None:
    missing = sorted(set(cpus) - set(facts["usable_cpus"]))
    if missing:
        raise HostError(f"{host.name}: it has no CPU {missing[0]}: usable are {facts['usable_cpus']}")


def _carry_out(fault: Fault, seconds: float, windows: dict[str, int | None]) -> None:
    """Before, during, after; whatever happens in between, the fault is undone at once."""
    say(Progress("measure before", expected_s=1.0))
    began = time.monotonic()
    fault.measure("before")
    measure_s = time.monotonic() - began
    try:
        _cause(fault, seconds, measure_s)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{fault.anomaly} on {fault.supervisor.name} was undone at once") from None
    finally:
        _undo(fault, windows)
    say(Progress("measure after", expected_s=1.0))
    fault.judge()


def _cause(fault: Fault, seconds: float, measure_s: float) -> None:
    """Apply it and hold it for so long, the measure at its end included."""
    say(Progress("apply", expected_s=0.5))
    fault.apply()
    end = time.monotonic() + seconds
    hold_s = max(seconds - measure_s, 0.0)
    say(Progress(f"hold for {hold_s:.0f} s", expected_s=hold_s, detail=str(fault.effect["detail"])))
    _hold(fault, end - measure_s)
    say(Progress("measure during", expected_s=measure_s))
    fault.measure("during")
    _hold(fault, end)


def _hold(fault: Fault, end: float) -> None:
    while (left := end - time.monotonic()) > 0:
        fault.check_on()
        time.sleep(min(left, LOOK_EVERY_S))
    fault.check_on()


def _undo(fault: Fault, windows: dict[str, int | None]) -> None:
    """Undo it, whatever signal comes; the host has marked itself dirty when this raises UndoFailed."""
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        say(Progress("undo", expected_s=0.5))
        fault.revert()
        windows["reverted_ns"] = fault.supervisor.ask("mark")["epoch_ns"]
    finally:
        signal.signal(signal.SIGINT, heard)
