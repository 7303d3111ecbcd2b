"""The table of model families: a family more is a file with its `FAMILY` and a line here.

Each is imported when one of its models is used: together they would import torch, onnxruntime and the rest.
"""

from __future__ import annotations

import importlib

from facecli.models.spec import Family, ModelSpec

FAMILIES = {
    "sface": "facecli.models.sface",
    "dlib": "facecli.models.dlib",
    "facenet": "facecli.models.facenet",
    "torchvision": "facecli.models.torchvision",
    "published": "facecli.models.published",
    "onnx_file": "facecli.models.onnx_file",
    "checkpoint": "facecli.models.checkpoint",
}
"""The module of each family, by the name that `ModelSpec.family` gives it."""


def family(spec: ModelSpec) -> Family:
    """Return what knows the networks of `spec`'s family."""
    return importlib.import_module(FAMILIES[spec.family]).FAMILY
