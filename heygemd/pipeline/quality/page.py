"""``<name>.report.html``: what was measured of a film, on one page that opens from a share by a double click.

Pure: figures and ready pictures in, one self-contained page out.  No script, no outside resource; every text that
people gave is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from heygemd import __version__
from heygemd.common.messages import advice, say
from heygemd.contract.figures import Figures

WIDTH, HEIGHT = 960, 150  # of the curves, px

STYLE = """
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans","Noto Sans CJK SC","Microsoft YaHei",sans-serif;
 margin:0;background:#f4f5f7;color:#1c2430}
main{max-width:1060px;margin:0 auto;padding:24px}
section{background:#fff;border:1px solid #dfe3e8;border-radius:8px;padding:16px 20px;margin:16px 0}
h1{font-size:22px;margin:0 0 4px;overflow-wrap:anywhere}h2{font-size:16px;margin:0 0 10px}
.grade{display:inline-block;padding:2px 14px;border-radius:14px;color:#fff;font-weight:600}
.good{background:#1a7f4b}.fair{background:#b7791f}.poor{background:#c0392b}.none{background:#68707c}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:4px 10px 4px 0;vertical-align:top}
th{font-weight:500;color:#5a6473;width:46%}
.small{color:#5a6473;font-size:13px}ul{margin:6px 0 0;padding-left:20px}
.pairs,.strip{display:flex;gap:6px;overflow-x:auto}figure{margin:0;flex:0 0 auto}
.pairs img{width:150px;display:block}.strip img{width:96px;display:block}
figcaption{font-size:12px;color:#5a6473}svg{width:100%;height:auto;display:block}
"""

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Film report", "影片检测报告"),
    "says": ("says", "说出"),
    "not_measured": ("The film could not be measured: {problem}", "影片无法检测：{problem}"),
    "fine": ("Nothing is wrong with what was measured.", "检测到的各项均正常。"),
    "sync": ("Mouth and sound", "口型与声音"),
    "picture": ("Picture", "画面"),
    "structure": ("File", "文件"),
    "curves": ("The sound (grey), how far it opens a mouth (blue), and the mouth in the film (orange)",
               "声音（灰）、声音对应的口型开合（蓝）与影片中的口型开合（橙）"),
    "timeline": ("Timeline: looked at (green), left as the template has it (red), pictures held (orange)",
                 "时间线：已检测（绿）、保持模板原样（红）、重复画面（橙）"),
    "pairs": ("Template above, film below", "上：模板；下：影片"),
    "film_only": ("Frames of the film", "影片画面"),
    "strip": ("The mouth, every second frame", "嘴部（每两帧一幅）"),
    "av_offset_ms": ("av_offset_ms in [wav2lip] that would make it 0", "使其为 0 的 [wav2lip] av_offset_ms"),
    "offset_ms": ("mouth against sound, ms (more: late)", "口型相对声音（毫秒，正数为晚）"),
    "confidence": ("… how sure", "可信度"),
    "r": ("correlation of mouth and sound (by chance: {chance_r})", "口型与声音的相关性（随机：{chance_r}）"),
    "articulation": ("movement of the lips, template = 1", "嘴唇动作幅度（模板 = 1）"),
    "silence_movement": ("movement in silence, speech = 1", "静音时的动作（说话时 = 1）"),
    "closures": ("closed lips (p, b, m) seen, of {heard}", "可见的闭唇音(p、b、m)，共 {heard} 处"),
    "sharpness": ("sharpness of the mouth, template = 1", "嘴部清晰度（模板 = 1）"),
    "seam": ("edges around the mouth, template = 1", "嘴部周围边缘（模板 = 1）"),
    "identity": ("likeness of the face by the imported model, 1 = the same", "导入模型判断的面部相似度（1 = 相同）"),
    "outside_db": ("likeness outside the mouth, dB", "嘴部以外的相似度(dB)"),
    "held_percent": ("pictures held, %", "重复画面(%)"),
    "jumps_per_minute": ("sudden changes of the mouth, a minute", "嘴部突变（每分钟）"),
    "passed_percent": ("left as the template has it, %", "保持模板原样(%)"),
    "frames": ("frames", "帧数"),
    "fps": ("frames a second", "帧率"),
    "picture_seconds": ("picture, s", "画面长度（秒）"),
    "sound_seconds": ("sound, s", "声音长度（秒）"),
    "mark": ("marked as made by a machine", "人工智能生成合成隐式标识"),
    "label": ("labelled for people to see", "人工智能生成合成显式标识"),
    "yes": ("yes", "有"), "no": ("no", "无"),
    "looked": ("{frames} of {of} frames were looked at; the figures are of these.",
               "共 {of} 帧，检测了其中 {frames} 帧；数值来自这些画面。"),
    "made_by": ("Measured by heygemd {version}; engine {engine}.", "由 heygemd {version} 检测；引擎：{engine}。"),
    "high": ("high", "高"), "low": ("low", "低"), "none": ("none", "无"),
}  # fmt: skip

_SYNC = ("offset_ms", "av_offset_ms", "confidence", "r", "articulation", "silence_movement")
_PICTURE = ("sharpness", "seam", "identity", "outside_db", "held_percent", "jumps_per_minute", "passed_percent")
_STRUCTURE = ("frames", "fps", "picture_seconds", "sound_seconds")


@dataclass(frozen=True, slots=True)
class Views:
    """What is shown.  Pictures are data URIs with their second in the film; curves are 0..1 at ``times``, in seconds;
    ``loudness`` 0..1 is spread evenly over ``seconds``."""

    seconds: float = 0.0
    pairs: Sequence[tuple[float, str, str | None]] = ()  # film, template
    strip: Sequence[tuple[float, str]] = ()
    times: Sequence[float] = ()
    seen: Sequence[float] = ()
    heard: Sequence[float] = ()
    loudness: Sequence[float] = ()
    passed: Sequence[tuple[float, float]] = field(default_factory=tuple)  # seconds


class _Word(Protocol):
    """A text of ``_WORDS`` in the page's language, with its values filled in, escaped for HTML."""

    def __call__(self, name: str, **values: object) -> str: ...


def page(quality: Figures, views: Views, video: str, audio: str, engine: str, language: str = "en") -> str:
    """The page.  ``quality`` is what ``pipeline.quality.report`` gives; ``video`` and ``audio`` the inputs' names."""

    def word(name: str, **values: object) -> str:
        return html.escape(_WORDS[name][language == "zh"].format(**values))

    grade = quality.get("grade")
    parts = [
        f"<h1>{html.escape(video)} {word('says')} {html.escape(audio)}</h1>",
        f'<p><span class="grade {grade or "none"}">{html.escape(say(language, grade or "not_measured"))}</span></p>',
        _reasons(quality, language, word),
        _curves(quality, views, word),
        _timeline(quality, views, word),
        _figures(quality, word),
        _pictures(views, word),
        f'<p class="small">{word("made_by", version=__version__, engine=engine)}</p>',
    ]
    title = html.escape(f"{_WORDS['title'][language == 'zh']}: {video}")
    return (
        f'<!DOCTYPE html>\n<html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{STYLE}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _reasons(quality: Figures, language: str, word: _Word) -> str:
    if quality.get("grade") is None:
        return f"<section><p>{word('not_measured', problem=quality.get('problem', ''))}</p></section>"
    if not quality["reasons"]:
        return f"<section><p>{word('fine')}</p></section>"
    rows = []
    for reason in quality["reasons"]:
        what, todo = say(language, reason["code"], reason["values"]), advice(language, reason["code"])
        mark = f'<span class="grade {reason["level"]}">{html.escape(say(language, reason["level"]))}</span>'
        rows.append(f'<p>{mark} {html.escape(what)}<br><span class="small">{html.escape(todo)}</span></p>')
    return f"<section>{''.join(rows)}</section>"


def _figures(quality: Figures, word: _Word) -> str:
    sync, file = quality.get("sync", {}), quality.get("structure", {})
    rows = _rows(sync, _SYNC, word)
    closed = sync.get("closures")
    if closed is not None and closed["seen"] is not None:
        rows.append((word("closures", heard=closed["heard"]), f"{100 * closed['seen']:.0f} %"))
    of_file = _rows(file, _STRUCTURE, word)
    if "mark" in file:
        of_file.append((word("mark"), word("yes" if file["mark"] else "no")))
    if file.get("label") is not None:
        of_file.append((word("label"), word("yes" if file["label"] else "no")))
    tables = (("sync", rows), ("picture", _rows(quality.get("picture", {}), _PICTURE, word)), ("structure", of_file))
    return "".join(_table(word(name), lines, word) for name, lines in tables if lines)


def _rows(values: Mapping[str, object], keys: Sequence[str], word: _Word) -> list[tuple[str, object]]:
    """The name and the value of each figure that is known."""
    chance = values.get("chance_r")
    return [
        (word(key, chance_r=chance) if key == "r" else word(key), values[key])
        for key in keys
        if values.get(key) is not None
    ]


def _table(title: str, rows: Sequence[tuple[str, object]], word: _Word) -> str:
    cells = "".join(f"<tr><th>{name}</th><td>{_shown(value, word)}</td></tr>" for name, value in rows)
    return f"<section><h2>{title}</h2><table>{cells}</table></section>"


def _shown(value: object, word: _Word) -> str:
    if isinstance(value, str) and value in ("high", "low", "none"):
        return word(value)
    return html.escape(f"{value:g}" if isinstance(value, float) else str(value))


def _curves(quality: Figures, views: Views, word: _Word) -> str:
    if not views.loudness or not views.seconds:
        return ""
    half = HEIGHT / 2
    step = WIDTH / len(views.loudness)
    heights = [v * half * 0.95 for v in views.loudness]
    bars = "".join(f"M{n * step:.1f} {half - h:.1f}V{half + h:.1f}" for n, h in enumerate(heights))
    lines = "".join(
        f'<path d="{_path(views.times, values, views.seconds)}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
        for values, colour in ((views.heard, "#2563c9"), (views.seen, "#e07b1a"))
    )
    measured = quality.get("measured")
    looked = word("looked", frames=measured["frames"], of=measured["of"]) if measured else ""
    note = f'<p class="small">{looked}</p>' if measured else ""
    return (
        f'<section><h2>{word("curves")}</h2><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f'<path d="{bars}" stroke="#c3c9d2" stroke-width="{max(0.6, step * 0.7):.2f}"/>{lines}</svg>'
        f"{_axis(views.seconds)}{note}</section>"
    )


def _path(times: Sequence[float], values: Sequence[float], seconds: float) -> str:
    """Broken where time leaps: only stretches of a long film are looked at."""
    words = []
    before = None
    for t, v in zip(times, values, strict=True):
        go = "M" if before is None or t - before > 0.5 else "L"
        words.append(f"{go}{t / seconds * WIDTH:.1f} {(1 - v) * (HEIGHT - 8) + 4:.1f}")
        before = t
    return "".join(words)


def _axis(seconds: float) -> str:
    step = next((s for s in (1, 2, 5, 10, 30, 60, 300, 600) if seconds / s <= 12), 1800)
    marks = "".join(
        f'<text x="{s / seconds * WIDTH:.0f}" y="11" font-size="11" fill="#5a6473">{s} s</text>'
        for s in range(0, int(seconds) + 1, step)
    )
    return f'<svg viewBox="0 0 {WIDTH} 14">{marks}</svg>'


def _timeline(quality: Figures, views: Views, word: _Word) -> str:
    frames, measured = quality.get("structure", {}).get("frames"), quality.get("measured")
    if not frames or not views.seconds:
        return ""
    rate = frames / views.seconds

    def bar(first: float, last: float, colour: str, y: int) -> str:
        x, width = first / views.seconds * WIDTH, max(1.5, (last - first) / views.seconds * WIDTH)
        return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="8" fill="{colour}"/>'

    bars = [f'<rect x="0" y="4" width="{WIDTH}" height="24" fill="#eceff3"/>']
    bars += [bar(a / rate, (b + 1) / rate, "#7cc49c", 4) for a, b in (measured["ranges"] if measured else [])]
    bars += [bar(a, b, "#c0392b", 12) for a, b in views.passed]
    held = quality.get("picture", {}).get("held", [])
    bars += [bar(a / rate, (b + 1) / rate, "#e07b1a", 20) for a, b in held]
    drawn = f'<svg viewBox="0 0 {WIDTH} 32">{"".join(bars)}</svg>'
    return f"<section><h2>{word('timeline')}</h2>{drawn}{_axis(views.seconds)}</section>"


def _pictures(views: Views, word: _Word) -> str:
    out = ""
    if views.pairs:
        both = any(template for _, _, template in views.pairs)
        figures = "".join(
            f"<figure>{_image(template)}{_image(film)}<figcaption>{second:.2f} s</figcaption></figure>"
            for second, film, template in views.pairs
        )
        title = word("pairs") if both else word("film_only")
        out += f'<section><h2>{title}</h2><div class="pairs">{figures}</div></section>'
    if views.strip:
        figures = "".join(
            f"<figure>{_image(uri)}<figcaption>{second:.2f} s</figcaption></figure>" for second, uri in views.strip
        )
        out += f'<section><h2>{word("strip")}</h2><div class="strip">{figures}</div></section>'
    return out


def _image(uri: str | None) -> str:
    return f'<img src="{html.escape(uri)}" alt="">' if uri else ""
