"""The catalogue of messages in English and Chinese, for reports, the status page and ``reason.txt``.

A message is named by a code; its values are filled in by name.  A test holds that both languages exist for every code
and ask for the same values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

LANGUAGES = ("en", "zh")

_TEXTS: dict[str, tuple[str, str]] = {
    # ---- what lies over the pictures: GB 45438-2025 wants both "AI" and "generated" named
    "label": ("AI generated", "人工智能生成"),
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
        "The mouth does not follow the sound: they agree no better than by chance (correlation {r}).",
        "嘴部动作与声音不符：二者的相关性（{r}）不高于随机水平。",
    ),
    "listeners_disagree": (
        "Two ways of listening place the sound {ms} ms apart: its offset to the mouth is uncertain.",
        "两种听音方法得到的声音位置相差 {ms} 毫秒：声音与嘴部的偏差不确定。",
    ),
    "sync_unsure": (
        "It is uncertain whether the mouth follows the sound (correlation {r}).",
        "无法确定嘴部动作是否与声音一致（相关性 {r}）。",
    ),
    "sync_unknown": (
        "Too little speech or too little of the face to compare mouth and sound.",
        "语音或面部画面太少，无法比较嘴部动作与声音。",
    ),
    "label_missing": (
        "The AI label is not visible in the film.",
        "影片中看不到应有的显式标识。",
    ),
    "no_speech": ("The sound contains no audible speech.", "声音中没有听到语音。"),
    "other_sound": (
        "The film's sound differs from the given sound (correlation {r}).",
        "影片的声音不是所给的声音（相关性 {r}）。",
    ),
    "sound_moved": (
        "The film's sound starts {ms} ms later than the given sound.",
        "影片的声音比所给的声音晚 {ms} 毫秒开始。",
    ),
    "no_sound": ("The film has no sound.", "影片没有声音。"),
    "mouth_still": (
        "The mouth hardly moves during speech.",
        "有语音时嘴部几乎不动。",
    ),
    "mouth_moves_little": (
        "The mouth moves only {percent} % as much as in the template.",
        "嘴部动作幅度只有模板的 {percent}%。",
    ),
    "mouth_soft": (
        "The mouth is blurred: {percent} % of the template's sharpness.",
        "嘴部模糊：清晰度只有模板的 {percent}%。",
    ),
    "seam": (
        "Edges around the mouth are {times} times as strong as in the template.",
        "嘴部周围的边缘强度是模板的 {times} 倍。",
    ),
    "changed_elsewhere": (
        "The picture differs from the template outside the mouth ({db} dB).",
        "嘴部以外的画面与模板不同（{db} dB）。",
    ),
    "pictures_held": (
        "{percent} % of the frames repeat the previous frame.",
        "{percent}% 的帧与前一帧重复。",
    ),
    "passed_through": (
        "{percent} % of the film is unchanged from the template; the longest stretch lasts {seconds} s, from "
        "second {at}.",
        "影片中 {percent}% 的画面保持模板原样，最长一段从第 {at} 秒起，持续 {seconds} 秒。",
    ),
    "not_marked": (
        "The film's metadata lacks the mark of AI-generated content.",
        "影片的元数据中没有人工智能生成合成内容的隐式标识。",
    ),
    "lengths_differ": (
        "The picture lasts {picture} s, the sound {sound} s.",
        "画面长 {picture} 秒，声音长 {sound} 秒。",
    ),
    # ---- what to do about it
    "do:mouth_late": (
        "Check whether sound and picture were shifted after rendering; with wav2lip, set av_offset_ms.",
        "请检查之后声音与画面是否被错开；使用 wav2lip 时可调整 av_offset_ms。",
    ),
    "do:listeners_disagree": (
        "Watch the film: if it looks in sync, ignore this.",
        "请观看成片：若看起来同步，可忽略此项。",
    ),
    "do:mouth_early": (
        "Check whether sound and picture were shifted after rendering; with wav2lip, set av_offset_ms.",
        "请检查之后声音与画面是否被错开；使用 wav2lip 时可调整 av_offset_ms。",
    ),
    "do:does_not_follow": (
        "Check that the film was made for this sound; music or noise under the speech can also mislead the "
        "measurement.",
        "请确认这就是制作影片时使用的声音；语音下的音乐或噪声也可能造成误判。",
    ),
    "do:label_missing": ("Make the film again.", "请重新制作影片。"),
    "do:sync_unsure": (
        "Watch the film: soft, very fast or noisy speech is hard to measure.",
        "请人工观看：轻声、语速很快或有噪声的语音难以检测。",
    ),
    "do:no_speech": ("Check the sound file.", "请检查声音文件。"),
    "do:no_sound": ("Check the sound file.", "请检查声音文件。"),
    "do:mouth_still": (
        "Use a template with a larger face that looks into the camera and speaks for at least 8 s.",
        "请使用面部较大、正对镜头、说话至少 8 秒的模板。",
    ),
    "do:mouth_moves_little": (
        "Use clearer speech, or a template that speaks for at least 8 s.",
        "请使用更清晰的语音，或说话至少 8 秒的模板。",
    ),
    "do:mouth_soft": (
        "Use a sharper template that speaks for at least 8 s; a lower crf reduces blur from encoding.",
        "请使用更清晰、说话至少 8 秒的模板；较低的 crf 可减少编码造成的模糊。",
    ),
    "do:seam": (
        "Use a template with even light on the lower face and no hands or hair in front of it.",
        "请使用下半脸光线均匀、没有手或头发遮挡的模板。",
    ),
    "do:pictures_held": (
        "Use a template with a constant frame rate.",
        "请使用帧率恒定的模板。",
    ),
    "do:passed_through": (
        "Use a template in which the face stays in view and looks into the camera, with nothing in front of the mouth.",
        "请使用面部始终可见、正对镜头、嘴部无遮挡的模板。",
    ),
    # ---- the status page
    "page:title": ("Films: {line}", "影片制作：{line}"),
    "page:at": ("Updated {at}. Refreshes automatically.", "更新时间 {at}；本页会自动刷新。"),
    "page:idle": ("Idle: drop a sound file and a video into the inbox.", "空闲：请把声音和视频放入收件夹。"),
    "page:idle_waiting": (
        "No film in progress. Files in the inbox are waiting; the reasons are below.",
        "目前没有在制作。收件夹中的文件正在等待，原因见下。",
    ),
    "page:held_by": ("Used by: {who}.", "占用者：{who}。"),
    "page:all_wait": (
        "No film can start now; the reasons are below. Waiting films start by themselves.",
        "目前无法开始新的影片：原因见下。条件满足后会自动继续。",
    ),
    "page:state_running": ("Running.", "正在工作。"),
    "page:state_paused": ("Paused by the administrator: no new film is started.", "管理员已暂停：不再开始新的影片。"),
    "page:state_stopping": (
        "The service is stopping; it continues at its next start.",
        "服务正在停止，下次启动后继续。",
    ),
    "page:state_stopped": ("The service is not running.", "服务未运行。"),
    "page:running": ("In progress", "正在制作"),
    "page:elsewhere": (
        "A film of another line is in progress; yours follow in turn.",
        "正在制作其他产线的影片，请等候。",
    ),
    "page:stage": ("step: {stage}", "步骤：{stage}"),
    "stage:probe": ("checking the files", "检查文件"),
    "stage:audio": ("reading the sound", "读取声音"),
    "stage:template": ("reading the video", "读取视频"),
    "stage:face": ("tracking the face", "跟踪人脸"),
    "stage:lips": ("computing mouth shapes", "计算口型"),
    "stage:plan": ("planning", "规划"),
    "stage:shape": ("planning", "规划"),
    "stage:choose": ("planning", "规划"),
    "stage:bank": ("planning", "规划"),
    "stage:render": ("rendering frames", "生成画面"),
    "stage:command": ("running the external program", "外部程序处理中"),
    "stage:label": ("adding the AI label", "添加显式标识"),
    "stage:verify": ("verifying the film", "校验影片"),
    "stage:report": ("measuring the film", "检测影片"),
    "page:starting": ("starting", "正在开始"),
    "page:fps": ("{fps} frames per second", "每秒 {fps} 帧"),
    "page:left": ("about {time} left", "约剩 {time}"),
    "page:queue": ("Queue", "排队"),
    "page:next": ("waits for its turn", "等候中"),
    "page:since": ("since {at}", "自 {at} 起"),
    "page:waiting": ("In the inbox, not started", "收件夹中，尚未开始"),
    "page:delivered": ("Delivered", "已交付"),
    "page:held": ("poor; held in review", "质量较差，已放入 review 待检"),
    "page:report": ("report", "检测报告"),
    "page:failed": ("Failed", "未能完成"),
    "page:failed_hint": (
        "The files are in the folder {folder}, with a reason.txt. Fix the problem and drop the files again.",
        "文件在 {folder} 文件夹中，附有 reason.txt。请按说明处理后重新放入。",
    ),
    "page:state_line_paused": (
        "Paused. Remove the file PAUSE from the inbox to continue.",
        "已暂停。请删除收件夹中的 PAUSE 文件以继续。",
    ),
    "page:orders": ("Commands given by files", "文件夹指令"),
    # ---- answers to orders that are given by files
    "order:paused": (
        "Paused: no new film is started until the file PAUSE is removed.",
        "已暂停：删除 PAUSE 文件之前不再开始新的影片。",
    ),
    "order:resumed": ("The file PAUSE was removed: films are made again.", "PAUSE 文件已删除：继续制作影片。"),
    "order:cancelled": (
        "{name}: cancelled ({count}). The files are moved to the folder for failed jobs.",
        "{name}：已取消（{count} 项）。文件将移到失败文件夹。",
    ),
    "order:again": ("{name}: queued again ({count}).", "{name}：将重新制作（{count} 项）。"),
    "order:too_late": (
        "{name}: nothing to cancel; the job is finished or has already ended.",
        "{name}：已无可取消的任务，任务已完成或已结束。",
    ),
    "order:unknown": (
        "{name}: no job of this name was found. Files that are still in the inbox can simply be removed.",
        "{name}：找不到该名称对应的任务。仍在收件夹中的文件可直接取走。",
    ),
    "order:refused": ("{name}: refused. {why}", "{name}：未执行。{why}"),
    # ---- why a job failed: in English the error's own sentence says it
    "why:no_face": ("", "视频中找不到人脸。请使用正对镜头、头部端正的视频。"),
    "why:face_too_small": ("", "人脸太小。请使用更近或更清晰的画面。"),
    "why:undecodable": ("", "文件无法解码。请重新导出为 MP4(H.264)或 WAV。"),
    "why:truncated": ("", "文件不完整。请重新复制。"),
    "why:empty_file": ("", "文件为空（0 字节）。请重新复制。"),
    "why:empty_audio": ("", "声音长度为零。请检查声音文件。"),
    "why:no_video": ("", "文件中没有画面。"),
    "why:no_audio": ("", "文件中没有声音。"),
    "why:not_media": ("", "这不是音频或视频文件。"),
    "why:missing": ("", "文件已不在原处。请重新放入。"),
    "why:unreadable": ("", "文件无法读取。请检查权限后重新放入。"),
    "why:not_regular": ("", "这是快捷方式或特殊文件。请复制文件本身。"),
    "why:bad_size": ("", "画面尺寸无法使用。"),
    "why:bad_rate": ("", "帧率无法使用。"),
    "why:request": ("", "任务要求有误。"),
    "why:interrupted": ("", "任务多次中断，已放弃。"),
    "why:cancelled": ("", "任务已取消。"),
    "why:worker": ("", "制作程序意外结束。请联系管理员。"),
    "why:engine": ("", "影片未能制作完成。请联系管理员。"),
    "why:gpu_memory": ("", "显存不足。请联系管理员。"),
    "why:setup": ("", "服务器缺少所需组件。请联系管理员。"),
    "why:others_delivered": (
        "The other {good} of {all} films were delivered.",
        "其余 {good} 部（共 {all} 部）影片已交付。",
    ),
    "why:engine_not_allowed": ("", "该产线不允许使用这个引擎。"),
    "why:size_differs": ("", "画面尺寸不一致。"),
    "why:manifest": ("", "清单或任务文件有误，请改正后重新放入。"),
    # ---- the README in an inbox, for lines with settings of their own
    "readme:consent": (
        "  Each video or picture needs the consent of the person shown: anna.consent.pdf next to anna.mp4.",
        "  每个视频或照片都需要其中人物的同意书：在 anna.mp4 旁边放 anna.consent.pdf。",
    ),
    "readme:orders": (
        "  An empty file lesson.cancel cancels lesson, lesson.retry retries it; a file PAUSE stops new films "
        "until removed.",
        "  空文件 lesson.cancel 取消 lesson，lesson.retry 重新制作；PAUSE 文件存在期间全部暂停。",
    ),
    # ---- why something waits: in English its own sentence says it
    "waits:gpu_memory": ("", "任务需要 {need} MiB 显存；{gpu} 共 {total} MiB，目前空闲 {free} MiB。"),
    "waits:gpu_reserved": (
        "",
        "任务需要 {need} MiB 显存；{gpu} 空闲 {free} MiB，其中 {taken} MiB 已被另一个 heygemd 预留。",
    ),
    "waits:gpu_hot": ("", "{gpu} 温度为 {celsius} °C；高于 {most} °C 时任务等待。"),
    "waits:memory": ("", "任务需要 {need} MiB 内存，另须保留 {keep} MiB；目前可用 {free} MiB。"),
    "waits:disk": ("", "任务需要 {need} MiB 磁盘空间（{path}），另须保留 {keep} MiB；目前空闲 {free} MiB。"),
    "waits:quiet_hours": ("", "静默时段 {hours} 内不开始新的任务。"),
    "waits:picture": ("", "等待配对文件：名为 {like} 的视频或图片。"),
    "waits:sound": ("", "等待配对文件：名为 {like} 的声音文件。"),
    "waits:no_picture": ("", "长时间没有配对文件：请放入名为 {like} 的视频或图片，或取走此文件。"),
    "waits:no_sound": ("", "长时间没有配对文件：请放入名为 {like} 的声音文件，或取走此文件。"),
    "waits:same_name": ("", "{files} 同名，无法判断如何配对：请只保留一个声音文件和一个视频或图片，其余改名。"),
    "waits:arriving": ("", "{files} 仍在复制中。"),
    "waits:folder_arriving": ("", "等待文件夹全部复制完成。"),
    "waits:quiet": ("", "等待文件夹不再有变化。"),
    "waits:unfinished": ("", "{file} 似乎不完整（{why}）；若不再变化，稍后将按现状处理。"),
    "waits:manifest": ("", "等待读取 {file}。"),
    "waits:manifest_files": ("", "等待清单中列出但尚未放入的文件：{files}。"),
    "waits:consent": ("", "等待 {templates} 中人物的同意书：请在旁边放入 {files} 之类的文件。"),
    "waits:consent_empty": ("", "同意书文件为空，请放入完整的文件。"),
    "waits:consent_alone": ("", "这是同意书；旁边没有名为 {like} 的视频或图片。"),
    "waits:kind": ("", "不支持的文件类型。"),
    "waits:no_file": ("", "不是普通文件（链接等），不予处理。"),
    "why:no_consent": ("", "缺少本人同意书文件（<名称>.consent.*）。"),
}


def why(language: str, code: str | None) -> str:
    """The meaning of a reason code in a language other than English; empty if the catalogue has none."""
    return say(language, f"why:{code}") if f"why:{code}" in _TEXTS else ""


def waits(language: str, code: str | None, values: Mapping[str, object] | None, english: str) -> str:
    """Why something waits: ``english`` itself, or its code's text in a language that has one for it."""
    if language == "en" or f"waits:{code}" not in _TEXTS:
        return english
    try:
        return say(language, f"waits:{code}", values)
    except KeyError:  # another reason of the same kind, without the numbers
        return english


def say(language: str, code: str, values: Mapping[str, object] | None = None) -> str:
    """The message in a language of ``LANGUAGES``; a code without a text is its own text."""
    texts = _TEXTS.get(code)
    if texts is None:
        return code.removeprefix("stage:")
    return texts[LANGUAGES.index(language)].format(**(values or {}))


def advice(language: str, code: str) -> str:
    """Advice for a reason; empty if the catalogue has none."""
    return say(language, f"do:{code}") if f"do:{code}" in _TEXTS else ""


class MessageReason(TypedDict):
    """Why a film's grade is not good: a message's code, the grade that it costs, and the message's values."""

    code: str
    level: str
    values: Mapping[str, object]


class ExplainedReason(MessageReason):
    """The same with its sentences, as the film's log has it."""

    message: str
    advice: str


def explain(reasons: Sequence[MessageReason], language: str = "en") -> list[ExplainedReason]:
    """The reasons of a grade with their sentences in a language of ``LANGUAGES``."""
    return [
        {
            **reason,
            "message": say(language, reason["code"], reason["values"]),
            "advice": advice(language, reason["code"]),
        }
        for reason in reasons
    ]


def codes() -> dict[str, tuple[str, str]]:
    """The English and the Chinese text of every message, by its code."""
    return dict(_TEXTS)
