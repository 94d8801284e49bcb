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
EARS = ("whisper", "own")
FINDERS = ("auto", "haar", "insightface")


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """Where the daemon keeps its files, its language, log and shutdown."""

    state_dir: Annotated[
        Path, Rule("folder of the journal and all state; must be on a local disk, not a share", check=checks.not_empty)
    ] = Path("/var/lib/heygemd")
    work_dir: Annotated[
        Path, Rule("folder in which films are made, on a local disk; empty: state_dir/work", check=checks.not_home)
    ] = Path()
    models_dir: Annotated[Path, Rule("folder of imported models; empty: state_dir/models", check=checks.not_home)] = (
        Path()
    )
    socket: Annotated[
        Path, Rule("control socket for status, cancel and pause; empty: state_dir/heygemd.sock", check=checks.not_home)
    ] = Path()
    log_file: Annotated[Path, Rule("run log, in JSON lines; empty: state_dir/heygemd.log", check=checks.not_home)] = (
        Path()
    )
    language: Annotated[str, Rule("language of reports and status pages: en or zh", choices=LANGUAGES)] = "en"
    log_level: Annotated[
        str,
        Rule(
            "lowest level in the run log: debug, info, warning or error", choices=("debug", "info", "warning", "error")
        ),
    ] = "info"
    log_mib: Annotated[int, Rule("size in MiB at which the run log is rotated", low=1, high=10_000)] = 20
    log_keep: Annotated[int, Rule("number of rotated run logs to keep; 0: none", low=0, high=1000)] = 5
    stop_seconds: Annotated[
        float,
        Rule(
            "seconds that shutdown waits for the running job; then it is stopped and resumed at the next start",
            low=0,
            high=86_400,
        ),
    ] = 20.0

    def __post_init__(self) -> None:
        """Sets each empty path to its default below ``state_dir``."""
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
    """When a file in an inbox counts as complete."""

    watch: Annotated[
        str,
        Rule(
            "inotify, polling, or auto: polling on cifs, NFS and FUSE, which give no events",
            choices=("auto", "inotify", "polling"),
        ),
    ] = "auto"
    poll_seconds: Annotated[float, Rule("seconds between two scans of a polled inbox", low=0.05, high=3600)] = 2.0
    rescan_seconds: Annotated[
        float, Rule("seconds between two full scans of every inbox, with inotify too", low=0.05, high=86_400)
    ] = 30.0
    settle_readings: Annotated[
        int, Rule("consecutive scans that must show the same size, mtime and inode of a file", low=1, high=100)
    ] = 3
    settle_seconds: Annotated[
        float, Rule("minimum seconds between the first and the last scan of settle_readings", low=0, high=3600)
    ] = 3.0
    folder_seconds: Annotated[
        float, Rule("seconds without a change after which a job folder counts as complete", low=0, high=86_400)
    ] = 10.0
    incomplete_seconds: Annotated[
        float,
        Rule("unchanged seconds after which a truncated-looking file is processed anyway", low=0, high=86_400),
    ] = 60.0
    partner_minutes: Annotated[
        float,
        Rule(
            "minutes after which a file without a partner is logged, and a manifest's job without its file fails",
            low=0,
            high=525_600,
        ),
    ] = 30.0
    max_jobs: Annotated[int, Rule("maximum number of jobs in one manifest or job folder", low=1, high=100_000)] = 1000
    max_manifest_kib: Annotated[int, Rule("maximum size of a manifest, in KiB", low=1, high=65_536)] = 1024
    share_seconds: Annotated[
        float, Rule("seconds without an answer after which a share is reported as unavailable", low=0.1, high=3600)
    ] = 60.0


@dataclass(frozen=True, slots=True)
class RenderConfig:
    """How films are made; a line, a folder or a job may override the first few."""

    engine: Annotated[
        str,
        Rule(
            "engine: footage (the template's own pixels), wav2lip (a checkpoint), duix (a container) or command "
            "(a program)",
            choices=ENGINES,
        ),
    ] = "footage"
    device: Annotated[
        str,
        Rule(
            "where engines run: cpu, cuda, or auto (a GPU if the engine can use one)", choices=("auto", "cpu", "cuda")
        ),
    ] = "auto"
    crf: Annotated[
        int,
        Rule("video quality (CRF): 0 lossless, 18 visually lossless, 51 worst; recommended: 18 to 23", low=0, high=51),
    ] = 18
    preset: Annotated[
        str, Rule("encoder preset, ultrafast to veryslow; slower presets make smaller files", choices=PRESETS)
    ] = "veryfast"
    encoder: Annotated[
        str,
        Rule(
            "video encoder: libx264, h264_nvenc, or auto (h264_nvenc if it works)",
            choices=("auto", "libx264", "h264_nvenc"),
        ),
    ] = "auto"
    extend: Annotated[
        str,
        Rule(
            "how a template shorter than the speech is extended: bounce (back and forth), loop or hold", choices=EXTENDS
        ),
    ] = "bounce"
    face: Annotated[str, Rule("which of several faces speaks: largest, left, right or center", choices=FACES)] = (
        "largest"
    )
    finder: Annotated[
        str, Rule("face detector: haar, insightface, or auto (an imported model, else haar)", choices=FINDERS)
    ] = "auto"
    ears: Annotated[
        str, Rule("what reads lip shapes from sound: whisper (a speech encoder) or own (a small network)", choices=EARS)
    ] = "whisper"
    threads: Annotated[int, Rule("CPU threads of a render; 0: all cores", low=0, high=1024)] = 0
    segment_seconds: Annotated[
        float, Rule("seconds per film segment; a crash loses at most one segment", low=1, high=3600)
    ] = 30.0
    min_eye_px: Annotated[
        float, Rule("minimum eye distance in pixels; smaller faces are rejected", low=8, high=1000)
    ] = 40.0
    cache_mib: Annotated[
        int, Rule("size limit of the template cache (state_dir/cache) in MiB; 0 disables it", low=0)
    ] = 2048
    cache_days: Annotated[
        float,
        Rule(
            "days without use after which a template's cached face data is deleted; 0: at the next cleanup",
            low=0,
            high=3650,
        ),
    ] = 30.0


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """Limits on attempts, time, memory and disk."""

    attempts: Annotated[int, Rule("maximum attempts when the worker process dies", low=1, high=100)] = 3
    stall_seconds: Annotated[
        float, Rule("seconds without progress after which a worker is killed", low=1, high=86_400)
    ] = 300.0
    idle_seconds: Annotated[
        float, Rule("seconds that an idle worker is kept before its memory is released; 0: none", low=0, high=86_400)
    ] = 60.0
    max_jobs: Annotated[int, Rule("restart the worker after this many jobs; 0: never", low=0, high=1_000_000)] = 100
    max_hours: Annotated[
        float, Rule("maximum hours for one job; a longer job is stopped and fails", low=0.01, high=8760)
    ] = 24.0
    nice: Annotated[
        int, Rule("nice value added for the renderer; 0: the daemon's priority, 19: the lowest", low=0, high=19)
    ] = 5
    free_disk_mib: Annotated[int, Rule("disk space in MiB that must stay free; a job that needs more waits", low=0)] = (
        2048
    )
    free_ram_mib: Annotated[int, Rule("RAM in MiB that must stay free; a job that needs more waits", low=0)] = 1024


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """How jobs wait for a GPU that other programs use too."""

    devices: Annotated[tuple[str, ...], Rule("UUIDs of the GPUs to use (heygemd doctor lists them); empty: all")] = ()
    hold_readings: Annotated[
        int, Rule("consecutive one-second readings that must show enough free GPU memory", low=1, high=60)
    ] = 3
    ageing_minutes: Annotated[
        float, Rule("smaller jobs may delay a waiting job by at most this many minutes", low=0, high=10_080)
    ] = 30.0
    alert_hours: Annotated[
        float,
        Rule("log an error after a job has waited this many hours, and again after each further period", low=0.001),
    ] = 2.0
    quiet_hours: Annotated[
        str, Rule("hours of the day in which no job starts, such as 08:00-18:00; empty: none", check=checks.hours)
    ] = ""
    max_celsius: Annotated[
        int, Rule("no job starts on a GPU above this temperature, in °C; 0: no limit", low=0, high=150)
    ] = 0
    lock_dir: Annotated[
        Path,
        Rule(
            "folder in which daemons reserve GPU memory; if missing: each uses its own state_dir", check=checks.not_home
        ),
    ] = Path("/run/heygemd")


@dataclass(frozen=True, slots=True)
class CommandConfig:
    """The program behind the engine ``command``."""

    argv: Annotated[
        tuple[str, ...],
        Rule(
            "program and arguments with {audio}, {video} and {output}; runs without a shell", check=checks.placeholders
        ),
    ] = ()
    gpu_need_mib: Annotated[
        int,
        Rule("GPU memory that the program needs, in MiB; jobs wait until it is free; 0: none", low=0, high=10_000_000),
    ] = 0
    seconds: Annotated[float, Rule("seconds after which the program is killed", low=1, high=604_800)] = 3600.0


@dataclass(frozen=True, slots=True)
class Wav2LipConfig:
    """The engine ``wav2lip``."""

    model: Annotated[str, Rule("name of the checkpoint in heygemd models list; empty: the most recent import")] = ""
    av_offset_ms: Annotated[
        float,
        Rule("milliseconds by which the mouth is moved relative to the sound; positive: later", low=-500, high=500),
    ] = 0.0
    sharpen: Annotated[
        float, Rule("sharpness of the mouth as a fraction of the template's; 0: no sharpening", low=0, high=2)
    ] = 1.0
    batch: Annotated[int, Rule("frames per network call; 0: chosen automatically", low=0, high=512)] = 0


@dataclass(frozen=True, slots=True)
class DuixConfig:
    """The engine ``duix``: a Duix.Avatar (HeyGem) container on this machine or in its private network."""

    url: Annotated[
        str, Rule("address of the container: http://, localhost or a private address, port", check=checks.private_url)
    ] = "http://127.0.0.1:8383"
    shared: Annotated[
        Path, Rule("folder that the container mounts as /code/data; empty: no container", check=checks.not_home)
    ] = Path()
    part_seconds: Annotated[
        float, Rule("maximum seconds of sound per request; longer sound is split at pauses", low=5, high=600)
    ] = 60.0
    seconds: Annotated[
        float, Rule("seconds after which a request to the container is abandoned", low=10, high=86_400)
    ] = 900.0
    poll_seconds: Annotated[float, Rule("seconds between two progress queries", low=0.05, high=60)] = 2.0


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """How films are measured.  Beyond a threshold a film is fair; at twice the distance from the ideal it is poor."""

    report: Annotated[
        str, Rule("on or off: measure each film and write a report page next to it", choices=("on", "off"))
    ] = "on"
    seconds: Annotated[
        float, Rule("seconds of each film to measure, spread evenly; 0: the whole film", low=0, high=86_400)
    ] = 30.0
    offset_ms: Annotated[float, Rule("maximum offset between mouth and sound, in milliseconds", low=1, high=1000)] = (
        75.0
    )
    articulation: Annotated[
        float, Rule("minimum lip movement relative to the template (1: as in the template)", low=0, high=0.99)
    ] = 0.5
    sharpness: Annotated[
        float, Rule("minimum sharpness of the mouth relative to the template (1: as in the template)", low=0, high=0.99)
    ] = 0.8
    held_percent: Annotated[
        float, Rule("maximum percentage of frames that repeat the previous frame", low=0.1, high=100)
    ] = 3.0
    passed_percent: Annotated[
        float, Rule("maximum percentage of frames left unchanged from the template", low=0.1, high=100)
    ] = 15.0


@dataclass(frozen=True, slots=True)
class MarkConfig:
    """How films are marked and labelled as AI-generated."""

    metadata: Annotated[
        str,
        Rule("on or off: write the metadata mark of GB 45438-2025 (key AIGC) into each film", choices=("on", "off")),
    ] = "on"
    producer: Annotated[str, Rule("name or code of the producer, written into the mark")] = ""
    label: Annotated[
        str, Rule("label over the picture: off, start (the first label_seconds) or always", choices=LABELS)
    ] = "off"
    label_text: Annotated[
        str, Rule("text of the label; empty: 人工智能生成 or AI generated, by label_language", check=checks.label_text)
    ] = ""
    label_language: Annotated[
        str, Rule("language of the default label text: zh or en; empty: [daemon] language", choices=("", *LANGUAGES))
    ] = ""
    label_position: Annotated[
        str, Rule("position of the label: top or bottom, alone or with -left or -right", choices=LABEL_POSITIONS)
    ] = "top-left"
    label_seconds: Annotated[
        float, Rule("seconds that label = start shows the label; GB 45438-2025 requires at least 2", low=2, high=3600)
    ] = 4.0
    label_percent: Annotated[
        float,
        Rule(
            "height of the characters in percent of the picture's shorter side; GB 45438-2025: at least 5",
            low=5,
            high=20,
        ),
    ] = 5.0
    label_font: Annotated[
        Path, Rule("font file of the label (.otf, .ttf, .ttc); empty: the packaged font", check=checks.not_home)
    ] = Path()


@dataclass(frozen=True, slots=True)
class HooksConfig:
    """Programs that run when a job is delivered, fails or must wait."""

    on_done: Annotated[
        tuple[str, ...], Rule("program and arguments run after each delivered film, with JSON on stdin; empty: none")
    ] = ()
    on_failed: Annotated[
        tuple[str, ...], Rule("program and arguments run after each failed job, with JSON on stdin; empty: none")
    ] = ()
    on_deferred: Annotated[
        tuple[str, ...], Rule("program and arguments run when a job must wait for memory, disk or a GPU; empty: none")
    ] = ()
    seconds: Annotated[float, Rule("seconds after which a hook is killed", low=1, high=3600)] = 30.0
    socket: Annotated[
        Path, Rule("socket on which systemd runs hooks outside the sandbox; if missing: the daemon runs them")
    ] = Path("/run/heygemd-hook.sock")


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Metrics for Prometheus; both outputs are off by default."""

    textfile: Annotated[
        Path, Rule(".prom file for node_exporter's textfile collector; empty: none", check=checks.prom)
    ] = Path()
    port: Annotated[
        int,
        Rule("port of http://127.0.0.1:PORT/metrics and /healthz, for this machine only; 0: none", low=0, high=65_535),
    ] = 0
