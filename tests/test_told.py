"""What Prefect's UI is told, as Markdown."""

from dataclasses import replace

import pytest

from tasks.failures import CellsFailed, raise_on_failed
from tasks.pages import told
from tasks.plan import plan
from tasks.sentinel.retrain import Change
from tasks.spec import parse_spec
from tests.test_cli import SPEC
from tests.tree import ROOT
from tests.warehouse_cases import FAULT_CELL, RUN


def test_what_servers_wrote_is_no_markup() -> None:
    """A reason may hold anything: it is shown as it is, in one cell of a table."""
    assert told.plain("<b>a|b</b>\n[x](http://y)") == ("&lt;b&gt;a\\|b&lt;/b&gt; \\[x\\]\\(http://y\\)")
    assert told.table(["a"], [["x|y"], [None], [True]]).splitlines()[2:] == ["| x\\|y |", "|  |", "| yes |"]


def test_progress_tells_the_state_of_every_cell() -> None:
    """Counts in the head, the state first in each line; who has none was whole before."""
    spec = parse_spec(SPEC)
    cells = plan(spec, "first-1")
    statuses = {cells[1].run_id: "failed", cells[2].run_id: "pending", cells[3].run_id: "pending"}
    text = told.progress("first-1", cells, statuses, {"lab": "cell 3 of 4: baseline"})
    assert "**1 complete, 1 failed, 2 pending** of 4 cells" in text
    assert "- lab: cell 3 of 4: baseline" in text
    lines = [line for line in text.splitlines() if "| r" in line and "run" not in line.split("|")[3]]
    assert ["failed" in line for line in lines] == [False, True, False, False]


def test_a_campaign_with_failed_cells_is_not_green() -> None:
    """It names how many and the first."""
    cells = plan(parse_spec(SPEC), "first-1")
    raise_on_failed(ROOT, "first-1", cells, {cell.run_id: "complete" for cell in cells})
    with pytest.raises(CellsFailed, match=f"1 of 4 cells failed; the first, {cells[2].run_id} .*no bundle"):
        raise_on_failed(ROOT, "first-1", cells, {cells[2].run_id: "failed"})


def test_nothing_that_is_told_is_markup() -> None:
    """Plan, progress, run, verdicts, champions and links of hostile names hold no tag, link or extra cell."""
    evil = "<img src=x>|[a](b)"
    spec = parse_spec(SPEC)
    cells = [replace(cell, host=evil, model=evil, scenario=evil) for cell in plan(spec, "first-1")]
    effect = {"metric": evil, "detail": evil}
    manifest = {
        "run_id": evil, "status": evil, "reason": evil, "cell": {"host": evil, "model": evil},
        "effect": effect, "files": [{"name": evil, "size_bytes": 1, "sha256": evil}],
    }  # fmt: skip
    row = dict.fromkeys(
        ("run_id", "scenario", "incidents", "lag_ms", "slowdown", "named_cause", "verdict", "evidence"), evil
    )
    change = Change(evil, evil, (evil,), evil, "kept", evil, evil, 0.1, 0.2)
    for text in (
        told.plan(spec, evil, cells), told.progress(evil, cells, {}, {evil: evil}), told.run(manifest),
        told.verdicts(evil, [row]), told.champions([change]), told.links(evil, evil),
    ):  # fmt: skip
        assert "img src" in text
        assert "<img" not in text
        assert "[a](" not in text
        assert ">|" not in text


def test_a_run_is_told_with_all_its_axes() -> None:
    """Engine, workload and scenario stand in its artifact, as its manifest has them."""
    manifest = {"run_id": RUN, "status": "complete", "cell": FAULT_CELL}
    lines = told.run(manifest).splitlines()
    for line in (
        "| engine | vllm |",
        "| input\\_length | 32 |",
        "| concurrency | 4 |",
        "| scenario | cpu\\_quota |",
    ):
        assert line in lines
