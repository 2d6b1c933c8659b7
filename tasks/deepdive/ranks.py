"""Two samples compared by ranks, like only with like, row by row of two matrices.

Cliff's delta and the Hodges-Lehmann ratio: both come from the pairs of one value a side, so pairs that are
not alike are left out; no mean is moved by one odd cycle; a delta of 1 is the same for a counter and a time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Kinds = npt.NDArray[np.integer[Any]]

# Up to here the smaller side has the exact distribution of the Mann-Whitney test, as in scipy.
LARGEST_EXACT = 8
LEAST_SAMPLES = 2
PAIRS_AT_ONCE = 4_000_000


class Shifts(NamedTuple):
    """Of each row: Cliff's delta, the median ratio, and of each kind of cycle (columns) sizes and ties.

    `ties` is what ties leave of the variance of U: 1 without any, 0 where all values are equal.
    """

    delta: Floats
    ratio: Floats
    normal: Ints
    abnormal: Ints
    ties: Floats


def shifts(normal: Floats, abnormal: Floats, normal_kind: Kinds, abnormal_kind: Kinds) -> Shifts:
    """Compare rows of (row, cycle) matrices, NaN where a row has no value in a cycle; kinds by cycle.

    The ratio is NaN where a row has no pair, or a value that is not positive.
    """
    parts = [
        _shifts(normal[rows], abnormal[rows], normal_kind, abnormal_kind)
        for rows in _chunks(len(normal), normal.shape[1] * abnormal.shape[1])
    ]
    return Shifts(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _chunks(rows: int, pairs: int) -> Iterator[slice]:
    step = max(1, PAIRS_AT_ONCE // max(pairs, 1))
    return (slice(start, start + step) for start in range(0, max(rows, 1), step))


def _shifts(normal: Floats, abnormal: Floats, normal_kind: Kinds, abnormal_kind: Kinds) -> Shifts:
    known = np.union1d(normal_kind, abnormal_kind) if normal_kind.size or abnormal_kind.size else [-1]
    alike = normal_kind[:, None] == abnormal_kind[None, :]
    first, second = np.nonzero(alike)
    before, now = normal[:, first], abnormal[:, second]
    is_pair = np.isfinite(before) & np.isfinite(now)
    pairs = is_pair.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        above = np.where(is_pair, np.sign(now - before), 0.0).sum(axis=1)
        logs = np.where(is_pair & (before > 0) & (now > 0), np.log(now / before), np.nan)
        delta = above / pairs
    sizes = [
        np.stack([np.isfinite(side[:, kind == one]).sum(axis=1) for one in known], axis=1)
        for side, kind in ((normal, normal_kind), (abnormal, abnormal_kind))
    ]
    ties = np.stack(
        [
            _ties(np.hstack((normal[:, normal_kind == one], abnormal[:, abnormal_kind == one])))
            for one in known
        ],
        axis=1,
    )
    return Shifts(delta, np.exp(medians(logs)), sizes[0], sizes[1], ties)


def medians(values: Floats) -> Floats:
    """Median of each row without its NaN; NaN where it has nothing else."""
    ordered = np.sort(values, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    padded = np.hstack((ordered, np.full((len(values), 1), np.nan)))
    rows, last = np.arange(len(values)), values.shape[1]
    low, high = (np.where(count > 0, place, last) for place in ((count - 1) // 2, count // 2))
    medians: Floats = (padded[rows, low] + padded[rows, high]) / 2
    return medians


def _ties(values: Floats) -> Floats:
    """1 - sum(t^3 - t) / (n^3 - n) over the groups of t equal values of each row."""
    ordered = np.sort(values, axis=1)
    size = np.isfinite(ordered).sum(axis=1).astype(np.float64)
    if not ordered.shape[1]:
        return np.ones(len(ordered))
    begins = np.ones(ordered.shape, dtype=bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    groups = np.cumsum(begins.ravel())[np.isfinite(ordered).ravel()]
    rows = np.repeat(np.arange(len(ordered)), ordered.shape[1])[np.isfinite(ordered).ravel()]
    _, first, count = np.unique(groups, return_index=True, return_counts=True)
    tied = np.bincount(rows[first], count.astype(np.float64) ** 3 - count, len(ordered))
    left: Floats = 1.0 - tied / np.maximum(size**3 - size, 1.0)
    return left


def p_values(delta: Floats, normal: Ints, abnormal: Ints, ties: Floats) -> Floats:
    """Two-sided Mann-Whitney p of each row, over kinds (columns) compared each by itself.

    Exact up to LARGEST_EXACT on the smaller side (with ties too, where it errs to the safe side), then normal
    with corrections for ties and continuity. NaN with fewer than two samples on a side that have their like.
    """
    has_like = (normal > 0) & (abnormal > 0)
    first, second = np.where(has_like, normal, 0), np.where(has_like, abnormal, 0)
    fewest = np.minimum(first.sum(axis=1), second.sum(axis=1))
    p = _normal_p(delta, first, second, ties)
    for row in np.flatnonzero((fewest <= LARGEST_EXACT) & (fewest >= LEAST_SAMPLES)):
        pairs = tuple(
            sorted((int(a), int(b)) for a, b in zip(first[row], second[row], strict=True) if a and b)
        )
        p[row] = _exact_p(float(delta[row]), pairs)
    p[fewest < LEAST_SAMPLES] = np.nan
    return p


def _normal_p(delta: Floats, first: Ints, second: Ints, ties: Floats) -> Floats:
    from scipy.special import ndtr

    pairs = (first * second).astype(np.float64)
    variance = (pairs * (first + second + 1) / 12 * ties).sum(axis=1)
    beyond = np.maximum(np.abs(delta) * pairs.sum(axis=1) / 2 - 0.5, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p: Floats = 2 * ndtr(-beyond / np.sqrt(variance))
    return np.minimum(np.where(variance > 0, p, 1.0), 1.0)


def _exact_p(delta: float, sizes: tuple[tuple[int, int], ...]) -> float:
    ways = _ways(sizes)
    most = len(ways) - 1
    # U counts whole pairs: of ties, and of fewer samples than cycles, the next that is less extreme.
    least = int(np.ceil(most * (1 - abs(delta)) / 2 - 1e-9))
    return min(1.0, 2 * float(ways[: least + 1].sum() / ways.sum()))


@cache
def _ways(sizes: tuple[tuple[int, int], ...]) -> Floats:
    """In how many orders U is 0, 1, 2 ...: the product, over kinds, of Gaussian binomials of their sizes."""
    total = np.ones(1)
    for first, second in sizes:
        ways = np.ones(1)
        for place in range(1, first + 1):
            # Times (1 - q^(second + place)) / (1 - q^place), as power series.
            longer = np.zeros(first * second + 1)
            longer[: len(ways)] = ways
            step = second + place
            longer[step:] -= longer[: len(longer) - step].copy() if step < len(longer) else 0
            for offset in range(place, len(longer)):
                longer[offset] += longer[offset - place]
            ways = longer
        total = np.convolve(total, ways)
    return total


def corrected(p: Floats) -> Floats:
    """Benjamini and Hochberg's p of each, NaN left out: the share of false among all that are as small."""
    found = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    found[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return found
