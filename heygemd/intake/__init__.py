"""Folder listings in, job requests out: pure, the clock is an argument.

May import: common, config, share.
"""
