"""Any ONNX recogniser, with its input contract in a JSON file of the same name beside it.

Nothing is guessed from the graph: a file of weights cannot say in which order it wants its channels. What the
graph does say (inputs, outputs, sizes) is checked against the contract.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facecli.errors import BadInput, NoSuchFile, UsageError, shortage
from facecli.files.download import check, file_digest, refuse_impostor
from facecli.hooks import Notify
from facecli.models.built_in import ARCFACE_TEMPLATE
from facecli.models.contract import MOST_DIM, Contract, Table, read_contract, read_table
from facecli.models.network import Network
from facecli.models.runtime import engine, runtime_errors
from facecli.models.spec import Family, KnownAnswer, ModelSpec

if TYPE_CHECKING:
    import onnx
    import torch

FORMAT = "facecli-onnx"
VERSION = 1
GRAPH = "onnx_file 2"
"""Raise it when `_prepared` changes what it makes of a file."""

PRESETS: dict[str, dict[str, Any]] = {
    "arcface112": {
        "input_size": 112,
        "template": [list(point) for point in ARCFACE_TEMPLATE],
        "channel_order": "RGB",
        "mean": 127.5,
        "std": 127.5,
    },
    # A crop of the face box as it is; size, mean and std differ from network to network and must be given.
    "plain": {"template": "plain", "channel_order": "RGB"},
}

EXAMPLE = (
    json.dumps({"preset": "arcface112"})
    + " or "
    + json.dumps(
        {
            "input_size": 112,
            "channel_order": "RGB",
            "mean": [127.5, 127.5, 127.5],
            "std": [127.5, 127.5, 127.5],
            "template": PRESETS["arcface112"]["template"],
            "mirror": False,
            "licence": "",
        }
    )
)


@dataclass(frozen=True)
class _Read:
    contract: Contract
    dim: int | None
    output: str
    licence: str
    known_answer: KnownAnswer | None


def contract_path(model: Path) -> Path:
    """Return where the contract of the ONNX file `model` is looked for."""
    return model.with_suffix(".json")


def read_spec(path: Path, values: Mapping[str, Any] | None = None) -> ModelSpec:
    """Return the input contract of the ONNX file at `path`, of `values` instead of the file beside it if given.

    The dimension is the contract's `dim` or is read off the graph. Raises `NoSuchFile` without the file,
    `BadInput` without its contract (showing one to paste) or for a fault in it.
    """
    if not path.is_file():
        raise NoSuchFile("no such ONNX file", path=path)
    read = _read(path, values)
    contract = read.contract
    return ModelSpec(
        name=path.name,
        family="onnx_file",
        dim=read.dim if read.dim is not None else _dim(_graph(path), read.output, path),
        input_size=contract.input_size,
        template=contract.template,
        channel_order=contract.channel_order,
        mean=contract.mean,
        std=contract.std,
        mirror=contract.mirror,
        weights=str(path),
        sha256=None,
        licence=read.licence,
        crop_margin=contract.crop_margin,
    )


class OnnxFile(Family):
    """ONNX files, each with its contract beside it."""

    trainable = False

    def known_answer(self, spec: ModelSpec) -> KnownAnswer | None:
        """Return the contract's known answer, or None if it gives none."""
        return _read(Path(spec.weights)).known_answer

    def locate(self, spec: ModelSpec, cache_dir: Path) -> Path | None:
        """Return the ONNX file."""
        path = Path(spec.weights)
        return path if path.is_file() else None

    def network(
        self, spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None
    ) -> Network:
        """Return the network in the file. Its torch form raises `UsageError`: there is none.

        The file is checked against the contract when it is first prepared for use: `BadInput`.
        """
        if weights is not None:
            raise UsageError(
                "an ONNX file holds its own weights",
                path=weights,
                hint="leave weights out",
                advice="no_weights",
            )
        path = Path(spec.weights)
        return network_of(path, file_digest(path), spec, _read(path).output)


FAMILY = OnnxFile()


def network_of(path: Path, digest: str, spec: ModelSpec, output: str = "") -> Network:
    """Return the network in the ONNX file at `path`, whose SHA-256 is `digest`.

    It is read and checked against `spec` when it is first prepared for use: `BadInput`. `output` is the name of the
    embedding, "" for the only one.
    """

    def onnx_form() -> bytes:
        check(path, digest)
        return _prepared(path, spec, output)

    def torch_form() -> torch.nn.Module:
        raise UsageError(
            "an ONNX file has no torch form",
            path=path,
            hint="run it on the device cpu",
            advice="on_cpu",
        )

    checked = (GRAPH, digest, output, str(spec.input_size), str(spec.dim))
    key = hashlib.sha256("\n".join(checked).encode()).hexdigest()
    return Network(Path(spec.name).stem, key, onnx_form, torch_form)


def tried(path: Path, spec: ModelSpec, values: Mapping[str, Any] | None = None) -> None:
    """Run the network of a file once; raises `BadInput` where it does not fit the contract."""
    _prepared(path, spec, _read(path, values).output)


def _read(path: Path, values: Mapping[str, Any] | None = None) -> _Read:
    contract_file = contract_path(path)
    if values is None and not contract_file.is_file():
        raise BadInput(
            f"no input contract: {contract_file.name} is missing beside it",
            path=path,
            hint=f"say how the network wants its faces, for example {EXAMPLE}",
        )
    if values is None:
        table = read_table(contract_file, FORMAT, VERSION, stated=False)
    else:
        table = Table({"format": FORMAT, "version": VERSION, **values}, path)
        table.text("format")
        table.whole("version")
    if table.has("preset"):
        # What the file says itself goes before the preset.
        table.values = PRESETS[table.choice("preset", tuple(PRESETS))] | table.values
    contract = read_contract(table)
    answer = _known_answer(table.table("known_answer"), path.parent) if table.has("known_answer") else None
    read = _Read(
        contract=contract,
        dim=table.whole("dim", MOST_DIM) if table.has("dim") else None,
        output=table.text("output", ""),
        licence=table.text("licence", "not stated"),
        known_answer=answer,
    )
    table.end()
    if answer is not None and read.dim is not None and len(answer.embedding) != read.dim:
        raise table.fault(
            "known_answer.embedding", f"has {len(answer.embedding)} numbers, 'dim' is {read.dim}"
        )
    return read


def _known_answer(table: Table, folder: Path) -> KnownAnswer:
    answer = KnownAnswer(folder / table.text("image"), table.vector("embedding"))
    table.end()
    return answer


def _graph(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    refuse_impostor(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise BadInput("not an ONNX file, or a damaged one", path=path) from error
    if not model.graph.node:
        raise BadInput("an ONNX file without a network in it", path=path)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise BadInput(
            "the weights lie in a second file, which facecli does not follow",
            path=path,
            hint=f'make one file of them: python -c "import onnx; onnx.save(onnx.load({path.name!r}), '
            f"'one.onnx')\"",
        )
    return model


def _output(model: onnx.ModelProto, name: str, path: Path) -> onnx.ValueInfoProto:
    outputs = {output.name: output for output in model.graph.output}
    if not name and len(outputs) == 1:
        return next(iter(outputs.values()))
    if name in outputs:
        return outputs[name]
    said = f"has no output '{name}'" if name else "has several outputs"
    raise BadInput(
        f"the network {said}",
        path=path,
        hint=f'set "output" in {contract_path(path).name} to one of {", ".join(outputs)}',
    )


def _dim(model: onnx.ModelProto, name: str, path: Path) -> int:
    output = _output(model, name, path)
    sizes = _sizes(output)
    if len(sizes) != 2 or sizes[1] is None:
        raise BadInput(
            f"the output '{output.name}' does not say how long an embedding is",
            path=path,
            hint=f'give it as "dim" in {contract_path(path).name}',
        )
    return sizes[1]


def _sizes(value: onnx.ValueInfoProto) -> list[int | None]:
    return [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]


def _prepared(path: Path, spec: ModelSpec, output_name: str) -> bytes:
    """Return the model with one input and one output, checked against the contract by running it.

    Its batch is free where the network allows that, and else 1, which `runtime` reads off the input.
    """
    model = _graph(path)
    output = _output(model, output_name, path).SerializeToString()
    chips = _the_input(model, spec, path)
    declared = _sizes(chips)[0]
    del model.graph.output[:]
    model.graph.output.add().ParseFromString(output)
    del model.graph.value_info[:]  # sizes written down for another batch
    try:
        # Many published files are fixed to one face a run; most of their networks are not.
        _set_batch(model, "N")
        data = model.SerializeToString()
        _check_run(data, spec, 3, path)
    except BadInput:
        # What is declared free and depends on its batch is no network of one face after the other.
        if declared != 1:
            raise
        _set_batch(model, 1)
        data = model.SerializeToString()
        _check_run(data, spec, 1, path)
    return data


def _the_input(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> onnx.ValueInfoProto:
    """Leave the graph the one input that it computes from; raises `BadInput` where that is not the contract's chip.

    Older exporters list constants as inputs, and quantisers leave inputs that no node uses.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    used = set(_names_used(graph))
    inputs = [value for value in graph.input if value.name in used - constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs[:5])
        raise BadInput(f"the network has {len(inputs)} inputs where one is expected ({names})", path=path)
    data = inputs[0].SerializeToString()
    del graph.input[:]
    graph.input.add().ParseFromString(data)
    wanted = [3, spec.input_size, spec.input_size]
    sizes = _sizes(graph.input[0])
    if len(sizes) != 4 or any(h is not None and h != w for h, w in zip(sizes[1:], wanted, strict=True)):
        raise BadInput(
            f"the network takes {_shape(sizes)}, the contract gives {_shape([None, *wanted])}",
            path=path,
            hint=f"check input_size in {contract_path(path).name}; channels must come before rows and columns",
        )
    return graph.input[0]


def _names_used(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names that the nodes of a graph, and of the graphs within it, read."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _names_used(inner)


def _set_batch(model: onnx.ModelProto, batch: int | str) -> None:
    for value in (model.graph.input[0], model.graph.output[0]):
        sizes = value.type.tensor_type.shape.dim
        if not sizes:
            continue
        if isinstance(batch, str):
            sizes[0].dim_param = batch
        else:
            sizes[0].dim_value = batch


def _check_run(data: bytes, spec: ModelSpec, faces: int, path: Path) -> None:
    """Raise `BadInput` unless the model makes `faces` embeddings of as many chips, each the same as on its own."""
    import numpy as np

    shape = (faces, 3, spec.input_size, spec.input_size)
    chips = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ort = engine()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        together = session.run(None, {name: chips})[0]
        alone = session.run(None, {name: chips[-1:]})[0]
    except runtime_errors() as error:
        if (short := shortage(error)) is not None:
            raise short from error
        what = "a batch of faces" if faces > 1 else "a face"
        raise BadInput(
            f"ONNX Runtime cannot run the network on {what} ({str(error).splitlines()[0][:200]})",
            path=path,
            hint="export it again with a free batch dimension" if faces > 1 else "",
        ) from error
    if together.shape != (faces, spec.dim):
        count = "three faces give" if faces > 1 else "a face gives"
        raise BadInput(
            f"{count} an output of {list(together.shape)} where [{faces}, {spec.dim}] is expected", path=path
        )
    if together.dtype != np.float32:
        raise BadInput(f"the output is {together.dtype} where float32 is expected", path=path)
    if not np.isfinite(together).all():
        raise BadInput("the network gives numbers that are not finite for noise", path=path)
    if not np.allclose(together[-1:], alone, rtol=1e-3, atol=1e-3):
        raise BadInput("the embedding of a face depends on the batch it is in", path=path)


def _shape(sizes: list[int | None]) -> str:
    return "[" + ", ".join("N" if size is None else str(size) for size in sizes) + "]"
