"""The data that was published with the LatencyPrism paper: its folders, and each of its CSVs given alone."""

import os
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.traces.load import InputFile, Source
from tasks.traces.published_csv import Header, header_of, read_header, read_rows, schema_of
from tasks.warehouse import execute

if TYPE_CHECKING:
    import duckdb

NAME = "published"
CAMPAIGN = "published"
TABLES = ("result_perf_data.csv", "result_counters_data.csv")
_OTHER: dict[str, Any] = {"format": "other", "rows_in": 0, "rows_kept": 0}
_ENGINES = {"sglang", "vllm", "xdit"}
_SIDE = re.compile(r"(normal|abnormal)_perf_data")
_SENTINEL = re.compile(r"(normal|abnormal)_\w+")
_CURVE = re.compile(r"([A-Za-z]+)_(curve\w*)")
_COMPARISON = re.compile(
    r"(?:Processed_)?(?P<engine>[A-Za-z]+)_(?P<scenario>.+)"
    r"_(?P<pair>pid(?P<pid>[0-9]{1,18})_strict"
    r"|n_pid(?P<normal>[0-9]{1,18})_vs_a_pid(?P<abnormal>[0-9]{1,18})_cross)_comparison"
)


def sniff(path: Path, head: bytes) -> bool:
    """Whether it is one of the tables, or the folder of one side of a pair."""
    if not head:
        return _SIDE.fullmatch(path.name) is not None and any(map(os.path.isfile, _tables(path)))
    first = head.removeprefix(BOM_UTF8).partition(b"\n")[0].removesuffix(b"\r")
    return header_of(first.decode(errors="replace")) is not None


def _tables(folder: Path) -> list[Path]:
    """The two tables of one side, plain or compressed; one may be absent."""
    return [folder / f"{name}{end}" for name in TABLES for end in ("", ".gz")]


def sources(path: Path) -> list[Source]:
    """The one run that a side of a pair, or a table alone, holds.

    Raises:
        LprismError: the file is none of the published tables, or cannot be read.
    """
    path = path.absolute()
    if path.is_dir():
        # What lies beside the tables is catalogued, so that nothing of a folder is lost without a word.
        found = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        name, facts = _pair(path)
    else:
        found = [path]
        name, facts = _named(path, read_header(path))
    files = tuple(InputFile(file, _text(file.name)) for file in found)
    return [Source(_text("/".join((CAMPAIGN, *name))), files, facts, CAMPAIGN)]


Named = tuple[list[str], dict[str, object]]


def _named(path: Path, header: Header) -> Named:
    """What comes after published/ in the run's name, and what is known of the run."""
    stem, kind = _stem(path), header.layout.name
    if kind in {"published_usage", "published_counters"}:
        return _pair(path.parent) if _SIDE.fullmatch(path.parent.name) else ([stem], {"mode": "deepdive"})
    if kind == "published_comparison":
        return _comparison(stem)
    if kind == "published_topology":
        return ["topology", stem], {}
    if kind == "published_curves":
        curve = _CURVE.fullmatch(stem)
        return _sentinel(curve[1], curve[2]) if curve else (["sentinel", stem], {"mode": "sentinel"})
    side = _SENTINEL.fullmatch(stem)
    engine = "sglang" if "forward_mode" in header.columns else "vllm"
    # The anomaly of an abnormal table is told nowhere.
    return _sentinel(engine, side[1] if side else stem)


def _sentinel(engine: str, what: str) -> Named:
    engine, scenario = engine.lower(), "normal" if what == "normal" else None
    return [engine, "sentinel", what], {"mode": "sentinel", "engine": engine, "scenario": scenario}


def _pair(folder: Path) -> Named:
    """<Engine>/<scenario>/<side>_perf_data, however much of that is left of the path."""
    side, scenario = folder.name.partition("_")[0], folder.parent.name
    engine = folder.parent.parent.name.lower()
    anomaly = scenario if side == "abnormal" else None
    facts: dict[str, object] = {"mode": "deepdive", "scenario": anomaly or "normal", "anomaly": anomaly}
    if engine in _ENGINES:
        return [engine, scenario, side], {**facts, "engine": engine}
    return [scenario, side], facts


def _comparison(stem: str) -> Named:
    told = _COMPARISON.fullmatch(stem)
    if told is None:
        return ["comparison", stem], {"mode": "deepdive"}
    engine, scenario = told["engine"].lower(), told["scenario"]
    name = [engine, scenario, "comparison", told["pair"]]
    return name, {"mode": "deepdive", "engine": engine, "scenario": scenario}


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


def _text(name: str) -> str:
    """A name that may be no UTF-8, as text."""
    return os.fsencode(name).decode(errors="backslashreplace")


def fill(con: "duckdb.DuckDBPyConnection", source: Source, folder: Path) -> None:  # noqa: ARG001 - small tables
    """Convert the run's tables, each by its header.

    Raises:
        LprismError: names the file that cannot be read or is not the table that its name says.
    """
    for file in source.files:
        known = {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256, "head": None}
        counts = _filled(con, file) if _is_table(source, file) else _OTHER
        execute(con, "convert/foreign_file", **known, **counts)


def _is_table(source: Source, file: InputFile) -> bool:
    return len(source.files) == 1 or file.name.removesuffix(".gz") in TABLES


def _filled(con: "duckdb.DuckDBPyConnection", file: InputFile) -> dict[str, Any]:
    """Fill the table of one file; returns what `files` says of its rows."""
    header = read_header(file.path)
    layout, rows_in = header.layout, 0
    con.from_arrow(schema_of(layout).empty_table()).create("published_lines")
    for rows in read_rows(file.path, file.name, header, _pids(file.path, header)):
        con.from_arrow(rows).insert_into("published_lines")
        rows_in += rows.num_rows
    before = len(con.table(layout.table))
    execute(con, f"convert/{layout.name}")
    execute(con, "convert/published_quarantine")
    return {"format": layout.name, "rows_in": rows_in, "rows_kept": len(con.table(layout.table)) - before}


def _pids(path: Path, header: Header) -> Mapping[str, str]:
    """The two processes of a comparison: from its header, else from the file's name."""
    told = _COMPARISON.fullmatch(_stem(path))
    if len(header.pids) == 2 or told is None:  # noqa: PLR2004 - two sides
        return header.pids
    return {"normal": told["normal"] or told["pid"], "abnormal": told["abnormal"] or told["pid"]}
