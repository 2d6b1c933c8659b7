"""What the README names exists, and what exists is named there."""

import re
from pathlib import Path

import typer.main

from tasks import warehouse
from tasks.cli.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands() -> set[str]:
    """Every command of `lprism`, such as `campaign plan`."""
    found = set()
    for name, command in typer.main.get_group(app).commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {sub}" for sub in inner} if inner else {name}
    return found


def named_commands(text: str) -> set[str]:
    """The first one or two words after every `lprism` in code."""
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^\.venv/bin/(lprism .*)$", text, re.MULTILINE)
    words = [line.split()[1:3] for line in code if line.startswith("lprism ")]
    groups = {name.split()[0] for name in commands() if " " in name}
    return {" ".join(pair) if pair[0] in groups else pair[0] for pair in words}


def test_every_command_is_in_the_table_and_every_named_command_exists() -> None:
    """The README lists exactly the commands there are."""
    assert named_commands(README) == commands()


def test_every_table_and_view_is_named() -> None:
    """The README's table of tables lists exactly those of sql/."""
    section = README.partition("## The warehouse")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z_]+)`", section.partition("|---|---|")[2]))
    assert named == {*warehouse.sql_names("tables"), *warehouse.sql_names("views")}


def test_every_anomaly_is_named() -> None:
    """Each injector stands in the README."""
    for path in (ROOT / "injectors").glob("[a-z]*.py"):
        assert f"`{path.stem}`" in README


def test_every_link_leads_somewhere() -> None:
    """Relative links are files, and anchors are headings."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in headings
        else:
            assert (ROOT / target).exists(), target
