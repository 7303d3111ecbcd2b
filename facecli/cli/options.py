"""The options that several commands share, and what they are turned into.

One alias an option, so that a name, its help and its meaning cannot differ from command to command. Nothing heavy
is imported here: `--help` needs neither NumPy nor torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facecli import config

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
