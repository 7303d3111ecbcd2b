"""The options that several commands share, and what they are turned into.

One alias an option, so that a name, its help and its meaning cannot differ from command to command. Nothing heavy
is imported here: `--help` needs neither NumPy nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from facecli import config
from facecli.cli.complete import model_names
from facecli.cli.groups import OneOf
from facecli.faces.detector import DEFAULT_DETECTOR, DETECTORS

Form = Literal["auto", "table", "jsonl", "csv", "tsv"]
"""The formats of records, of which `auto` stands for one of the others."""

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A built-in model, an .onnx file, a checkpoint or torchvision:NAME.",
        autocompletion=model_names,
        rich_help_panel="Network",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="A file of weights to use in place of the model's own, e.g. without a network.",
        rich_help_panel="Network",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="cpu (ONNX Runtime), torch (torch on the CPU), cuda, cuda:N or mps.",
        rich_help_panel="Network",
    ),
]
Faces = Annotated[
    config.OneFacePolicy,
    typer.Option(
        "--faces",
        help="Which face of a photo counts; with one, a photo of several is an error.",
        rich_help_panel="Faces",
    ),
]
AnyFaces = Annotated[
    config.FacePolicy,
    typer.Option(
        "--faces",
        help="Which faces of a photo count; with one, a photo of several is an error.",
        rich_help_panel="Faces",
    ),
]
FaceIndex = Annotated[
    int | None,
    typer.Option("--face", help="The face with this index: 0 is the largest.", rich_help_panel="Faces"),
]
MinFace = Annotated[
    int,
    typer.Option(
        "--min-face", help="Smallest face searched for, in px of the original image.", rich_help_panel="Faces"
    ),
]
MinQuality = Annotated[
    float,
    typer.Option(
        "--min-quality",
        min=0,
        max=100,
        help="Decide on no face of a lower quality; 0 decides all the same, without error rates.",
        rich_help_panel="Faces",
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Decode at most so many pixels at once; a larger photo is refused.",
        rich_help_panel="Faces",
    ),
]
Detector = Annotated[
    str,
    typer.Option("--detector", help="What finds the faces.", rich_help_panel="Faces"),
    OneOf(DETECTORS),
]
Aligned = Annotated[
    bool,
    typer.Option(
        "--aligned", help="The images are face crops already: search for no face.", rich_help_panel="Faces"
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Match at this similarity or more, in place of a calibrated threshold.",
        rich_help_panel="Threshold",
    ),
]
Fmr = Annotated[
    float | None,
    typer.Option(
        "--fmr",
        help=f"Choose the threshold for this false match rate [default: {config.DEFAULT_FMR:g}].",
        rich_help_panel="Threshold",
    ),
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        help="A calibration file to use in place of the installed one.",
        rich_help_panel="Threshold",
    ),
]
Prior = Annotated[
    float,
    typer.Option(
        "--prior",
        help="Probability before looking that a pair is mated; in find, that a face is of somebody enrolled.",
        rich_help_panel="Threshold",
    ),
]
Format = Annotated[
    Form,
    typer.Option(
        "--format",
        "-f",
        help="Of records; auto is a table on a terminal, else jsonl.",
        rich_help_panel="Output",
    ),
]
OutFile = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Write to this file; its ending sets the format.", rich_help_panel="Output"
    ),
]
TemplatesOut = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="x.npy: templates, with the table x.csv; else records by its ending.",
        rich_help_panel="Output",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No remarks and no progress on stderr.", rich_help_panel="Output"),
]
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
    int,
    typer.Option(
        "--replicates",
        min=100,
        max=100_000,
        help="How often people are resampled for the intervals.",
        rich_help_panel="Sampling",
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, help="Of all that is drawn at random.", rich_help_panel="Sampling"),
]


@dataclass(frozen=True)
class KeptOptions:
    """Whose kept templates are meant: the network, what found the faces, and whether its images were crops."""

    model: Model = config.DEFAULT_MODEL
    weights: Weights = None
    device: Device = "cpu"
    aligned: Aligned = False
    detector: Detector = DEFAULT_DETECTOR


@dataclass(frozen=True)
class EnrolOptions(KeptOptions):
    """How a database enrols: the main face of each photo."""

    min_face_px: MinFace = config.Detection.min_face_px
    min_quality: MinQuality = config.MIN_QUALITY
    max_pixels: MaxPixels = config.MAX_PIXELS


@dataclass(frozen=True)
class EmbedderOptions(EnrolOptions):
    """From photos to templates: the network, and which face of each counts."""

    faces: Faces = config.DEFAULT_FACES
    face: FaceIndex = None


@dataclass(frozen=True)
class AllFacesOptions(EnrolOptions):
    """The same, where every face of a photo counts unless told otherwise."""

    faces: AnyFaces = "all"
    face: FaceIndex = None


@dataclass(frozen=True)
class ThresholdOptions:
    """Which threshold is in force."""

    fmr: Fmr = None
    threshold: Threshold = None
    calibration: CalibrationFile = None


@dataclass(frozen=True)
class RuleOptions(ThresholdOptions):
    """How it is decided: by which threshold, and with which probability of a match before looking."""

    prior: Prior = config.DEFAULT_PRIOR


@dataclass(frozen=True)
class TrialOptions:
    """Labelled comparisons: of listed pairs, of a database, or with the scores of any tool."""

    panel = "Data"

    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs", help="A csv of left,right,mated, or LFW's pairs.txt; '-' reads it from stdin."
        ),
    ] = None
    db: Annotated[
        Path | None,
        typer.Option("--db", help="A database, or templates of `embed`: all photos with one another."),
    ] = None
    scores: Annotated[
        str | None,
        typer.Option("--scores", help="A csv of similarity,mated made by any tool; '-' reads it from stdin."),
    ] = None
    every: Annotated[
        bool, typer.Option("--cross", help="Compare all images of the pairs with one another.")
    ] = False
    root: Root = None


@dataclass(frozen=True)
class SamplingOptions:
    """What is drawn at random."""

    replicates: Replicates = config.DEFAULT_REPLICATES
    seed: Seed = 0


@dataclass(frozen=True)
class RecordOptions:
    """How records are shown."""

    form: Format = "auto"
    quiet: Quiet = False


@dataclass(frozen=True)
class OutputOptions(RecordOptions):
    """The same, and where they go."""

    output: OutFile = None


@dataclass(frozen=True)
class TemplateOutputOptions(OutputOptions):
    """The same, where the file may also be an array of templates."""

    output: TemplatesOut = None
