"""Sounds made here: synthesizers, their voices, sentences to say, and sounds without speech.

May import: common, pipeline.speech, training.
"""
