"""demo, bench and selftest: real daemons on separate lines.

May import: common, config, contract, guard, models, scheduler, status, store.
"""
