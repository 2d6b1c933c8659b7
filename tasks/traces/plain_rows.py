"""Most rows of a trace say plainly what they are, and go from the scanner's columns to Parquet as they are.

A row is plain when sql/convert/trace_rows.sql has nothing to decide about it; all others pass through SQL. It
makes a text of every dictionary code, and its writer a dictionary of the texts again: three times the work.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.warehouse import columns_of

if TYPE_CHECKING:
    import pyarrow as pa

PHASES = ("X", "B", "E", "i", "I", "s", "t", "f")  # each has a time
GPU_WORK = ("kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset")  # waits for its launch
PLACE_IN_ARGS = ("python",)  # so the schema of 2021 tells a Python function's
_WHOLE = "^[0-9]{1,18}$"
_PLACE = r"^(?P<file>.*)\((?P<line>[0-9]{1,9})\): "
_NESTED = '"args":"{'


def split(piece: "pa.Table") -> tuple["pa.RecordBatch", "pa.RecordBatch"]:
    """The plain rows of a piece of one row or more as scan.py gives it, and the others.

    Both have source_file and source_line of Python functions. Dictionaries hold what is used, nothing else.
    """
    import pyarrow.compute as pc

    (whole,) = piece.unify_dictionaries().combine_chunks().to_batches()
    rows = _with_places(_compacted(whole))
    plain = _are_plain(rows)
    if pc.all(plain).as_py():
        return rows, rows.slice(0, 0)
    return _compacted(rows.filter(plain)), rows.filter(pc.invert(plain))


def write(rows: "pa.RecordBatch", path: Path, run_id: str, file_name: str, base_ns: int) -> None:
    """Write plain rows as a Parquet file of events, `base_ns` added to their times."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    extra = pc.cast(rows["extra"], pa.large_string())
    made = {
        "run_id": _repeated(run_id, len(rows)),
        "file_name": _repeated(file_name, len(rows)),
        "pid": rows["process"].dictionary.cast(pa.int64()).take(rows["process"].indices),
        "tid": rows["thread"].dictionary.cast(pa.int64()).take(rows["thread"].indices),
        "start_ns": pc.add(rows["start_ns"], base_ns),
        "extra": pa.ExtensionArray.from_storage(pa.json_(pa.large_string()), extra),
        "external_id": pc.coalesce(rows["external_id"], rows["external_id_2021"]),
        "launch_index": pa.nulls(len(rows), pa.int64()),
    }
    events = pa.table({name: made[name] if name in made else rows[name] for name in columns_of("events")})
    texts = [field.name for field in events.schema if pa.types.is_dictionary(field.type)]
    numbers = [field.name for field in events.schema if pa.types.is_integer(field.type)]
    pq.write_table(
        events, path, row_group_size=len(rows), compression="zstd", compression_level=1, store_schema=False,
        use_dictionary=texts, column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
    )  # fmt: skip


def _are_plain(rows: "pa.RecordBatch") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    def words(column: str) -> "pa.Array":
        return rows[column].dictionary

    def of_rows(column: str, by_word: "pa.Array", *, absent: bool) -> "pa.Array":
        return pc.fill_null(by_word.take(rows[column].indices), absent)

    def one_of(column: str, wanted: tuple[str, ...]) -> "pa.Array":
        lowered = pc.utf8_lower(words(column)) if column == "category" else words(column)
        return of_rows(column, pc.is_in(lowered, pa.array(wanted, lowered.type)), absent=False)

    shortest = pc.if_else(one_of("phase", ("X",)), pc.fill_null(rows["duration_ns"], -1), rows["duration_ns"])
    plain = pc.and_(pc.is_null(rows["problem"]), one_of("phase", PHASES))
    for condition in (
        pc.is_valid(rows["start_ns"]),
        pc.greater_equal(pc.fill_null(shortest, 0), 0),
        pc.invert(pc.and_(one_of("category", GPU_WORK), pc.is_valid(rows["correlation"]))),
        pc.invert(one_of("category", PLACE_IN_ARGS)),
        pc.invert(pc.fill_null(pc.match_substring(rows["args"].storage, _NESTED), fill_value=False)),
        *(
            of_rows(name, pc.match_substring_regex(words(name), _WHOLE), absent=True)
            for name in ("process", "thread")
        ),
    ):
        plain = pc.and_(plain, condition)
    return plain


def _compacted(rows: "pa.RecordBatch") -> "pa.RecordBatch":
    import pyarrow as pa

    columns = [_used(column) if pa.types.is_dictionary(column.type) else column for column in rows.columns]
    return pa.RecordBatch.from_arrays(columns, rows.schema.names)


def _with_places(rows: "pa.RecordBatch") -> "pa.RecordBatch":
    """With what names such as `path/file.py(123): f` tell, each looked at once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = rows["name"]
    found = pc.extract_regex(names.dictionary, _PLACE)
    files, lines = pc.struct_field(found, "file"), pc.struct_field(found, "line").cast(pa.int64())
    with_line = lines.take(names.indices)
    indices = pc.if_else(pc.is_valid(with_line), names.indices, None)
    in_files = _used(pa.DictionaryArray.from_arrays(indices, files.fill_null("")))
    return rows.append_column("source_file", in_files).append_column("source_line", with_line)


def _used(column: "pa.DictionaryArray") -> "pa.DictionaryArray":
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = pc.unique(column.indices).drop_null()
    new = np.full(len(column.dictionary) + 1, -1, np.int32)  # the last is for rows without a code
    new[codes.to_numpy()] = np.arange(len(codes), dtype=np.int32)
    indices = new[column.indices.fill_null(len(column.dictionary)).to_numpy()]
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=indices < 0), column.dictionary.take(codes))


def _repeated(text: str, count: int) -> "pa.DictionaryArray":
    import numpy as np
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text]))
