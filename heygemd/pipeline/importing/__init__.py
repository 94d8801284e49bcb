"""Checks and converts model files, in a child process that is thrown away.

May import: common, contract, models, pipeline.engines.wav2lip.
"""
