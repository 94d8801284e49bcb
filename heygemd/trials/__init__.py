"""demo, bench and selftest: a real daemon on a line of its own.

May import: common, config, contract, guard, models, scheduler, status, store.
"""
