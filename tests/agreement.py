"""One real server recorded in several ways at once, and what its recordings say of the same iterations."""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tasks.engines import ArgumentValue, sglang, vllm
from tasks.host import ports
from tasks.lab.install import installed_for
from tasks.lake_tables import lake_connection
from tasks.traces.bundle import ingest_bundle
from tasks.traces.registry import find, ingest
from tests.live_engine import Live, serve, small_model
from tests.warehouse_cases import CAMPAIGN, write_bundle

AT_ONCE = 6
SHARED = 160  # tokens that every second prompt begins with; a block of the cache has 128
ABSENT = "json.no_such:f"
POINTS = {
    "vllm": ("vllm.v1.core.sched.scheduler:Scheduler.schedule", "result.total_num_scheduled_tokens"),
    "sglang": ("sglang.srt.managers.scheduler:Scheduler.run_batch", "args.1.forward_mode"),
}  # what a user might have recorded besides
EDGE_NS = 50_000_000  # what the window may be wider than its labels
SEPARATE = "separate"
LOG_FORMAT = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(created).6f %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"}},
    "loggers": {"vllm": {"handlers": ["out"], "level": "INFO", "propagate": False}},
}  # fmt: skip


@dataclass
class Recorded:
    """The batches of one run by each source, and what the server answered."""

    probe: pd.DataFrame
    labels: pd.DataFrame
    starts: pd.DataFrame
    calls: pd.DataFrame
    missing: list[list[str]]  # points, a file of the probe
    log: pd.DataFrame | None = None
    prompts: int = 0
    cached: int = 0
    outputs: int = 0  # tokens of the answers, less the first of each: that comes with the prompt


def points(folder: Path, engine: str) -> dict[str, str]:
    """The variable by which the probe records a point of the user's, and misses another."""
    point, attribute = POINTS[engine]
    config = [{"point": point, "attributes": [attribute]}, {"point": ABSENT}]
    (folder / "points.json").write_text(json.dumps(config))
    return {"LPRISM_PROBE_POINTS": str(folder / "points.json")}


def prompts(count: int, seed: int = 7) -> list[list[int]]:
    """Token ids of prompts of 20 to 360 tokens; every second one begins with the same."""
    numbers = random.Random(seed)  # noqa: S311  token ids, no secrets
    shared = [numbers.randrange(4, 500) for _ in range(SHARED)]
    lengths = [numbers.randrange(20, 200) for _ in range(count)]
    own = [[numbers.randrange(4, 500) for _ in range(length)] for length in lengths]
    return [[*shared, *tokens] if number % 2 else tokens for number, tokens in enumerate(own)]


def output_lengths(count: int) -> list[int]:
    """Between 8 and 40 tokens each."""
    numbers = random.Random(8)  # noqa: S311  the same
    return [numbers.randrange(8, 40) for _ in range(count)]


@contextmanager
def vllm_server(folder: Path, *, detailed: bool) -> Iterator[tuple[Live, str]]:
    """A vLLM that cuts prompts in chunks, caches them, logs its iterations and can be profiled; its model."""
    engine = installed_for("vllm")
    folder.mkdir(exist_ok=True)
    model, port = str(small_model(folder / "model")), ports.free(None)
    profiler = {
        "profiler": "torch", "torch_profiler_dir": str(folder / "traces"), "torch_profiler_with_stack": False,
        "ignore_frontend": True, "detailed_trace_annotation": detailed,
    }  # fmt: skip
    args: dict[str, ArgumentValue] = {
        "load-format": "dummy", "enforce-eager": True, "max-model-len": 1024, "max-num-seqs": 16,
        "max-num-batched-tokens": 128, "enable-prefix-caching": True, "enable-prompt-tokens-details": True,
        "enable-logging-iteration-details": True, "profiler-config": profiler,
    }  # fmt: skip
    (folder / "logging.json").write_text(json.dumps(LOG_FORMAT))
    env = {
        **points(folder, "vllm"),
        **vllm.serve_environment(cpu=True),
        "VLLM_LOGGING_CONFIG_PATH": str(folder / "logging.json"),
    }
    argv = vllm.serve_command(str(engine.python), model, "127.0.0.1", port, args)
    with serve(argv, env, port, vllm.READY_PATH) as live:
        yield live, model


def record_vllm(folder: Path, requests: int, *, detailed: bool = False) -> Recorded:
    """Probe, trace labels (detailed ones cost the engine more) and iteration log of one vLLM run."""
    with vllm_server(folder, detailed=detailed) as (live, model):
        body = {"model": model, "ignore_eos": True, "temperature": 0}
        live.post("/v1/completions", {**body, "prompt": [5] * 20, "max_tokens": 4})
        bodies = [
            {**body, "prompt": prompt, "max_tokens": output}
            for prompt, output in zip(prompts(requests), output_lengths(requests), strict=True)
        ]
        folder_of_run = live.record("r1")
        live.post("/start_profile")
        answers = live.post_all("/v1/completions", bodies, AT_ONCE)
        live.post("/stop_profile")
        live.record("")
        (folder / "server.log").write_bytes(live.log.read_bytes())
        found = read(
            folder, folder_of_run, [*(folder / "traces").glob("*rank0*.json*")], folder / "server.log"
        )
    usage = [answer["usage"] for answer in answers]
    found.prompts = sum(one["prompt_tokens"] for one in usage)
    found.outputs = sum(one["completion_tokens"] - 1 for one in usage)
    found.cached = sum((one["prompt_tokens_details"] or {}).get("cached_tokens") or 0 for one in usage)
    return found


@contextmanager
def sglang_server(folder: Path, *, overlap: bool) -> Iterator[Live]:
    """An SGLang that cuts prompts in chunks, mixes them with decoding requests, and caches them."""
    folder.mkdir(exist_ok=True)
    model, port = str(small_model(folder / "model")), ports.free(None)
    args: dict[str, ArgumentValue] = {
        "load-format": "dummy", "device": "cpu", "attention-backend": "torch_native", "sleep-on-idle": True,
        "disable-cuda-graph": True, "skip-server-warmup": True, "max-total-tokens": 16384,
        "max-running-requests": 16, "chunked-prefill-size": 128, "enable-mixed-chunk": True,
        "disable-overlap-schedule": not overlap,
    }  # fmt: skip
    argv = sglang.serve_command(str(installed_for("sglang").python), model, "127.0.0.1", port, args)
    env = {**points(folder, "sglang"), **sglang.serve_environment(cpu=True)}
    with serve(argv, env, port, sglang.READY_PATH) as live:
        yield live


def record_sglang(folder: Path, requests: int, *, overlap: bool, detailed: bool = False) -> Recorded:
    """Probe and trace labels (detailed ones cost the engine more) of one SGLang run."""
    with sglang_server(folder, overlap=overlap) as live:
        sampling = [
            {"ignore_eos": True, "temperature": 0, "max_new_tokens": length}
            for length in output_lengths(requests)
        ]
        bodies = [
            {"input_ids": prompt, "sampling_params": one}
            for prompt, one in zip(prompts(requests), sampling, strict=True)
        ]
        live.post(
            "/generate", {"input_ids": [5] * 20, "sampling_params": {**sampling[0], "max_new_tokens": 4}}
        )
        folder_of_run = live.record("r1")
        live.post(
            "/start_profile",
            {
                "output_dir": str(folder / "traces"), "num_steps": 100_000, "activities": ["CPU"],
                "with_stack": False, "record_shapes": False, "detailed_annotations": detailed,
            },
        )  # fmt: skip
        answers = live.post_all("/generate", bodies, AT_ONCE)
        live.post("/stop_profile")
        live.record("")
        found = read(folder, folder_of_run, [*(folder / "traces").rglob("*.json*")])
    told = [answer["meta_info"] for answer in answers]
    found.prompts = sum(one["prompt_tokens"] for one in told)
    found.outputs = sum(one["completion_tokens"] - 1 for one in told)
    found.cached = sum(one["cached_tokens"] for one in told)
    return found


def read(folder: Path, run: Path, traces: Sequence[Path], log: Path | None = None) -> Recorded:
    """Ingest what was recorded, and take its batches from the tables."""
    home = folder / "home"
    files = {path.name: path.read_bytes() for path in run.iterdir()}
    ingest_bundle(home, write_bundle(folder / "bundle", files=files, marks={}))
    for path in (*traces, *([log] if log else [])):
        for one in find(path):
            ingest(home, one, SEPARATE)
    batches = table(home, SEPARATE, "batches")
    events = table(home, SEPARATE, "events")
    begins = events[events["name"].isin(["scheduler.run_batch"]) & (events["category"] == "user_annotation")]
    lines = [[json.loads(line) for line in data.decode().splitlines()] for data in files.values()]
    return Recorded(
        calls=table(home, CAMPAIGN, "events"),
        missing=[[line["point"] for line in one if line["type"] == "missing_point"] for one in lines],
        probe=table(home, CAMPAIGN, "batches"),
        labels=batches[batches["source"] == "step_label"].reset_index(drop=True),
        starts=begins.reset_index(drop=True),
        log=batches[batches["source"] == "vllm_log"].reset_index(drop=True) if log else None,
    )


def table(home: Path, campaign: str, name: str) -> pd.DataFrame:
    """A table's rows in order of time."""
    with lake_connection(home, campaign) as con:
        return con.table(name).order("start_ns").df()


def within(rows: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """The rows of the labels' window, empty steps left out."""
    first, last = labels["start_ns"].min() - EDGE_NS, labels["start_ns"].max() + EDGE_NS
    inside = rows["start_ns"].between(first, last)
    if "forward_mode" in rows:
        inside &= rows["forward_mode"] != "idle"
    return rows[inside].reset_index(drop=True)


def unequal(one: pd.DataFrame, other: pd.DataFrame, columns: Sequence[str]) -> dict[str, int]:
    """Iterations of either, and how many differ, by column; of unequal numbers of iterations all differ."""
    alike = len(one) == len(other)
    differ = {column: int((one[column] != other[column]).sum()) if alike else -1 for column in columns}
    return {"iterations": len(one), "of the other": len(other), **differ}


def apart(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, float]:
    """How far the starts of the same iterations are apart, us, and their start-to-start times, %."""
    late = (other["start_ns"] - one["start_ns"]) / 1000
    steps, theirs = one["start_ns"].diff()[1:], other["start_ns"].diff()[1:]
    return {
        "start: median us": round(float(late.median()), 1),
        "start: 95 % us": round(float(late.abs().quantile(0.95)), 1),
        "start: largest us": round(float(late.abs().max()), 1),
        "start to start: median %": round(float(((steps - theirs).abs() / theirs).median() * 100), 3),
    }


def totals(found: Recorded) -> dict[str, int]:
    """Tokens by the probe and by the server's answers."""
    hits, new = int(found.probe["prefix_hit_tokens"].sum()), int(found.probe["new_input_tokens"].sum())
    return {
        "prompt tokens": found.prompts, "cache hits, probe": hits, "cache hits, server": found.cached,
        "computed tokens, probe": new, "prompts + outputs": found.prompts + found.outputs,
    }  # fmt: skip
