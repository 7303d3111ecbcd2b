"""What a user of the command line can do about an error of the library, in the words of the command line."""

from __future__ import annotations

from facecli.errors import FaceError

SHELL = {
    "check_repair": "'facecli db check {root} --repair' sets it aside, and the photos are enrolled again",
    "collect": "'facecli db gc {root}' removes it",
    "enrol": "'facecli embed --db {root}' enrols the photos",
    "enrol_or_look": (
        "'facecli embed --db {root}' enrols the photos, 'facecli db status {root}' says what is kept"
    ),
    "keep_photos": "delete those photos yourself, then the link, and run again without --photos",
    "open_kept": "{layout}; --no-refresh uses the templates that are kept",
    "refresh": "run without --no-refresh to enrol the photos",
    "refresh_damaged": "run without --no-refresh: the photos are enrolled again",
    "refresh_lost": "run without --no-refresh: what is lost is enrolled again",
    "rename_link": "'facecli db check {root} --repair' renames the link, and the photos are enrolled here",
    "repair_templates": "'facecli db check {root} --repair' forgets it, and the next refresh enrols it again",
    "same_limits": "give the --min-face it was enrolled with",
    "use_fmr": "use --fmr instead",
}
"""By the `advice` of an error; `{...}` are its `values`."""


def in_shell_words(error: FaceError) -> FaceError:
    """Return `error` with its hint put into the words of the command line, where there are some for it."""
    if error.advice in SHELL:
        error.hint = SHELL[error.advice].format(**error.values)
    return error


def shell_record(error: FaceError) -> dict[str, str]:
    """Return the JSON form of an error as commands write it."""
    return in_shell_words(error).record()
