"""The drop folder: what lies in it is read once, when it stands still; what cannot be read is named once.

Nothing is moved or deleted there. `<home>/dropped.json` remembers every entry of the folder as it was last
seen; what it forgets is looked at again, and what is in the lake already is known by its sha256.
"""

import fcntl
import hashlib
import json
import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.files import whole_file
from tasks.settings import LprismError
from tasks.traces.registry import UNKNOWN, Found, find, ingest

FOLDER = "drop"
RECORD = "dropped.json"
STILL_S = 30.0
AGAIN_S = 86_400.0  # what could not be read is tried again: the disk was full, the format is known now
NEW, READ, UNREADABLE = "new", "read", "unreadable"
# How rsync, scp, browsers and editors call a file until it is whole.
_UNFINISHED = re.compile(r"^\.|(~|\.(part|partial|tmp|temp|filepart|crdownload|download|swp))$")


@dataclass(frozen=True)
class Seen:
    """An entry of the folder as it was last seen: `mark` is of all its files, `since` when that was new."""

    mark: str
    since: float
    outcome: str = NEW
    reason: str = ""
    tried: float = 0.0


@dataclass(frozen=True)
class Looked:
    """What a look into the folder found: entries to read now, and in words what never can be."""

    ready: tuple[str, ...]
    odd: tuple[str, ...]


def drop_folder(home: str | Path, given: str | None = None) -> Path:
    """The folder that is looked into: the one given, else the home's."""
    return Path(given).expanduser().absolute() if given else Path(home) / FOLDER


def look(home: Path, folder: Path, still_s: float = STILL_S) -> Looked:
    """Note what lies in the folder. Raises LprismError when it cannot be listed."""
    known, now, odd = _recorded(home), time.time(), []
    seen: dict[str, Seen] = {}
    for entry in _entries(folder):
        mark, last = _mark(entry), known.get(str(entry))
        seen[str(entry)] = one = last if last and last.mark == mark else Seen(mark, now)
        if (why := _never(entry)) and one.outcome == NEW:
            seen[str(entry)] = Seen(mark, one.since, UNREADABLE, why, now)
            odd.append(f"{_shown(entry)}: {why}")
    others = {path: one for path, one in known.items() if Path(path).parent != folder}
    _record(home, {**others, **seen})
    ready = [path for path in seen if not _never(Path(path)) and _is_due(seen[path], still_s, now)]
    return Looked(tuple(Path(path).name for path in ready), tuple(odd))


def read(home: Path, entry: Path, campaign: str = "", still_s: float = STILL_S) -> int:
    """Load every run of an entry that stands still; returns how many there are. The others go on.

    Raises:
        LprismError: what could not be read and why, unless just that was told before.
    """
    before, found = _recorded(home).get(str(entry)), list(find(entry))
    if before is None or not all(_stands_still(home, one, still_s) for one in _parts(entry, found)):
        return 0
    loaded, problems = _load(home, entry, found, campaign)
    if _mark(entry) != before.mark:
        return loaded  # it was written to meanwhile, and is read again
    reason = "; ".join(problems)
    seen = Seen(before.mark, before.since, UNREADABLE if reason else READ, reason, time.time())
    _record(home, {**_recorded(home), str(entry): seen})
    if reason and reason != before.reason:
        raise LprismError(reason)
    return loaded


def _load(home: Path, entry: Path, found: list[Found], campaign: str) -> tuple[int, list[str]]:
    """How many runs of an entry are in the lake now, and what of it could not be read."""
    problems = [] if found else [f"{entry}: holds nothing that is read here"]
    loaded = 0
    for one in found:
        if one.problem == UNKNOWN and one.path != entry:
            continue  # a note that lies among traces
        try:
            ingest(home, one, campaign)
            loaded += 1
        except LprismError as error:
            problems.append(str(error))
    return loaded, problems


def _entries(folder: Path) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [entry for entry in sorted(folder.iterdir()) if not _UNFINISHED.search(entry.name)]
    except OSError as error:
        raise LprismError(f"{folder}: {error.strerror or error}") from error


def _never(entry: Path) -> str:
    """Why an entry is not even opened; empty if nothing is odd about it."""
    if entry.is_symlink():
        return "is a link; links are not followed"
    if not entry.is_file() and not entry.is_dir():
        return "is neither file nor folder"
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "has a name that is no UTF-8"
    return ""


def _shown(entry: Path) -> str:
    return str(entry).encode(errors="backslashreplace").decode()


def _mark(entry: Path) -> str:
    """Names, sizes and times of an entry's files as a digest: another mark, other files."""
    digest = hashlib.sha256()
    for path in sorted(_files(entry)):
        with suppress(OSError):  # gone between two looks
            stat = path.lstat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(entry: Path) -> list[Path]:
    """The entry, or every file below it; what links lead to is no part of it."""
    if entry.is_symlink() or not entry.is_dir():
        return [entry]
    return [path for path in entry.rglob("*") if path.is_symlink() or not path.is_dir()]


def _is_due(seen: Seen, still_s: float, now: float) -> bool:
    again = seen.outcome == UNREADABLE and now - seen.tried >= AGAIN_S
    return (seen.outcome == NEW or again) and now - seen.since >= still_s


def _parts(entry: Path, found: list[Found]) -> set[Path]:
    """The entries of the folder that the runs are made of; a pair of files is two."""
    folder = entry.parent
    files = [file.path for one in found if one.source for file in one.source.files]
    return {entry, *(folder / path.relative_to(folder).parts[0] for path in files)}


def _stands_still(home: Path, entry: Path, still_s: float) -> bool:
    seen = _recorded(home).get(str(entry))
    is_as_seen = seen is not None and seen.mark == _mark(entry) and time.time() - seen.since >= still_s
    return is_as_seen and not any(map(_is_being_written, _files(entry)))


def _is_being_written(path: Path) -> bool:
    """Whether a process here has it open for writing, where the kernel says so: it leases no such file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False  # reading will tell why
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)  # who opens it now is let in, and we are not ended
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # somebody else's file, or a file system without leases
    finally:
        os.close(file)
    return False


def _recorded(home: Path) -> dict[str, Seen]:
    try:
        said = json.loads((home / RECORD).read_text())
        return {path: Seen(**one) for path, one in said.items()}
    except (OSError, ValueError, TypeError):
        return {}  # then all is looked at again


def _record(home: Path, seen: dict[str, Seen]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    with whole_file(home / RECORD) as draft:
        draft.write_text(json.dumps({path: asdict(one) for path, one in seen.items()}, indent=1))
