"""What the template shows of its mouth: place, flow, shapes, teeth and skin.

May import: contract, pipeline.face, pipeline.image, pipeline.media.
"""
