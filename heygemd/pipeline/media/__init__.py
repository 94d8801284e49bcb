"""Media in and out: probe, decode, encode, mux, verify.

Every ffmpeg and ffprobe child is started by the one runner in ``heygemd.pipeline.tools``.
"""

from heygemd.pipeline.media.clip import Clip, open_clip
from heygemd.pipeline.media.film import FilmWriter, choose_encoder, encode_facts
from heygemd.pipeline.media.frame import Frame
from heygemd.pipeline.media.order import output_order, shown, template, wanted_frames
from heygemd.pipeline.media.packets import Packets, decoded
from heygemd.pipeline.media.probe import AudioInfo, Media, VideoInfo, probe
from heygemd.pipeline.media.segments import Segment, cut, join
from heygemd.pipeline.media.sound import SAMPLE_RATE, Samples, beside_pictures, decode_audio, own_sound, sound_of
from heygemd.pipeline.media.soundtrack import COPIED, Encoded, encode_sound, mux
from heygemd.pipeline.media.verify import measure, verify
from heygemd.pipeline.tools import ffmpeg_facts

__all__ = [
    "COPIED",
    "SAMPLE_RATE",
    "AudioInfo",
    "Clip",
    "Encoded",
    "FilmWriter",
    "Frame",
    "Media",
    "Packets",
    "Samples",
    "Segment",
    "VideoInfo",
    "beside_pictures",
    "choose_encoder",
    "cut",
    "decode_audio",
    "decoded",
    "encode_facts",
    "encode_sound",
    "ffmpeg_facts",
    "join",
    "measure",
    "mux",
    "open_clip",
    "output_order",
    "own_sound",
    "probe",
    "shown",
    "sound_of",
    "template",
    "verify",
    "wanted_frames",
]
