"""A picture of a training run: its curves, and the validation embeddings in two dimensions.

matplotlib is imported only when a picture is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facecli.errors import UsageError, reason
from facecli.files.atomic import write_atomic

ENDINGS = (".png", ".svg", ".pdf")
PEOPLE_SHOWN = 20
"""More colours than this cannot be told apart."""

CURVES = (
    ("loss", ("loss",)),
    ("verification of other people", ("eer", "tar_at_fmr_1e-2", "tar_at_fmr_1e-3", "rank1", "map_at_r")),
    ("training batches", ("active_fraction", "mean_positive_distance", "mean_negative_distance", "spread")),
)


def check(path: Path) -> None:
    """Raise `UsageError` unless `path` names a picture that can be written."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError("not a picture's name", path=path, hint=f"end it in {', '.join(ENDINGS)}")


def plane(templates: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return `templates` [N, D] on the two directions in which they spread most: float64 [N, 2] (PCA).

    Each direction's sign makes its largest entry positive, so that the same templates give the same picture.
    """
    centred = templates - templates.mean(axis=0, dtype=np.float64)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
    return centred @ (directions * np.sign(largest)[:, None]).T


def draw(
    history: Sequence[dict[str, Any]], templates: NDArray[np.floating], names: Sequence[str], path: Path
) -> None:
    """Write the picture of a run to `path`; see `ENDINGS`.

    `history` holds the records of the log; `templates` [N, D] of the best network are of `names` [N]. Raises
    `UsageError` when the file cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    check(path)
    figure = Figure(figsize=(10, 8), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    epochs = [record["epoch"] for record in history]
    for place, (title, keys) in zip(axes, CURVES, strict=False):
        for key in keys:
            values = [record.get(key) for record in history]
            if any(value is not None for value in values):
                place.plot(epochs, [np.nan if v is None else v for v in values], marker=".", label=key)
        place.set_title(title)
        place.set_xlabel("epoch")
        place.legend(frameon=False, fontsize=8)
    shown = sorted(set(names))[:PEOPLE_SHOWN]
    points = plane(templates)
    for k, name in enumerate(shown):
        own = points[[n == name for n in names]]
        axes[3].scatter(own[:, 0], own[:, 1], s=14, color=colormaps["tab20"](k), label=name)
    axes[3].set_title(f"embeddings of {len(shown)} validation people (PCA)")
    axes[3].set_aspect("equal", "datalim")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lower()[1:], dpi=120)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise UsageError(f"the picture cannot be written ({reason(error)})", path=path) from error
