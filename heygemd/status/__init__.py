"""What people and monitors are told: pure functions of the daemon's state.

May import: common, config, contract, guard, store.
"""
