"""What Prefect's UI is told, as Markdown."""

import pytest

from tasks.failures import CellsFailed, raise_on_failed
from tasks.pages import told
from tasks.plan import plan
from tasks.spec import parse_spec
from tests.test_cli import SPEC
from tests.tree import ROOT


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
