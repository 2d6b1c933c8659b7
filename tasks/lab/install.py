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
from tasks.lab.recipes import RECIPES, TORCH, Recipe, recipe_for
from tasks.lab.steps import Progress, Runner, Step, print_progress
from tasks.lab.tiny_model import make_tiny_model
from tasks.settings import LprismError, cache_path

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
    return verifying.verify_command(engine.kind, engine.python, model, engine.folder / "verify.log")


@dataclass(frozen=True)
class Means:
    """What an installation is made with: Python (3.11 or later), what verifies it, the room it needs."""

    python: str = sys.executable
    verify: Callable[[Engine], list[str]] = verify_command
    needed_bytes: int | None = None


def engine_folder(name: str) -> Path:
    """Return the folder of an engine for the CPU in the user's cache; it need not exist."""
    return cache_path() / "engines" / name


def installed(name: str) -> Engine | None:
    """Find the complete installation of the version that we use, or None. Reads one small file."""
    recipe, folder = RECIPES[name], engine_folder(name)
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        site = Path(marker["site"])
        engine = Engine(recipe.kind, marker["version"], folder / "venv/bin/python", site, folder)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    # The interpreter is a link to the one that made the environment; that may have gone with an upgrade.
    return engine if engine.version == recipe.version and engine.python.exists() else None


def installed_for(kind: str) -> Engine:
    """Find the installation that serves an engine kind on this machine.

    Raises:
        LprismError: there is none; with the command that makes it.
    """
    recipe = recipe_for(kind)
    if recipe is None:
        raise LprismError(f"{kind} has no build for a CPU: name its interpreter with `python`")
    engine = installed(recipe.name)
    if engine is None:
        raise LprismError(f"{kind} is not installed here: run `lprism engines install {recipe.name}` first")
    return engine


def install(
    name: str, *, force: bool = False, progress: Progress = print_progress, means: Means | None = None
) -> Engine:
    """Install an engine for the CPU, start it once with the tiny model, and mark it complete.

    Returns at once when it is there already, unless `force`.

    Raises:
        LprismError: no room, no right to write, a step that fails or takes too long (with its last lines and
            the log's path), or a server that does not come up.
    """
    present = installed(name)
    if present and not force:
        return present
    folder = engine_folder(name)
    with _exclusive(folder, progress) as lock:
        present = installed(name)  # another installation may have built it while we waited
        if present and not force:
            return present
        runner = Runner(folder / "install.log", lock, progress, _STEPS)
        return _build(RECIPES[name], folder, runner, means or Means())


def _build(recipe: Recipe, folder: Path, runner: Runner, means: Means) -> Engine:
    _make_room(folder, recipe.needed_bytes if means.needed_bytes is None else means.needed_bytes)
    folder.mkdir()
    venv = folder / "venv"
    command = [means.python, "-m", "venv", str(venv)]
    runner.run("make a virtual environment", command, timeout_s=_VENV_TIMEOUT_S, cwd=folder)
    site = _site(venv)
    _install_packages(recipe, folder, site, runner)
    recipe.finish(folder, site)
    engine = Engine(recipe.kind, recipe.version, venv / "bin/python", site, folder)
    verify = means.verify(engine)
    runner.run("start it once with the tiny model", verify, timeout_s=verifying.TIMEOUT_S + 60, cwd=_ROOT)
    _mark_complete(engine)
    return engine


def _install_packages(recipe: Recipe, folder: Path, site: Path, runner: Runner) -> None:
    def pip(title: str, *arguments: str) -> None:
        command = [str(folder / "venv/bin/python"), "-m", "pip", "install", "--no-input", *arguments]
        runner.run(f"install {title}", command, timeout_s=_PIP_TIMEOUT_S, cwd=folder)

    held = ("--constraint", str(recipe.constraints))
    pip(TORCH, *held, TORCH)
    pip(recipe.alone[0], "--no-deps", *recipe.alone)
    requirements = folder / "requirements.txt"
    lines = _requirements(site, recipe)
    requirements.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    pip("its requirements", *held, "--requirement", str(requirements))


def _site(venv: Path) -> Path:
    found = sorted(venv.glob("lib/python3.*/site-packages"))
    if not found:
        raise LprismError(f"{venv} was made without site-packages: is Python's venv module complete here?")
    return found[0]


def _requirements(site: Path, recipe: Recipe) -> list[str]:
    """Read the requirements of the distribution out of its metadata, without extras and what is left out."""
    name, _, version = recipe.alone[0].partition("==")
    metadata = site / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    lines = metadata.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    wanted = [line.partition(":")[2].strip() for line in lines if line.startswith("Requires-Dist:")]
    return [text for text in wanted if "extra ==" not in text and _project(text) not in recipe.left_out]


def _project(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


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
