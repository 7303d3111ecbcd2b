"""An evaluation as one HTML page that needs nothing else: no network, no script, pictures inside."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from facecli.errors import FaceError, UsageError, printable, reason
from facecli.evaluation.evaluation import Evaluation
from facecli.evaluation.groups import worst_ratio
from facecli.evaluation.plots import available, drawn
from facecli.evaluation.records import Record, bounds, figure_name, percent, place, tables
from facecli.evaluation.worst_cases import FALSE_MATCH, FALSE_NON_MATCH, WorstPair
from facecli.files.atomic import write_atomic
from facecli.photos.decode import decode
from facecli.photos.find import read

THUMBNAIL_PX = 160
MOST = 10_000
"""Rows of a table; so many failures still open quickly."""
NAME = "index.html"

CAPTIONS = {
    "det": "DET of verification: misses over false matches, both on normal-deviate axes.",
    "roc": "ROC of verification: the share of mated pairs found, over false matches.",
    "scores": "Similarities of mated and non-mated pairs, each as shares of its own kind.",
    "cmc": "CMC of identification: how often the right person is among the first so many.",
    "search": "DET of identification: misses over searches by strangers that find somebody.",
}

_STYLE = """
:root{color-scheme:light;--ink:#1f2933;--soft:#5a6775;--line:#d9dee4;--bad:#b3330f;--panel:#f6f8fa;--accent:#0b6e99}
*{box-sizing:border-box}
body{margin:0;color:var(--ink);background:#fff;font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 20px 64px}
h1{font-size:1.7rem;line-height:1.2;margin:.2em 0}
h2{font-size:1.2rem;margin:2.2em 0 .6em}
h3{font-size:1rem;margin:1.4em 0 .5em}
p{max-width:72ch;margin:.5em 0}
.soft{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:1.2em 0}
.card{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:1.5rem;line-height:1.25}
.card span{display:block;color:var(--soft);font-size:.86rem}
.warn{border-left:4px solid var(--bad);background:#fdf3ef;padding:8px 14px;margin:8px 0;max-width:none}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{padding:6px 12px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
td{white-space:nowrap}
td.long{white-space:normal;overflow-wrap:anywhere;min-width:14ch}
tr:last-child td{border-bottom:0}
th{background:var(--panel);font-weight:600;white-space:nowrap}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:20px}
figure{margin:0}
figure img{width:100%;height:auto;display:block}
figcaption{color:var(--soft);font-size:.88rem;margin-top:4px}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,250px),1fr));gap:14px}
.pair{border:1px solid var(--line);border-radius:8px;padding:10px;font-size:.84rem;overflow-wrap:anywhere}
.pair.error{border-color:var(--bad)}
.faces{display:grid;grid-template-columns:1fr 1fr;gap:6px;margin-bottom:6px}
.faces img,.gone{width:100%;aspect-ratio:1;object-fit:contain;background:var(--panel);border-radius:4px}
.gone{display:flex;align-items:center;justify-content:center;color:var(--soft);padding:6px;text-align:center}
.faces.one{grid-template-columns:1fr}
.pairs.people{grid-template-columns:repeat(auto-fill,minmax(130px,1fr));margin-top:14px}
.score{font-size:1rem;font-weight:600}
.tag{color:var(--bad);font-weight:600}
@media(max-width:600px){main{padding:14px 12px 40px}h1{font-size:1.35rem}table{font-size:.78rem}th,td{padding:5px 5px}}
@media print{.wide{overflow:visible;border:0}}
"""


def write(evaluation: Evaluation, folder: Path) -> Path:
    """Write the page to `folder`, made if need be; return its path. The same evaluation gives the same bytes.

    Raises `UsageError` when it cannot be written.
    """
    target = folder / NAME
    page = html(evaluation)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(target, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"the report cannot be written ({reason(error)})", path=folder) from error
    return target


def html(evaluation: Evaluation) -> str:
    """Return the page."""
    signature = evaluation.signature
    parts = [
        f"<h1>Evaluation of {escape(signature.embedder_id)}</h1>",
        f'<p class="soft">{escape(_summary(evaluation))}</p>',
        _cards(evaluation),
        *(f'<p class="warn">{escape(warning)}</p>' for warning in evaluation.warnings),
    ]
    # Tables in the order of a terminal; pictures after the figures.
    for title, columns, rows in tables(evaluation, most=MOST):
        if title == "Worst pairs":
            parts.append(_pairs(evaluation))
            continue
        if not title:
            parts.append("<h2>Signature</h2>")
        else:
            parts.append(f"<h2>{escape(title)}</h2>")
        parts += _notes(evaluation, title)
        parts.append(_table(columns, rows))
        if title == "Figures":
            parts.append(_plots(evaluation))
        elif title == "People with most errors":
            parts.append(_people(evaluation))
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Evaluation of {escape(signature.embedder_id)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _summary(evaluation: Evaluation) -> str:
    s = evaluation.signature
    sizes = [f"{s.people:,} people"] if s.people else []
    if s.samples:
        sizes.append(f"{s.samples:,} images")
    if s.mated:
        sizes.append(f"{s.mated:,} mated and {s.nonmated:,} non-mated comparisons")
    if s.mated_searches or s.nonmated_searches:
        sizes.append(
            f"{s.mated_searches:,} searches by enrolled people and {s.nonmated_searches:,} by strangers"
        )
    return f"{s.protocol[0].upper()}{s.protocol[1:]}: {', '.join(sizes)}."


def _cards(evaluation: Evaluation) -> str:
    """Return the few figures that people look for first."""
    wanted = [("fmr", "threshold"), ("fnmr", "threshold"), ("fnmr", "fmr 0.001"), ("eer", "")]
    wanted += [("rank", "rank 1"), ("fnir", "fpir 0.01")]
    cards = []
    for figure in evaluation.figures:
        if (figure.name, figure.at) not in wanted and not figure.at.endswith("folds"):
            continue
        at = {"threshold": f"at threshold {figure.threshold:.4f}" if figure.threshold is not None else ""}
        name = "Rank 1" if figure.name == "rank" else figure_name(figure.name)
        where = (
            "" if figure.name == "rank" else at.get(figure.at, f"at {place(figure.at)}" if figure.at else "")
        )
        interval = ""
        if figure.interval is not None:
            interval = f"95 %: {bounds(*figure.interval)}"
        cards.append(
            f'<div class="card"><span>{escape(name[0].upper() + name[1:])} {escape(where)}</span>'
            f"<b>{percent(figure.value)}</b><span>{interval}</span></div>"
        )
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _notes(evaluation: Evaluation, title: str) -> list[str]:
    if title == "Figures":
        text = (
            "FMR: non-mated pairs that match; FNMR: mated pairs that do not; EER: where both are equal. "
            "FNIR: searches that miss an enrolled person; FPIR: searches by strangers that find somebody. "
            "Images that failed count as misses. Intervals resample people, 95 %."
        )
        return [f'<p class="soft">{text}</p>']
    if title.startswith("Groups"):
        texts = []
        for name in ("fmr", "fnmr"):
            worst = worst_ratio(evaluation.groups, name)
            if worst is not None:
                texts.append(
                    f"{name.upper()} is {worst[2]:.2g} times as high for {worst[0]} as for {worst[1]}"
                )
        moral = "Where the intervals overlap, it may be chance. Pairs across groups are apart."
        return [
            f"<p>{escape('; '.join([*texts, '']).strip('; '))}. {moral}</p>" if texts else f"<p>{moral}</p>"
        ]
    if title.startswith("This system"):
        return [
            '<p class="soft">Difference: this less the other, in percentage points. Better: how sure it is that this'
            " system errs less; 50 % is a toss-up.</p>"
        ]
    if title.startswith("Failures"):
        total = len(evaluation.data.failures) + len(evaluation.data.errors)
        return [f"<p>{total:,} in all. Their comparisons are misses where mated, and no match where not.</p>"]
    return []


def _table(columns: list[str], rows: list[Record]) -> str:
    shown = [c for c in columns if any(row.get(c) not in (None, "") for row in rows)]
    numeric = {c for c in shown if all(isinstance(row.get(c), int | float | None) for row in rows)}
    if columns[0] != "key":
        numeric |= {
            c for c in shown if c in ("value", "95 %", "without failures", "this", "other", "difference")
        }
    head = "".join(f"<th{_class(c in numeric)}>{escape(c)}</th>" for c in shown)
    body = []
    for row in rows:
        cells = []
        for c in shown:
            text = _text(row.get(c))
            kind = ' class="long"' if len(text) > 40 and c not in numeric else _class(c in numeric)
            cells.append(f"<td{kind}>{escape(text)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _class(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(str(value))


def _plots(evaluation: Evaluation) -> str:
    shown = []
    for kind in available(evaluation):
        data = base64.b64encode(drawn(evaluation, kind, "svg")).decode()
        shown.append(
            f'<figure><img alt="{escape(CAPTIONS[kind])}" src="data:image/svg+xml;base64,{data}">'
            f"<figcaption>{escape(CAPTIONS[kind])}</figcaption></figure>"
        )
    return f'<h2>Curves</h2><div class="plots">{"".join(shown)}</div>'


def _pairs(evaluation: Evaluation) -> str:
    parts = ["<h2>Worst pairs</h2>"]
    titles = {
        FALSE_MATCH: "Different people who look most alike",
        FALSE_NON_MATCH: "Same person who looks least alike",
    }
    for kind, title in titles.items():
        pairs = [p for p in evaluation.pairs if p.kind == kind]
        if pairs:
            cards = "".join(_pair(evaluation, pair) for pair in pairs)
            parts.append(f'<h3>{title}</h3><div class="pairs">{cards}</div>')
    return "".join(parts)


def _pair(evaluation: Evaluation, pair: WorstPair) -> str:
    pictures = "".join(_picture(evaluation, name) for name in (pair.left, pair.right))
    faces = f'<div class="faces">{pictures}</div>' if _folder(evaluation) is not None else ""
    tag = f'<span class="tag">{pair.kind}</span>' if pair.error else '<span class="soft">no error</span>'
    names = [printable(pair.left), printable(pair.right)]
    return (
        f'<div class="pair{" error" if pair.error else ""}">{faces}'
        f'<span class="score">{pair.similarity:.4f}</span> {tag}<br>{escape(names[0])}<br>{escape(names[1])}</div>'
    )


def _people(evaluation: Evaluation) -> str:
    """Return a picture of each of the people with most errors, those of the table and the rest."""
    labelled = evaluation.data.labelled
    if labelled is None or labelled.root is None:
        return ""
    samples = labelled.samples
    cards = []
    for person in evaluation.people:
        name = next(
            path
            for path, subject in zip(samples.paths, samples.subjects, strict=True)
            if subject == person.subject
        )
        cards.append(
            f'<div class="pair"><div class="faces one">{_picture(evaluation, name)}</div>'
            f"<b>{escape(printable(person.subject))}</b><br>"
            f"{person.false_matches:,} false matches, {person.misses:,} misses</div>"
        )
    return f'<div class="pairs people">{"".join(cards)}</div>'


def _folder(evaluation: Evaluation) -> Path | None:
    """Return the folder that the photos compared lie in, None where there are no photos."""
    return None if evaluation.data.labelled is None else evaluation.data.labelled.root


def _picture(evaluation: Evaluation, name: str) -> str:
    folder = _folder(evaluation)
    if folder is None:
        return ""
    path = folder / name
    try:
        data = _thumbnail(path)
    except FaceError:
        return '<div class="gone">picture not there</div>'
    return f'<img alt="{escape(printable(name))}" src="data:image/jpeg;base64,{data}" loading="lazy">'


def _thumbnail(path: Path) -> str:
    from PIL import Image

    pixels = decode(read(path), path=path, at_least_px=2 * THUMBNAIL_PX).pixels
    picture = Image.fromarray(pixels)
    picture.thumbnail((2 * THUMBNAIL_PX, 2 * THUMBNAIL_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return base64.b64encode(buffer.getvalue()).decode()
