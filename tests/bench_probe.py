"""What the function probe costs: its step path alone, and switched on and off inside one real server.

    python -m tests.bench_probe [--seconds 60] [--micro]

First the step path with nothing around it (batch 4 and 256), in us a step. Then a vLLM CPU server with decode
steps of about 2.5 ms, four requests at a time, its worker on a core of its own: the probe is switched every
0.15 s by the clock, in all its processes; of pure decode steps, start to start, the difference of medians of
each on/off pair of neighbours; its median over the pairs with a bootstrap 95 % interval. The writing thread's
work is mostly in few steps, which medians leave out: its own CPU time is printed beside, as are means.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

from tasks.engines import vllm
from tasks.host import ports
from tasks.host.probe.latencyprism_probe import sglang_points, sink, vllm_points
from tasks.lab.install import installed_for
from tests.live_engine import Live, serve, small_model
from tests.probe_cases import Recording, decode, request, running, step

PERIOD_S = 0.15
AT_ONCE = 4
PROMPT, OUTPUT = 16, 1900
FEWEST_STEPS = 10  # of a phase that counts
RESAMPLES = 10_000
ARGS: dict[str, bool | int | str] = {
    "load-format": "dummy", "enforce-eager": True, "max-model-len": 2048, "max-num-seqs": 16,
    "enable-prefix-caching": False,
}  # fmt: skip
SWITCH = f"""
import functools, os, sys, time
import latencyprism_probe
from latencyprism_probe import hooks
cpus, done, steps, folder = sorted(os.sched_getaffinity(0)), [], [], os.environ["BENCH_STEPS"]
def around(kind):
    def wrapped(function):
        @functools.wraps(function)
        def switched(owner, *args, **kwargs):
            now = time.monotonic_ns()
            to = hooks.Hooks.installed.sink
            if kind not in done:
                done.append(kind)
                os.sched_setaffinity(0, {{cpus[0 if kind == "step" else -1]}})
            to.on = bool(to._target) and now // {round(PERIOD_S * 1e9)} % 2 == 0
            if kind == "step" and args[0].total_num_scheduled_tokens:
                steps.append((now, len(args[0].num_scheduled_tokens), args[0].total_num_scheduled_tokens))
                if len(steps) == 1000:
                    with open(f"{{folder}}/steps-{{os.getpid()}}", "a") as file:
                        file.writelines("%d %d %d\\n" % one for one in steps)
                    steps.clear()
            return function(owner, *args, **kwargs)
        return switched
    return wrapped
def register():
    latencyprism_probe.register()
    if "steps" in done:
        return
    done.append("steps")
    for module, path, kind in (("vllm.v1.worker.gpu_worker", "Worker.execute_model", "step"),
                               ("vllm.v1.core.sched.scheduler", "Scheduler.schedule", "schedule")):
        point = hooks.Point(module, path, around(kind))
        if module in hooks.Hooks.installed.waiting:
            hooks.Hooks.installed.waiting[module].append(point)
        else:
            hooks.wrap(sys.modules[module], point)
"""


def self_time(
    wrapped: Callable[[], object], bare: Callable[[], object], to: sink.Sink
) -> tuple[float, float]:
    """Microseconds a step on the step path, and in the writing thread; medians over 300 rounds of ten."""
    path, writer = [], []
    for _ in range(300):
        start = time.perf_counter_ns()
        for _ in range(10):
            bare()
        middle = time.perf_counter_ns()
        for _ in range(10):
            wrapped()
        end = time.perf_counter_ns()
        path.append((end - middle - (middle - start)) / 10_000)
        began = time.thread_time_ns()
        to.turn()
        writer.append((time.thread_time_ns() - began) / 10_000)
    return statistics.median(path), statistics.median(writer)


def micro(engine: str, size: int, folder: Path) -> None:
    """Print the step path's own time at a batch size."""
    of_vllm = engine == "vLLM"
    recording = Recording(folder)
    wrapped, bare = stand_in(), stand_in()
    points = vllm_points.points if of_vllm else sglang_points.points
    recording.wrap(points, Worker=wrapped, Scheduler=wrapped)
    recording.turn(f"{engine}-{size}")
    act = vllm_step(size) if of_vllm else sglang_step(size)
    ours, theirs = wrapped(), bare()
    path_us, writer_us = self_time(lambda: act(ours), lambda: act(theirs), recording.sink)
    recording.turn("")
    say(f"{engine:7} batch {size:3}: step path {path_us:5.1f} us a step, writing thread {writer_us:6.1f} us")


def stand_in() -> Any:  # noqa: ANN401  a class that is wrapped
    """A class with the functions of both engines, which do nothing."""

    class Engine:
        rank = tp_rank = 0
        waiting: tuple[int, ...] = ()
        running = waiting_queue = waiting
        running_batch = Some(reqs=())

        def execute_model(self, _: object) -> None: ...
        def sample_tokens(self) -> None: ...
        def schedule(self, output: object) -> object:
            return output

        def update_from_output(self, *_: object) -> None: ...
        def run_batch(self, _: object) -> object:
            return Some()

        def process_batch_result(self, *_: object) -> None: ...

    return Engine


def vllm_step(size: int) -> Callable[[Any], None]:
    """A decode step of so many requests."""
    names = [f"request-{number}" for number in range(size)]
    tokens, old = dict.fromkeys(names, 1), running(*((name, 150, 50) for name in names))

    def act(engine: Any) -> None:  # noqa: ANN401  the class above
        scheduled = step(tokens, old=old)
        engine.schedule(scheduled)
        engine.execute_model(scheduled)
        engine.sample_tokens()
        engine.update_from_output(scheduled, None)

    return act


def sglang_step(size: int) -> Callable[[Any], None]:
    """The same of SGLang."""
    batch = decode(*((request(f"request-{number}", 100), 150) for number in range(size)))

    def act(engine: Any) -> None:  # noqa: ANN401  the class above
        engine.process_batch_result(batch, engine.run_batch(batch))

    return act


def load(live: Live, model: str, seconds: float) -> None:
    """Keep requests going for a while."""
    end = time.monotonic() + seconds
    body = {"model": model, "max_tokens": OUTPUT, "ignore_eos": True, "temperature": 0}

    def ask(seed: int) -> None:
        numbers = random.Random(seed)  # noqa: S311  token ids, no secrets
        while time.monotonic() < end:
            live.post(
                "/v1/completions", {**body, "prompt": [numbers.randrange(4, 500) for _ in range(PROMPT)]}
            )

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def switched(seconds: float, folder: Path) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """Steps of a server whose probe went on and off, and the probe's last lines."""
    engine = installed_for("vllm")
    plugin = folder / "switch"
    info = plugin / "bench_switch-1.0.dist-info"
    info.mkdir(parents=True)
    (plugin / "bench_switch.py").write_text(SWITCH)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-switch\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vllm.general_plugins]\nbench = bench_switch:register\n")
    port = ports.free(None)
    model = str(small_model(folder / "model"))
    argv = vllm.serve_command(str(engine.python), model, "127.0.0.1", port, ARGS)
    env = {**vllm.serve_environment(cpu=True), "BENCH_STEPS": str(folder)}
    with serve(argv, env, port, vllm.READY_PATH, [plugin], is_bound=False) as live:
        load(live, model, 5.0)
        written = live.record("r1")
        load(live, model, seconds)
        live.record("")
        ends = [json.loads(path.read_text().splitlines()[-1]) for path in written.iterdir()]
    lines = [line for path in folder.glob("steps-*") for line in path.read_text().splitlines()]
    return sorted([*map(int, line.split())] for line in lines), ends


def phases(steps: Sequence[Sequence[int]]) -> dict[int, list[float]]:
    """Start-to-start times, us, of decode steps within each phase; its first and last step are left out."""
    found = defaultdict(list)
    period = round(PERIOD_S * 1e9)
    for (t0, *_), (t1, size, tokens), (t2, size2, tokens2) in zip(steps, steps[1:], steps[2:], strict=False):
        if tokens == size == AT_ONCE == size2 == tokens2 and t0 // period == t2 // period:
            found[t1 // period].append((t2 - t1) / 1000)
    return {phase: times for phase, times in found.items() if len(times) >= FEWEST_STEPS}


def compare(found: dict[int, list[float]], of: Callable[[Sequence[float]], float], name: str) -> None:
    """Print the cost: on less off, over pairs of neighbours."""
    pairs = [(of(found[k]), of(found[k + 1])) for k in sorted(found) if k % 2 == 0 and k + 1 in found]
    differences = [on - off for on, off in pairs]
    numbers = random.Random(7)  # noqa: S311  a bootstrap
    medians = sorted(
        statistics.median(numbers.choices(differences, k=len(differences))) for _ in range(RESAMPLES)
    )
    low, high = medians[round(0.025 * RESAMPLES)], medians[round(0.975 * RESAMPLES)]
    off = statistics.median(off for _, off in pairs)
    cost = statistics.median(differences)
    say(
        f"{name} of a phase: {len(pairs)} pairs, off {off:.0f} us a step; on costs {cost:+.1f} us"
        f" (95 % {low:+.1f} to {high:+.1f}) = {100 * cost / off:+.2f} % ({100 * low / off:+.2f} to"
        f" {100 * high / off:+.2f}); of a 2500 us step {cost / 25:+.2f} %"
    )


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--micro", action="store_true", help="the step path alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lprism-bench-") as name:
        sink.TARGET = f"{name}/target"
        for engine in ("vLLM", "SGLang"):
            for size in (4, 256):
                micro(engine, size, Path(name))
        if given.micro:
            return
        steps, ends = switched(given.seconds, Path(name))
    found = phases(steps)
    compare(found, statistics.median, "median")
    compare(found, statistics.fmean, "mean")
    for end in ends:
        spent = end["writer_cpu_ns"] / max(end["records"], 1) / 1000
        say(f"writing thread of process {end['pid']}: {end['records']} records, {spent:.1f} us of CPU each")


if __name__ == "__main__":
    main()
