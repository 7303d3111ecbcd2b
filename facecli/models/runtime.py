"""Runs networks: ONNX Runtime on the CPU, torch on a GPU or when asked. Arrays in, arrays out.

A `Network` knows how to make itself in both forms; the ONNX form is made once and kept in the cache folder
under the digest of its weights, so that later runs import neither torch nor onnx. Both forms compute in
float32 and agree to 1e-4. Rows do not depend on the batch they are in.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from facecli.arrays import Array
from facecli.errors import BadInput, FaceError, UsageError, reason, shortage
from facecli.files.atomic import write_atomic
from facecli.hooks import Notify
from facecli.models.network import Network, Runner

if TYPE_CHECKING:
    import onnxruntime
    import torch

_importing = Lock()


def load(
    network: Network,
    *,
    cache_dir: Path,
    device: str = "cpu",
    threads: int = 1,
    notify: Notify | None = None,
) -> Runner:
    """Return a function that runs `network` on `device`.

    `device` is `cpu` (ONNX Runtime), `torch` (torch on the CPU) or a torch device such as `cuda`, `cuda:1`
    or `mps`. One thread a session is the default: callers that want both cores run one session in two
    threads, which two threads inside one session never beat on a busy machine. What ONNX Runtime has against
    a network is raised when it first runs.

    Raises `UsageError` for a device that is not there.
    """
    if device == "cpu":
        return _load_onnx(network, cache_dir, threads, notify)
    return _load_torch(network, device)


def onnx_path(network: Network, cache_dir: Path) -> Path:
    """Return where the exported form of `network` is kept."""
    return cache_dir / "networks" / f"{network.name}-{network.key[:16]}.onnx"


def export(network: Network, *, cache_dir: Path, notify: Notify | None = None, anew: bool = False) -> Path:
    """Make the ONNX form of `network` unless it is there, or all the same with `anew`; return its path.

    Several processes may call this at once: one works, the others wait for it. The file appears whole or not
    at all. Raises `UsageError` when it cannot be written.
    """
    path = onnx_path(network, cache_dir)
    if path.is_file() and not anew:
        return path
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if anew or not path.is_file():
                if notify is not None:
                    why = "its file is damaged" if anew else "first use only"
                    notify(f"preparing the network '{network.name}' ({why})")
                write_atomic(path, network.onnx())
    except OSError as error:
        raise UsageError(
            f"the network '{network.name}' cannot be kept ({reason(error)})",
            path=error.filename if error.filename is not None else cache_dir,
            hint="choose another cache folder",
            advice="other_cache",
        ) from error
    return path


def engine() -> Any:
    """Return the module onnxruntime, which sends nothing to its makers and writes nothing on stderr."""
    # One after the other: who waits for an import that fails gets half a module.
    with _importing:
        # Read by its C++ when it is loaded: without it events are kept in the user's cache folder, and sent.
        os.putenv("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises over a model it cannot load or run; the classes share no parent."""
    engine()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )
    return (*own, ValueError)


def cannot_run(name: str, error: Exception) -> FaceError:
    """Return the error for a network that ONNX Runtime refuses to load or run."""
    short = shortage(error)
    what = f"ONNX Runtime cannot run the network ({str(error).partition(chr(10))[0][:200]})"
    return short if short is not None else BadInput(what, path=name)


def _load_onnx(network: Network, cache_dir: Path, threads: int, notify: Notify | None) -> Runner:
    from concurrent.futures import ThreadPoolExecutor

    path = export(network, cache_dir=cache_dir, notify=notify)
    # Sessions are made aside while the caller imports, reads and decodes: ONNX Runtime leaves Python alone meanwhile.
    pool = ThreadPoolExecutor(1)
    pending = pool.submit(_session, network, path, cache_dir, threads, notify)
    pool.shutdown(wait=False)

    def run(batch: Array) -> list[Array]:
        session = pending.result()
        chips = session.get_inputs()[0]
        try:
            if chips.shape[0] != 1:
                return session.run(None, {chips.name: batch})
            # A network that is fixed to one face a run.
            runs = [session.run(None, {chips.name: batch[k : k + 1]}) for k in range(len(batch))]
        except runtime_errors() as error:
            raise cannot_run(network.name, error) from error
        return [np.concatenate(output) for output in zip(*runs, strict=True)]

    return run


def _session(
    network: Network, path: Path, cache_dir: Path, threads: int, notify: Notify | None
) -> onnxruntime.InferenceSession:
    """Return the session over the file at `path`."""
    ort = engine()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except runtime_errors() as error:
        if (short := shortage(error)) is not None:
            raise short from error
        # A damaged file would fail on every run until somebody finds and deletes it.
        export(network, cache_dir=cache_dir, notify=notify, anew=True)
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session


def torch_device(name: str) -> torch.device:
    """Return the device that torch computes on; `torch` is its CPU. Raises `UsageError` if it cannot be used."""
    import torch

    known = "use the device cpu, torch, cuda, cuda:N or mps"
    try:
        place = torch.device("cpu" if name == "torch" else name)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"unknown device '{name}'", hint=known, advice="known_devices") from error
    try:
        # Back again too: there are devices without numbers.
        torch.zeros(1, device=place).cpu()
    except (ImportError, RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0].partition(". ")[0]
        raise UsageError(
            f"the device '{name}' cannot be used ({why})", hint=known, advice="known_devices"
        ) from error
    return place


def _load_torch(network: Network, device: str) -> Runner:
    import torch

    place = torch_device(device)
    module = network.torch().eval().to(place)
    # TensorFloat-32 convolutions would differ from the CPU's float32 by more than 1e-4.
    torch.backends.cudnn.allow_tf32 = False

    def run(batch: Array) -> list[Array]:
        with torch.inference_mode():
            outputs: Any = module(torch.from_numpy(np.ascontiguousarray(batch)).to(place))
        if isinstance(outputs, torch.Tensor):
            outputs = (outputs,)
        return [output.float().cpu().numpy() for output in outputs]

    return run
