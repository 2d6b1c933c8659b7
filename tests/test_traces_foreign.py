"""The account of a foreign recording: a row that was kept and is in no table stops the load."""

from pathlib import Path

import pytest

from tasks.settings import LprismError
from tasks.traces.foreign import account, source_of
from tests.foreign_cases import RUN, accounts, empty_tables, identified, rejected, written

LINES = """
    CREATE TEMP TABLE foreign_lines AS
    SELECT * FROM (VALUES
        ('a.log', 1, 'batches', 1, NULL, NULL),
        ('a.log', 2, NULL, 1, NULL, NULL),
        ('a.log', 3, 'batches', 1, 'torn', 'Itera'),
        ('a.log', 4, 'counters', 2, NULL, NULL)
    ) AS l (file_name, line_number, table_name, table_rows, reason, raw_text)
"""


@pytest.mark.parametrize(
    ("batches", "counters", "said"),
    [(1, 2, ""), (0, 2, "1 rows for batches, 0 in it"), (2, 2, "1 rows for batches, 2 in it"),
     (1, 1, "2 rows for counters, 1 in it")],
)  # fmt: skip
def test_what_was_kept_is_there(tmp_path: Path, batches: int, counters: int, said: str) -> None:
    """As many rows as were kept for a table, no less and no more; text is kept without one."""
    source = identified(source_of(written(tmp_path / "a.log", ["1", "2", "3", "4"])))
    with empty_tables() as con:
        con.execute(LINES)
        for table, many in (("batches", batches), ("counters", counters)):
            for _ in range(many):
                con.table(table).insert([RUN, *[None] * (len(con.table(table).columns) - 1)])
        if said:
            with pytest.raises(LprismError, match=rf"a\.log: {said}"):
                account(con, source, "log", {"a.log": 4})
            return
        account(con, source, "log", {"a.log": 4}, {"a.log": '{"b": 1}'})
        assert accounts(con) == [("a.log", 4, 3, 1)]
        assert rejected(con) == [(3, "torn")]
        assert con.table("files").select("format", "size_bytes", "head", "campaign").fetchall() == [
            ("log", 8, '{"b": 1}', "c")
        ]
