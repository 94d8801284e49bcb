"""What people are told, in English and Chinese: one catalogue for reports, the status page and ``reason.txt``.

A message is named by a code; its values are filled in by name.  A test holds that both languages exist for every code
and ask for the same values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LANGUAGES = ("en", "zh")

_TEXTS: dict[str, tuple[str, str]] = {
    # ---- the grade
    "good": ("good", "良好"),
    "fair": ("fair", "一般"),
    "poor": ("poor", "较差"),
    "not_measured": ("not measured", "未检测"),
    # ---- why it is not good
    "mouth_late": (
        "The mouth moves {ms} ms later than the sound.",
        "嘴部动作比声音晚 {ms} 毫秒。",
    ),
    "mouth_early": (
        "The mouth moves {ms} ms earlier than the sound.",
        "嘴部动作比声音早 {ms} 毫秒。",
    ),
    "does_not_follow": (
        "The mouth does not follow the sound: they agree no better than chance (correlation {r}).",
        "嘴部动作与声音不符:二者的相关性({r})不高于随机水平。",
    ),
    "sync_unsure": (
        "Whether the mouth follows the sound cannot be told surely (correlation {r}).",
        "无法确定嘴部动作是否与声音一致(相关性 {r})。",
    ),
    "sync_unknown": (
        "There is too little speech, or too little of the face, to compare mouth and sound.",
        "语音或面部画面太少,无法比较嘴部动作与声音。",
    ),
    "no_speech": ("No speech is heard in the sound.", "声音中没有听到语音。"),
    "other_sound": (
        "The film's sound is not the sound that was given (correlation {r}).",
        "影片的声音不是所给的声音(相关性 {r})。",
    ),
    "sound_moved": (
        "The film's sound begins {ms} ms later than the sound that was given.",
        "影片的声音比所给的声音晚 {ms} 毫秒开始。",
    ),
    "no_sound": ("The film has no sound.", "影片没有声音。"),
    "mouth_still": (
        "The mouth hardly moves while speech is heard.",
        "有语音时嘴部几乎不动。",
    ),
    "mouth_moves_little": (
        "The mouth moves only {percent} % as much as in the template.",
        "嘴部动作幅度只有模板的 {percent}%。",
    ),
    "mouth_soft": (
        "The mouth is blurred: {percent} % of the template's sharpness.",
        "嘴部模糊:清晰度只有模板的 {percent}%。",
    ),
    "seam": (
        "Around the mouth there are edges {times} times as strong as in the template.",
        "嘴部周围的边缘强度是模板的 {times} 倍。",
    ),
    "changed_elsewhere": (
        "The picture differs from the template outside the mouth ({db} dB).",
        "嘴部以外的画面与模板不同({db} dB)。",
    ),
    "pictures_held": (
        "{percent} % of the pictures repeat the one before.",
        "{percent}% 的画面与前一幅重复。",
    ),
    "passed_through": (
        "{percent} % of the film is left as the template has it, the longest time {seconds} s from second {at}.",
        "影片中 {percent}% 的画面保持模板原样,最长一段从第 {at} 秒起,持续 {seconds} 秒。",
    ),
    "lengths_differ": (
        "The picture lasts {picture} s and the sound {sound} s.",
        "画面长 {picture} 秒,声音长 {sound} 秒。",
    ),
    # ---- what to do about it
    "do:mouth_late": (
        "Check that sound and picture were not moved against each other afterwards; with wav2lip, set av_offset_ms.",
        "请检查之后声音与画面是否被错开;使用 wav2lip 时可调整 av_offset_ms。",
    ),
    "do:mouth_early": (
        "Check that sound and picture were not moved against each other afterwards; with wav2lip, set av_offset_ms.",
        "请检查之后声音与画面是否被错开;使用 wav2lip 时可调整 av_offset_ms。",
    ),
    "do:does_not_follow": (
        "Check that this is the sound that the film was made for; music or noise under the speech can mislead too.",
        "请确认这就是制作影片时使用的声音;语音下的音乐或噪声也可能造成误判。",
    ),
    "do:sync_unsure": (
        "Watch it: soft, very fast or noisy speech is hard to measure.",
        "请人工观看:轻声、语速很快或有噪声的语音难以检测。",
    ),
    "do:no_speech": ("Check the sound file.", "请检查声音文件。"),
    "do:no_sound": ("Check the sound file.", "请检查声音文件。"),
    "do:mouth_still": (
        "Use a template whose face is larger, turned to the camera, and speaks for at least 8 s.",
        "请使用面部较大、正对镜头、说话至少 8 秒的模板。",
    ),
    "do:mouth_moves_little": (
        "Use clearer speech, or a template that speaks for at least 8 s.",
        "请使用更清晰的语音,或说话至少 8 秒的模板。",
    ),
    "do:mouth_soft": (
        "Use a sharper template that speaks for at least 8 s; a lower crf helps against blur by encoding.",
        "请使用更清晰、说话至少 8 秒的模板;较低的 crf 可减少编码造成的模糊。",
    ),
    "do:seam": (
        "Use a template with even light on the lower face and without hands or hair before it.",
        "请使用下半脸光线均匀、没有手或头发遮挡的模板。",
    ),
    "do:pictures_held": (
        "Use a template with a constant frame rate.",
        "请使用帧率恒定的模板。",
    ),
    "do:passed_through": (
        "Use a template whose face stays in view, turned to the camera, with nothing before the mouth.",
        "请使用面部始终可见、正对镜头、嘴部无遮挡的模板。",
    ),
}


def say(language: str, code: str, values: Mapping[str, Any] | None = None) -> str:
    """The message in a language of ``LANGUAGES``; a code without a text is its own text."""
    texts = _TEXTS.get(code)
    if texts is None:
        return code
    return texts[LANGUAGES.index(language)].format(**(values or {}))


def advice(language: str, code: str) -> str:
    """What to do about a reason; empty where nothing can be said."""
    return say(language, f"do:{code}") if f"do:{code}" in _TEXTS else ""


def told(reasons: Sequence[Mapping[str, Any]], language: str = "en") -> list[dict[str, Any]]:
    """The reasons of a grade with their sentences, as the film's log has them."""
    out = []
    for reason in reasons:
        code = reason["code"]
        out.append({**reason, "message": say(language, code, reason["values"]), "advice": advice(language, code)})
    return out


def codes() -> dict[str, tuple[str, str]]:
    """Every message there is."""
    return dict(_TEXTS)
