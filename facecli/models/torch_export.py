"""From a torch module to ONNX, and from a file to a state dict: what the torch families share."""

from __future__ import annotations

import logging
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facecli.errors import WeightsMissing

UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error),
)
"""What `torch.load` raises over bytes that are no torch file: its unpickler takes them for orders."""


def to_onnx(module: nn.Module, channels: int, size: int) -> bytes:
    """Return `module` as one ONNX file: `chips` float32 [N, channels, size, size] -> `embeddings` [N, D].

    N is free. `module` must be in eval mode. Nothing is printed.
    """
    chips = torch.zeros(2, channels, size, size)  # two rows: a batch of one would be taken for a constant
    # torch's exporter logs and warns about its own affairs (deprecations inside torch, opset conversions).
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                module,
                (chips,),
                dynamo=True,
                # ONNX Runtime optimises the graph anyway when it loads it; here it would double the time.
                optimize=False,
                verbose=False,
                input_names=["chips"],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("N")},),
            )
    finally:
        logging.disable(logging.NOTSET)
    return program.model_proto.SerializeToString()


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict in the file at `path`; no code in it is run.

    Raises `WeightsMissing` if it is not a state dict.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise WeightsMissing("not a file of torch weights, or a damaged one", path=path) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsMissing("holds something else than a state dict (names and tensors)", path=path)
    return state


def load_state(
    module: nn.Module, path: Path, *, skip: Callable[[str], bool] = lambda name: False
) -> nn.Module:
    """Load the state dict at `path` into `module` less the names that `skip` picks; return it in eval mode.

    Raises `WeightsMissing` naming what does not fit.
    """
    state = {name: value for name, value in read_state(path).items() if not skip(name)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        raise WeightsMissing(
            f"these weights belong to another network ({''.join(first).strip()[:200]})", path=path
        ) from error
    return module.eval()
