"""A network whose outputs for faces are no numbers: no record and no template comes of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from facecli.cli.app import app

SIZE = 16


@pytest.fixture
def model(tmp_path):
    """A network that gives numbers for the noise that it is tried on, and NaN for faces, whose pixels are below 1."""
    nodes = [
        helper.make_node("Abs", ["chip"], ["positive"]),
        helper.make_node("ReduceMax", ["positive"], ["most"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["most", "limit"], ["above"]),
        helper.make_node("Sqrt", ["above"], ["root"]),
        helper.make_node("Unsqueeze", ["root", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "ones"], ["embedding"]),
    ]
    constants = {
        "limit": np.float32(1.5),
        "axis": np.array([1], np.int64),
        "ones": np.ones((1, 4), np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "nan",
        [helper.make_tensor_value_info("chip", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    path = tmp_path / "nan.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    contract = {"format": "facecli-onnx", "version": 1, "preset": "plain", "input_size": SIZE}
    path.with_suffix(".json").write_text(json.dumps(contract | {"mean": 127.5, "std": 127.5}))
    return path


@pytest.fixture
def facecli(model, cache_dir, tmp_path):
    def run(*words):
        words = ["--cache", cache_dir, "--home", tmp_path, *words, "--model", model]
        return CliRunner().invoke(app, [str(word) for word in words], prog_name="facecli")

    return run


@pytest.mark.parametrize("form", ["jsonl", "csv", "table"])
def test_no_comparison(form, facecli, people):
    done = facecli(
        "verify", people / "Clara" / "1.jpg", people / "Clara" / "2.jpg", "--threshold", "0.5", "-f", form
    )
    assert done.exit_code == 2
    assert "zero or not finite; check the model and its contract" in done.stderr
    assert "nan" not in done.stdout.lower().replace("nan.onnx", "")


def test_no_record(facecli, probes):
    done = facecli("embed", probes)
    assert done.exit_code == 2
    assert [json.loads(line)["error"]["code"] for line in done.stdout.splitlines()] == ["bad_input"] * 4


def test_nobody_is_enrolled(facecli, people, probes, tmp_path):
    shutil.copytree(people, tmp_path / "people")
    done = facecli("embed", "--db", tmp_path / "people")
    assert done.exit_code == 2
    assert "0 photos with a template" in done.stderr
    found = facecli("find", probes / "clara.jpg", "--db", tmp_path / "people", "--threshold", "0.5")
    assert found.exit_code == 2
    assert "nobody is enrolled" in found.stderr
