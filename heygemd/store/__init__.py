"""The journal, and the life of a drop on disk: record first, then move.

May import: common, config, contract, guard, share.
"""
