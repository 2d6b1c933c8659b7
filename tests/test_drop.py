"""The drop folder: read once, when it stands still; what is bad is named once, and the others go on."""

import os
from pathlib import Path

import pytest

from tasks.drop import look, read
from tasks.settings import LprismError
from tests.warehouse_cases import RUN, good_bundle

LOG = '{"name": "a", "ph": "X", "pid": 1, "tid": 1, "ts": 1.0, "dur": 2.0}'


def trace(path: Path, first: str = LOG) -> Path:
    """A Chrome trace of one event."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"traceEvents": [{first}]}}')
    return path


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    """The drop folder of the home `tmp_path`."""
    return tmp_path / "drop"


def names(home: Path, still_s: float = 0.0) -> list[str]:
    """What a look finds to be read now."""
    return list(look(home, home / "drop", still_s).ready)


def test_a_file_is_read_once(tmp_path: Path, drop: Path) -> None:
    """Then it is left, also under another name; a changed one is read again."""
    path = trace(drop / "a.json")
    assert names(tmp_path) == ["a.json"]
    assert read(tmp_path, path, still_s=0) == 1
    assert names(tmp_path) == []
    path.rename(drop / "b.json")
    assert names(tmp_path) == ["b.json"]
    read(tmp_path, drop / "b.json", still_s=0)
    assert len(list((tmp_path / "lake" / "seals").glob("*/*"))) == 1
    trace(drop / "b.json", LOG.replace("1.0", "5.0"))
    assert names(tmp_path) == ["b.json"]


def test_a_file_that_is_being_written_is_left(tmp_path: Path, drop: Path) -> None:
    """Until it has stood still for a while, nobody has it open for writing, and it has its own name."""
    path = trace(drop / "a.json")
    for unfinished in (".b.json.x7", "c.json.part", "d.json~"):
        trace(drop / unfinished)
    assert names(tmp_path, still_s=60) == []
    assert names(tmp_path) == ["a.json"]
    with path.open("a"):
        assert read(tmp_path, path, still_s=0) == 0
    assert read(tmp_path, path, still_s=60) == 0
    assert names(tmp_path) == ["a.json"]
    assert read(tmp_path, path, still_s=0) == 1


def test_both_files_of_a_pair_stand_still(tmp_path: Path, drop: Path) -> None:
    """A run of two files is read when both are whole, and is one run."""
    drop.mkdir()
    (drop / "micro_event.csv").write_text("name,ph,ts,dur\na,X,1,2\n")
    counters = drop / "macro_counter.csv"
    counters.write_text("name,timestamp,value\nb,1,2\n")
    assert names(tmp_path) == ["macro_counter.csv", "micro_event.csv"]
    with counters.open("a"):
        assert read(tmp_path, drop / "micro_event.csv", still_s=0) == 0
    assert [read(tmp_path, drop / name, still_s=0) for name in names(tmp_path)] == [1, 1]
    assert len(list((tmp_path / "lake" / "seals").glob("*/*"))) == 1


def test_what_cannot_be_read_is_named_once(
    tmp_path: Path, drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again a day later, silently if nothing is new; what is new is told."""
    trace(drop / "good.json")
    bad = drop / "bad.json"
    bad.write_bytes(b"\x1f\x8b no gzip")
    assert names(tmp_path) == ["bad.json", "good.json"]
    with pytest.raises(LprismError, match=r"bad\.json: "):
        read(tmp_path, bad, still_s=0)
    assert names(tmp_path) == ["good.json"]
    monkeypatch.setattr("tasks.drop.AGAIN_S", 0.0)
    assert names(tmp_path) == ["bad.json", "good.json"]
    assert read(tmp_path, bad, still_s=0) == 0
    monkeypatch.undo()
    assert names(tmp_path) == ["good.json"]
    bad.write_bytes(b"other")
    assert names(tmp_path) == ["bad.json", "good.json"]
    with pytest.raises(LprismError, match=r"bad\.json: is of no format"):
        read(tmp_path, bad, still_s=0)


def test_links_and_pipes_are_named_and_not_opened(tmp_path: Path, drop: Path) -> None:
    """So is a name that is no text; each once."""
    drop.mkdir()
    (drop / "link").symlink_to(tmp_path)
    os.mkfifo(drop / "pipe")
    (drop / os.fsdecode(b"\xff.json")).write_text("x")
    told = look(tmp_path, drop, 0).odd
    assert [line.removeprefix(f"{drop}/") for line in told] == [
        "link: is a link; links are not followed",
        "pipe: is neither file nor folder",
        "\\udcff.json: has a name that is no UTF-8",
    ]
    assert look(tmp_path, drop, 0).odd == ()


def test_a_folder_is_read_when_all_of_it_stands_still(tmp_path: Path, drop: Path) -> None:
    """A bundle half copied is left; notes among its neighbours are no problem."""
    good_bundle(drop / "night" / RUN, RUN)
    (drop / "night" / "notes.md").write_text("read me")
    assert names(tmp_path) == ["night"]
    with (drop / "night" / RUN / "server.log").open("a"):
        assert read(tmp_path, drop / "night", still_s=0) == 0
    assert read(tmp_path, drop / "night", still_s=0) == 0, "a file came since"
    assert names(tmp_path) == ["night"]
    assert read(tmp_path, drop / "night", still_s=0) == 1
