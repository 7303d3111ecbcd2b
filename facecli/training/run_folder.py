"""The folder of a training run, written so that a kill at any moment leaves a run that can be resumed.

`state.pt` holds all that resuming needs, as of the last whole epoch, and appears whole; `best/` and `last/` are
checkpoints and `log.jsonl` has one record an epoch. Files are written in that order with the state last but for
the log: what a kill leaves ahead of the state is written again, the same, when its epoch is repeated.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from facecli.errors import BadInput, UsageError
from facecli.files import json_text
from facecli.files.atomic import write_atomic
from facecli.models.checkpoint import CALIBRATION
from facecli.models.torch_export import UNREADABLE
from facecli.training.config import MAY_CHANGE, TrainConfig

VERSION = 1


class RunFolder:
    """Files of one run below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.best, self.last = root / "best", root / "last"
        self.log, self.calibration = root / "log.jsonl", root / "best" / CALIBRATION
        self._state, self._config = root / "state.pt", root / "config.json"

    def begin(self, config: TrainConfig, data_digest: str, *, resume: bool) -> dict[str, Any] | None:
        """Return the state to resume from, None to start afresh; writes what was asked for.

        Raises `UsageError` for a folder that holds a run when nothing is to be resumed, or another run.
        """
        asked = config.record() | {"data_digest": data_digest}
        if self._config.exists():
            if not resume:
                raise UsageError(
                    "this folder holds a training run already",
                    path=self.root,
                    hint="resume it, or choose another folder",
                    advice="resume",
                )
            self._compare(asked)
            if self._state.exists():
                return self._read_state()
        elif resume and self.root.exists() and any(self.root.iterdir()):
            raise UsageError("this folder holds something else than a training run", path=self.root)
        self.root.mkdir(parents=True, exist_ok=True)
        write_atomic(self._config, (json.dumps(asked, indent=1) + "\n").encode())
        return None

    def write_state(self, state: dict[str, Any]) -> None:
        """Keep `state`, tensors and plain values, in place of the one before."""
        buffer = io.BytesIO()
        torch.save({"version": VERSION, **state}, buffer)
        write_atomic(self._state, buffer.getvalue())

    def write_log(self, history: Sequence[dict[str, Any]]) -> None:
        """Write one JSON line an epoch."""
        write_atomic(self.log, "".join(json.dumps(record) + "\n" for record in history).encode())

    def _compare(self, asked: dict[str, Any]) -> None:
        known = json_text.read(self._config)
        if not isinstance(known, dict):
            raise BadInput("is not the configuration of a run", path=self._config)
        for name, value in asked.items():
            if name not in (*MAY_CHANGE, "data", "also", "val") and known.get(name) != value:
                raise UsageError(
                    f"the run was begun with {name} = {known.get(name)}, not {value}",
                    path=self.root,
                    hint="resume it with the same options and data, or begin another elsewhere",
                    advice="resume_same",
                )

    def _read_state(self) -> dict[str, Any]:
        try:
            state = torch.load(self._state, map_location="cpu", weights_only=True)
        except UNREADABLE as error:
            raise BadInput("the run's state cannot be read", path=self._state) from error
        if not isinstance(state, dict) or state.get("version") != VERSION:
            raise BadInput("the run's state is of another version of facecli", path=self._state)
        return state
