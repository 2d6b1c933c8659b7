"""A second Linux kernel as a process: User Mode Linux on this machine's files (read-only), with own memory.

It has what this machine's kernel may lack (cgroup v2 with a CPU controller, swap), and nothing done in it is
left anywhere. Debian's package is user-mode-linux. It has one CPU and is slow.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

LINUX = shutil.which("linux.uml")
BOUND_S = 180
ROOT = Path(__file__).resolve().parent.parent
INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 HOME=/run TMPDIR=/run
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run
{before}
cd {root}
{command}
echo "second kernel: exit $?"
echo o > /proc/sysrq-trigger
sleep 60
"""


def run(folder: Path, argv: list[str], *, before: str, memory: str = "768M", disk: Path | None = None) -> str:
    """Boot it, run shell lines and then argv from the top of this tree; what was said, down to the exit code.

    `disk` is its /dev/ubda. Raises subprocess.TimeoutExpired after BOUND_S.
    """
    init = folder / "init"
    init.write_text(INIT.format(before=before, root=shlex.quote(str(ROOT)), command=shlex.join(argv)))
    init.chmod(0o755)
    words = [
        "rootfstype=hostfs",
        "ro",
        f"mem={memory}",
        f"init={init}",
        "con=null",
        "con0=null,fd:1",
        "quiet",
    ]
    words += [f"uml_dir={folder}", *([f"ubd0={disk}"] if disk else [])]
    ended = subprocess.run(
        [str(LINUX), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOUND_S,
        check=False, env={"TMPDIR": str(folder), "HOME": str(folder)},
    )  # fmt: skip
    return ended.stdout


def pytest_in(
    folder: Path, file: str, *words: str, before: str, memory: str = "768M", disk: Path | None = None
) -> str:
    """Run tests of a file in it; what pytest said."""
    pytest = [sys.executable, "-m", "pytest", "-q", "--color=no", "--durations=4", "--noconftest"]
    argv = [*pytest, "-p", "no:cacheprovider", *words, file]
    return run(folder, argv, before=before, memory=memory, disk=disk)
