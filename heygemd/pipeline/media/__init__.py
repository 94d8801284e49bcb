"""Media in and out: probe, decode, encode, mux, verify.

Every ffmpeg and ffprobe child is started by the one runner in ``heygemd.pipeline.ffmpeg``.

May import: common, contract, pipeline.ffmpeg, pipeline.template_cache.
"""

from heygemd.pipeline.ffmpeg import ffmpeg_facts
from heygemd.pipeline.media.frame import Frame
from heygemd.pipeline.media.info import AudioInfo, Media, VideoInfo
from heygemd.pipeline.media.read.clip import Clip, open_clip
from heygemd.pipeline.media.read.frame_order import output_order, shown, template, wanted_frames
from heygemd.pipeline.media.read.probe import probe
from heygemd.pipeline.media.read.sound import SAMPLE_RATE, Samples, beside_pictures, decode_audio, own_sound, sound_of
from heygemd.pipeline.media.write.encode import FilmWriter, choose_encoder, encode_facts
from heygemd.pipeline.media.write.packets import Packets, decoded
from heygemd.pipeline.media.write.segments import Segment, join, segments_of
from heygemd.pipeline.media.write.soundtrack import COPIED, Encoded, encode_sound, mux
from heygemd.pipeline.media.write.verify import measure, verify

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
    "segments_of",
    "shown",
    "sound_of",
    "template",
    "verify",
    "wanted_frames",
]
