"""The comparison of two runs: hand-made usage, then the published pairs with every row compared."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tasks.cli.main import app
from tasks.deepdive.comparison import compare_runs
from tasks.deepdive.pairs import KEYS, compare
from tasks.lake_tables import lake_connection
from tests.tree import ROOT

DEEPDIVE = ROOT.parent / "shared" / "data" / "latencyprism" / "DeepDive"
TOLERANCE = 1e-6
# Published from values that a 17-digit rounding parser had made ties of (formats.md 3).
NVLINK = "gpu_memory_squeeze_out_NVLink"
ROUNDED = {(NVLINK, "gpu_link_receive"), (NVLINK, "gpu_link_transmit")}
ROUNDED_ROWS = 6
LARGEST_ROUNDED = 2.9e-4


def usage(values: dict[str, list[tuple[float, float]]]) -> pd.DataFrame:
    """A row a cycle of each function: (beta_pct, mu_pct)."""
    rows = [
        {"function_name": name, "metric_name": "gpu_usage", "device": "GPU 0", "cycle_index": cycle,
         "beta_pct": beta, "mu_pct": mu}
        for name, cycles in values.items()
        for cycle, (beta, mu) in enumerate(cycles, start=1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_score_is_the_published_one() -> None:
    """By hand: shares 10, 12, 14 become 20, 22; the standard deviation of the normal side is 2."""
    normal = usage({"mm": [(10.0, 0.0), (12.0, 0.0), (14.0, 0.0)]})
    [row] = compare(normal, usage({"mm": [(20.0, 0.0), (22.0, 0.0)]})).to_dict("records")
    assert (row["beta_normal_pct"], row["beta_abnormal_pct"], row["beta_difference_pct"]) == (12.0, 21.0, 9.0)
    assert (row["beta_z_score"], row["suspicion_score"]) == (4.5, 9.0 * 4.5)
    assert row["beta_u_test_p"] == pytest.approx(0.2)  # the most extreme of 10 orders, on two sides
    assert np.isnan(row["mu_welch_p"])  # both constant and equal


def test_a_function_of_one_side_counts_as_zero_there_and_is_not_tested() -> None:
    """What came or went is in the table, without a test; the normal side alone sets the spread."""
    normal = usage({"gone": [(10.0, 1.0), (12.0, 3.0)], "stays": [(5.0, 1.0)] * 2})
    rows = compare(normal, usage({"new": [(7.0, 1.0)] * 2, "stays": [(6.0, 1.0)] * 2}))
    rows = rows.set_index("function_name")
    assert list(rows.index) == ["gone", "new", "stays"]
    assert rows.loc["gone", "beta_difference_pct"] == -11.0
    assert list(rows.loc[["gone", "new"], "mu_welch_p"]) == [1.0, 1.0]
    assert list(rows.loc[["gone", "new"], "beta_u_test_p"]) == [1.0, 1.0]
    assert rows.loc["new", "suspicion_score"] == 0.0
    assert rows.loc["stays", "beta_welch_p"] == 0.0  # both constant, and different


def test_rows_of_one_cycle_are_no_more_cycles() -> None:
    """Two hosts in one cycle are two rows and one cycle: too few to test."""
    once = usage({"mm": [(10.0, 1.0), (12.0, 2.0)]}).assign(cycle_index=1)
    [row] = compare(once, usage({"mm": [(30.0, 5.0), (31.0, 6.0), (32.0, 7.0)]})).to_dict("records")
    assert (row["beta_welch_p"], row["beta_u_test_p"], row["beta_z_score"] > 0) == (1.0, 1.0, True)


def lprism(*arguments: str) -> str:
    """What a command of ours prints, once it has succeeded."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the published DeepDive folder in it."""
    if not DEEPDIVE.is_dir():
        pytest.skip("the published data is not here")
    chosen = tmp_path_factory.mktemp("published")
    lprism("ingest", str(DEEPDIVE), "--home", str(chosen))
    return chosen


def compared(home: Path, published: pd.DataFrame, fault: str) -> pd.DataFrame:
    """Our rows of the process pair that was published, as `lprism compare --format csv` prints them."""
    pair = f"published/sglang/{fault}"
    text = lprism("compare", f"{pair}/normal", f"{pair}/abnormal", "--format", "csv", "--home", str(home))
    rows = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
    for name in ("normal_pid", "abnormal_pid"):
        rows = rows[rows[name] == published[name].iloc[0]]
    return rows


def unequal(ours: pd.DataFrame, published: pd.DataFrame) -> dict[tuple[str, ...], float]:
    """Size of each difference beyond the tolerance, by (column, function, counter, device)."""
    found: dict[tuple[str, ...], float] = {}
    for name in published.columns:
        mine, theirs = (side[name].to_numpy(dtype=np.float64) for side in (ours, published))
        apart = np.where(np.isnan(mine) & np.isnan(theirs), 0.0, np.abs(mine - theirs))
        is_equal = apart <= TOLERANCE * np.maximum(1.0, np.nan_to_num(np.abs(theirs)))
        for (function, counter, device), size in zip(
            published.index[~is_equal], apart[~is_equal], strict=True
        ):
            found[name, function, counter, device] = float(size)
    return found


def test_the_five_published_comparisons_are_reproduced(home: Path) -> None:
    """Every row equal in every column, none missing, none extra; six known exceptions, all of one kind."""
    with lake_connection(home) as con:
        every = con.sql(
            "SELECT c.*, r.run_name FROM published_comparison AS c INNER JOIN runs AS r USING (run_id)"
        ).df()
    exceptions: list[tuple[str, str, str, float]] = []
    for name, published in every.groupby("run_name"):
        fault = next(path.name for path in DEEPDIVE.glob("Data/Processed/SGLang/*") if path.name in str(name))
        ours = compared(home, published, fault).set_index(KEYS).sort_index()
        theirs = published.set_index(KEYS).sort_index()
        assert ours.index.is_unique
        assert list(ours.index) == list(theirs.index)
        assert set(ours["pairing"]) == set(theirs["pairing"])
        numbers = theirs.select_dtypes("float64")
        exceptions += [(fault, key[0], key[2], size) for key, size in unequal(ours, numbers).items()]
    assert every["run_name"].nunique() == 5
    assert len(exceptions) == ROUNDED_ROWS, exceptions
    for fault, column, counter, size in exceptions:
        assert column == "mu_u_test_p"
        assert (fault, counter) in ROUNDED
        assert size <= LARGEST_ROUNDED


def test_cycles_of_different_anchors_are_warned_of(home: Path) -> None:
    """Whole batches beside single layers: a warning on standard error, and the rows all the same."""
    pair = "published/sglang/cpu_frequency_reduction"
    done = CliRunner().invoke(app, ["compare", f"{pair}/normal", f"{pair}/abnormal", "--home", str(home)])
    assert done.exit_code == 0
    assert "warning: the cycles are of different anchors" in done.stderr


def ours(home: Path, fault: str) -> pd.DataFrame:
    """A row a function of each process: our figures of a published pair."""
    pair = f"published/sglang/{fault}"
    rows = compare_runs(home, f"{pair}/normal", f"{pair}/abnormal").rows
    return rows.drop_duplicates(["pid", "function_name", "device"])


def test_a_slow_gpu_shows_in_every_kernel_and_a_slow_cpu_in_every_slice(home: Path) -> None:
    """By the call, whatever the cycles are: batches beside layers leave kernels alike and slices longer."""
    slow_gpu, slow_cpu = (ours(home, name) for name in ("gpu_instability", "cpu_frequency_reduction"))
    ratios = [
        rows[(rows["function_class"] == kind) & ~rows["is_waiting"]]["slowdown"].median()
        for rows in (slow_gpu, slow_cpu) for kind in ("gpu_compute", "oncpu")
    ]  # fmt: skip
    assert ratios[0] > 2 > ratios[1]
    assert ratios[3] > 2 > ratios[2] > 0.5
    sure = slow_gpu[slow_gpu["device"].str.startswith("GPU") & slow_gpu["p_value"].notna()]
    assert (sure["p_corrected"] < 0.01).all()


def test_a_collective_that_spins_on_either_rank_is_marked(home: Path) -> None:
    """The published top row waits for the other rank: it is no slowdown, and no work is marked beside it."""
    for fault in ("gpu_memory_squeeze_out_NVLink", "gpu_memory_squeeze_out_PCIe"):
        rows = ours(home, fault)
        waits = rows[rows["is_waiting"] & rows["device"].str.startswith("GPU")]
        assert set(waits["simple_name"].str.extract("(reduce|AllGather)")[0]) == {"reduce", "AllGather"}
        work = rows[rows["device"].str.startswith("GPU") & ~rows["is_waiting"]]
        assert (work.groupby("device")["slowdown"].median().between(1.1, 3)).all()
        assert work["slowdown"].dropna().between(0.5, 5).all()
