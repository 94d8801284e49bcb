"""From frames and samples to a film: encode, segments, join, verify.

May import: common, contract, pipeline.ffmpeg, pipeline.media.
"""
