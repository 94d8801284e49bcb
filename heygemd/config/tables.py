"""The tables of ``config.toml`` as frozen dataclasses: each key with its default, its limits and its meaning.

The commented default file and the README's table come from here; ``load.py`` reads a file into them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from heygemd.common.messages import LANGUAGES
from heygemd.common.request import ENGINES, EXTENDS, FACES, LABEL_POSITIONS, PRESETS
from heygemd.config import checks
from heygemd.config.toml_schema import Rule

ON_POOR = ("deliver", "hold")
LABELS = ("off", "start", "always")
FINDERS = ("auto", "haar", "insightface")


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """Where the daemon keeps its own things, and how it stops."""

    state_dir: Annotated[
        Path, Rule("the journal and everything below; a local disk, never a share", check=checks.not_empty)
    ] = Path("/var/lib/heygemd")
    work_dir: Annotated[
        Path, Rule("where films are made, on a local disk with room; empty: state_dir/work", check=checks.not_home)
    ] = Path()
    models_dir: Annotated[
        Path,
        Rule("where imported models are kept (heygemd models import); empty: state_dir/models", check=checks.not_home),
    ] = Path()
    socket: Annotated[
        Path, Rule("what status, cancel and pause speak to; empty: state_dir/heygemd.sock", check=checks.not_home)
    ] = Path()
    log_file: Annotated[Path, Rule("the run log, JSON lines; empty: state_dir/heygemd.log", check=checks.not_home)] = (
        Path()
    )
    language: Annotated[str, Rule("en or zh: what people read in reports and status pages", choices=LANGUAGES)] = "en"
    log_level: Annotated[str, Rule("debug, info, warning or error", choices=("debug", "info", "warning", "error"))] = (
        "info"
    )
    log_mib: Annotated[int, Rule("the run log starts a new file at this size, in MiB", low=1, high=10_000)] = 20
    log_keep: Annotated[int, Rule("so many older run logs are kept", low=0, high=1000)] = 5
    stop_seconds: Annotated[
        float,
        Rule(
            "a job may end within this time when the daemon stops, else it starts anew later",
            low=0,
            high=86_400,
        ),
    ] = 20.0

    def __post_init__(self) -> None:
        """Empty paths become their places below ``state_dir``."""
        places = {
            "work_dir": "work",
            "models_dir": "models",
            "socket": "heygemd.sock",
            "log_file": "heygemd.log",
        }
        for name, below in places.items():
            if getattr(self, name) == Path():
                object.__setattr__(self, name, self.state_dir / below)


@dataclass(frozen=True, slots=True)
class IntakeConfig:
    """When something in an inbox counts as arrived."""

    watch: Annotated[
        str,
        Rule(
            "inotify, polling, or auto: polling where inotify is blind (cifs, NFS, FUSE)",
            choices=("auto", "inotify", "polling"),
        ),
    ] = "auto"
    poll_seconds: Annotated[float, Rule("time between two looks where an inbox is polled", low=0.05, high=3600)] = 2.0
    rescan_seconds: Annotated[
        float,
        Rule("time between two full looks at every inbox, whatever the events say", low=0.05, high=86_400),
    ] = 30.0
    settle_readings: Annotated[
        int, Rule("a file has arrived after so many equal looks (size, time, inode)", low=1, high=100)
    ] = 3
    settle_seconds: Annotated[float, Rule("… which span at least this time", low=0, high=3600)] = 3.0
    folder_seconds: Annotated[
        float, Rule("a job folder has arrived when nothing in it changed for this time", low=0, high=86_400)
    ] = 10.0
    incomplete_seconds: Annotated[
        float,
        Rule(
            "a file that looks cut short is taken as it is after this time without a change",
            low=0,
            high=86_400,
        ),
    ] = 60.0
    partner_minutes: Annotated[
        float,
        Rule(
            "a lone file is named in the log after this time; a manifest's missing file fails its job",
            low=0,
            high=525_600,
        ),
    ] = 30.0
    max_jobs: Annotated[int, Rule("the most jobs that one manifest or job folder may ask for", low=1, high=100_000)] = (
        1000
    )
    max_manifest_kib: Annotated[int, Rule("the largest manifest that is read, in KiB", low=1, high=65_536)] = 1024
    share_seconds: Annotated[
        float,
        Rule("a line whose share has not answered for this time is called unavailable", low=0.1, high=3600),
    ] = 60.0


@dataclass(frozen=True, slots=True)
class RenderConfig:
    """How films are made, where the line, the folder or the job says nothing else."""

    engine: Annotated[
        str,
        Rule(
            "footage (the template's own pixels), wav2lip (a checkpoint), duix (a container) or command (your program)",
            choices=ENGINES,
        ),
    ] = "footage"
    device: Annotated[str, Rule("auto, cpu or cuda", choices=("auto", "cpu", "cuda"))] = "auto"
    crf: Annotated[int, Rule("quality of the film: 0 lossless, 18 visually so, 51 worst", low=0, high=51)] = 18
    preset: Annotated[str, Rule("effort of the encoder, ultrafast … veryslow", choices=PRESETS)] = "veryfast"
    encoder: Annotated[
        str,
        Rule(
            "auto (h264_nvenc where it works), libx264 or h264_nvenc",
            choices=("auto", "libx264", "h264_nvenc"),
        ),
    ] = "auto"
    extend: Annotated[
        str, Rule("speech longer than the template: bounce (to and fro), loop or hold", choices=EXTENDS)
    ] = "bounce"
    face: Annotated[str, Rule("which face speaks where there are several", choices=FACES)] = "largest"
    finder: Annotated[
        str,
        Rule("what looks for faces: auto (an imported model, else haar), haar or insightface", choices=FINDERS),
    ] = "auto"
    threads: Annotated[int, Rule("processor threads of a render; 0: all cores", low=0, high=1024)] = 0
    segment_seconds: Annotated[
        float, Rule("films are made in pieces of this length; a crash costs at most one", low=1, high=3600)
    ] = 30.0
    min_eye_px: Annotated[
        float,
        Rule(
            "faces whose eyes are closer than so many pixels are refused, not rendered badly",
            low=8,
            high=1000,
        ),
    ] = 40.0
    cache_mib: Annotated[
        int,
        Rule("what is learned of templates is kept in state_dir/cache, at most so much; 0: not at all", low=0),
    ] = 2048
    cache_days: Annotated[
        float, Rule("… and forgotten when it was not used for so many days (it shows faces)", low=0, high=3650)
    ] = 30.0


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What is left to others, and when enough is enough."""

    attempts: Annotated[int, Rule("a job whose worker died is begun so many times in all", low=1, high=100)] = 3
    stall_seconds: Annotated[float, Rule("a worker without progress for this time is killed", low=1, high=86_400)] = (
        300.0
    )
    idle_seconds: Annotated[
        float,
        Rule("an idle worker is kept warm for this time, then its memory is given back", low=0, high=86_400),
    ] = 60.0
    max_jobs: Annotated[
        int, Rule("a worker that has done so many jobs is replaced by a fresh one; 0: never", low=0, high=1_000_000)
    ] = 100
    max_hours: Annotated[float, Rule("a job that takes longer than this is stopped and fails", low=0.01, high=8760)] = (
        24.0
    )
    nice: Annotated[
        int, Rule("how much lower than the daemon's the renderer's priority on the processor is", low=0, high=19)
    ] = 5
    free_disk_mib: Annotated[int, Rule("no job starts that would leave less disk than this free, in MiB", low=0)] = 2048
    free_ram_mib: Annotated[int, Rule("no job starts that would leave less memory than this free, in MiB", low=0)] = (
        1024
    )


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """How jobs wait for a GPU that others use too."""

    devices: Annotated[
        tuple[str, ...], Rule("only these GPUs are used, by UUID (heygemd doctor shows it); empty: all")
    ] = ()
    hold_readings: Annotated[
        int, Rule("GPU memory counts as free when it was so in so many readings, a second apart", low=1, high=60)
    ] = 3
    ageing_minutes: Annotated[
        float,
        Rule("a waiting job loses at most so much time to smaller ones that overtake it", low=0, high=10_080),
    ] = 30.0
    alert_hours: Annotated[
        float, Rule("a job that has waited for so long is an error in the log, again after each such time", low=0.001)
    ] = 2.0
    quiet_hours: Annotated[
        str, Rule("no job starts in these hours of the day, such as 08:00-18:00", check=checks.hours)
    ] = ""
    max_celsius: Annotated[int, Rule("no job starts on a GPU hotter than this; 0: whatever it is", low=0, high=150)] = 0
    lock_dir: Annotated[
        Path,
        Rule(
            "where daemons that share a GPU agree; if it is not there, each is alone with state_dir",
            check=checks.not_home,
        ),
    ] = Path("/run/heygemd")


@dataclass(frozen=True, slots=True)
class CommandConfig:
    """The program behind the engine ``command``."""

    argv: Annotated[
        tuple[str, ...],
        Rule("the program and its arguments with {audio} {video} {output}; no shell", check=checks.placeholders),
    ] = ()
    gpu_need_mib: Annotated[
        int, Rule("the GPU memory it needs, in MiB: jobs wait until so much is free", low=0, high=10_000_000)
    ] = 0
    seconds: Annotated[float, Rule("it is killed after this time", low=1, high=604_800)] = 3600.0


@dataclass(frozen=True, slots=True)
class Wav2LipConfig:
    """The engine ``wav2lip``."""

    model: Annotated[
        str, Rule("which imported checkpoint, as heygemd models list names it; empty: the one imported last")
    ] = ""
    av_offset_ms: Annotated[
        float, Rule("moves the mouth against the sound: more is later, in milliseconds", low=-500, high=500)
    ] = 0.0
    sharpen: Annotated[
        float, Rule("share of the template's sharpness that mouths are brought to; 0: not at all", low=0, high=2)
    ] = 1.0
    batch: Annotated[int, Rule("frames that the network makes at a time; 0: what suits", low=0, high=512)] = 0


@dataclass(frozen=True, slots=True)
class DuixConfig:
    """The engine ``duix``: a Duix.Avatar (HeyGem) container on this machine or in its private network."""

    url: Annotated[
        str,
        Rule("where the container answers: http://, localhost or a private address, port", check=checks.private_url),
    ] = "http://127.0.0.1:8383"
    shared: Annotated[
        Path,
        Rule("the folder that the container has as /code/data; empty: there is no container", check=checks.not_home),
    ] = Path()
    part_seconds: Annotated[
        float, Rule("longer sound is cut at pauses and made in parts of at most so much", low=5, high=600)
    ] = 60.0
    seconds: Annotated[float, Rule("a part that takes longer than this is given up", low=10, high=86_400)] = 900.0
    poll_seconds: Annotated[float, Rule("time between two questions whether it is done", low=0.05, high=60)] = 2.0


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """How finished films are measured, and from when on they are only fair; twice as far from the ideal is poor."""

    report: Annotated[
        str, Rule("on or off: finished films are measured, and a page is laid beside each", choices=("on", "off"))
    ] = "on"
    seconds: Annotated[
        float, Rule("at most so much of a film is looked at, evenly spread; 0: all of it", low=0, high=86_400)
    ] = 30.0
    offset_ms: Annotated[float, Rule("mouth and sound may be so far apart, in milliseconds", low=1, high=1000)] = 75.0
    articulation: Annotated[float, Rule("the lips must move so much, against the template's own", low=0, high=0.99)] = (
        0.5
    )
    sharpness: Annotated[float, Rule("the mouth must be so sharp, against the template", low=0, high=0.99)] = 0.8
    held_percent: Annotated[
        float, Rule("so many pictures may repeat the one before, in percent", low=0.1, high=100)
    ] = 3.0
    passed_percent: Annotated[
        float, Rule("so many frames may be left as the template has them, in percent", low=0.1, high=100)
    ] = 15.0


@dataclass(frozen=True, slots=True)
class MarkConfig:
    """How films say that a machine made them."""

    metadata: Annotated[
        str,
        Rule("on or off: a mark in each film's metadata as GB 45438-2025 asks for (key AIGC)", choices=("on", "off")),
    ] = "on"
    producer: Annotated[str, Rule("who answers for the films, as the mark names them: a name or a code")] = ""
    label: Annotated[
        str,
        Rule("words over the picture: off, start (its first label_seconds) or always", choices=LABELS),
    ] = "off"
    label_text: Annotated[
        str, Rule("what it says; empty: 人工智能生成 or AI generated, as label_language says", check=checks.label_text)
    ] = ""
    label_language: Annotated[
        str, Rule("zh or en, of the label without a text; empty: [daemon] language", choices=("", *LANGUAGES))
    ] = ""
    label_position: Annotated[str, Rule("top or bottom, alone or with -left or -right", choices=LABEL_POSITIONS)] = (
        "top-left"
    )
    label_seconds: Annotated[float, Rule("how long start lasts; the standard asks for 2", low=2, high=3600)] = 4.0
    label_percent: Annotated[
        float,
        Rule("height of its letters in percent of the picture's shorter side; the standard asks for 5", low=5, high=20),
    ] = 5.0
    label_font: Annotated[
        Path,
        Rule(
            "a font of yours (.otf, .ttf, .ttc), for letters that the one in the package lacks", check=checks.not_home
        ),
    ] = Path()


@dataclass(frozen=True, slots=True)
class HooksConfig:
    """Programs that are told what has become of a job."""

    on_done: Annotated[
        tuple[str, ...], Rule("the program and its arguments for a delivered film, told as JSON on stdin; no shell")
    ] = ()
    on_failed: Annotated[tuple[str, ...], Rule("… for a job that failed")] = ()
    on_deferred: Annotated[tuple[str, ...], Rule("… for a job that begins to wait for memory, disk or a GPU")] = ()
    seconds: Annotated[float, Rule("a hook is killed after this time", low=1, high=3600)] = 30.0
    socket: Annotated[
        Path,
        Rule("has systemd run them outside the daemon's sandbox; if it is not there, the daemon runs them itself"),
    ] = Path("/run/heygemd-hook.sock")


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Figures for Prometheus; neither is there unless it is asked for."""

    textfile: Annotated[
        Path,
        Rule(
            "a file ending in .prom for node_exporter's textfile collector, kept fresh; empty: none", check=checks.prom
        ),
    ] = Path()
    port: Annotated[
        int, Rule("http://127.0.0.1:PORT/metrics and /healthz, for this machine only; 0: none", low=0, high=65_535)
    ] = 0
