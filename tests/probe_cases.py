"""A probe without its thread, and what the engines hand to it, hand-made."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

from tasks.host.probe.latencyprism_probe import hooks, sink

FOLDER = Path(hooks.__file__).parent.parent


class Recording:
    """A sink whose thread is left out: `turn` is one round of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sink = sink.Sink()
        self.sink.is_started = True

    def wrap(self, points: Callable[[sink.Sink], Any], **classes: type) -> None:
        """Wrap the functions of these classes that an engine's points name."""
        for _, path, around, *_ in points(self.sink):
            owner, _, name = path.partition(".")
            if name in vars(classes.get(owner, object)):
                setattr(classes[owner], name, around(vars(classes[owner])[name]))

    def turn(self, run: str) -> None:
        """Point the probe at a run's folder (or at none), as the supervisor does, and let it look."""
        if run:
            (self.folder / run).mkdir(exist_ok=True)
        draft = self.folder / "draft"
        draft.write_text(str(self.folder / run) if run else "")
        draft.replace(sink.TARGET)
        self.sink.turn()

    def lines(self, run: str) -> list[dict[str, Any]]:
        """What it wrote for a run."""
        text = (self.folder / run / f"batches-{os.getpid()}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def batches(self, run: str) -> list[dict[str, Any]]:
        """The batches among it."""
        return [line for line in self.lines(run) if line["type"] == "batch"]


def scheduled(**changes: object) -> Some:
    """What vLLM hands its worker: one new request of 3 tokens, one that has given 2 tokens."""
    given = {
        "finished_req_ids": set(),
        "num_scheduled_tokens": {"new": 2, "old": 1},
        "total_num_scheduled_tokens": 3,
        "scheduled_new_reqs": [whole("new", 3, computed=1)],
        "scheduled_cached_reqs": running(("old", 11, 2)),
        "preempted_req_ids": set(),
    }
    return Some(**{**given, **changes})


def whole(name: str, prompt: int, computed: int = 0, output: int = 0) -> Some:
    """A request as vLLM hands it over whole."""
    tokens = [7] * (prompt + output)
    return Some(
        req_id=name, prompt_token_ids=tokens[:prompt], num_computed_tokens=computed, prefill_token_ids=tokens
    )


def running(*requests: tuple[str, int, int]) -> Some:
    """Requests that vLLM names with their computed and output tokens."""
    names, computed, output = (
        ([*column] for column in zip(*requests, strict=True)) if requests else ([], [], [])
    )
    return Some(req_ids=names, num_computed_tokens=computed, num_output_tokens=output)


def step(
    tokens: dict[str, int], *, new: tuple[Some, ...] = (), old: Some | None = None, **more: object
) -> Some:
    """A step that gives these requests so many tokens."""
    return scheduled(
        num_scheduled_tokens=tokens, total_num_scheduled_tokens=sum(tokens.values()),
        scheduled_new_reqs=[*new], scheduled_cached_reqs=old or running(), **more,
    )  # fmt: skip


class Mode:
    """SGLang's forward mode."""

    def __init__(self, name: str) -> None:
        self.name = name

    def is_extend(self) -> bool:
        """Mixed batches extend too."""
        return self.name in {"EXTEND", "MIXED"}

    def is_mixed(self) -> bool:
        """Whether some decode."""
        return self.name == "MIXED"


class Lengths:
    """A tensor on the host: its items are no numbers."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers

    def tolist(self) -> list[int]:
        """Its numbers."""
        return [*self.numbers]


def request(name: str, prompt: int, output: int = 0) -> Some:
    """A request of SGLang."""
    return Some(rid=name, origin_input_ids=[7] * prompt, output_ids=[7] * output, finished_reason=None)


def extend(*parts: tuple[Some, int, int], decoding: tuple[tuple[Some, int], ...] = ()) -> Some:
    """A batch of (request, in the cache, new), and of decoding requests with what they have in the cache."""
    requests = [one for one, *_ in parts] + [one for one, _ in decoding]
    return Some(
        forward_mode=Mode("MIXED" if decoding else "EXTEND"), reqs=requests,
        prefix_lens=[cached for _, cached, _ in parts] + [cached for _, cached in decoding],
        extend_lens=[new for *_, new in parts] + [1] * len(decoding),
        decoding_reqs=[one for one, _ in decoding] or None,
    )  # fmt: skip


def decode(*parts: tuple[Some, int]) -> Some:
    """A batch of decoding requests with their lengths, this step's token included."""
    lengths = Lengths([length for _, length in parts])
    return Some(forward_mode=Mode("DECODE"), reqs=[one for one, _ in parts], seq_lens_cpu=lengths)
