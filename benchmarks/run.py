"""Every speed figure of docs/benchmarks.md, in one go: tables on stdout, every sample as JSON beside this script.

    python benchmarks/run.py --lfw DIR --wild DIR [--quick] [--only NAME ...] [--peers FOLDER] [--tree FOLDER]

LFW and wild are folders with a folder of photos a person; parts whose photos are not given are left out, and said to
be. The peers come from PyPI into environments of their own (`peers.py`), kept in --peers for the next time;
facenet-pytorch is the one that facecli itself depends on. The samples go to results/DATE.json with the machine's
description; --quick, which only shows that everything runs, writes none unless --json names a file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import targets
from targets import Target

from facecli import __version__
from facecli.config import default_cache_dir

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Part:
    """A script beside this one. `data` and `quick` are its options; `targets` reads its JSON."""

    name: str
    data: Callable[[argparse.Namespace], list[str] | None]
    quick: list[str]
    targets: Callable[[dict[str, Any]], list[Target]]
    environment: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lfw", type=Path)
    parser.add_argument("--wild", type=Path)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], help="only these parts")
    parser.add_argument("--peers", type=Path, default=default_cache_dir() / "benchmarks")
    parser.add_argument("--tree", type=Path, help="keep the million photos here, and use them again")
    parser.add_argument("--json", type=Path, help="where the samples go (default: results/DATE.json)")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    rows: list[Target] = []
    used = {"facecli": Path(sys.executable)}
    for part in PARTS:
        if arguments.only and part.name not in arguments.only:
            continue
        found = run(part, arguments, used)
        if found is not None:
            results[part.name] = found
            rows += part.targets(found)
    print_targets(rows)
    path = arguments.json
    if path is None and not arguments.quick:
        path = HERE / "results" / f"{datetime.date.today()}.json"
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "machine": machine(),
            "packages": {name: peers.versions(python) for name, python in used.items()},
            "quick": arguments.quick,
            "targets": rows,
            "parts": results,
        }
        path.write_text(json.dumps(document) + "\n")
        print(f"every sample: {path}")


def run(part: Part, arguments: argparse.Namespace, used: dict[str, Path]) -> dict[str, Any] | None:
    """Run one part and return its JSON; None, said why, where that cannot be."""
    script = HERE / f"{part.name}.py"
    options = part.data(arguments)
    print(f"\n== {part.name}", flush=True)
    if not script.exists():
        print(f"left out: there is no {script.name}")
        return None
    if options is None:
        print("left out: its photos were not given (--lfw, --wild)")
        return None
    python: Path | None = Path(sys.executable)
    if part.environment is not None:
        python = peers.python_of(part.environment, arguments.peers)
        if python is None:
            print("left out: its environment cannot be made")
            return None
        used[part.environment] = python
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as scratch:
        samples = Path(scratch) / "samples.json"
        command = [python, script, *options, *(part.quick if arguments.quick else []), "--json", samples]
        start = time.perf_counter()
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False)
        print(f"({time.perf_counter() - start:.0f} s)")
        if done.returncode != 0 or not samples.exists():
            print(f"failed: {script.name} ended with {done.returncode}")
            return None
        return json.loads(samples.read_text())


def enrolment_options(arguments: argparse.Namespace) -> list[str] | None:
    given = {"--lfw": arguments.lfw, "--wild": arguments.wild}
    options = [str(word) for name, folder in given.items() if folder is not None for word in (name, folder)]
    return [*options, "--peers", str(arguments.peers)] if options else None


PARTS = (
    Part("cold", lambda _: [], ["--runs", "3"], targets.cold),
    Part("enrolment", enrolment_options, ["--quick"], targets.enrolment),
    Part(
        "detection",
        lambda a: [str(a.wild)] if a.wild is not None else None,
        ["--photos", "40", "--large", "6"],
        targets.detection,
    ),
    Part("search", lambda _: [], ["--quick"], targets.search, environment="search"),
    Part(
        "million",
        lambda a: ["--keep", str(a.tree)] if a.tree is not None else [],
        ["--quick"],
        targets.million,
    ),
)


def print_targets(rows: list[Target]) -> None:
    print("\n| | target | measured | |")
    print("|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['target']} | {row['measured']} | {'met' if row['met'] else '**missed**'} |"
        )


def machine() -> dict[str, Any]:
    """Describe the machine, by nothing that names it or its owner."""
    model, memory = platform.processor(), None
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": model,
        "cores": cores,
        "memory_gib": memory,
        "facecli": __version__,
        "os": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "load_after": load,
    }


if __name__ == "__main__":
    main()
