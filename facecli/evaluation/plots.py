"""Pictures of an evaluation with matplotlib, which is imported only when a picture is asked for."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facecli.errors import BadInput, UsageError, reason
from facecli.evaluation.evaluation import Evaluation
from facecli.evaluation.text_plot import TICKS, deviate, deviates, lowest, score_counts, tick_label
from facecli.files.atomic import write_atomic

if TYPE_CHECKING:
    from facecli.stats.curve import ScoreCurve

ENDINGS = (".png", ".svg", ".pdf")
DPI = 150
INK, SOFT, MATED, NONMATED, GRID = "#1f2933", "#616e7c", "#0b6e99", "#c2500a", "#d9dee4"
_STYLE: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": INK,
    "svg.hashsalt": "facecli",
    # Text stays text: a browser sets it in its own font, and it can be searched.
    "svg.fonttype": "none",
}


def save(evaluation: Evaluation, kind: str, path: Path) -> None:
    """Write the picture `kind` to `path`, whose ending is one of `ENDINGS`; same evaluation, same bytes.

    Raises `BadInput` when the evaluation has no such curve, `UsageError` when the file cannot be written.
    """
    data = drawn(evaluation, kind, path.suffix.lower()[1:])
    try:
        write_atomic(path, data)
    except OSError as error:
        raise UsageError(f"the picture cannot be written ({reason(error)})", path=path) from error


def available(evaluation: Evaluation) -> list[str]:
    """Return the kinds of pictures that the evaluation has the data for."""
    kinds = []
    if evaluation.verification is not None:
        kinds += ["det", "roc", "scores"]
    if evaluation.identification is not None and evaluation.identification.cmc is not None:
        kinds.append("cmc")
    if evaluation.identification is not None and evaluation.identification.curve is not None:
        kinds.append("search")
    return kinds


def drawn(evaluation: Evaluation, kind: str, ending: str) -> bytes:
    """Return the picture `kind` as the bytes of a file."""
    import matplotlib

    if kind not in available(evaluation):
        there = ", ".join(available(evaluation))
        raise BadInput(f"there is no {kind} in this evaluation", hint=f"it has {there}" if there else "")
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.8, 4.1), layout="constrained")
        axes = figure.add_subplot()
        KINDS[kind](evaluation, axes)
        buffer = io.BytesIO()
        # Dates would make two runs differ.
        dated: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending, {})
        figure.savefig(buffer, format=ending, dpi=DPI, metadata=dated)
    return buffer.getvalue()


def _det(evaluation: Evaluation, axes: Any) -> None:
    if evaluation.verification is None:
        return
    curve = evaluation.verification.curve
    _deviate_axes(axes, curve, "FMR", "FNMR")
    _points(axes, curve, [h.figure for h in evaluation.verification.headlines if h.figure.name == "fnmr"])
    _legend(axes)


def _search(evaluation: Evaluation, axes: Any) -> None:
    if evaluation.identification is None or evaluation.identification.curve is None:
        return
    curve = evaluation.identification.curve
    _deviate_axes(axes, curve, "FPIR", "FNIR")
    _points(
        axes,
        curve,
        [h.figure for h in evaluation.identification.headlines if h.figure.name == "fnir"],
    )
    _legend(axes)


def _deviate_axes(axes: Any, curve: ScoreCurve, x_name: str, y_name: str) -> None:
    x, y = deviates(curve)
    if x.size == 0:
        text = "no threshold has both kinds of errors"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=SOFT)
    axes.plot(x, y, color=MATED, linewidth=1.8, drawstyle="steps-post" if x.size < 100 else "default")
    limits = []
    for values, n in ((x, curve.n_nonmated), (y, curve.n_mated)):
        low = float(values.min()) if values.size else lowest(n)
        high = float(values.max()) if values.size else deviate(0.5)
        limits.append((low - 0.15, min(high, deviate(0.6)) + 0.1))
    for axis, (low, high) in zip((axes.xaxis, axes.yaxis), limits, strict=True):
        ticks: list[float] = []
        for t in TICKS[::-1]:
            # Labels of rare rates are long and would run into each other.
            room = not ticks or deviate(ticks[-1]) - deviate(t) > 0.11 * (high - low)
            if low <= deviate(t) <= high and room:
                ticks.append(t)
        axis.set_ticks([deviate(t) for t in ticks], [tick_label(t) for t in ticks])
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    both = [max(limits[0][0], limits[1][0]), min(limits[0][1], limits[1][1])]
    if both[0] < both[1]:
        axes.plot(both, both, color=SOFT, linewidth=0.8, linestyle=(0, (2, 3)), label="equal error rates")
    axes.set_xlabel(f"{x_name} (false matches)" if x_name == "FMR" else f"{x_name} (strangers who match)")
    axes.set_ylabel(f"{y_name} (missed)")
    axes.grid(color=GRID, linewidth=0.6)


def _points(axes: Any, curve: ScoreCurve, figures: list[Any]) -> None:
    """Mark figures on the curve, with the intervals of their FNMR or FNIR."""
    label: str | None = "95 % interval"
    for figure in figures:
        false_matches, misses = curve.at(figure.threshold)
        rate = false_matches / curve.n_nonmated
        if not (0 < rate < 1 and 0 < misses < curve.n_mated) or figure.interval is None:
            continue
        low, high = (min(max(v, 1e-9), 1 - 1e-9) for v in figure.interval)
        at = deviate(rate)
        axes.plot([at, at], [deviate(low), deviate(high)], color=INK, linewidth=1.1, label=label)
        filled = figure.at == "threshold"
        axes.plot(
            [at],
            [deviate(figure.value)],
            "o",
            color=INK,
            markersize=5 if filled else 3.5,
            label="threshold in force" if filled else None,
        )
        label = None


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=SOFT)


def _roc(evaluation: Evaluation, axes: Any) -> None:
    if evaluation.verification is None:
        return
    curve = evaluation.verification.curve
    fmr, tar = curve.fmr, 1 - curve.fnmr
    floor = 0.5 / curve.n_nonmated
    # Many steps of the same height say nothing more.
    keep = np.unique(np.searchsorted(-fmr, -np.geomspace(1, floor, 2000)).clip(0, fmr.size - 1))
    axes.plot(np.maximum(fmr[keep], floor), tar[keep], color=MATED, linewidth=1.8)
    axes.set_xscale("log")
    axes.set_xlim(floor, 1)
    axes.set_ylim(min(0.9, _round_down(float(tar[keep].min()))), 1.005)
    axes.set_xlabel("FMR (false matches)")
    axes.set_ylabel("1 - FNMR (found)")
    axes.grid(color=GRID, linewidth=0.6)


def _round_down(value: float) -> float:
    return float(np.floor(value * 10) / 10)


def _scores(evaluation: Evaluation, axes: Any) -> None:
    if evaluation.verification is None:
        return
    edges, mated, nonmated = score_counts(evaluation.verification.curve, 80)
    for shares, colour, name in ((nonmated, NONMATED, "non-mated"), (mated, MATED, "mated")):
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.35)
        axes.stairs(shares, edges, color=colour, linewidth=1.2, label=name)
    if np.isfinite(evaluation.verification.shared):
        name = (
            "threshold in force"
            if evaluation.verification.threshold is not None
            else "threshold at a fixed FMR"
        )
        axes.axvline(
            evaluation.verification.shared, color=INK, linewidth=1.1, linestyle=(0, (4, 3)), label=name
        )
    axes.set_xlabel("similarity")
    axes.set_ylabel("share of comparisons")
    axes.set_ylim(bottom=0)
    _legend(axes)


def _cmc(evaluation: Evaluation, axes: Any) -> None:
    if evaluation.identification is None or evaluation.identification.cmc is None:
        return
    values = evaluation.identification.cmc
    axes.plot(np.arange(1, values.size + 1), values, color=MATED, linewidth=1.8, marker="o", markersize=3)
    for headline in evaluation.identification.headlines:
        figure = headline.figure
        if figure.name == "rank" and figure.interval is not None:
            rank = int(figure.at.split()[1])
            axes.plot([rank, rank], figure.interval, color=INK, linewidth=1.1)
    axes.set_xlabel("rank")
    axes.set_ylabel("share of mated searches found")
    axes.set_ylim(min(0.95, _round_down(float(values[0]) - 0.02)), 1.005)
    axes.set_xlim(0.5, max(values.size, 2) + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(color=GRID, linewidth=0.6)


KINDS: dict[str, Callable[[Evaluation, Any], None]] = {
    "det": _det,
    "roc": _roc,
    "scores": _scores,
    "cmc": _cmc,
    "search": _search,
}
"""det and roc of 1:1, its score distributions, cmc of 1:N and `search`, its DET of FNIR over FPIR."""
