"""ONNX files that the user gave a name: a folder each, with the network and its contract, in the user's folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facecli.errors import UsageError, did_you_mean, reason
from facecli.models.built_in import BUILT_IN, DETECTOR_FILES, SMALL_CNN

MODEL = "model.onnx"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def path_of(name: str, user_dir: Path) -> Path | None:
    """Return the ONNX file that was added as `name`, or None."""
    if not NAME.fullmatch(name):
        return None
    path = _folder(user_dir) / name / MODEL
    return path if path.is_file() else None


def names(user_dir: Path) -> list[str]:
    """Return the names of what was added."""
    try:
        return sorted(path.name for path in _folder(user_dir).iterdir() if path_of(path.name, user_dir))
    except OSError:
        return []


def add(
    file: Path,
    *,
    user_dir: Path,
    name: str | None = None,
    preset: str | None = None,
    channel_order: str | None = None,
) -> str:
    """Copy an ONNX file and its contract to the user's folder; return the name that it has from now on.

    The contract is `preset` or the one beside the file, in which `channel_order` replaces what it says. The network is
    run once before it is added. The same file under the same contract may be added again.

    Raises `UsageError` for a name that is taken or none, and what reading and running the file raises.
    """
    from facecli.files import json_text
    from facecli.models import onnx_file

    name = _free(name if name is not None else file.stem)
    beside = onnx_file.contract_path(file)
    if preset is not None and beside.is_file():
        raise UsageError(
            "a preset is given, and a contract lies beside the file",
            path=beside,
            hint="leave the preset out, or the contract away",
        )
    values: Mapping[str, Any] | None = {"preset": preset} if preset is not None else None
    if values is None and beside.is_file() and channel_order is not None:
        values = json_text.read(beside)
    if values is not None and channel_order is not None:
        values = {**values, "channel_order": channel_order}
    spec = onnx_file.read_spec(file, values)
    onnx_file.tried(file, spec, values)
    values = json_text.read(beside) if values is None else values
    try:
        return _copy(file, dict(values), name, _folder(user_dir))
    except OSError as error:
        raise UsageError(f"the model cannot be kept ({reason(error)})", path=_folder(user_dir)) from error


def remove(name: str, *, user_dir: Path) -> None:
    """Remove the model that was added as `name`. Calibrations and templates made with it stay.

    Raises `UsageError` where none was.
    """
    if path_of(name, user_dir) is None:
        added = names(user_dir)
        known = f"added are {', '.join(added)}" if added else "none was added"
        what = "comes with facecli" if name in BUILT_IN else "was not added"
        raise UsageError(f"the model '{name}' {what}", hint=f"{did_you_mean(name, added)} {known}".lstrip())
    try:
        shutil.rmtree(_folder(user_dir) / name)
    except OSError as error:
        raise UsageError(f"cannot be removed ({reason(error)})", path=_folder(user_dir) / name) from error


def _folder(user_dir: Path) -> Path:
    return user_dir / "models"


def _free(name: str) -> str:
    if not NAME.fullmatch(name) or name.lower().endswith(".onnx"):
        raise UsageError(
            f"'{name}' cannot name a model", hint="use letters, digits, '.', '_' and '-', and no ending .onnx"
        )
    if name.lower() in (*BUILT_IN, *DETECTOR_FILES, SMALL_CNN):
        raise UsageError(
            f"the name '{name}' is taken by a model that comes with facecli", hint="give another"
        )
    return name


def _copy(file: Path, values: dict[str, Any], name: str, folder: Path) -> str:
    """Make the model's folder, which appears whole or not at all."""
    target = folder / name
    aside = folder / f".{name}.{os.getpid()}.part"
    aside.mkdir(parents=True)
    try:
        shutil.copyfile(file, aside / MODEL)
        if "known_answer" in values:
            image = file.parent / values["known_answer"]["image"]
            values["known_answer"] = {**values["known_answer"], "image": f"answer{image.suffix}"}
            shutil.copyfile(image, aside / f"answer{image.suffix}")
        (aside / MODEL).with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
        if target.exists() and not _same(aside, target):
            raise UsageError(
                f"another model was added as '{name}'",
                path=target,
                hint="remove it first, or give another name",
            )
        if not target.exists():
            os.rename(aside, target)
        return name
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _same(one: Path, other: Path) -> bool:
    import filecmp

    files = sorted(path.name for path in one.iterdir())
    return files == sorted(path.name for path in other.iterdir()) and all(
        filecmp.cmp(one / file, other / file, shallow=False) for file in files
    )
