"""How a mouth is drawn: exemplars, the two layers, the warp, and the plans that draw with them.

May import: contract, pipeline.engines, pipeline.face, pipeline.image, pipeline.media, pipeline.template_cache.
"""
