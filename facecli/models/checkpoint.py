"""What training leaves behind: a folder with `model.json` and the weights it names.

`model.json` holds the architecture, the input contract, the SHA-256 of the weights and how they came about.
The weights are a plain state dict in a file named after its digest, so that a checkpoint saved over another
appears whole: until the new `model.json` is in place, the old one still finds its own weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facecli.errors import BadInput, NoSuchFile, UsageError
from facecli.files.atomic import write_atomic
from facecli.files.download import check
from facecli.hooks import Notify
from facecli.models.contract import MOST_DIM, Contract, Table, read_contract, read_table
from facecli.models.network import Network
from facecli.models.spec import Family, ModelSpec

if TYPE_CHECKING:
    import torch

FORMAT = "facecli-checkpoint"
VERSION = 1
CONTRACT = "model.json"
CALIBRATION = "calibration.json"
"""Made by a training from its validation people; lies beside the contract."""
GRAPH = "checkpoint 1"
"""Raise it when a network is built or exported in another way, so that older exports are not taken for it."""

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
WEIGHTS_NAME = re.compile(r"weights-[0-9a-f]{12}\.pt")


def is_checkpoint(path: Path) -> bool:
    """Tell whether `path` is a checkpoint's folder, or its `model.json` or weights."""
    return (_folder(path) / CONTRACT).is_file()


def save(
    folder: Path,
    module: torch.nn.Module,
    *,
    architecture: Mapping[str, Any],
    spec: ModelSpec,
    training: Mapping[str, Any],
) -> ModelSpec:
    """Write `module` to `folder` as a checkpoint and return its spec. The same weights give the same bytes.

    `architecture` must rebuild the module (see `architectures.build`). Of `spec`, the name, the dimension, the
    input contract, licence and warning are kept. `training` is free-form JSON about how the weights came about.
    A checkpoint that is there already is replaced when the new one is complete. Raises `UsageError` for a name
    that is no file name or an architecture that does not fit the module.
    """
    import torch

    if not SAFE_NAME.fullmatch(spec.name):
        raise UsageError(f"'{spec.name}' cannot name a model", hint="use letters, digits, '.', '_' and '-'")
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    _check_rebuilds(state, architecture)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    weights = f"weights-{digest[:12]}.pt"
    fields = asdict(spec)
    record = {
        "format": FORMAT,
        "version": VERSION,
        "name": spec.name,
        "dim": spec.dim,
        "architecture": dict(architecture),
        "input": Contract(**{key: fields[key] for key in Contract.__dataclass_fields__}).record(),
        "weights": weights,
        "weights_sha256": digest,
        "licence": spec.licence,
        "warning": spec.warning,
        "training": dict(training),
    }
    try:
        text = json.dumps(record, indent=1) + "\n"
    except TypeError as error:
        raise UsageError(f"the account of the training is not JSON ({error})") from error
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / weights, data)
    write_atomic(folder / CONTRACT, text.encode())
    for old in folder.glob("weights-*.pt"):
        if old.name != weights and WEIGHTS_NAME.fullmatch(old.name):
            old.unlink(missing_ok=True)
    return read_spec(folder)


def read_spec(path: Path) -> ModelSpec:
    """Return the input contract of the checkpoint at `path` without torch. Raises `NoSuchFile`, `BadInput`."""
    folder, table = _read(path)
    name = table.text("name")
    if not SAFE_NAME.fullmatch(name):
        raise table.fault("name", "must be made of letters, digits, '.', '_' and '-'")
    weights = table.text("weights")
    if not WEIGHTS_NAME.fullmatch(weights):
        raise table.fault("weights", "must be a file weights-DIGEST.pt in the same folder")
    digest = table.text("weights_sha256")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise table.fault("weights_sha256", "must be a SHA-256 in hex")
    fed = table.table("input")
    contract = read_contract(fed)
    fed.end()
    spec = ModelSpec(
        name=name,
        family="checkpoint",
        dim=table.whole("dim", MOST_DIM),
        input_size=contract.input_size,
        template=contract.template,
        channel_order=contract.channel_order,
        mean=contract.mean,
        std=contract.std,
        mirror=contract.mirror,
        weights=str(folder / weights),
        sha256=digest,
        licence=table.text("licence"),
        crop_margin=contract.crop_margin,
        warning=table.text("warning"),
    )
    table.table("architecture")
    table.table("training")
    table.end()
    return spec


def read_architecture(path: Path) -> dict[str, Any]:
    """Return the architecture of the checkpoint at `path`, as `architectures.build` takes it."""
    return _read(path)[1].table("architecture").values


def read_training(path: Path) -> dict[str, Any]:
    """Return what the checkpoint at `path` says about how its weights came about."""
    return _read(path)[1].table("training").values


class Checkpoint(Family):
    """Networks that facecli trained."""

    resizable = True

    def locate(self, spec: ModelSpec, cache_dir: Path) -> Path | None:
        """Return the weights file of the checkpoint, or None if it is gone."""
        path = Path(spec.weights)
        return path if path.is_file() else None

    def network(
        self, spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None
    ) -> Network:
        """Return the checkpoint's network; weights that fail their digest are refused when they are read."""
        if weights is not None:
            raise UsageError(
                "a checkpoint holds its own weights",
                path=weights,
                hint="leave weights out",
                advice="no_weights",
            )
        architecture = read_architecture(Path(spec.weights))
        graph = json.dumps(architecture, sort_keys=True)

        def onnx() -> bytes:
            from facecli.models.torch_export import to_onnx

            return to_onnx(load(spec), 3, spec.input_size)

        key = hashlib.sha256(f"{GRAPH}\n{graph}\n{spec.input_size}\n{spec.sha256}".encode()).hexdigest()
        return Network(spec.name, key, onnx, lambda: load(spec))

    def calibration_beside(self, spec: ModelSpec) -> Path:
        """Return where training leaves the calibration of the network."""
        return Path(spec.weights).with_name(CALIBRATION)


FAMILY = Checkpoint()


def load(spec: ModelSpec) -> torch.nn.Module:
    """Return the module of the checkpoint behind `spec`, in eval mode.

    Raises `WeightsMissing` for weights that are gone, fail their digest or do not fit the architecture.
    """
    from facecli.models.architectures import build
    from facecli.models.torch_export import load_state

    path = Path(spec.weights)
    check(path, spec.sha256)
    folder = _folder(path)
    return load_state(build(read_architecture(folder), path=folder / CONTRACT), path)


def _folder(path: Path) -> Path:
    if path.is_dir():
        return path
    return path.parent if path.name == CONTRACT or path.suffix == ".pt" else path


def _read(path: Path) -> tuple[Path, Table]:
    folder = _folder(path)
    if not (folder / CONTRACT).is_file():
        raise NoSuchFile(f"no checkpoint here: it needs a {CONTRACT}", path=folder)
    table = read_table(folder / CONTRACT, FORMAT, VERSION)
    return folder, table


def _check_rebuilds(state: Mapping[str, torch.Tensor], architecture: Mapping[str, Any]) -> None:
    """Raise `UsageError` unless `architecture` builds a module with these names and shapes.

    Better now than when the training that made the weights is over.
    """
    import torch

    from facecli.models.architectures import build

    try:
        json.dumps(dict(architecture))
        # The throw-away copy must not move the random numbers of the training that is saving itself.
        with torch.random.fork_rng(devices=[]):
            rebuilt = build(architecture).state_dict()
    except (BadInput, TypeError) as error:
        raise UsageError(f"the architecture cannot be saved ({error})") from error
    ours = {name: tuple(value.shape) for name, value in state.items()}
    theirs = {name: tuple(value.shape) for name, value in rebuilt.items()}
    if ours != theirs:
        differing = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
        raise UsageError(
            f"the architecture does not rebuild this network: {len(differing)} tensors differ,"
            f" the first is '{differing[0]}'"
        )
