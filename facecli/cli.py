"""The command line: each command parses, makes one library call, emits, and ends with an exit code.

Nothing heavy is imported here: `--help` needs neither NumPy nor torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facecli import __version__, config
from facecli.commands import INPUT_ERROR, NON_MATCH, Commands
from facecli.errors import FaceError, UsageError

if TYPE_CHECKING:
    from facecli.embedder import Embedder
    from facecli.gallery import Gallery, Refresh
    from facecli.output import Notes
    from facecli.records import FailedProbe, Probe
    from facecli.rule import Rule

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No remarks and no progress on stderr.")]
Database = Annotated[
    Path | None,
    typer.Option("--db", help="A database: a folder with a folder of photos for each person."),
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


@dataclass(frozen=True)
class Folders:
    """Where things are kept: `cache` can be deleted at any time, `user` cannot."""

    cache: Path
    user: Path


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"facecli {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", envvar="FACECLI_CACHE", help="Folder for weights and exported networks."),
    ] = None,
    user: Annotated[
        Path | None,
        typer.Option("--home", envvar="FACECLI_HOME", help="Folder for calibrations that were installed."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Faces on the command line, with error rates that can be believed.

    **verify** two photos, **find** a person among many, **embed** faces for anything else.
    Works offline; data goes to stdout and remarks to stderr.

    Exit codes: 0 match or done, 1 non-match or nobody found, 2 wrong input, 70 a bug.
    """
    context.obj = Folders(
        cache if cache is not None else config.default_cache_dir(),
        user if user is not None else config.default_user_dir(),
    )


@app.command()
def verify(
    context: typer.Context,
    photos: Annotated[list[Path] | None, typer.Argument(metavar="A B", help="Two photos.")] = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", help="A csv with the columns left,right[,mated]; '-' reads it from stdin."),
    ] = None,
    root: Root = None,
    db: Database = None,
    subject: Annotated[
        str | None,
        typer.Option("--subject", help="With --db: the enrolled person to compare one photo with."),
    ] = None,
    no_refresh: NoRefresh = False,
    fmr: Fmr = None,
    threshold: Threshold = None,
    calibration: CalibrationFile = None,
    prior: Prior = config.DEFAULT_PRIOR,
    model: Model = config.DEFAULT_MODEL,
    weights: Weights = None,
    device: Device = "cpu",
    faces: Faces = "largest",
    face: FaceIndex = None,
    min_face: MinFace = config.Detection.min_face_px,
    aligned: Aligned = False,
    form: Format = "auto",
    output: OutFile = None,
    quiet: Quiet = False,
) -> None:
    """Is this the same person? Compare two photos, a list of pairs, or a photo with an enrolled person.

    Exits with 0 for a match and 1 for a non-match; with `--pairs`, with 0 when every pair was compared.

    Examples:

        facecli verify a.jpg b.jpg

        facecli verify a.jpg b.jpg --fmr 1e-4 && echo same

        facecli verify photo.jpg --db people --subject Ada

        facecli verify --pairs pairs.csv --format csv > scores.csv
    """
    from facecli import verify as library
    from facecli.output import Notes, Output

    chosen = list(photos) if photos is not None else []
    notes = Notes(quiet)
    if faces == "all":
        raise UsageError(
            "verify compares one face a photo", hint="use --faces largest, center or one, or --face INDEX"
        )
    _check_verify(chosen, pairs, root, db, subject, no_refresh)
    folders: Folders = context.obj
    embedder = _embedder(folders, notes, model, weights, device, faces, face, min_face, aligned)
    rule = _rule(folders, embedder, threshold, fmr, calibration, prior)
    with Output(library.COLUMNS, form=form, path=output, flatten=library.flatten) as sink:
        if pairs is not None:
            code = 0
            source = _read_pairs(pairs, root)
            with notes.progress("embedding") as tell:
                for error in source.errors:
                    notes.warn(str(error))
                    code = INPUT_ERROR
                for record in library.verify_pairs(embedder, rule, source, progress=tell):
                    sink.emit(record)
                    code = INPUT_ERROR if "error" in record else code
            raise typer.Exit(code)
        if db is not None and subject is not None:
            gallery = _gallery(db, embedder, folders, notes, no_refresh)
            record = library.verify_subject(embedder, rule, gallery, chosen[0], subject)
        else:
            record = library.verify_photos(embedder, rule, chosen[0], chosen[1])
        sink.emit(record)
    if sink.form == "table":
        notes.say(rule.describe())
    raise typer.Exit(0 if record["match"] else NON_MATCH)


@app.command()
def find(
    context: typer.Context,
    probes: Annotated[
        list[str],
        typer.Argument(
            metavar="PROBE...",
            help="Photos, folders, templates.npy, or '-': paths or JSON Lines of embed on stdin.",
        ),
    ],
    db: Annotated[Path, typer.Option("--db", help="A folder with a folder of photos for each person.")],
    top: Annotated[
        int, typer.Option("--top", "-k", min=1, help="How many people to list for each face.")
    ] = config.DEFAULT_TOP,
    no_refresh: NoRefresh = False,
    draw: Annotated[
        Path | None,
        typer.Option("--draw", help="Write the probe with boxes and names to this picture."),
    ] = None,
    fmr: Fmr = None,
    threshold: Threshold = None,
    calibration: CalibrationFile = None,
    prior: Prior = config.DEFAULT_PRIOR,
    model: Model = config.DEFAULT_MODEL,
    weights: Weights = None,
    device: Device = "cpu",
    faces: Faces = "all",
    face: FaceIndex = None,
    min_face: MinFace = config.Detection.min_face_px,
    aligned: Aligned = False,
    form: Format = "auto",
    output: OutFile = None,
    quiet: Quiet = False,
) -> None:
    """Who is this? Rank the people of a database for every face in the probes.

    New and changed photos of the database are enrolled first, by their largest face. A face is *unknown* when
    nobody reaches the threshold. Exits with 0 if anybody was found, 1 if nobody, 2 on any error.

    Examples:

        facecli find probe.jpg --db people

        facecli find party/ --db people --top 1 --format csv

        facecli find group.jpg --db people --draw named.jpg

        find . -name '*.jpg' | facecli embed - | facecli find - --db people
    """
    from facecli import identify as library
    from facecli.output import Notes, Output

    folders: Folders = context.obj
    notes = Notes(quiet)
    embedder = _embedder(folders, notes, model, weights, device, faces, face, min_face, aligned)
    rule = _rule(folders, embedder, threshold, fmr, calibration, prior)
    gallery = _gallery(db, embedder.choosing("largest"), folders, notes, no_refresh)
    found = False
    failed = False
    drawn: list[dict[str, Any]] = []
    with Output(library.COLUMNS, form=form, path=output, flatten=library.flatten) as sink:
        source = _probes(probes, embedder)
        if draw is not None:
            source = _single(source)
        for record in library.identify(gallery, rule, source, top=top):
            sink.emit(record)
            if "error" in record:
                failed = True
                notes.warn(f"{record['probe']}: {record['error']['message']}")
                continue
            found |= record["match"]
            drawn.append(record)
    if draw is not None and drawn:
        from facecli.draw import draw_faces

        draw_faces(Path(probes[0]), drawn, draw)
    if sink.form == "table":
        notes.say(rule.describe())
    raise typer.Exit(INPUT_ERROR if failed else 0 if found else NON_MATCH)


@app.command()
def embed(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PHOTO...]", help="Photos, folders, 'globs', or '-': paths on stdin, one a line."
        ),
    ] = None,
    db: Annotated[
        Path | None,
        typer.Option("--db", help="Bring the templates of this database up to date instead."),
    ] = None,
    model: Model = config.DEFAULT_MODEL,
    weights: Weights = None,
    device: Device = "cpu",
    faces: Faces = "all",
    face: FaceIndex = None,
    min_face: MinFace = config.Detection.min_face_px,
    aligned: Aligned = False,
    form: Format = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="x.npy: templates, with the table x.csv; else records by its ending."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Turn faces into templates, for pipes and other programs. One record a face, largest first.

    JSON Lines records have the schema `facecli.embed/1`. A file that fails is a record with `error`, and the run
    goes on; it then ends with exit code 2.

    Examples:

        facecli embed photos/ -o faces.npy

        facecli embed photo.jpg | jq .box

        facecli embed --db people
    """
    from facecli.output import Notes

    folders: Folders = context.obj
    notes = Notes(quiet)
    if (db is None) == (not sources):
        raise UsageError(
            "nothing to embed" if db is None else "--db takes no photos", hint="give photos or --db, not both"
        )
    embedder = _embedder(folders, notes, model, weights, device, faces, face, min_face, aligned)
    if db is not None:
        raise typer.Exit(_embed_database(db, embedder.choosing("largest"), folders, notes, form, output))
    raise typer.Exit(_embed_photos(sources if sources is not None else [], embedder, notes, form, output))


@app.command()
def models(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL...]", help="Models to describe [default: the built-in ones]."),
    ] = None,
    form: Format = "auto",
    output: OutFile = None,
) -> None:
    """List the models: dimension, input contract, licence, where the weights are and whether they are here.

    Examples:

        facecli models

        facecli models my.onnx --format jsonl
    """
    from dataclasses import asdict

    from facecli.models.registry import BUILT_IN, describe, resolve
    from facecli.output import Output

    folders: Folders = context.obj
    columns = ["name", "dim", "contract", "here", "exported", "weights", "licence", "warning"]
    with Output(columns, form=form, path=output) as sink:
        for name in names if names else list(BUILT_IN):
            sink.emit(asdict(describe(resolve(name), folders.cache)))


@app.command()
def doctor(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL...]", help="Models to check beside the built-in ones."),
    ] = None,
    form: Format = "auto",
    output: OutFile = None,
    quiet: Quiet = False,
) -> None:
    """Say what is installed, where caches and weights lie, and check each model against a known answer.

    Exits with 2 when something that must work does not.

    Examples:

        facecli doctor

        facecli doctor my.onnx
    """
    from dataclasses import asdict

    from facecli import doctor as library
    from facecli.output import Notes, Output

    folders: Folders = context.obj
    failed = False
    with Output(library.COLUMNS, form=form, path=output) as sink:
        for check in library.examine(
            names if names is not None else [],
            cache_dir=folders.cache,
            user_dir=folders.user,
            notify=Notes(quiet).say,
        ):
            sink.emit(asdict(check))
            failed |= check.state == "failed"
    raise typer.Exit(INPUT_ERROR if failed else 0)


def _check_verify(
    photos: list[Path],
    pairs: str | None,
    root: Path | None,
    db: Path | None,
    subject: str | None,
    no_refresh: bool,
) -> None:
    """Raise `UsageError` unless the options ask for exactly one of the three things verify does."""
    if pairs is not None:
        if photos or db is not None or subject is not None:
            raise UsageError(
                "--pairs names the photos itself", hint="leave out the photos, --db and --subject"
            )
        return
    if root is not None:
        raise UsageError("--root goes with --pairs")
    if db is not None or subject is not None:
        if db is None or subject is None or len(photos) != 1:
            raise UsageError(
                "an enrolled person is compared with one photo",
                hint="facecli verify PHOTO --db people --subject NAME",
            )
        return
    if no_refresh:
        raise UsageError("--no-refresh goes with --db")
    if len(photos) != 2:
        raise UsageError(f"verify compares two photos, not {len(photos)}", hint="facecli verify a.jpg b.jpg")


def _embedder(
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
    from facecli.embedder import Embedder

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


def _rule(
    folders: Folders,
    embedder: Embedder,
    threshold: float | None,
    fmr: float | None,
    calibration: Path | None,
    prior: float,
) -> Rule:
    from facecli.rule import make_rule

    return make_rule(
        embedder.id, user_dir=folders.user, threshold=threshold, fmr=fmr, calibration=calibration, prior=prior
    )


def _gallery(db: Path, embedder: Embedder, folders: Folders, notes: Notes, no_refresh: bool) -> Gallery:
    """Return the database, brought up to date unless told not to; what failed there is a remark, not an error."""
    from facecli.gallery import Gallery

    if no_refresh:
        gallery = Gallery.open(db, embedder.id, embedder.dim, cache_dir=folders.cache)
        if not gallery.complete:
            notes.warn(f"{db}: an enrolment is going on or was cut off, photos may be missing")
        return gallery
    gallery, report = _refreshed(db, embedder, folders, notes)
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
    if not gallery.samples:
        from facecli.errors import DatabaseError

        raise DatabaseError("nobody is enrolled: no photo has a usable face", path=db)
    return gallery


def _refreshed(db: Path, embedder: Embedder, folders: Folders, notes: Notes) -> tuple[Gallery, Refresh]:
    from facecli.gallery import refresh

    with notes.progress("enrolling") as tell:
        return refresh(db, embedder, cache_dir=folders.cache, progress=tell, notify=notes.say)


def _read_pairs(pairs: str, root: Path | None) -> Any:
    from facecli.pairs import parse_csv, read_pairs

    if pairs == "-":
        return parse_csv(sys.stdin.buffer.read(), source="stdin", root=root if root is not None else Path())
    return read_pairs(pairs, root=root)


def _probes(sources: list[str], embedder: Embedder) -> Iterator[Probe | FailedProbe]:
    """Yield the faces of photos, and templates made before, in the order in which they are named."""
    from facecli.records import read_npy

    photos: list[str] = []
    for source in sources:
        if source != "-" and not source.endswith(".npy"):
            photos.append(source)
            continue
        yield from _photo_probes(_photos(photos), embedder)
        photos = []
        if source == "-":
            yield from _stdin_probes(embedder)
        else:
            yield from read_npy(Path(source), embedder_id=embedder.id, dim=embedder.dim)
    yield from _photo_probes(_photos(photos), embedder)


def _photo_probes(photos: Iterable[Path], embedder: Embedder) -> Iterator[Probe | FailedProbe]:
    from facecli.errors import printable
    from facecli.records import FailedProbe, probes_of

    for path, found in _embedded(photos, embedder):
        if isinstance(found, FaceError):
            yield FailedProbe(printable(path), found.record())
        else:
            yield from probes_of(found)


def _stdin_probes(embedder: Embedder) -> Iterator[Probe | FailedProbe]:
    """Yield what comes in on stdin: JSON Lines of embed, or paths of photos."""
    from itertools import chain

    from facecli.records import parse_record

    lines = _stdin_lines()
    first = next(lines, None)
    if first is None:
        return
    lines = chain([first], lines)
    if first.lstrip().startswith("{"):
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield parse_record(
                    line, source="stdin", number=number, embedder_id=embedder.id, dim=embedder.dim
                )
    else:
        yield from _photo_probes((Path(line) for line in lines if line), embedder)


def _single(source: Iterator[Probe | FailedProbe]) -> Iterator[Probe | FailedProbe]:
    """Pass on the faces of one photo; raise `UsageError` when there is a second."""
    first = None
    for probe in source:
        first = first if first is not None else probe.path
        if probe.path != first:
            raise UsageError("--draw writes one photo", hint="give one probe")
        yield probe


def _photos(sources: Iterable[str]) -> Iterator[Path]:
    from facecli.files import find_images

    return find_images(sources)


def _stdin_lines() -> Iterator[str]:
    """Yield the lines of stdin; bytes that are not UTF-8 stay as file names have them."""
    for line in sys.stdin.buffer:
        yield os.fsdecode(line.rstrip(b"\r\n"))


def _embedded(photos: Iterable[Path], embedder: Embedder) -> Iterator[tuple[Path, Any]]:
    """Yield each photo with what was found in it; the embedder reads ahead, so paths are kept in between."""
    from collections import deque

    ahead: deque[Path] = deque()

    def named() -> Iterator[tuple[Path, None]]:
        for path in photos:
            ahead.append(path)
            yield path, None

    for found in embedder.embed(named()):
        yield ahead.popleft(), found


def _embed_photos(
    sources: list[str], embedder: Embedder, notes: Notes, form: str, output: Path | None
) -> int:
    from facecli.embedder import Embedded
    from facecli.output import Output
    from facecli.records import embed_record, failed_record
    from facecli.templates_file import NpyOutput

    photos: list[Path] | Iterator[Path]
    if sources == ["-"]:
        photos = (Path(line) for line in _stdin_lines() if line)
        total = None
    else:
        photos = list(_photos(sources))
        total = len(photos)
        if not photos:
            raise UsageError(
                "no images there", path=sources[0], hint="give photos, or folders that hold some"
            )
    npy = output is not None and output.suffix == ".npy"
    columns = ["path", "face", "n_faces", "box", "probability", "embedder_id", "error"]
    sink: Output | NpyOutput
    if npy and output is not None:
        sink = NpyOutput(output, embedder.dim)
    else:
        sink = Output(columns, form=form, path=output, flatten=_embed_rows)
    failed = 0
    with sink, notes.progress("embedding") as tell:
        for done, (path, found) in enumerate(_embedded(photos, embedder), start=1):
            if isinstance(found, Embedded):
                for chosen in found.faces:
                    sink.emit(embed_record(found, chosen, embedder.id))
            else:
                failed += 1
                sink.emit(failed_record(path, found))
                notes.warn(str(found))
            tell(done, total)
    if npy:
        notes.say(f"{sink.count} templates of {embedder.dim} numbers in {output}, their table beside it")  # type: ignore[union-attr]
    return INPUT_ERROR if failed else 0


def _embed_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    from facecli.output import error_text

    return [{**record, "error": error_text(record)}]


def _embed_database(
    db: Path, embedder: Embedder, folders: Folders, notes: Notes, form: str, output: Path | None
) -> int:
    from facecli.output import Output

    _, report = _refreshed(db, embedder, folders, notes)
    columns = ["path", "code", "message"]
    with Output(columns, form=form, path=output) as sink:
        for failure in report.failures:
            sink.emit({"path": failure.path, "code": failure.code, "message": failure.message})
    notes.say(
        f"{db}: {report.n_subjects} people, {report.n_samples} photos with a template ({report.embedded} new,"
        f" {report.removed} gone), {len(report.failures)} without, embedder {embedder.id}"
    )
    for name in report.without_template:
        notes.warn(f"{name} cannot be found: no photo of theirs has a template")
    if report.ignored:
        notes.warn(
            f"{len(report.ignored)} images lie beside the people's folders and name nobody: {report.ignored[0]}"
        )
    return INPUT_ERROR if report.failures else 0
