"""What runs on a host, as one tar: the supervisor, recorders and injectors, and one file for GPUs. Pure."""

import io
import tarfile
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

BOOTSTRAP = """
import json, os, platform, sys
if sys.version_info < (3, 9): sys.exit("the host needs python 3.9 or newer, not " + sys.version.split()[0])
base = os.path.join(os.path.expanduser("~"), ".latencyprism")
node = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in platform.node())
sessions = os.path.join(base, "sessions", node)  # a home on NFS is that of many hosts
os.makedirs(sessions, mode=0o700, exist_ok=True)
shipped = os.path.isdir(os.path.join(base, sys.argv[1]))
print(json.dumps({"base": base, "sessions": sessions, "shipped": shipped}))
"""
UNPACK = """
import os, shutil, sys, tarfile
base, sha, archive = sys.argv[1:]
with tarfile.open(archive) as tar: tar.extractall(archive + ".draft")
try: os.rename(archive + ".draft", os.path.join(base, sha))
except OSError: shutil.rmtree(archive + ".draft")
os.remove(archive)
"""


def shipped() -> bytes:
    """The tar of everything that runs on a host: the same bytes for the same sources."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for package, inside in (("tasks", ("__init__.py", "host")), ("injectors", ("",))):
            root = Path(str(files(package)))
            for start in inside:
                _add(tar, package, root, root / start)
        nvml = Path(str(distribution("nvidia-ml-py").locate_file("pynvml.py")))  # for hosts that have none
        _add(tar, "vendor", nvml.parent, nvml)
    return out.getvalue()


def _add(tar: tarfile.TarFile, package: str, root: Path, start: Path) -> None:
    paths = [start] if start.is_file() else sorted(path for path in start.rglob("*") if path.is_file())
    for path in paths:
        if "__pycache__" not in path.parts:
            entry = tarfile.TarInfo(f"{package}/{path.relative_to(root)}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            tar.addfile(entry, io.BytesIO(path.read_bytes()))
