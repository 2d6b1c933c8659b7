"""Normal against normal: each published run's cycles split in two, and the share of splits that are `none`.

    python -m tests.bench_pairs [--splits 10]

Needs the published DeepDive folder beside the repository; ingests it into a home that is thrown away.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from tasks.cli.main import app
from tasks.deepdive.diagnose_pair import diagnose_samples
from tasks.deepdive.pair_samples import sided_samples
from tasks.deepdive.side import Side, SideRows, side_rows
from tasks.deepdive.signatures import load_signatures
from tasks.lake_tables import lake_connection
from tests.tree import ROOT

DEEPDIVE = ROOT.parent / "shared" / "data" / "latencyprism" / "DeepDive"
SPLITS, SEED = 10, 8


def halved(side: SideRows, random: np.random.Generator) -> list[SideRows]:
    """The cycles of a side in two halves by chance."""
    cycles = random.permutation(side.usage["cycle_index"].unique())
    parts = cycles[: len(cycles) // 2], cycles[len(cycles) // 2 :]
    return [SideRows(side.usage[side.usage["cycle_index"].isin(part)], side.times) for part in parts]


def first_causes(home: Path, splits: int) -> Iterator[str]:
    """What comes first of every split of every run of a home."""
    random, signatures = np.random.default_rng(SEED), load_signatures()
    with lake_connection(home) as con:
        runs = con.sql("SELECT DISTINCT run_id FROM function_usage ORDER BY run_id").fetchall()
        for (run,) in runs:
            side = side_rows(con, Side(run))
            for _ in range(splits):
                given = sided_samples(*halved(side, random))
                yield str(diagnose_samples(given, signatures).causes[0]["cause"])


def main() -> None:
    """Ingest, split, print the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=SPLITS)
    splits = parser.parse_args().splits
    with tempfile.TemporaryDirectory() as home:
        done = CliRunner().invoke(app, ["ingest", str(DEEPDIVE), "--home", home])
        if done.exit_code:
            raise SystemExit(done.output)
        firsts = list(first_causes(Path(home), splits))
    sys.stdout.write(f"none in {firsts.count('none')} of {len(firsts)} splits\n")


if __name__ == "__main__":
    main()
