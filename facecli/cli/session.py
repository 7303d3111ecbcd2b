"""What the shared options are turned into: an embedder, a rule, a database, pairs, scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facecli.cli.options import KeptOptions, RuleOptions
from facecli.cli.streams import stdin_bytes
from facecli.config import DEFAULT_FMR

if TYPE_CHECKING:
    from facecli.calibration.decision import Rule
    from facecli.cli.notes import Notes
    from facecli.gallery.gallery import Gallery
    from facecli.gallery.refresh import Refresh
    from facecli.templates.embedder import Embedder
    from facecli.trials.pairs import PairSet
    from facecli.trials.score_table import ScoreTable


@dataclass(frozen=True)
class Folders:
    """Where things are kept: `cache` can be deleted at any time, `user` cannot."""

    cache: Path
    user: Path


def open_embedder(folders: Folders, notes: Notes, options: KeptOptions) -> Embedder:
    """Return the embedder that the options ask for, with a bar while weights are fetched.

    The fields of the groups are parameters of `Embedder`; what a group leaves out is as it is by default there.
    """
    from facecli.cli.shell_embedder import ShellEmbedder

    with notes.progress("fetching weights", size=True) as tell:
        embedder = ShellEmbedder(
            **vars(options),
            cache_dir=folders.cache,
            user_dir=folders.user,
            notify=notes.say,
            progress=tell,
        )
    if embedder.spec.warning:
        notes.warn(embedder.spec.warning)
    return embedder


def open_rule(folders: Folders, embedder: Embedder, options: RuleOptions) -> Rule:
    """Return the rule that the options ask for."""
    from facecli.calibration.decision import make_rule
    from facecli.models.families import family

    return make_rule(
        embedder.id,
        user_dir=folders.user,
        threshold=options.threshold,
        fmr=options.fmr,
        calibration=options.calibration,
        beside=family(embedder.spec).calibration_beside(embedder.spec),
        prior=options.prior,
    )


UNRATED = "are on faces of a lower quality than the error rates hold for: nobody knows how often they err"


STRANGERS_MATCH = 0.01
"""FMR above which a threshold that was set by hand is remarked on."""


def warn_of_threshold(notes: Notes, rule: Rule, options: RuleOptions) -> None:
    """Say if a threshold that was set by hand, perhaps another tool's number, takes strangers for the same person."""
    if options.threshold is not None and rule.fmr is not None and rule.fmr > STRANGERS_MATCH:
        notes.warn(
            f"at the threshold {rule.threshold:g} {100 * rule.fmr:.3g} of 100 comparisons of different people match;"
            f" the calibration's own threshold for an FMR of {DEFAULT_FMR:g} comes without --threshold"
        )


def warn_of_quality(notes: Notes, rule: Rule, unrated: int) -> None:
    """Say how many decisions have no error rates, though the rule has."""
    if unrated and rule.fmr is not None:
        notes.warn(f"{unrated:,} decisions {UNRATED}")


def read_pairs(pairs: str, root: Path | None) -> PairSet:
    """Return the pairs of the file `pairs`, or of stdin for '-', whose paths are then relative to here."""
    from facecli.trials import pairs as library

    if pairs != "-":
        return library.read_pairs(pairs, root=root)
    here = root if root is not None else Path()
    return library.parse_pairs(stdin_bytes(), source="stdin", root=here)


def read_scores(scores: str) -> ScoreTable:
    """Return the scores of the file `scores`, or of stdin for '-'."""
    from facecli.trials import score_table as library

    if scores != "-":
        return library.read_scores(scores)
    return library.parse_scores(stdin_bytes(), source="stdin")


def open_gallery(db: Path, embedder: Embedder, folders: Folders, notes: Notes, no_refresh: bool) -> Gallery:
    """Return the database, brought up to date unless told not to; what failed there is a remark, not an error.

    Raises `DatabaseError` where nobody is enrolled: nobody can be found there, which is no answer.
    """
    from facecli.errors import DatabaseError
    from facecli.gallery.gallery import Gallery
    from facecli.gallery.refresh import enrolled_by_others

    if no_refresh:
        gallery = Gallery.open(db, embedder.id, embedder.dim, cache_dir=folders.cache)
        if not gallery.complete:
            notes.warn(f"{db}: an enrolment is going on or was cut off, photos may be missing")
        if not gallery.n_samples:
            raise DatabaseError("nobody is enrolled yet", path=db, hint="leave --no-refresh out")
        return gallery
    others = enrolled_by_others(db, embedder.id, cache_dir=folders.cache)
    if others:
        notes.say(
            f"{db}: enrolled under {', '.join(others)} so far; {embedder.id} enrols the photos anew"
            f" ('facecli db migrate {db} --model OLD --to NEW' compares the two first; --model OLD goes on as before)"
        )
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
    from facecli.gallery.refresh import refresh

    with notes.progress("enrolling") as tell:
        return refresh(db, embedder, cache_dir=folders.cache, progress=tell, notify=notes.say)
