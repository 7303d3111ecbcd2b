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

from facecli.arrays import Array
from facecli.config import default_cache_dir
from facecli.faces import align, pyramid
from facecli.faces import mtcnn as detect
from facecli.gallery import enrolment
from facecli.gallery.refresh import refresh
from facecli.gallery.store.writer import Store
from facecli.models import mtcnn_networks, runtime
from facecli.models.network import Network, Runner
from facecli.models.registry import load_network, resolve
from facecli.photos import source
from facecli.photos.decode import Image as Decoded
from facecli.templates import embedder

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
NETWORKS = {"pnet": STAGES[3], "rnet": STAGES[4], "onet": STAGES[5], "dlib": STAGES[8]}


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
    import torch

    torch.set_num_threads(1)
    rows: Counter[tuple[str, tuple[int, ...]]] = Counter()
    drafts: list[tuple[bytes, tuple[int, int]]] = []
    first, then = Clock(), Clock()
    with tempfile.TemporaryDirectory() as scratch:
        for name, part, clock in (("warm", photos[:8], first), ("all", photos, then)):
            rows.clear()
            drafts.clear()
            enrol(linked(part, Path(scratch) / name), clock, rows, drafts)
    gflops = gemm_gflops()
    floors = {stage: flops / gflops / 1e9 for stage, flops in operations(rows).items()}
    floors["decode"] = bare_decoding(drafts)
    floors["read and hash"] = bare_reading(photos)
    return {
        "gemm_gflops": gflops,
        "stages": {
            stage: {
                "ms": 1e3 * then.seconds[stage] / len(photos),
                "floor_ms": 1e3 * floors[stage] / len(photos) if stage in floors else None,
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
    folder: Path,
    clock: Clock,
    rows: Counter[tuple[str, tuple[int, ...]]],
    drafts: list[tuple[bytes, tuple[int, int]]],
) -> None:
    """Enrol what is in `folder`; note the rows that each network saw by their size, and what was decoded."""
    load, decode = runtime.load, source.decode

    def loaded(network: Network, **options: Any) -> Runner:
        run = load(network, **options)

        def watched(batch: Array) -> list[Array]:
            rows[network.name, batch.shape[2:]] += len(batch)
            with clock.stage(NETWORKS[network.name]):
                return run(batch)

        return watched

    def decoded(data: bytes, **options: Any) -> Decoded:
        with clock.stage("decode"):
            image = decode(data, **options)
        drafts.append((data, (round(image.width * image.scale), round(image.height * image.scale))))
        return image

    def watch(owner: Any, name: str, stage: str) -> Any:
        return patch.object(owner, name, clock.timed(stage, getattr(owner, name)))

    with ExitStack() as patches:
        for what in (
            patch.object(runtime, "load", loaded),
            patch.object(source, "decode", decoded),
            watch(enrolment, "read", "read and hash"),
            watch(enrolment, "digest", "read and hash"),
            watch(Store, "commit", "commit"),
            watch(pyramid.Pyramid, "level", "detect: levels and crops"),
            watch(pyramid.Pyramid, "crop", "detect: levels and crops"),
            watch(detect.Mtcnn, "_proposals", "detect: boxes"),
            watch(detect.Mtcnn, "_faces", "detect: boxes"),
            watch(align, "similarity", "align"),
            watch(align, "chip", "align"),
        ):
            patches.enter_context(what)
        enroller = embedder.Embedder(cache_dir=default_cache_dir(), workers=1)
        with clock.stage("other"):
            refresh(folder, enroller, cache_dir=default_cache_dir())


def operations(rows: Counter[tuple[str, tuple[int, ...]]]) -> Counter[str]:
    """Return the multiplications and additions of the networks' convolutions and products, by stage."""
    import torch

    modules = {stage.name: mtcnn_networks.network(stage).torch() for stage in mtcnn_networks.STAGES}
    modules["dlib"] = load_network(resolve("dlib"), cache_dir=default_cache_dir()).torch()
    count = 0

    def add(module: Any, inputs: Any, output: torch.Tensor) -> None:
        nonlocal count
        count += 2 * output.numel() * module.weight[0].numel()

    for module in modules.values():
        for layer in module.eval().modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                layer.register_forward_hook(add)
    done: Counter[str] = Counter()
    for (name, size), n in rows.items():
        count = 0
        with torch.inference_mode():
            modules[name](torch.zeros(1, 3, *size))
        done[NETWORKS[name]] += n * count
    return done


def gemm_gflops(side: int = 1536) -> float:
    """Return the best of ten float32 matrix products in one thread, 1e9 operations a second."""
    import torch

    a = torch.from_numpy(np.random.default_rng(0).standard_normal((side, side), dtype=np.float32))
    seconds = []
    for _ in range(10):
        start = time.thread_time()
        torch.mm(a, a)
        seconds.append(time.thread_time() - start)
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
