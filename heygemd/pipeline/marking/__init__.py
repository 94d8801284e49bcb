"""How a film says that a machine made it: visible label and metadata.

May import: common, contract, pipeline.ffmpeg, pipeline.media.
"""
