"""``<name>.report.html``: what was measured of a film, on one page that opens from a share by a double click.

Pure: figures and ready pictures in, one self-contained page out; ``report.html.j2`` is its layout.  No script, no
outside resource; the template escapes every text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from heygemd import __version__
from heygemd.common.messages import advice, say
from heygemd.common.shipped import filled

WIDTH, HEIGHT = 960, 150  # of the curves, px

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Film report", "影片检测报告"),
    "says": ("says", "说出"),
    "not_measured": ("The film could not be measured: {problem}", "影片无法检测：{problem}"),
    "fine": ("The measurements show no problem.", "检测到的各项均正常。"),
    "sync": ("Mouth and sound", "口型与声音"),
    "picture": ("Picture", "画面"),
    "structure": ("File", "文件"),
    "curves": ("Sound (grey), mouth opening expected from the sound (blue), mouth opening in the film (orange)",
               "声音（灰）、声音对应的口型开合（蓝）与影片中的口型开合（橙）"),
    "timeline": ("Timeline: measured (green), unchanged from the template (red), repeated frames (orange)",
                 "时间线：已检测（绿）、保持模板原样（红）、重复画面（橙）"),
    "pairs": ("Template above, film below", "上：模板；下：影片"),
    "film_only": ("Frames of the film", "影片画面"),
    "strip": ("The mouth, every second frame", "嘴部（每两帧一幅）"),
    "av_offset_ms": ("av_offset_ms in [wav2lip] that makes this 0", "使其为 0 的 [wav2lip] av_offset_ms"),
    "offset_ms": ("offset of mouth to sound, ms (positive: late)", "口型相对声音（毫秒，正数为晚）"),
    "confidence": ("confidence of this offset", "可信度"),
    "r": ("correlation of mouth and sound (by chance: {chance_r})", "口型与声音的相关性（随机：{chance_r}）"),
    "articulation": ("lip movement, template = 1", "嘴唇动作幅度（模板 = 1）"),
    "silence_movement": ("lip movement in silence, in speech = 1", "静音时的动作（说话时 = 1）"),
    "closures": ("closed lips seen (p, b, m), of {heard}", "可见的闭唇音(p、b、m)，共 {heard} 处"),
    "sharpness": ("mouth sharpness, template = 1", "嘴部清晰度（模板 = 1）"),
    "seam": ("edges around the mouth, template = 1", "嘴部周围边缘（模板 = 1）"),
    "identity": ("face similarity by the imported model, identical = 1", "导入模型判断的面部相似度（1 = 相同）"),
    "outside_db": ("similarity outside the mouth, dB", "嘴部以外的相似度(dB)"),
    "held_percent": ("repeated frames, %", "重复画面(%)"),
    "jumps_per_minute": ("sudden changes of the mouth, per minute", "嘴部突变（每分钟）"),
    "passed_percent": ("unchanged from the template, %", "保持模板原样(%)"),
    "frames": ("frames", "帧数"),
    "fps": ("frames per second", "帧率"),
    "picture_seconds": ("picture, s", "画面长度（秒）"),
    "sound_seconds": ("sound, s", "声音长度（秒）"),
    "mark": ("AI mark in the metadata", "人工智能生成合成隐式标识"),
    "label": ("visible AI label", "人工智能生成合成显式标识"),
    "yes": ("yes", "有"), "no": ("no", "无"),
    "looked": ("{frames} of {of} frames were measured.",
               "共 {of} 帧，检测了其中 {frames} 帧；数值来自这些画面。"),
    "made_by": ("Measured by heygemd {version}; engine {engine}.", "由 heygemd {version} 检测；引擎：{engine}。"),
    "high": ("high", "高"), "low": ("low", "低"), "none": ("none", "无"),
}  # fmt: skip

_SYNC = ("offset_ms", "av_offset_ms", "confidence", "r", "articulation", "silence_movement")
_PICTURE = ("sharpness", "seam", "identity", "outside_db", "held_percent", "jumps_per_minute", "passed_percent")
_STRUCTURE = ("frames", "fps", "picture_seconds", "sound_seconds")


@dataclass(frozen=True, slots=True)
class ReportViews:
    """The pictures and curves of the page.

    Pictures are data URIs with their second in the film.  Curves are 0..1 at ``times``, in seconds; ``loudness`` 0..1
    is spread evenly over ``seconds``.
    """

    seconds: float = 0.0
    pairs: Sequence[tuple[float, str, str | None]] = ()  # film, template
    strip: Sequence[tuple[float, str]] = ()
    times: Sequence[float] = ()
    seen: Sequence[float] = ()
    heard: Sequence[float] = ()
    loudness: Sequence[float] = ()
    passed: Sequence[tuple[float, float]] = field(default_factory=tuple)  # seconds


Figures = Mapping[str, object]


def page(quality: Figures, views: ReportViews, video: str, audio: str, engine: str, language: str = "en") -> str:
    """The page.  ``quality`` is what ``pipeline.quality.report`` gives; ``video`` and ``audio`` the inputs' names."""
    words, grade = _Words(language), quality.get("grade")
    return filled(
        "report.html.j2",
        language=language, width=WIDTH, height=HEIGHT, version=__version__, word=words.word, say=words.say,
        video=video, audio=audio, engine=engine, views=views, grade=grade, problem=quality.get("problem", ""),
        reasons=[words.reason(reason) for reason in _list(quality, "reasons")], tables=_tables(quality, words),
        curves=_curves(views), timeline=_timeline(quality, views), marks=_marks(views.seconds),
        measured=_part(quality, "measured"), with_template=any(template for _, _, template in views.pairs),
    )  # fmt: skip


class _Words:
    """The page's words in one language, not yet escaped."""

    def __init__(self, language: str) -> None:
        self._language = language

    def word(self, name: str, **values: object) -> str:
        return _WORDS[name][self._language == "zh"].format(**values)

    def say(self, code: str) -> str:
        return say(self._language, code)

    def reason(self, reason: Figures) -> dict[str, str]:
        code = str(reason["code"])
        text, cure = say(self._language, code, _part(reason, "values")), advice(self._language, code)
        return {"level": str(reason["level"]), "text": text, "advice": cure}

    def value(self, value: object) -> str:
        """A figure as it is shown."""
        if value in ("high", "low", "none"):
            return self.word(str(value))
        return f"{value:g}" if isinstance(value, float) else str(value)

    def yes_or_no(self, value: object) -> str:
        return self.word("yes" if value else "no")


def _part(figures: Figures, name: str) -> Figures:
    """An object among the figures; empty if it is missing or ``None``."""
    value = figures.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(figures: Figures, name: str) -> list[Figures]:
    value = figures.get(name)
    return list(value) if isinstance(value, list | tuple) else []


def _ranges(figures: Figures, name: str) -> Iterable[tuple[int, int]]:
    """Ranges of frames, (first, last)."""
    value = figures.get(name)
    return ((first, last) for first, last in value) if isinstance(value, list | tuple) else ()


def _tables(quality: Figures, words: _Words) -> list[tuple[str, list[tuple[str, str]]]]:
    """By the name of the section: the rows, each a title and a value."""
    return [
        ("sync", _rows(_part(quality, "sync"), _SYNC, words)),
        ("picture", _rows(_part(quality, "picture"), _PICTURE, words)),
        ("structure", [*_rows(_part(quality, "structure"), _STRUCTURE, words),
                       *_marked(_part(quality, "structure"), words)]),
    ]  # fmt: skip


def _rows(figures: Figures, keys: Sequence[str], words: _Words) -> list[tuple[str, str]]:
    rows = [
        (words.word(key, chance_r=figures.get("chance_r")), words.value(figures[key]))
        for key in keys
        if figures.get(key) is not None
    ]
    closed = _part(figures, "closures")
    share = closed.get("seen")
    if isinstance(share, int | float):
        rows.append((words.word("closures", heard=closed["heard"]), f"{100 * share:.0f} %"))
    return rows


def _marked(file: Figures, words: _Words) -> Iterable[tuple[str, str]]:
    if "mark" in file:
        yield words.word("mark"), words.yes_or_no(file["mark"])
    if file.get("label") is not None:
        yield words.word("label"), words.yes_or_no(file["label"])


def _curves(views: ReportViews) -> dict[str, str] | None:
    """SVG paths in a box of WIDTH x HEIGHT."""
    if not views.loudness or not views.seconds:
        return None
    half, step = HEIGHT / 2, WIDTH / len(views.loudness)
    heights = [level * half * 0.95 for level in views.loudness]
    bars = "".join(f"M{n * step:.1f} {half - h:.1f}V{half + h:.1f}" for n, h in enumerate(heights))
    return {
        "loudness": bars, "bar_width": f"{max(0.6, step * 0.7):.2f}",
        "heard": _path(views.times, views.heard, views.seconds), "seen": _path(views.times, views.seen, views.seconds),
    }  # fmt: skip


def _path(times: Sequence[float], values: Sequence[float], seconds: float) -> str:
    """Broken where time leaps: only stretches of a long film are measured."""
    words = []
    before = None
    for t, v in zip(times, values, strict=True):
        go = "M" if before is None or t - before > 0.5 else "L"
        words.append(f"{go}{t / seconds * WIDTH:.1f} {(1 - v) * (HEIGHT - 8) + 4:.1f}")
        before = t
    return "".join(words)


def _marks(seconds: float) -> list[tuple[str, int]]:
    """The marks of the time axis: their place in px, and their second."""
    if not seconds:
        return []
    step = next((s for s in (1, 2, 5, 10, 30, 60, 300, 600) if seconds / s <= 12), 1800)
    return [(f"{s / seconds * WIDTH:.0f}", s) for s in range(0, int(seconds) + 1, step)]


def _timeline(quality: Figures, views: ReportViews) -> list[dict[str, str]] | None:
    """Bars from frame to frame: measured, unchanged from the template, and repeated."""
    frames = _part(quality, "structure").get("frames")
    if not isinstance(frames, int) or not frames or not views.seconds:
        return None
    rate = frames / views.seconds

    def bar(first: float, last: float, colour: str, y: int) -> dict[str, str]:
        x, width = first / views.seconds * WIDTH, max(1.5, (last - first) / views.seconds * WIDTH)
        return {"x": f"{x:.1f}", "y": str(y), "width": f"{width:.1f}", "colour": colour}

    measured = _ranges(_part(quality, "measured"), "ranges")
    held = _ranges(_part(quality, "picture"), "held")
    return [
        *(bar(first / rate, (last + 1) / rate, "#7cc49c", 4) for first, last in measured),
        *(bar(first, last, "#c0392b", 12) for first, last in views.passed),
        *(bar(first / rate, (last + 1) / rate, "#e07b1a", 20) for first, last in held),
    ]
