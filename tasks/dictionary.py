"""The data dictionary: every table and view of sql/ with its grain and its columns, as Markdown.

`python -m tasks.dictionary` writes the list of tables into the README of the checkout.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tasks.settings import LprismError
from tasks.warehouse import create_table, make_views, memory_connection, sql_names, sql_text

_GRAIN = re.compile(r"-- Grain: \(([^)]*)\)")
README_MARKERS = ("<!-- tables: begin -->\n", "<!-- tables: end -->\n")


@dataclass(frozen=True)
class Relation:
    """A table or view: what one row is, what makes a row unique, and its columns (name, type, meaning)."""

    name: str
    kind: str
    meaning: str
    grain: str
    columns: list[tuple[str, str, str]]


def relations() -> list[Relation]:
    """Every table of sql/tables and view of sql/views, tables first, each in the order of their names."""
    found: dict[str, Relation] = {}
    with memory_connection() as con:
        for table in sql_names("tables"):
            create_table(con, table)
        make_views(con)
        for name, kind, meaning, *column in con.table("v_columns").fetchall():
            found.setdefault(name, Relation(name, kind, meaning, _grain(name, kind), []))
            found[name].columns.append((column[0], column[1], column[2]))
    return sorted(found.values(), key=lambda one: (one.kind, one.name))


def _grain(name: str, kind: str) -> str:
    grain = _GRAIN.search(sql_text(f"{kind}s/{name}"))
    return grain[1] if grain else ""


def as_markdown(name: str | None = None) -> str:
    """The dictionary, or one table's section. Raises LprismError when there is no such table."""
    chosen = [one for one in relations() if name in {None, one.name}]
    if not chosen:
        raise LprismError(f"there is no table {name}; there are {', '.join(one.name for one in relations())}")
    return "\n".join(_section(one) for one in chosen)


def _section(one: Relation) -> str:
    lines = [f"## {one.name}", "", f"{one.meaning} Grain: `({one.grain})`. ({one.kind.capitalize()})", ""]
    lines += ["| column | type | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {_escaped(meaning)} |" for name, kind, meaning in one.columns]
    return "\n".join([*lines, ""])


def readme_table() -> str:
    """The tables and views, one line each, as they stand in the README between its markers."""
    lines = ["| table or view | one row | grain |", "|---|---|---|"]
    lines += [f"| `{one.name}` | {_escaped(one.meaning)} | {one.grain} |" for one in relations()]
    return "\n".join([*lines, ""])


def write_readme(readme: Path) -> None:
    """Write the tables between the markers of a README, anew."""
    begin, end = README_MARKERS
    before, _, rest = readme.read_text(encoding="utf-8").partition(begin)
    readme.write_text(before + begin + readme_table() + end + rest.partition(end)[2], encoding="utf-8")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_readme(Path(__file__).resolve().parent.parent / "README.md")
