"""`lprism watch`: judge a server's batches as they come."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks.cli import options
from tasks.cli.output import printable
from tasks.settings import LprismError, SpecError

Event = dict[str, Any]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    example = "lprism watch gpu-01 --campaign nightly-20261123T014500"
    app.command("watch", epilog=f"Example: {example}")(watch)


def watch(
    target: Annotated[
        str,
        typer.Argument(
            metavar="HOST_OR_RUN",
            help="A run to replay; a host; or a path here: batches-PID.jsonl, their folder, vLLM's log.",
        ),
    ],
    *,
    campaign: options.Campaign,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The champion to judge by: you vouch that it fits.")
    ] = None,
    tpot_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Objective for the time per output token, of a live one.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="POST incidents and drift there, as JSON.")
    ] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Of a live one: judge what its files hold already, too.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="End after so long; else Ctrl-C.")] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Judge every batch against its model as it comes: alarms, incidents, drift.

    Models are those of --campaign. All that is said is also in a file in the home, under watch.
    """
    from tasks.lake_runs import find_run, is_run_id
    from tasks.watch import Live, Watch, follow, models_of, replay
    from tasks.watch_lines import FROM_START, followed, local_tail

    place = options.home_of(home, campaign)
    models = models_of(place, campaign)
    screen = Screen(as_json=as_json)
    begin = [FROM_START] if from_start else []
    is_here = Path(target).exists()
    run = find_run(place, target) if not is_here and ("/" in target or is_run_id(target)) else None
    watching = Watch(place, target, screen.tell, webhook)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        if is_here:
            live = Live(models, watching, model, tpot_ms)
            follow(followed(local_tail, ["--path", str(Path(target).absolute()), *begin]), live, seconds)
        elif run:
            replay(place, run.campaign, run.run_id, models, watching)
        else:
            _watch_host(target, place, Live(models, watching, model, tpot_ms), seconds, begin)
    except KeyboardInterrupt:
        pass
    finally:
        watching.close()


def _watch_host(
    target: str,
    home: Path,
    live: Any,  # noqa: ANN401 - imported where used
    seconds: float | None,
    begin: list[str],
) -> None:
    from tasks.addresses import host_called, reachable
    from tasks.remote import tail
    from tasks.spec import LAB
    from tasks.watch import follow
    from tasks.watch_lines import followed, local_tail

    if target == LAB:  # it is this machine, and a campaign on it has its SSH server
        sessions = sorted((home / "lab" / "host" / ".latencyprism" / "sessions").glob("*"))
        if not sessions:
            raise SpecError(f"{LAB} of {home} has no session: start a campaign on it first")
        follow(followed(local_tail, [str(sessions[0]), *begin]), live, seconds)
        return
    with reachable(host_called(target), home) as address:
        follow(followed(lambda words: tail(address, words), begin), live, seconds)


class Screen:
    """What a person or a program reads of a watch."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._last_alarm = -2

    def tell(self, event: Event) -> None:
        """Print an event; for people only the first of alarms in a row."""
        try:
            if self._as_json:
                sys.stdout.write(json.dumps(event) + "\n")
            elif line := self._line(event):
                sys.stdout.write(printable(line) + "\n")
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise LprismError("nobody reads what the watch says") from error

    def _line(self, event: Event) -> str:
        kind = event["type"]
        if kind == "alarm":
            index, self._last_alarm, before = event["batch_index"], event["batch_index"], self._last_alarm
            times = f"{event['actual_ms']:.2f} ms, expected {event['expected_ms']:.2f} ms"
            return "" if index == before + 1 else f"alarm: batch {index} took {times}"
        if kind.startswith("incident"):
            span = f"batches {event['first_batch_index']}-{event['last_batch_index']}"
            slow = f"{event['slowdown']:.2f} times as slow, {event['severity']}"
            return f"{kind.replace('_', ' ')} {event.get('how', '')}: {span}, {slow}".replace(" :", ":")
        if kind == "summary":
            counts = ("batches", "alarms", "incidents", "damaged", "not_judged")
            return (
                ", ".join(f"{event[name]} {name.replace('_', ' ')}" for name in counts) + f"; {event['file']}"
            )
        return f"{kind.replace('_', ' ')}: {event.get('text', event.get('session', ''))}"
