"""The inbox of one line, watched until its drops are claimed.

May import: common, config, intake, share, store.
"""
