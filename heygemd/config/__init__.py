"""config.toml to frozen dataclasses; every fault is reported at once.

May import: common, contract.
"""
