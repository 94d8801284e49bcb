"""The inbox of one line, watched until its drops are claimed.

May import: common, config, contract, intake, share, store.
"""
