"""Folder listings in, job requests out: pure, the clock is an argument.

Of ``share`` only names are used: entries of a listing, the ignore list, the suffixes of checked files.

May import: common, config, share.
"""
