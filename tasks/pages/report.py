"""The report of a campaign: one HTML file that opens offline, each figure beside the query that gives it.

Everything is read from the published warehouse by the files of sql/report; what is not there is said.
Jinja2 escapes every value; the charts' names are escaped by matplotlib.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.files import whole_file
from tasks.pages.causes import MOST_PICTURES, Picture, counter_pictures, time_pictures
from tasks.pages.charts import MOST_ROWS, NO_FAULT, control_chart, dose_chart, latency_chart
from tasks.settings import LprismError
from tasks.warehouse import execute, literal, open_published, sql_text

if TYPE_CHECKING:
    import duckdb

Row = dict[str, Any]
SECTIONS = (
    "scenarios", "verdicts", "doses", "evaluation", "detection", "latency", "effects", "causes", "incidents",
    "models", "overhead", "time_moved", "time_spent", "quality", "versions", "files", "marks",
)  # fmt: skip
MOST_CHARTS = 40  # control charts; runs with a fault come first
MOST_TABLE_ROWS = 600
MOST_TEXT = 600
THOUSAND = 1000
_PARAMETER = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class Section:
    """Rows of one question, the SQL that gives them again, and why they are missing, if they are."""

    columns: list[str]
    rows: list[Row]
    query: str
    missing: str = ""

    @cached_property
    def numeric(self) -> set[str]:
        """Columns that hold numbers alone, and at least one."""
        kinds = {name: {type(row[name]) for row in self.rows} - {type(None)} for name in self.columns}
        return {name for name, found in kinds.items() if found and found <= {int, float, Decimal}}


def write_report(home: Path, campaign: str, path: Path | None = None) -> Path:
    """Write the report of a campaign of the published warehouse; returns where (<home>/reports by default).

    The file is there whole or not at all.

    Raises:
        LprismError: there is no warehouse, it has no such campaign, or the file cannot be written.
    """
    page = rendered(home, campaign)
    chosen = path or default_path(home, campaign)
    with whole_file(chosen) as draft:
        chosen.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(page, encoding="utf-8")
    return chosen


def default_path(home: Path, campaign: str) -> Path:
    """Where a campaign's report is written when nobody says where."""
    return home / "reports" / f"{_file_name(campaign)}.html"


def rendered(home: Path, campaign: str) -> str:
    """The page as text. Raises LprismError."""
    with open_published(home) as con:
        return page_of(con, campaign)


def page_of(con: "duckdb.DuckDBPyConnection", campaign: str) -> str:
    """The page of a campaign of an open warehouse. Raises LprismError when it has none of that name."""
    about = asked(con, "about", campaign=campaign)
    if not about.rows:
        raise LprismError(_unknown(con, campaign))
    sections = {name: asked(con, name, campaign=campaign) for name in SECTIONS}
    charts = [
        (marks, control_chart(scores.rows, marks), scores.query)
        for marks in sections["marks"].rows[:MOST_CHARTS]
        if (scores := asked(con, "scores", run_id=marks["run_id"])).rows
    ]
    ask = partial(asked, con)
    causes = counter_pictures(ask, sections["verdicts"].rows)
    causes += time_pictures(ask, sections["time_moved"])
    return _page(about, sections, charts, causes)


def asked(con: "duckdb.DuckDBPyConnection", name: str, **parameters: str) -> Section:
    """The rows of sql/report/<name>.sql; a table or column that is not there yet gives none, and why."""
    import duckdb

    query = query_text(name, **parameters)
    try:
        answer = execute(con, f"report/{name}", **parameters)
        columns = [column for column, *_ in answer.description or ()]
        return Section(columns, [dict(zip(columns, row, strict=True)) for row in answer.fetchall()], query)
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        return Section([], [], query, str(error).splitlines()[0])


def query_text(name: str, **parameters: str) -> str:
    """A file of sql/report with its parameters written in: what `lprism sql` answers with the same rows."""
    code = "\n".join(line for line in sql_text(f"report/{name}").splitlines() if not line.startswith("--"))
    return _PARAMETER.sub(lambda found: literal(parameters[found[1]]), code.rstrip(";\n"))


def _unknown(con: "duckdb.DuckDBPyConnection", campaign: str) -> str:
    known = [name for (name,) in execute(con, "report/campaigns_here").fetchall()]
    return f"no campaign {campaign} in the warehouse; it has {', '.join(known[:10]) or 'none'}"


def _page(
    about: Section, sections: dict[str, Section], charts: list[tuple[Row, str, str]], causes: list[Picture]
) -> str:
    from jinja2 import Environment, StrictUndefined

    # Of a string and not of a file: the template is one, and a loader would look for others.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = cell
    text = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sections["latency"].rows:
        groups.setdefault((row["engine"], row["workload"]), []).append(row)
    pictures = [(*group, latency_chart(rows)) for group, rows in list(groups.items())[:MOST_ROWS]]
    return environment.from_string(text).render(
        about=about,
        it=about.rows[0],
        s=sections,
        charts=charts,
        pictures=pictures,
        causes=causes,
        most_pictures=MOST_PICTURES,
        doses=dose_charts(sections["doses"].rows),
        hidden_charts=len(sections["marks"].rows) - len(charts),
        hidden_groups=max(0, len(groups) - MOST_ROWS),
        most=MOST_TABLE_ROWS,
        counts=counts(sections["verdicts"].rows),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("latencyprism"),
    )


def dose_charts(rows: list[Row]) -> list[tuple[str, str, str, str]]:
    """(engine, workload, scenario, picture) where a scenario has strengths that differ in one number."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["engine"], row["workload"], row["scenario"]), []).append(row)
    found = []
    for group, doses in list(groups.items())[:MOST_ROWS]:
        parameter, placed = _one_parameter(doses)
        if parameter:
            found.append((*group, dose_chart(parameter, placed)))
    return found


def _one_parameter(doses: list[Row]) -> tuple[str, list[Row]]:
    """The only parameter in which strengths differ, if it is a number everywhere, and the rows with it."""
    strengths = [json.loads(row["strength"] or "{}") for row in doses]
    names = {name for strength in strengths for name in strength}
    varying = [n for n in names if len({json.dumps(strength.get(n)) for strength in strengths}) > 1]
    if len(varying) != 1 or not all(type(strength.get(varying[0])) in (int, float) for strength in strengths):
        return "", []
    name = varying[0]
    return name, [{**row, "dose": strength[name]} for row, strength in zip(doses, strengths, strict=True)]


def counts(rows: list[Row]) -> dict[str, int]:
    """What the first lines say: runs by verdict, faults found, objectives broken."""
    faults = [row for row in rows if row["scenario"] not in NO_FAULT and row["status"] == "complete"]
    return {
        "runs": len(rows),
        "failed": sum(row["status"] == "failed" for row in rows),
        "right": sum(row["verdict"] == "right" for row in rows),
        "wrong": sum(row["verdict"] == "wrong" for row in rows),
        "undiagnosed": sum(row["verdict"] is None for row in rows),
        "faults": len(faults),
        "found": sum(row["lag_ms"] is not None for row in faults),
        "slo_broken": sum(row["slo_violated"] is True for row in rows),
        "slo_judged": sum(row["slo_violated"] is not None for row in rows),
    }


def cell(value: object) -> str:
    """A value for a reader: three digits, yes or no, a dash for nothing; very long texts are cut, said so."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= THOUSAND else f"{value:.3g}"
    text = str(value)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}… ({len(text)} characters)"


def _file_name(campaign: str) -> str:
    """A file's name for a campaign: its own where that is harmless, or else made so with a digest behind."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", campaign).lstrip(".")[:80]
    return safe if safe == campaign else f"{safe}-{hashlib.sha256(campaign.encode()).hexdigest()[:8]}"
