"""From media files to frames and samples.

May import: common, contract, pipeline.ffmpeg, pipeline.media, pipeline.template_cache.
"""
