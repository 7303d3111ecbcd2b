"""The options that several commands share, and what they are turned into.

One alias an option, so that a name, its help and its meaning cannot differ from command to command. Nothing heavy
is imported here: `--help` needs neither NumPy nor torch.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facecli import config

if TYPE_CHECKING:
    from facecli.calibration.decision import Rule
    from facecli.cli.output import Notes
    from facecli.gallery.gallery import Gallery, Refresh
    from facecli.stats.cross import ScoreTable
    from facecli.templates.embedder import Embedder
    from facecli.trials.pairs import PairSet

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A built-in model, an .onnx file, a checkpoint or torchvision:NAME.",
        show_default=True,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights", help="A file of weights to use in place of the model's own, e.g. without a network."
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="cpu (ONNX Runtime), torch (torch on the CPU), cuda, cuda:N or mps.")
]
Faces = Annotated[
    str, typer.Option("--faces", help="Which faces count: largest, center, all or one (else an error).")
]
FaceIndex = Annotated[
    int | None,
    typer.Option("--face", help="The face with this index: 0 is the largest."),
]
MinFace = Annotated[
    int, typer.Option("--min-face", help="Smallest face searched for, in px of the original image.")
]
Aligned = Annotated[
    bool, typer.Option("--aligned", help="The images are face crops already: search for no face.")
]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", help="Match at this similarity or more, in place of a calibrated threshold."),
]
Fmr = Annotated[
    float | None,
    typer.Option(
        "--fmr", help=f"Choose the threshold for this false match rate [default: {config.DEFAULT_FMR:g}]."
    ),
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option("--calibration", help="A calibration file to use in place of the installed one."),
]
Prior = Annotated[float, typer.Option("--prior", help="Probability of a mated pair before looking.")]
Format = Annotated[
    str,
    typer.Option("--format", "-f", help="auto (table on a terminal, else jsonl), table, jsonl, csv or tsv."),
]
OutFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write to this file; its ending sets the format."),
]
TemplatesOut = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="x.npy: templates, with the table x.csv; else records by its ending."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No remarks and no progress on stderr.")]
Database = Annotated[
    Path | None,
    typer.Option("--db", help="A database: a folder with a folder of photos for each person."),
]
DatabaseFolder = Annotated[
    Path, typer.Argument(metavar="DB", help="A database: a folder with a folder of photos for each person.")
]
NoRefresh = Annotated[
    bool, typer.Option("--no-refresh", help="Use the templates that are kept, without looking at the photos.")
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root", help="Folder that the paths of --pairs are relative to [default: the file's own]."
    ),
]

Replicates = Annotated[
    int, typer.Option("--replicates", min=100, help="How often people are resampled for the intervals.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn at random.")]


@dataclass(frozen=True)
class Folders:
    """Where things are kept: `cache` can be deleted at any time, `user` cannot."""

    cache: Path
    user: Path


def open_embedder(
    folders: Folders,
    notes: Notes,
    model: str,
    weights: Path | None,
    device: str,
    faces: str,
    face: int | None,
    min_face: int,
    aligned: bool,
) -> Embedder:
    """Return the embedder that the options ask for, with a bar while weights are fetched."""
    from facecli.templates.embedder import Embedder

    with notes.progress("fetching weights", size=True) as tell:
        embedder = Embedder(
            model,
            cache_dir=folders.cache,
            weights=weights,
            device=device,
            faces=faces,
            face=face,
            aligned=aligned,
            min_face_px=min_face,
            notify=notes.say,
            progress=tell,
        )
    if embedder.spec.warning:
        notes.warn(embedder.spec.warning)
    return embedder


def open_for_reading(
    folders: Folders, notes: Notes, model: str, weights: Path | None, device: str, aligned: bool
) -> Embedder:
    """Return the embedder whose kept templates are meant; no image is shown to it."""
    smallest = config.Detection.min_face_px
    return open_embedder(folders, notes, model, weights, device, "largest", None, smallest, aligned)


def open_rule(
    folders: Folders,
    embedder: Embedder,
    threshold: float | None,
    fmr: float | None,
    calibration: Path | None,
    prior: float,
) -> Rule:
    """Return the rule that the options ask for."""
    from facecli.calibration.decision import make_rule

    trained = embedder.spec.family == "checkpoint"
    return make_rule(
        embedder.id,
        user_dir=folders.user,
        threshold=threshold,
        fmr=fmr,
        calibration=calibration,
        beside=Path(embedder.spec.weights).with_name("calibration.json") if trained else None,
        prior=prior,
    )


def read_pairs(pairs: str, root: Path | None) -> PairSet:
    """Return the pairs of the file `pairs`, or of stdin for '-', whose paths are then relative to here."""
    from facecli.trials import pairs as library

    if pairs != "-":
        return library.read_pairs(pairs, root=root)
    here = root if root is not None else Path()
    return library.parse_pairs(sys.stdin.buffer.read(), source="stdin", root=here)


def read_scores(scores: str) -> ScoreTable:
    """Return the scores of the file `scores`, or of stdin for '-'."""
    from facecli.stats import cross as library

    if scores != "-":
        return library.read_scores(scores)
    return library.parse_scores(sys.stdin.buffer.read(), source="stdin")


def open_gallery(db: Path, embedder: Embedder, folders: Folders, notes: Notes, no_refresh: bool) -> Gallery:
    """Return the database, brought up to date unless told not to; what failed there is a remark, not an error.

    Raises `DatabaseError` where nobody is enrolled: nobody can be found there, which is no answer.
    """
    from facecli.errors import DatabaseError
    from facecli.gallery.gallery import Gallery

    if no_refresh:
        gallery = Gallery.open(db, embedder.id, embedder.dim, cache_dir=folders.cache)
        if not gallery.complete:
            notes.warn(f"{db}: an enrolment is going on or was cut off, photos may be missing")
        if not gallery.n_samples:
            raise DatabaseError("nobody is enrolled yet", path=db, hint="leave --no-refresh out")
        return gallery
    gallery, report = refreshed(db, embedder, folders, notes)
    if report.embedded or report.removed:
        notes.say(
            f"{db}: {report.embedded} photos enrolled, {report.removed} gone, {report.n_samples} in all"
        )
    if report.failures:
        first = report.failures[0]
        notes.warn(
            f"{db}: {len(report.failures)} photos cannot be used, first {first.path}: {first.message}"
            f" (all: facecli embed --db {db})"
        )
    if not gallery.n_samples:
        raise DatabaseError("nobody is enrolled: no photo has a usable face", path=db)
    return gallery


def refreshed(db: Path, embedder: Embedder, folders: Folders, notes: Notes) -> tuple[Gallery, Refresh]:
    """Bring the database up to date with a bar; return it and what was done."""
    from facecli.gallery.gallery import refresh

    with notes.progress("enrolling") as tell:
        return refresh(db, embedder, cache_dir=folders.cache, progress=tell, notify=notes.say)
