"""Checks and converts model files, in a child process that is thrown away.

May import: common, models, pipeline.engines.wav2lip.
"""
