"""Small pictures made of characters, for terminals: the two score distributions, and the DET."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from facecli.arrays import Floats
from facecli.stats.curve import ScoreCurve

BARS = " ▁▂▃▄▅▆▇█"
_NORMAL = NormalDist()


def score_counts(curve: ScoreCurve, bins: int) -> tuple[Floats, Floats, Floats]:
    """Return (edges [bins + 1], shares of mated [bins], shares of non-mated [bins]) of the scores on a curve.

    Failures have no score and are in no bin.
    """
    scores = curve.thresholds[1:]
    if scores.size == 0:
        return np.linspace(0, 1, bins + 1), np.zeros(bins), np.zeros(bins)
    mated = np.diff(curve.misses)
    nonmated = -np.diff(curve.false_matches)
    # A score lies just below its threshold; the last edge has to take in the last score.
    edges = np.linspace(scores[0] - 1e-9, scores[-1] + 1e-9, bins + 1)
    shares = [np.histogram(scores, edges, weights=w)[0].astype(np.float64) for w in (mated, nonmated)]
    return edges, shares[0] / curve.n_mated, shares[1] / curve.n_nonmated


def histogram(curve: ScoreCurve, threshold: float | None, width: int = 60) -> str:
    """Return the distributions of mated and non-mated similarities, each to its own scale, one above the other."""
    edges, mated, nonmated = score_counts(curve, width)
    lines = [
        f"{'mated':>11} {_bars(mated)}",
        f"{'non-mated':>11} {_bars(nonmated)}",
    ]
    low, high = f"{edges[0]:.2f}", f"{edges[-1]:.2f}"
    ruler = list(low + " " * (width - len(low) - len(high)) + high)
    if threshold is not None and edges[0] <= threshold <= edges[-1]:
        at = min(int((threshold - edges[0]) / (edges[-1] - edges[0]) * width), width - 1)
        lines.append(" " * 12 + " " * at + "^")
        label = f"threshold {threshold:.3f}"
        start = max(0, min(at - len(label) // 2, width - len(label)))
        below = list(" " * width)
        below[start : start + len(label)] = label
        lines.append(" " * 12 + "".join(below).rstrip())
    lines.append(" " * 12 + "".join(ruler))
    return "\n".join(lines)


def det(curve: ScoreCurve, width: int = 60, height: int = 14) -> str:
    """Return the DET, FNMR over FMR on normal-deviate axes, as lines of characters."""
    x, y = deviates(curve)
    if x.size == 0:
        return ""
    left, right = lowest(curve.n_nonmated), deviate(0.6)
    bottom, top = lowest(curve.n_mated), deviate(0.6)
    grid = [[" "] * width for _ in range(height)]
    # Points of a step function lie far apart; the line between them is drawn.
    for k in range(x.size - 1):
        steps = 2 * max(width, height)
        for share in np.linspace(0, 1, steps):
            px = x[k] + share * (x[k + 1] - x[k])
            py = y[k] + share * (y[k + 1] - y[k])
            column = int((px - left) / (right - left) * (width - 1))
            row = int((top - py) / (top - bottom) * (height - 1))
            if 0 <= column < width and 0 <= row < height:
                grid[row][column] = "•"
    ticks_y = {int((top - deviate(t)) / (top - bottom) * (height - 1)): t for t in TICKS}
    lines = []
    for row, cells in enumerate(grid):
        tick = ticks_y.get(row)
        lines.append(
            f"{tick_label(tick) if tick is not None else '':>11} {'┤' if tick else '│'}{''.join(cells)}"
        )
    axis = ["─"] * width
    names = [" "] * (width + 8)
    for t in TICKS:
        column = int((deviate(t) - left) / (right - left) * (width - 1))
        label = tick_label(t)
        if 0 <= column < width and all(c == " " for c in names[max(0, column - 1) : column + len(label) + 1]):
            axis[column] = "┴"
            names[column : column + len(label)] = label
    lines.append(" " * 12 + "└" + "".join(axis))
    lines.append(" " * 13 + "".join(names).rstrip())
    lines.insert(0, " " * 12 + "FNMR over FMR")
    return "\n".join(lines)


TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)


def deviates(curve: ScoreCurve, points: int = 400) -> tuple[Floats, Floats]:
    """Return the DET on normal-deviate axes (x of FMR, y of FNMR), where both rates are above 0 and below 1.

    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.
    """
    fmr, fnmr = curve.fmr, curve.fnmr
    inside: NDArray[np.integer] = np.flatnonzero((fmr > 0) & (fmr < 1) & (fnmr > 0) & (fnmr < 1))
    if inside.size == 0:
        return np.empty(0), np.empty(0)
    if inside.size > points:
        inside = spread(fmr, fnmr, inside, points)
    return np.array([deviate(v) for v in fmr[inside]]), np.array([deviate(v) for v in fnmr[inside]])


def spread(fmr: Floats, fnmr: Floats, inside: NDArray[np.integer], points: int) -> NDArray[np.integer]:
    """Return about `points` of the indices `inside`, evenly along the logarithms of both rates."""
    path = np.log(fnmr[inside]) - np.log(fmr[inside])
    wanted = np.linspace(path[0], path[-1], points)
    return np.unique(inside[np.minimum(np.searchsorted(path, wanted), inside.size - 1)])


def deviate(rate: float) -> float:
    """Return the standard normal deviate of a rate."""
    return _NORMAL.inv_cdf(float(rate))


def tick_label(rate: float) -> str:
    """Return a rate in percent, as short as it goes.

    >>> tick_label(0.001), tick_label(1e-6)
    ('0.1 %', '0.0001 %')
    """
    return f"{100 * rate:.6f}".rstrip("0").rstrip(".") + " %"


def lowest(trials: int) -> float:
    """Return the deviate of the lowest rate that so many comparisons can show, and of 10 % at most."""
    return deviate(max(min(1 / trials, 0.1), 1e-9))


def _bars(shares: Floats) -> str:
    top = shares.max()
    if top <= 0:
        return " " * shares.size
    # A bin with anything in it shows.
    heights = np.ceil(shares / top * (len(BARS) - 1)).astype(int)
    return "".join(BARS[h] for h in heights)
