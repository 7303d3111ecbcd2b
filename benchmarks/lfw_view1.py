"""The default model on LFW's development view: makes the calibration that ships, and prints the table of docs/benchmarks.md.

    python benchmarks/lfw_view1.py DIR            # about five minutes on two cores
    python benchmarks/lfw_view1.py DIR --table    # without making the calibration anew

DIR holds the deep-funneled images as NAME/NAME_0001.jpg with `pairs_train.csv` and `pairs_test.csv`
(`left,right,mated`). Thresholds are chosen on the training list alone. Rates are those of all comparisons of the
images of the test list, which shows other people; accuracy is that of its 1,000 listed pairs. LFW's labels
belong to the face in the middle, so `--faces center` is what its protocol asks for; `main`, the default of the
commands, and `largest` sometimes take a bystander, and are judged by the same thresholds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from facecli.calibration.calibration import Calibration, OperatingPoint
from facecli.calibration.files import load
from facecli.calibration.fit import calibrate
from facecli.config import DEFAULT_FMR, DEFAULT_MODEL, default_cache_dir
from facecli.stats.intervals import clopper_pearson
from facecli.templates.embedder import Embedder
from facecli.trials.labelled import of_samples
from facecli.trials.pairs import PairSet, read_pairs
from facecli.trials.samples import Samples, embed_pairs
from facecli.trials.scored import curve_of, listed_scores

DATA = Path(__file__).parents[1] / "facecli" / "calibration" / "shipped"
DESCRIPTION = "all comparisons of the 3,443 images in LFW's development training pairs (deep-funneled)"
POLICIES = ("center", "main", "largest")
FMRS = (1e-2, 1e-3, 1e-4, 1e-5)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    folder: Path = options.folder
    embedder = Embedder(DEFAULT_MODEL, cache_dir=default_cache_dir(), faces="center")
    train, test = (read_pairs(folder / f"pairs_{part}.csv") for part in ("train", "test"))
    chosen = embed_pairs(embedder, train)
    judged = {faces: embed_pairs(embedder.choosing(faces), test) for faces in POLICIES}
    made = {faces: judge(embedder.id, chosen, judged[faces]) for faces in POLICIES}
    print(f"embedder {embedder.id}; thresholds chosen with --faces center on pairs_train\n")
    print("| `--faces` | right of 1,000 pairs (95 %) | FMR at target 1e-3 | FNMR there | no face |")
    print("|---|---|---|---|---|")
    for faces in POLICIES:
        print(row(faces, made[faces], accuracy(chosen, train, judged[faces], test), judged[faces]))
    n = made["center"].points[0]
    print(
        f"\nFMR and FNMR: {n.n_nonmated:,} non-mated and {n.n_mated:,} mated comparisons of {n.people:,} people;"
    )
    print("95 % intervals that resample people; failures count as misses.\n")
    print("| `--faces` | " + " | ".join(f"FNMR at FMR {fmr:g}" for fmr in FMRS) + " | EER |")
    print("|---|" + "---|" * (len(FMRS) + 1))
    for faces in POLICIES:
        curve = curve_of(of_samples(judged[faces]).scored)
        points = (curve.at(curve.threshold_for_fmr(fmr))[1] / curve.n_mated for fmr in FMRS)
        print(f"| {faces} | " + " | ".join(f"{rate:.2%}" for rate in points) + f" | {curve.eer().rate:.2%} |")
    print("\nThe same comparisons, each rate at its own threshold.")
    if not options.table:
        path = ship(folder, embedder.id, notice(made))
        shipped, expected = load(path), made["center"]
        if shipped.embedder_id != embedder.id or default_point(shipped) != default_point(expected):
            raise SystemExit(f"{path.name} is not of this embedder, or not what the table shows")


def judge(embedder_id: str, chosen: Samples, judged: Samples) -> Calibration:
    """Return the calibration on all comparisons of `chosen`, with the rates of all those of `judged`."""
    train, test = of_samples(chosen, description="train"), of_samples(judged, description="test")
    return calibrate(
        train.comparisons,
        train.provenance,
        embedder_id=embedder_id,
        reported=test.comparisons,
        reported_on=test.provenance,
    )


def accuracy(chosen: Samples, train: PairSet, judged: Samples, test: PairSet) -> tuple[int, int, float]:
    """Return (right, pairs, threshold) at the threshold that is most accurate on the training pairs."""
    _, threshold = listed_scores(chosen, train).comparisons.curve().best_accuracy()
    pairs = listed_scores(judged, test).comparisons
    return int(((pairs.similarity >= threshold) == pairs.mated).sum()), len(pairs), threshold


def default_point(made: Calibration) -> OperatingPoint:
    return made.threshold_for(DEFAULT_FMR)


def row(faces: str, made: Calibration, right: tuple[int, int, float], judged: Samples) -> str:
    n_right, n, _ = right
    wrong_low, wrong_high = clopper_pearson(n - n_right, n)
    point = default_point(made)
    fmr, fnmr = ((100 * low, 100 * high) for low, high in (point.fmr_interval, point.fnmr_interval))
    return (
        f"| {faces} | {n_right / n:.1%} ({1 - wrong_high:.1%} to {1 - wrong_low:.1%})"
        f" | {100 * point.fmr:.3f} % ({fmr[0]:.3f} to {fmr[1]:.3f})"
        f" | {100 * point.fnmr:.1f} % ({fnmr[0]:.1f} to {fnmr[1]:.1f}) | {len(judged.failures)} of {len(judged):,} |"
    )


def notice(made: dict[str, Calibration]) -> str:
    center, main, largest = (default_point(made[faces]) for faces in POLICIES)
    return (
        "Press photographs of public figures (Labeled Faces in the Wild, development view) are not every population,"
        " camera or pose: expect other error rates on other photographs, and calibrate on your own where it matters."
        " LFW's labels belong to the face in the middle of each photograph, so the rates are for --faces center;"
        f" on the same photographs --faces main, the default, misses {main.fnmr:.1%} and --faces largest, which more"
        f" often takes a bystander, {largest.fnmr:.1%} in place of {center.fnmr:.1%} of mated comparisons at the"
        f" threshold for FMR {DEFAULT_FMR:g}."
    )


def ship(folder: Path, embedder_id: str, text: str) -> Path:
    """Run the command that makes the calibration, from within the data so that it names no other place."""
    path = DATA / f"{embedder_id}.json"
    command = [sys.executable, "-m", "facecli", "calibrate", "--pairs", "pairs_train.csv"]
    command += ["--test", "pairs_test.csv", "--cross", "--faces", "center", "--format", "table"]
    command += ["--description", DESCRIPTION, "--notice", text, "-o", str(path.resolve())]
    subprocess.run(command, cwd=folder, check=True)
    for other in DATA.glob(f"{DEFAULT_MODEL}-*.json"):
        # Of an embedder that is no more: nothing can load it.
        if other != path:
            other.unlink()
    return path


if __name__ == "__main__":
    main()
