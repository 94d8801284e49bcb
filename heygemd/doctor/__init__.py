"""What would work on this machine, what is missing, and the cure.

May import: common, config, contract, guard, models, share, store.
"""
