"""Image operations without a model: geometry, optical flow, compositing, smoothing.

May import: common, pipeline.media, pipeline.template_cache.
"""
