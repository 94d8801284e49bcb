"""Which job runs next and with what; the parent's half of the renderer.

May import: common, config, contract, guard, share, store.
"""
