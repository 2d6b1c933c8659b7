"""A stand-in for the kernel's cpufreq: /sys/devices/system/cpu, served by FUSE in a mount namespace.

    unshare --mount python -m tests.stand_in_cpufreq CONFIG LOG

CONFIG (JSON, looked at again at every access) is a list of policies: cpus, lowest, highest (kHz), table (the
clocks there are) or null, cap (a thermal limit) or null, old (a kernel before 5.3: it refuses a minimum above
the maximum, and acts at once; later ones take anything and act 50 ms later). LOG gets a line for every write.
Like the kernel it rejects what is no number, keeps what was asked for apart from what holds, and brings the
latter within what the CPU can and within the limits of others. Not like it: clocks do not depend on load and
are always the highest allowed (governor `performance`), every write is to a file of root's, and no CPU goes
offline.
"""

import ctypes
import errno
import json
import os
import stat
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TARGET = b"/sys/devices/system/cpu"
ACTS_AFTER_S = 0.05
LOOKUP, FORGET, GETATTR, SETATTR, READLINK, OPEN, READ, WRITE = 1, 2, 3, 4, 5, 14, 15, 16
STATFS, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, ACCESS, INTERRUPT, BATCH_FORGET = (
    17, 18, 25, 26, 27, 28, 29, 34, 36, 42,
)  # fmt: skip
HEAD, NO_CACHE, DIRECT_IO = struct.Struct("<IIQQIIII"), 0, 1
Node = dict[str, Any] | str | Callable[[], str] | tuple[Callable[[], str], Callable[[str], None]]


class Policy:
    """CPUs with one clock: what was asked for, and what holds."""

    def __init__(self, number: int, config: Path) -> None:
        self.number, self.config = number, config
        settings = self.settings
        self.asked = [(0.0, {"min": settings["lowest"], "max": settings["highest"]})]

    @property
    def settings(self) -> dict[str, Any]:
        """What the test says of it now."""
        said: dict[str, Any] = json.loads(self.config.read_text())[self.number]
        return said

    def holds(self) -> dict[str, int]:
        """{"min", "max"} in kHz that hold now."""
        settings = self.settings
        delay = 0.0 if settings.get("old") else ACTS_AFTER_S
        asked = [what for when, what in self.asked if when + delay <= time.monotonic()][-1]
        low, high = settings["lowest"], min(settings["highest"], settings.get("cap") or 10**9)
        high = max(low, min(high, asked["max"]))
        high = max((khz for khz in settings.get("table") or [high] if khz <= high), default=low)
        return {"min": max(low, min(high, asked["min"])), "max": high}

    def ask(self, end: str, text: str) -> None:
        """Take a new minimum or maximum. Raises OSError(EINVAL)."""
        if not text.strip().isdigit():
            raise OSError(errno.EINVAL, text)
        new = {**self.asked[-1][1], end: int(text)}
        if self.settings.get("old") and new["min"] > new["max"]:
            raise OSError(errno.EINVAL, text)
        self.asked.append((time.monotonic(), new))

    def files(self) -> dict[str, Node]:
        """The folder policyN."""
        settings = self.settings
        cpus = " ".join(map(str, settings["cpus"])) + "\n"
        table = {"scaling_available_frequencies": " ".join(map(str, settings.get("table") or ())) + " \n"}
        return {
            "affected_cpus": cpus, "related_cpus": cpus, "scaling_governor": "performance\n",
            "cpuinfo_min_freq": f"{settings['lowest']}\n", "cpuinfo_max_freq": f"{settings['highest']}\n",
            "scaling_cur_freq": lambda: f"{self.holds()['max']}\n", **self._end("min"), **self._end("max"),
            **(table if settings.get("table") else {}),
        }  # fmt: skip

    def _end(self, end: str) -> dict[str, Node]:
        return {f"scaling_{end}_freq": (lambda: f"{self.holds()[end]}\n", lambda text: self.ask(end, text))}


def tree(config: Path) -> dict[str, Node]:
    """The whole folder."""
    policies = [Policy(number, config) for number in range(len(json.loads(config.read_text())))]
    cpus = {cpu: policy for policy in policies for cpu in policy.settings["cpus"]}
    links: dict[str, Node] = {
        f"cpu{cpu}": {"cpufreq": f"-> ../cpufreq/policy{policy.settings['cpus'][0]}"}
        for cpu, policy in cpus.items()
    }
    every = f"0-{max(cpus)}\n"
    folder: dict[str, Node] = {f"policy{policy.settings['cpus'][0]}": policy.files() for policy in policies}
    return {**links, "cpufreq": folder, "online": every, "possible": every, "present": every}


class Server:
    """The file system: one request of the kernel's at a time."""

    def __init__(self, root: dict[str, Node], device: int, log: Path) -> None:
        self.device, self.log = device, log
        self.nodes: list[tuple[str, Node]] = [("", ""), ("", root)]  # by number; 1 is the top

    def serve(self) -> None:
        """Answer until it is unmounted."""
        while True:
            try:
                request = os.read(self.device, 1 << 18)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                raise
            _, what, unique, number, *_ = HEAD.unpack_from(request)
            if what in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            try:
                status, said = 0, self.answer(what, number, request[HEAD.size :])
            except OSError as error:
                status, said = -(error.errno or errno.EIO), b""
            os.write(self.device, struct.pack("<IiQ", 16 + len(said), status, unique) + said)

    def answer(self, what: int, number: int, body: bytes) -> bytes:
        """One answer. Raises OSError with what the caller gets."""
        name, node = self.nodes[number] if number else ("", "")
        answers: dict[int, Callable[[bytes], bytes]] = {
            INIT: lambda _: struct.pack(
                "<IIIIHHIIHH8I", 7, 31, 1 << 16, 0, 8, 6, 1 << 16, 1, 16, 0, *[0] * 8
            ),
            LOOKUP: lambda body: self.entry(name, node, os.fsdecode(body.rstrip(b"\0"))),
            GETATTR: lambda _: struct.pack("<QII", NO_CACHE, 0, 0) + self.attributes(number),
            READLINK: lambda _: str(node).removeprefix("-> ").encode(),
            OPEN: lambda _: struct.pack("<QII", 0, DIRECT_IO, 0),
            READ: lambda body: part(self.text(node), body),
            READDIR: lambda body: part(self.entries(node), body),
            WRITE: lambda body: self.write(name, node, body),
            STATFS: lambda _: bytes(80),
            **dict.fromkeys((RELEASE, RELEASEDIR, FLUSH, ACCESS), lambda _: b""),
        }
        answers |= {SETATTR: answers[GETATTR], OPENDIR: answers[OPEN]}
        if what not in answers:
            raise OSError(errno.ENOSYS, str(what))
        return answers[what](body)

    def entry(self, above: str, node: Node, name: str) -> bytes:
        """What the kernel wants to know of a name in a folder."""
        if not isinstance(node, dict) or name not in node:
            raise OSError(errno.ENOENT, name)
        path = f"{above}/{name}"
        known = [number for number, (other, _) in enumerate(self.nodes) if other == path]
        if not known:
            self.nodes.append((path, node[name]))
        number = known[0] if known else len(self.nodes) - 1
        return struct.pack("<QQQQII", number, 0, NO_CACHE, NO_CACHE, 0, 0) + self.attributes(number)

    def attributes(self, number: int) -> bytes:
        """A file's stat, as the kernel packs it."""
        node = self.nodes[number][1]
        kind = stat.S_IFREG | (0o644 if isinstance(node, tuple) else 0o444)
        if isinstance(node, dict):
            kind = stat.S_IFDIR | 0o755
        elif isinstance(node, str) and node.startswith("-> "):
            kind = stat.S_IFLNK | 0o777
        return struct.pack("<6Q10I", number, 4096, 0, 0, 0, 0, 0, 0, 0, kind, 1, 0, 0, 0, 4096, 0)

    def text(self, node: Node) -> bytes:
        """What is read from a file."""
        if isinstance(node, tuple):
            node = node[0]
        return (node() if callable(node) else str(node)).encode()

    def entries(self, node: Node) -> bytes:
        """A folder's names, each padded to the same length, so that offsets are bytes."""
        packed = b""
        for name in node if isinstance(node, dict) else ():
            raw = os.fsencode(name)
            entry = struct.pack("<QQII", 1, 0, len(raw), 0) + raw
            entry += bytes(-len(entry) % 8)
            packed += entry[:8] + struct.pack("<Q", len(packed) + len(entry)) + entry[16:]
        return packed

    def write(self, name: str, node: Node, body: bytes) -> bytes:
        """Hand it to the policy; on record either way."""
        (size,) = struct.unpack_from("<I", body, 16)
        text, why = body[40 : 40 + size].decode(), ""
        try:
            (node[1] if isinstance(node, tuple) else read_only)(text)
        except OSError as error:
            why = errno.errorcode[error.errno or errno.EIO]
            raise
        finally:
            with self.log.open("a") as log:
                log.write(f"{name.removeprefix('/cpufreq/')} {text.strip()} {why}".strip() + "\n")
        return struct.pack("<II", size, 0)


def part(whole: bytes, body: bytes) -> bytes:
    """What a read asks for."""
    _, offset, size = struct.unpack_from("<QQI", body)
    return whole[offset : offset + size]


def read_only(text: str) -> None:
    """Refuse a write. Raises OSError."""
    raise OSError(errno.EACCES, text)


def main(config: Path, log: Path) -> None:
    """Mount over the real folder, in this process's mount namespace alone; say so; serve."""
    root = tree(config)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40755,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    private_below = (1 << 18) | (1 << 14)
    if libc.mount(b"none", b"/", None, private_below, None) or libc.mount(
        b"cpufreq", TARGET, b"fuse", 0, options
    ):
        raise OSError(ctypes.get_errno(), "mount")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    Server(root, device, log).serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
