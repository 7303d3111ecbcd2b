"""Cold starts as whole processes: `--help`, a verification of two 640 px photos (ours and facenet-pytorch's), and
a `find` in the sample database.

    python benchmarks/cold.py [A B] [--runs 7] [--json FILE]

Every process is started anew, the contestants in turn, after one uncounted round; medians and ratios of pairs in
the same round. facenet-pytorch does the same job as its users write it: MTCNN, then InceptionResnetV1 on both
crops; its weights are a download, so the network has random ones, which take the same time (less the loading).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).parent.parent / "sample_db"

BARE_TYPER = """
import typer
app = typer.Typer()
@app.command()
def first(name: str = "a"):
    "One command."
@app.command()
def second(name: str = "b"):
    "Another."
app()
"""

FACENET_PYTORCH = """
import sys
import torch
from PIL import Image
from facenet_pytorch import MTCNN, InceptionResnetV1
mtcnn, network = MTCNN(), InceptionResnetV1().eval()
with torch.no_grad():
    crops = torch.stack([mtcnn(Image.open(path)) for path in sys.argv[1:]])
    a, b = network(crops)
print(float(a @ b))
"""

PARTS = """
import onnxruntime, numpy, PIL.Image, PIL.JpegImagePlugin, pathlib, sys
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = arguments.photos if arguments.photos else enlarged(Path(folder))
        cache = Path(folder) / "cache"
        environment = {**os.environ, "FACECLI_CACHE": str(cache)}
        python, ours = [sys.executable], [sys.executable, "-m", "facecli"]
        verify = [*ours, "verify", *map(str, photos)]
        people = shutil.copytree(SAMPLES / "people", Path(folder) / "people")
        find = [*ours, "find", str(photos[0]), "--db", str(people)]
        start = time.perf_counter()
        subprocess.run(verify, env=environment, capture_output=True, check=False)
        first = time.perf_counter() - start
        print(f"the very first verify, which prepares the networks: {first:.2f} s")
        jobs = {
            "facecli --help": [*ours, "--help"],
            "bare Typer --help": [*python, "-c", BARE_TYPER, "--help"],
            "facecli verify": verify,
            "facenet-pytorch": [*python, "-c", FACENET_PYTORCH, *map(str, photos)],
            "imports and sessions alone": [*python, "-c", PARTS, str(cache / "networks")],
            "facecli find": find,
        }
        rows = [measure(jobs, environment) for _ in range(arguments.runs + 1)][1:]
    table = np.array(rows)  # [runs, jobs, (wall, cpu)]
    print(f"{'seconds, median (least to most)':<34} {'wall':>22} {'cpu':>22}")
    for k, name in enumerate(jobs):
        cells = [f"{np.median(v):.2f} ({v.min():.2f} to {v.max():.2f})" for v in table[:, k].T]
        print(f"{name:<34} {cells[0]:>22} {cells[1]:>22}")
    for a, b in ((0, 1), (2, 3), (2, 4), (5, 4)):
        names = list(jobs)
        ratios = table[:, a] / table[:, b]
        wall, cpu = np.median(ratios, axis=0)
        print(f"{names[a]} / {names[b]}: wall {wall:.2f}, cpu {cpu:.2f}")
    if arguments.json is not None:
        samples = {name: table[:, k].tolist() for k, name in enumerate(jobs)}
        arguments.json.write_text(
            json.dumps({"first_verify_seconds": first, "wall_and_cpu_seconds": samples})
        )


def enlarged(folder: Path) -> list[Path]:
    """Return two sample photos enlarged to 640 px."""
    paths = []
    for source in (SAMPLES / "probes/clara.jpg", SAMPLES / "people/Clara/1.jpg"):
        path = folder / f"{source.parent.name}-{source.name}"
        Image.open(source).resize((640, 640), Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def measure(jobs: dict[str, list[str]], environment: dict[str, str]) -> list[tuple[float, float]]:
    """Run each job once; return wall and CPU seconds of each."""
    row = []
    for command in jobs.values():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        wall = time.perf_counter() - start
        if done.returncode not in (0, 1):
            raise SystemExit(f"{command[:4]} failed:\n{done.stderr.decode()}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        row.append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return row


if __name__ == "__main__":
    main()
