"""Text, pages and metrics for people and monitors: pure functions of the daemon's state.

May import: common, config, contract, guard, store.
"""
