"""Points that the user names, and how the probe comes into an engine's processes."""

import asyncio
import enum
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace as Some
from typing import Any

import pytest

from tasks import server as servers
from tasks.engine_spec import Engine
from tasks.host.probe.latencyprism_probe import calls, hooks, sink
from tasks.spec import Host
from tests.probe_cases import FOLDER, Recording

Color = enum.Enum("Color", ["RED"])


class Points(Recording):
    """The probe with points of the user's, in a module `shop` of ours."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        self.module: Any = ModuleType("shop")
        exec(SHOP, vars(self.module))  # noqa: S102  the text below
        monkeypatch.setitem(sys.modules, "shop", self.module)
        self.patch = monkeypatch

    def install(self, config: object) -> None:
        """Wrap what the config names."""
        path = self.folder / "points.json"
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        self.patch.setattr(calls, "CONFIG", str(path))
        waiting = hooks.Hooks(
            [hooks.Point(*one, is_users=True) for one in calls.points(self.sink)], self.sink
        )
        self.sink.look = waiting.name_missing
        waiting.install()
        self.patch.setattr(sys, "meta_path", [one for one in sys.meta_path if one is not waiting])

    def recorded(self, act: Callable[[], object]) -> list[dict[str, Any]]:
        """The lines of a run in which this was done, without clocks and the last."""
        self.turn("r1")
        act()
        self.turn("")
        return [line for line in self.lines("r1") if line["type"] not in {"clock", "end"}]


SHOP = """
class Till:
    rate = 3
    def sell(self, basket, *, price=1.5):
        if price < 0:
            raise ValueError("no")
        basket.clear()
        return {"sum": price, "kind": basket}
    @classmethod
    def close(cls, n): return cls, n
    @staticmethod
    def count(n): return n
    async def wait(self, n): return n
    total = 4
def twice(n): return 2 * n
"""


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Points:
    """A probe without points."""
    monkeypatch.setattr(sink, "TARGET", str(tmp_path / "target"))
    return Points(tmp_path, monkeypatch)


def test_points_of_a_spec_reach_the_probe_as_they_are(points: Points) -> None:
    """`probe_points` are in the server's environment, and what stands there is recorded."""
    engine = Engine.model_validate({
        "kind": "vllm", "model": "m", "probe_points": [{"point": "shop:twice", "attributes": ["result"]}],
    })  # fmt: skip
    supervisor: Any = Some(folder="/s")
    given = servers._environment(supervisor, Host(name="lab"), engine)
    points.patch.setattr(calls, "CONFIG", given["LPRISM_PROBE_POINTS"])
    ((module, path, _),) = calls.points(points.sink)
    assert (module, path) == ("shop", "twice")


def test_a_call_is_recorded_with_its_attributes(points: Points) -> None:
    """Arguments as they were before the call, the result as it was after; all of it small."""
    names = ["args.0.rate", "args.1", "args.2", "kwargs.price", "result.sum", "result.kind", "result"]
    points.install([{"point": "shop:Till.sell", "attributes": names}])
    (call,) = points.recorded(lambda: points.module.Till().sell([1, 2], price=0.5))
    assert call.pop("duration_ns") > 0
    assert call.pop("start_mono_ns") > 0
    assert call.pop("tid") == call.pop("pid") == os.getpid()
    assert call == {
        "type": "call", "point": "shop:Till.sell", "raised": None,
        "attributes": {
            "args.0.rate": 3, "args.1": {"length": 2}, "args.2": {"missing": True}, "kwargs.price": 0.5,
            "result.sum": 0.5, "result.kind": {"length": 0}, "result": {"length": 2},
        },
    }  # fmt: skip


def test_functions_of_every_kind_stay_what_they_are(points: Points) -> None:
    """Methods of a class and static ones, plain functions, and coroutines until they have ended."""
    paths = ("Till.close", "Till.count", "Till.wait", "twice")
    points.install([{"point": f"shop:{path}", "attributes": ["result"]} for path in paths])
    till = points.module.Till

    def act() -> None:
        assert (till.close(1), till().count(2), asyncio.run(till().wait(3)), points.module.twice(4)) == (
            (till, 1), 2, 3, 8,
        )  # fmt: skip

    told = {call["point"]: call["attributes"]["result"] for call in points.recorded(act)}
    assert told == {
        "shop:Till.close": {"length": 2},
        "shop:Till.count": 2,
        "shop:Till.wait": 3,
        "shop:twice": 8,
    }


def test_what_a_function_raises_passes_through_and_is_named(points: Points) -> None:
    """Its result's attributes are left out then."""
    points.install([{"point": "shop:Till.sell", "attributes": ["kwargs.price", "result.sum"]}])

    def act() -> None:
        with pytest.raises(ValueError, match="no"):
            points.module.Till().sell([], price=-1)

    (call,) = points.recorded(act)
    assert (call["raised"], call["attributes"]) == ("ValueError", {"kwargs.price": -1})


def test_a_point_that_does_not_exist_is_named_once_and_the_rest_goes_on(points: Points) -> None:
    """No such function, class, module or package; no function; no point. Another run names them again."""
    absent = [
        "shop:Till.gone",
        "shop:Gone.f",
        "no_such_shop.a:f",
        "json.no_such:f",
        "shop:Till.total",
        "nonsense",
    ]
    points.install([*({"point": name} for name in absent), {"point": "shop:twice"}, {"pint": 1}, 5])
    for run in ("r1", "r2"):
        points.turn(run)
        for _ in range(2):
            points.module.twice(1)
            points.turn(run)
        points.turn("")
        said = [line for line in points.lines(run) if line["type"] == "missing_point"]
        assert {line["point"] for line in said} == {*absent, '{"pint": 1}', "5"}
        assert len(said) == len(absent) + 2
        assert len([line for line in points.lines(run) if line["type"] == "call"]) == 2
    reasons = {line["point"]: line["reason"] for line in said}
    assert reasons["json.no_such:f"] == "no module json.no_such"
    assert points.sink.errors == 0


def test_a_module_that_is_there_and_not_imported_is_waited_for(points: Points) -> None:
    """In another process of the server it may be."""
    points.install([{"point": "lib2to3_no.x:f"}, {"point": "wave:open"}, {"point": "shop:twice"}])
    sys.modules.pop("wave", None)
    said = points.recorded(lambda: points.module.twice(1))
    assert [line["point"] for line in said] == ["lib2to3_no.x:f", "shop:twice"]


@pytest.mark.parametrize("text", ["{", "{}", '"shop:twice"', "\0"])
def test_a_config_that_cannot_be_read_is_named(text: str, points: Points) -> None:
    """The server starts all the same."""
    points.install(text)
    (note,) = points.sink.notes
    assert note["point"] == str(points.folder / "points.json")
    assert "cannot be read" in note["reason"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, True),
        (None, None),
        (1 << 62, 1 << 62),
        (1 << 80, {"type": "int"}),
        (float("nan"), {"type": "float"}),
        ("x" * 300, "x" * 200),
        (Color.RED, "RED"),
        ((1, 2), {"length": 2}),
        (Some(), {"type": "SimpleNamespace"}),
    ],
)
def test_an_attribute_is_small_and_what_json_has(value: object, told: object) -> None:
    """Whatever the engine's object is."""
    assert calls.bounded({"result": value}, ("result",)) == told
    assert calls.bounded({"args": ([{"k": value}],)}, ("args", "0", "0", "k")) == told


def package(site: Path, files: dict[str, str]) -> None:
    """Write an engine's files."""
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in path.parents:
            if folder == site:
                break
            (folder / "__init__.py").touch()


WORKER = (
    "class Worker:\n    def execute_model(self, s): return None\n    def sample_tokens(self): return None\n"
)
PROGRAM = """
import pathlib, sys, time
from types import SimpleNamespace as Some
step = Some(finished_req_ids=(), scheduled_new_reqs=(), num_scheduled_tokens={"a": 1},
            total_num_scheduled_tokens=1,
            scheduled_cached_reqs=Some(req_ids=["a"], num_computed_tokens=[5], num_output_tokens=[2]))
target, run = map(pathlib.Path, sys.argv[1:])
end = time.monotonic() + 60
def until(word):
    while not any(word in path.read_text() for path in run.glob("*")) and time.monotonic() < end:
        worker.execute_model(step)
        worker.sample_tokens()
        time.sleep(0.01)
"""
PLUGIN = """
import importlib.metadata
for _ in range(2):
    for entry in importlib.metadata.entry_points(group="vllm.general_plugins"):
        entry.load()()
"""
WORK = """
from vllm.v1.worker.gpu_worker import Worker
import vllm.v1.worker.gpu_worker as module
assert type(module.__loader__).__name__ == "SourceFileLoader", module.__loader__
worker = Worker()
until('"batch"')
draft = target.with_name("draft")
draft.write_text("")
draft.replace(target)
until('"end"')
"""


def run_engine(folder: Path, program: str, *paths: Path, **env: str) -> list[dict[str, Any]]:
    """Run a program as the server does, with a folder to record to; what was recorded."""
    run, target = folder / "r1", folder / "target"
    run.mkdir()
    target.write_text(str(run))
    path = ":".join(map(str, [FOLDER, *paths, folder / "site"]))
    given = {**os.environ, "PYTHONPATH": path, "LPRISM_PROBE_TARGET": str(target), **env}
    subprocess.run([sys.executable, "-c", program, target, run], env=given, check=True, timeout=30)
    lines = [line for file in run.iterdir() for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_it_hooks_the_engines_worker_when_that_is_imported(tmp_path: Path) -> None:
    """Loaded as a plugin twice, it wraps the class once, and its own thread writes the run's file."""
    package(tmp_path / "site", {"vllm/v1/worker/gpu_worker.py": WORKER, "vllm/plugins/__init__.py": ""})
    lines = run_engine(tmp_path, PROGRAM + PLUGIN + WORK)
    batches = [line for line in lines if line["type"] == "batch"]
    first = batches[0]["iteration"]
    assert [batch["iteration"] for batch in batches] == [*range(first, first + len(batches))]
    assert batches[0]["requests"] == [[4, 5, 1, 2]]
    assert {name: lines[-1][name] for name in ("type", "probe_errors", "records")} == {
        "type": "end", "probe_errors": 0, "records": len(batches),
    }  # fmt: skip


def test_an_engine_without_plugins_is_hooked_by_sitecustomize(tmp_path: Path) -> None:
    """It runs the one that it shadows, too, and leaves engines with plugins to their own."""
    package(tmp_path / "site", {"vllm/v1/worker/gpu_worker.py": WORKER})
    shadowed = tmp_path / "shadowed"
    package(shadowed, {"sitecustomize.py": "import os; os.environ['SHADOWED'] = 'ran'"})
    said = "import os; assert os.environ['SHADOWED'] == 'ran'"
    lines = run_engine(tmp_path, PROGRAM + WORK + said, shadowed)
    assert [line["requests"] for line in lines if line["type"] == "batch"][:1] == [[[4, 5, 1, 2]]]


def test_an_engine_with_plugins_is_left_to_them(tmp_path: Path) -> None:
    """Unless the user's own choice of plugins leaves the probe out."""
    package(tmp_path / "site", {"vllm/plugins/__init__.py": ""})
    program = (
        "import sys, vllm, os; assert ('latencyprism_probe' in sys.modules) == bool(os.environ['LOADED'])"
    )
    run_engine(tmp_path, program, LOADED="")
    (tmp_path / "r1").rmdir()
    run_engine(tmp_path, program, LOADED="1", VLLM_PLUGINS="another")


def test_without_a_target_it_is_inert(tmp_path: Path) -> None:
    """A server that nobody records has nothing of it in its processes."""
    package(tmp_path / "site", {"vllm/__init__.py": ""})
    program = "import sys, vllm; assert 'latencyprism_probe' not in sys.modules"
    run_engine(tmp_path, program, LPRISM_PROBE_TARGET="")
