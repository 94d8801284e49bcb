"""The commands: one file each; it parses, calls and prints, and decides nothing else.

May import: bundle, common, config, contract, daemon, doctor, models, scheduler, share, status, store, training, trials.
"""
