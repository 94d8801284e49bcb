"""The daemon: ``service.py`` tells its story, the other files are its tasks.

May import: common, config, contract, guard, scheduler, share, status, store, watch.
"""
