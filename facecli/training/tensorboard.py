"""The figures of a run as curves for TensorBoard, written by torch's own writer. Needs the package `tensorboard`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from facecli.errors import UsageError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def writer_class() -> type[SummaryWriter]:
    """Return torch's writer of event files. Raises `UsageError` where the package it needs is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "TensorBoard's event files need the package tensorboard",
            hint="pip install 'facecli[tensorboard]'",
        ) from error
    return SummaryWriter


class EventFile:
    """One event file in `folder`, to which scalars are added epoch by epoch; to be closed, as by `with`."""

    def __init__(self, folder: Path) -> None:
        self._writer = writer_class()(str(folder))

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add one point to the curve of each name; on the disk when this returns."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        # The curves are looked at while the run goes on, and a kill must not take the last points.
        self._writer.flush()
