"""Checks this machine: what works, what is missing, and the cure.

May import: common, config, contract, guard, models, share, store.
"""
