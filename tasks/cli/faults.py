"""`lprism inject`, `anomalies`, `restore` and `hosts check`: one fault by hand, and the hosts for many."""

from collections.abc import Mapping
from pathlib import Path
from time import gmtime, strftime
from typing import Annotated, Any

import typer

from tasks.cli import options
from tasks.cli.output import busy, print_json, print_table, printable
from tasks.settings import LprismError, SpecError, home_path

Spec = Annotated[
    Path | None, typer.Option(metavar="SPEC", help="A campaign spec: HOST is one of its hosts then.")
]
_WHERE = "`lab`, an ssh_config alias, [user@]address[:port], or with --spec the name of a host there."


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    example = "inject cpu_compute_squeeze_out --host lab --duration 30s --strength threads_per_cpu=1"
    app.command("inject", epilog=f"Example: lprism {example}")(inject)
    app.command("anomalies", epilog="Example: lprism anomalies --json")(anomalies)
    app.command("restore", epilog="Example: lprism restore gpu-01")(restore)
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    example = "Example: lprism hosts check nightly.yaml"
    group.callback()(_hosts)
    group.command("check", epilog=example)(check)
    app.add_typer(group, name="hosts", help="Look at hosts.", epilog=example)


def _hosts() -> None:
    """Look at hosts."""


def inject(
    anomaly: Annotated[str, typer.Argument(metavar="ANOMALY", help="See `lprism anomalies`.")],
    *,
    host: Annotated[str, typer.Option(metavar="HOST", help=f"Where: {_WHERE}")],
    duration: Annotated[str, typer.Option(metavar="TIME", help="How long: 30s, 2m, 1500ms; at least 1s.")],
    strength: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="How strong; may be given several times.")
    ] = None,
    cpus: Annotated[
        str | None, typer.Option(metavar="0,1", help="The server's CPUs on the host; default: all.")
    ] = None,
    gpus: Annotated[str | None, typer.Option(metavar="0,1", help="The server's GPUs on the host.")] = None,
    pid: Annotated[
        int | None,
        typer.Option(min=1, help="A process of the server; faults on one server take its process session."),
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="The engine's interpreter on the host (it has torch).")
    ] = None,
    spec: Spec = None,
    allow_faults: Annotated[
        bool, typer.Option("--allow-faults", help="Yes, this host may be disturbed (not `lab`, no spec).")
    ] = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Cause one fault on a host, prove its effect, undo it, and prove that too. Ctrl-C undoes it at once.

    The exit code is 0 only if the effect and the undo are both proved.
    """
    from tasks.addresses import host_called
    from tasks.injection import Injection, duration_s, serving_python, strength_from
    from tasks.spec import load_spec

    strong, seconds = strength_from(anomaly, strength or []), duration_s(duration)
    loaded = load_spec(spec) if spec else None
    chosen = host_called(host, loaded)
    if not (chosen.allow_faults or (allow_faults and loaded is None)):
        allow = f"set allow_faults: true for it in {spec}" if spec else "say --allow-faults"
        raise LprismError(f"{chosen.name} cannot have {anomaly}: if this host may be disturbed, {allow}")
    if cpus is not None:
        chosen = chosen.model_copy(update={"engine_cpus": _numbers("--cpus", cpus)})
    server_gpus = chosen.gpus if gpus is None else _numbers("--gpus", gpus)
    python = python or serving_python(chosen, loaded)
    asked = Injection(anomaly, strong, seconds, server_gpus, pid, python)
    told = _shown(chosen, home_path(home), asked, quiet=as_json)
    if as_json:
        print_json(told)
    else:
        typer.echo("\n".join(map(printable, sentences(told))))
    if told["error"]:
        raise LprismError(told["error"])


def _numbers(option: str, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise SpecError(f"{option} is {text!r}, not numbers with commas between, such as 0,1")
    return sorted({int(part) for part in parts})


def _shown(host: Any, home: Path, asked: Any, *, quiet: bool) -> dict[str, Any]:  # noqa: ANN401 - Host and Injection, imported where used
    """Carry it out with a progress bar, or without a word."""
    from contextlib import nullcontext

    from tasks.cli.screen import campaign_screen
    from tasks.injection import inject as carried_out

    try:
        with nullcontext() if quiet else campaign_screen(asked.expected_s, None, "connect", 2.0):
            return carried_out(host, home, asked)
    except KeyboardInterrupt as interrupt:
        for said in interrupt.args:
            typer.echo(f"lprism: {printable(str(said))}", err=True)
        raise


def sentences(told: Mapping[str, Any]) -> list[str]:
    """What was done, what it did, when, and what is proved."""
    before, unit = told["before"], told["unit"]
    measures = [
        f"{told[when]:.4g}{_change(before, told[when])} {when}"
        for when in ("before", "during", "after")
        if told[when] is not None
    ]
    lines = [f"{told['anomaly']} on {told['host']}: {told['detail'] or 'not applied'}"]
    if measures:
        lines.append(f"{told['metric']} in {unit}: {', '.join(measures)}")
    applied, reverted = told["windows"]["applied_ns"], told["windows"]["reverted_ns"]
    if applied and reverted:
        lasted = f"{(reverted - applied) / 1e9:.1f} s"
        lines.append(f"applied {_time(applied)}, undone {_time(reverted)} (host's clock, UTC): {lasted}")
    proofs = [f"{what} {'proved' if told[key] else 'NOT proved'}" for what, key in PROOFS]
    return [*lines, ", ".join(proofs)]


PROOFS = (("effect", "proved"), ("undo", "undone"))


def _change(before: float, value: float) -> str:
    return f" ({100 * (value / before - 1):+.0f} %)" if before and value is not before else ""


def _time(epoch_ns: int) -> str:
    return f"{strftime('%F %T', gmtime(epoch_ns // 10**9))}.{epoch_ns // 10**6 % 1000:03}"


def anomalies(
    *,
    home: options.Home = None,  # noqa: ARG001 - every command takes it
    as_json: options.Json = False,
) -> None:
    """List what can be injected, and how strong each may be."""
    from tasks.injection import catalogue

    found = catalogue()
    if as_json:
        print_json(found)
        return
    for one in found:
        typer.echo(f"{one['anomaly']}\n  {one['meaning']}")
        for part in one["strength"]:
            typer.echo(f"    --strength {_parameter(part)}")


def _parameter(part: Mapping[str, Any]) -> str:
    default = "no default" if part["default"] is None else f"default {part['default']}"
    span = "" if "pattern" in part else f"{_bound(part['lowest'])} to {_bound(part['highest'])}, "
    return f"{part['name']}=...  {part['meaning']}: {span}{default}"


def _bound(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def restore(
    host: Annotated[str, typer.Argument(metavar="HOST", help=f"Which: {_WHERE}")],
    *,
    spec: Spec = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Undo what ended sessions left on a host, and say what it was; then faults may run there again."""
    from tasks.addresses import host_called, reachable
    from tasks.remote import restore as restored
    from tasks.spec import load_spec

    chosen = host_called(host, load_spec(spec) if spec else None)
    with busy(f"restoring {chosen.name}"), reachable(chosen, home_path(home)) as address:
        said = restored(address)
    if as_json:
        print_json({"host": chosen.name, **said})
    for what in [] if as_json else said["found"]:
        typer.echo(printable(f"{chosen.name}: found: {what}"))
    if said["left"]:
        raise LprismError(f"{chosen.name} is still dirty: {'; '.join(said['left'])}")
    if not as_json:
        done = "all of it is undone" if said["found"] else "nothing to do"
        typer.echo(f"{done}: {chosen.name} is clean")


def check(spec_file: options.SpecFile, *, home: options.Home = None, as_json: options.Json = False) -> None:
    """See whether a spec's hosts can take its campaign. Nothing is changed there but our own folder."""
    from tasks.host_check import check as checked
    from tasks.spec import load_spec

    spec = load_spec(spec_file)
    with busy(f"checking {', '.join(host.name for host in spec.hosts)}"):
        findings = checked(spec, home_path(home))
    if as_json:
        print_json(findings)
    else:
        print_table(("host", "check", "result", "found", "remedy"), list(map(_row, findings)))
    failed = [row for row in findings if not row["passed"]]
    if failed:
        hosts = ", ".join(dict.fromkeys(row["host"] for row in failed))
        raise LprismError(f"{len(failed)} of {len(findings)} checks failed, on {hosts}")


def _row(finding: Mapping[str, Any]) -> tuple[object, ...]:
    result = "pass" if finding["passed"] else "FAIL"
    return (finding["host"], finding["check"], result, finding["found"], finding["remedy"] or "")
