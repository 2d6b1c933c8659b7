"""Lines of text files: what is read is what is there, in order, bounded, and damage is told."""

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.settings import LprismError
from tasks.traces.text import LONGEST_LINE, Line, arrow_lines, lines, lines_view
from tasks.warehouse import memory_connection


def test_lines_are_numbered_and_stripped_of_their_ends(tmp_path: Path) -> None:
    """A byte order mark, CR LF, blank lines, bytes that are no UTF-8, a last line without an end."""
    path = tmp_path / "a.log"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\ntwo\x00 \r\r\nb\xffd\nlast")
    assert list(lines(path)) == [
        Line(1, "one", None), Line(2, "", None), Line(3, "two\x00 \r", None),
        Line(4, "b\\xffd", "not UTF-8"), Line(5, "last", None),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.log", "a.log.gz"])
def test_gzip_is_told_by_its_first_bytes(tmp_path: Path, name: str) -> None:
    """Members one after the other are one text; the name need not say gzip."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"one\ntw") + gzip.compress(b"o\n"))
    assert [line.text for line in lines(path)] == ["one", "two"]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    """Empty, also where the name says gzip."""
    for name in ("a.log", "a.log.gz"):
        (tmp_path / name).touch()
        assert list(lines(tmp_path / name)) == []


def test_a_line_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    """Its beginning is kept with the reason; one of just the bound is whole."""
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * (3 * LONGEST_LINE) + b"\n" + b"y" * (LONGEST_LINE - 1) + b"\nz\n")
    first, second, third = lines(path)
    assert (first.number, first.text, first.problem) == (1, "x" * 8000, "longer than 1 MiB")
    assert (second.number, len(second.text), second.problem) == (2, LONGEST_LINE - 1, None)
    assert third == Line(3, "z", None)


def cut(content: bytes) -> bytes:
    """A file that ends in the middle."""
    return content[:-20]


def damaged(content: bytes) -> bytes:
    """A file with other bytes in the middle."""
    return content[:-2000] + bytes(1000) + content[-1000:]


@pytest.mark.parametrize("harm", [cut, damaged])
def test_damaged_gzip_names_the_file_and_the_line(tmp_path: Path, harm: object) -> None:
    """Cut or changed, it is one error that says how far it could be read."""
    text = "".join(f"{number * number}\n" for number in range(20000)).encode()
    path = tmp_path / "a.log.gz"
    assert callable(harm)
    path.write_bytes(harm(gzip.compress(text)))
    with pytest.raises(LprismError, match=r"a\.log\.gz, after line \d+: "):
        list(lines(path))


@pytest.mark.parametrize("what", ["absent", "folder", "text.gz"])
def test_what_cannot_be_read_is_named(tmp_path: Path, what: str) -> None:
    """Absent, a folder, or no gzip though its name says so."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.gz").write_text("no gzip at all")
    with pytest.raises(LprismError, match=what):
        list(lines(tmp_path / what))


def test_sql_reads_the_lines_of_several_files(tmp_path: Path) -> None:
    """As rows, in order, while they are counted by file; a NUL passes."""
    files = {"a": tmp_path / "a", "b": tmp_path / "b"}
    files["a"].write_bytes(b"1\n\x00\n")
    files["b"].write_bytes(b"\xff\n")
    with memory_connection() as con:
        with lines_view(con, files) as counts:
            con.execute("CREATE TABLE read AS SELECT * FROM lines")
        assert con.table("read").fetchall() == [
            ("a", 1, "1", None), ("a", 2, "\x00", None), ("b", 1, "\\xff", "not UTF-8"),
        ]  # fmt: skip
        assert counts == {"a": 2, "b": 1}


def test_sql_tells_the_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The error is ours, naming the file, not what DuckDB makes of it; the connection can go on."""
    with memory_connection() as con:
        with (
            pytest.raises(LprismError, match=r"^\S*gone: No such file or directory$"),
            lines_view(con, {"gone": tmp_path / "gone"}),
        ):
            con.execute("CREATE TABLE read AS SELECT * FROM lines")
        assert con.execute("SELECT 1").fetchall() == [(1,)]


def test_long_lines_go_a_few_at_a_time(tmp_path: Path) -> None:
    """A batch is bounded in bytes too: a minute of /metrics was 70 lines that took 500 MB."""
    path = tmp_path / "a"
    path.write_bytes((b"x" * 900_000 + b"\n") * 40)
    counts: dict[str, int] = {}
    sizes = [batch.num_rows for batch in arrow_lines({"a": path}, counts)]
    assert max(sizes) == 2
    assert sum(sizes) == counts["a"] == 40


@given(st.binary(max_size=200))
def test_any_bytes_have_as_many_lines_as_ends(content: bytes) -> None:
    """One line an end, and one more for what follows the last; all UTF-8 text comes back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(content)
        if content.startswith(b"\x1f\x8b"):
            return
        read = list(lines(path))
    assert len(read) == content.count(b"\n") + (content[-1:] not in {b"", b"\n"})
    assert [line.number for line in read] == list(range(1, len(read) + 1))
    text = content.removeprefix(b"\xef\xbb\xbf")
    if all(line.problem is None for line in read) and b"\r" not in content:
        assert "\n".join(line.text for line in read).encode() == text.removesuffix(b"\n")
