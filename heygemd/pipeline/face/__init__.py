"""Where the face is: detection, landmarks, tracking, shots, occlusion.

May import: common, contract, models, pipeline.ffmpeg, pipeline.image, pipeline.media, pipeline.template_cache.
"""
