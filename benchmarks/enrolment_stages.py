"""Where the CPU time of enrolling a photo goes, stage by stage, and what each stage cannot do without."""

from __future__ import annotations

import io
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from facecli import align, detect, embedder, engine, enrolment, images, pyramid
from facecli.config import default_cache_dir
from facecli.engine import Array
from facecli.gallery import refresh
from facecli.models import mtcnn
from facecli.models.registry import load_network, resolve
from facecli.store import Store

STAGES = (
    "read and hash",
    "decode",
    "detect: levels and crops",
    "detect: first network",
    "detect: second network",
    "detect: third network",
    "detect: boxes",
    "align",
    "embed: network",
    "other",
    "commit",
)


class Clock:
    """CPU seconds of this thread by stage; what is timed within another stage is not counted twice."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inner = [0.0]

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            with self.stage(stage):
                return function(*arguments, **options)

        return run

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.thread_time()
        self._inner.append(0.0)
        try:
            yield
        finally:
            spent = time.thread_time() - start
            self.seconds[name] += spent - self._inner.pop()
            self._inner[-1] += spent


def stages(photos: list[Path]) -> dict[str, Any]:
    """Enrol `photos` in one thread; return CPU ms a photo and the floor of each stage, and GFLOP/s of the floors."""
    work: Counter[str] = Counter()
    drafts: list[tuple[bytes, tuple[int, int]]] = []
    first, then = Clock(), Clock()
    with tempfile.TemporaryDirectory() as scratch:
        for name, part, clock in (("warm", photos[:8], first), ("all", photos, then)):
            work.clear()
            drafts.clear()
            enrol(linked(part, Path(scratch) / name), clock, work, drafts)
    gflops = gemm_gflops()
    floors: dict[str, float | None] = {stage: flops / gflops / 1e9 for stage, flops in work.items()}
    floors["decode"] = bare_decoding(drafts)
    floors["read and hash"] = bare_reading(photos)
    return {
        "gemm_gflops": gflops,
        "stages": {
            stage: {
                "ms": 1e3 * then.seconds[stage] / len(photos),
                "floor_ms": 1e3 * floors[stage] / len(photos) if floors.get(stage) is not None else None,
            }
            for stage in STAGES
        },
    }


def linked(photos: list[Path], folder: Path) -> Path:
    """Return a database of the same photos that knows nothing yet."""
    for photo in photos:
        target = folder / photo.parent.name / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(photo.read_bytes())
    return folder


def enrol(
    folder: Path, clock: Clock, work: Counter[str], drafts: list[tuple[bytes, tuple[int, int]]]
) -> None:
    counted = multiplications()
    load, decode = engine.load, images.decode
    names = {"pnet": STAGES[3], "rnet": STAGES[4], "onet": STAGES[5], "dlib": STAGES[8]}

    def loaded(network: engine.Network, **options: Any) -> engine.Runner:
        run, stage = load(network, **options), names[network.name]

        def watched(batch: Array) -> list[Array]:
            work[stage] += 2 * len(batch) * counted(network.name, batch.shape[2:])
            with clock.stage(stage):
                return run(batch)

        return watched

    def decoded(data: bytes, **options: Any) -> images.Image:
        with clock.stage("decode"):
            image = decode(data, **options)
        drafts.append((data, (round(image.width * image.scale), round(image.height * image.scale))))
        return image

    def watch(owner: Any, name: str, stage: str) -> Any:
        return patch.object(owner, name, clock.timed(stage, getattr(owner, name)))

    with ExitStack() as patches:
        for what in (
            patch.object(engine, "load", loaded),
            patch.object(images, "decode", decoded),
            watch(enrolment, "read", "read and hash"),
            watch(enrolment, "digest", "read and hash"),
            watch(Store, "commit", "commit"),
            watch(pyramid.Pyramid, "level", "detect: levels and crops"),
            watch(pyramid.Pyramid, "crop", "detect: levels and crops"),
            watch(detect.Detector, "_proposals", "detect: boxes"),
            watch(detect.Detector, "_faces", "detect: boxes"),
            watch(align, "similarity", "align"),
            watch(align, "chip", "align"),
        ):
            patches.enter_context(what)
        enroller = embedder.Embedder(cache_dir=default_cache_dir(), workers=1)
        with clock.stage("other"):
            refresh(folder, enroller, cache_dir=default_cache_dir())


def multiplications() -> Callable[[str, tuple[int, ...]], int]:
    """Return a function that counts one image's multiplications in a network's convolutions and products."""
    import torch

    modules = {stage.name: mtcnn.network(stage).torch() for stage in mtcnn.STAGES}
    modules["dlib"] = load_network(resolve("dlib"), cache_dir=default_cache_dir()).torch()
    known: dict[tuple[str, tuple[int, ...]], int] = {}
    count = 0

    def add(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal count
        count += output.numel() * module.weight[0].numel()  # type: ignore[operator, index]

    for module in modules.values():
        for layer in module.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                layer.register_forward_hook(add)

    def counted(name: str, size: tuple[int, ...]) -> int:
        nonlocal count
        if (name, size) not in known:
            count = 0
            with torch.inference_mode():
                modules[name].eval()(torch.zeros(1, 3, *size))
            known[name, size] = count
        return known[name, size]

    return counted


def gemm_gflops(side: int = 1536) -> float:
    """Return the best of ten float32 matrix products in one thread, 1e9 operations a second."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a = torch.from_numpy(np.random.default_rng(0).standard_normal((side, side), dtype=np.float32))
    seconds = []
    for _ in range(10):
        start = time.thread_time()
        torch.mm(a, a)
        seconds.append(time.thread_time() - start)
    torch.set_num_threads(threads)
    return 2 * side**3 / min(seconds) / 1e9


def bare_decoding(drafts: list[tuple[bytes, tuple[int, int]]]) -> float:
    """Return the CPU seconds that Pillow alone takes for the same pictures at the same sizes."""
    start = time.thread_time()
    for data, size in drafts:
        picture = Image.open(io.BytesIO(data))
        picture.draft("RGB", size)
        picture.load()
    return time.thread_time() - start


def bare_reading(photos: list[Path]) -> float:
    start = time.thread_time()
    for photo in photos:
        photo.read_bytes()
    return time.thread_time() - start
