"""Sound is placed where it will be heard: codec delay, late starts, gaps."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from heygemd.common.errors import InputError
from heygemd.contract.job import Quiet
from heygemd.pipeline.media import (
    SAMPLE_RATE,
    beside_pictures,
    decode_audio,
    encode_sound,
    mux,
    own_sound,
    probe,
    sound_of,
)
from tests.pipeline.films import QUICK, bursts, clip_of, ffmpeg, film_sound, numbered, onsets, tone

KINDS = {
    "pcm.wav": ((), 44100, 2),
    "voice.mp3": ((), 16000, 1),
    "plain.mp3": (("-write_xing", "0"), 22050, 1),
    "apple.m4a": ((), 44100, 2),
    "phone.m4a": ((), 8000, 1),
    "raw.aac": ((), 44100, 2),
    "a.ogg": (("-c:a", "libvorbis"), 44100, 2),
    "a.opus": (("-c:a", "libopus"), 48000, 1),
    "a.flac": ((), 96000, 2),
    "a.wma": ((), 44100, 2),
    "six.flac": ((), 48000, 6),
    "nine.wav": ((), 16000, 9),
    "many.wav": ((), 16000, 48),
}
DELAYED = {"plain.mp3", "raw.aac", "a.wma"}  # these do not tell their encoder's delay, so every player plays it


@pytest.fixture(scope="module")
def silent_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered(tmp_path_factory.mktemp("film") / "v.mp4", 63)


@pytest.mark.parametrize("name", KINDS)
def test_a_burst_is_heard_where_it_was_analysed(name: str, silent_film: Path, tmp_path: Path) -> None:
    words, rate, channels = KINDS[name]
    path = bursts(tmp_path / name, *words, rate=rate, channels=channels)
    found = probe(path, name, QUICK, want="audio")
    assert found.audio is not None
    samples = sound_of(path, found, QUICK, name)
    seconds = len(samples) / SAMPLE_RATE
    mux(silent_film, path, found.audio, tmp_path / "film.mp4", QUICK, seconds, Fraction(25))
    analysed, heard = onsets(samples), onsets(film_sound(tmp_path / "film.mp4"))
    assert np.abs(np.subtract(analysed, heard)).max() < 0.005
    if name not in DELAYED:
        assert np.abs(np.subtract(analysed, [0.5, 2.0])).max() < 0.005
        assert abs(seconds - 2.5) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voice.mp3", "phone.m4a", "a.opus", "a.flac", "raw.aac"])
def test_in_an_hour_nothing_drifts(name: str, silent_film: Path, tmp_path: Path) -> None:
    """What follows the sound, the lips and the film, is test_long.py's hour."""
    words, rate, _ = KINDS[name]
    last = 3590.0
    click = f"0.7*sin(6283.2*t)*(between(t,0.5,0.55)+between(t,{last},{last + 0.05}))"
    path = tmp_path / name
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc='{click}':s={min(rate, 16000)}:d=3600", "-ar", str(rate), *words, path)
    found = probe(path, name, QUICK, want="audio")
    assert found.audio is not None
    samples = sound_of(path, found, QUICK, name)
    late = 0.07 if name in DELAYED else 0.005
    assert np.abs(np.subtract(onsets(samples), [0.5, last])).max() < late
    assert abs(len(samples) / SAMPLE_RATE - 3600) < 0.01 + late
    seconds = len(samples) / SAMPLE_RATE
    mux(silent_film, path, found.audio, tmp_path / "film.mp4", QUICK, seconds, Fraction(25))
    heard = onsets(film_sound(tmp_path / "film.mp4"))
    assert np.abs(np.subtract(onsets(samples), heard)).max() < 0.005


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("a.m4a", (), "copied aac"),
        ("a.mp3", (), "copied mp3"),
        ("alac.m4a", ("-c:a", "alac"), "copied alac"),
        ("a.wav", (), "encoded aac 192k"),
    ],
)
def test_sound_that_mp4_holds_is_copied(
    name: str, words: tuple[str, ...], said: str, silent_film: Path, tmp_path: Path
) -> None:
    path = bursts(tmp_path / name, *words)
    found = probe(path, name, QUICK)
    assert found.audio is not None
    out = tmp_path / "film.mp4"
    assert mux(silent_film, path, found.audio, out, QUICK, 2.5, Fraction(25)) == said
    made = probe(out, "film", QUICK).audio
    assert made is not None
    assert (made.sample_rate, made.channels) == (44100, 2)
    assert out.read_bytes().index(b"moov") < out.read_bytes().index(b"mdat")


def test_a_copy_that_lasts_too_long_is_encoded_instead(silent_film: Path, tmp_path: Path) -> None:
    """A copied mp3 loses its end trim: 9 ms here, more than half a frame at 100 frames a second."""
    path = bursts(tmp_path / "a.mp3")
    found = probe(path, "a.mp3", QUICK)
    assert found.audio is not None
    assert mux(silent_film, path, found.audio, tmp_path / "film.mp4", QUICK, 2.5, Fraction(100)).startswith("encoded")


@pytest.mark.parametrize("rate", ["44100", "22050", "8000"])
def test_a_sound_that_was_encoded_ahead_makes_the_same_film(rate: str, silent_film: Path, tmp_path: Path) -> None:
    path = bursts(tmp_path / "a.wav", "-ar", rate)
    found = probe(path, "a.wav", QUICK)
    assert found.audio is not None
    ahead = encode_sound(path, found.audio, tmp_path / "ahead.m4a", QUICK)
    said = [
        mux(silent_film, path, found.audio, tmp_path / name, QUICK, 2.5, Fraction(25), encoded=encoded)
        for name, encoded in (("now.mp4", None), ("then.mp4", ahead))
    ]
    assert said == [ahead.treatment] * 2 and ahead.treatment.startswith("encoded aac")
    assert (tmp_path / "now.mp4").read_bytes() == (tmp_path / "then.mp4").read_bytes()
    assert {p.suffix for p in tmp_path.iterdir()} == {".wav", ".mp4"}, "what was encoded was left behind"
    burst_at = onsets(decode_audio(tmp_path / "then.mp4"))
    assert np.abs(np.subtract(burst_at, onsets(decode_audio(path)))).max() < 0.002


def test_a_sound_that_takes_its_time_gives_signs_of_life(silent_film: Path, tmp_path: Path) -> None:
    """Else an hour of sound on a busy machine would pass for a child that hangs."""

    class Told(Quiet):
        said: list[tuple[str, int, int]] = []  # noqa: RUF012

        def progress(self, stage: str, frame: int, of: int) -> None:
            self.said.append((stage, frame, of))

    path = bursts(tmp_path / "a.wav")
    found = probe(path, "a.wav", QUICK)
    assert found.audio is not None
    mux(silent_film, path, found.audio, tmp_path / "film.mp4", QUICK, 2.5, Fraction(25), tell=Told())
    assert set(Told.said) == {("verify", 0, 62)}


@pytest.mark.parametrize("channels", [9, 16, 48, 64])
def test_channels_that_ffmpeg_knows_no_places_for_are_mixed_alike(
    channels: int, silent_film: Path, tmp_path: Path
) -> None:
    """Each counts the same, none is lost, and nothing is clipped."""
    path = tmp_path / "many.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((channels, 2, 16000, 0, "NONE", ""))
        count = np.arange(channels) + 1
        tones = 16000 * np.sin(2 * np.pi * np.outer(np.arange(32000) / 16000, 50 * count))
        sound.writeframes(tones.astype("<i2").tobytes())
    found = probe(path, "many.wav", QUICK, want="audio")
    assert found.audio is not None and found.audio.channels == channels
    samples = sound_of(path, found, QUICK, "many.wav")
    heights = np.abs(np.fft.rfft(samples[:16000]))[50 * count] / 8000
    assert heights == pytest.approx(np.full(channels, 16000 / 32768 / channels), rel=0.05)
    said = mux(silent_film, path, found.audio, tmp_path / "film.mp4", QUICK, 2.0, Fraction(25))
    assert said.endswith(", mixed to mono")
    made = probe(tmp_path / "film.mp4", "film", QUICK, want="audio").audio
    assert made is not None and made.channels == 1


def test_more_channels_than_can_be_mixed_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "most.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((65, 2, 16000, 0, "NONE", ""))
        sound.writeframes(bytes(65 * 2 * 16000))
    with pytest.raises(InputError, match=r"lesson\.wav has 65 channels; at most 64 .*mono or stereo"):
        probe(path, "lesson.wav", QUICK, want="audio")


def test_samples_are_mono_and_bounded(tmp_path: Path) -> None:
    samples = decode_audio(bursts(tmp_path / "a.wav", "-af", "volume=3", "-c:a", "pcm_f32le"), name="a.wav")
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) == 40000
    assert np.abs(samples).max() <= 1.0


def test_the_template_s_own_sound_begins_with_its_first_picture(tmp_path: Path) -> None:
    """In this film the sound runs half a second before the first picture."""
    sound = bursts(tmp_path / "a.wav")
    picture = numbered(tmp_path / "v.mp4", 50)
    path = tmp_path / "late.mkv"
    ffmpeg("-itsoffset", "0.4", "-i", picture, "-i", sound, "-map", "0:v", "-map", "1:a", "-c", "copy", path)
    clip, found = clip_of(path), probe(path, path.name, QUICK)
    clip.learn()
    assert clip.first_seconds == pytest.approx(0.4, abs=0.002)
    own = own_sound(clip, found, QUICK)
    assert own is not None
    assert np.abs(np.subtract(onsets(beside_pictures(clip, own)), [0.1, 1.6])).max() < 0.005


def test_a_template_without_sound_has_none_of_its_own(tmp_path: Path) -> None:
    path = numbered(tmp_path / "v.mp4", 5)
    assert own_sound(clip_of(path), probe(path, "v.mp4", QUICK), QUICK) is None


def test_sound_without_length_is_refused(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", 1, "-t", "0")
    with pytest.raises(InputError, match=r"lesson\.wav has zero length") as caught:
        decode_audio(path, name="lesson.wav")
    assert caught.value.reason == "empty_audio"
