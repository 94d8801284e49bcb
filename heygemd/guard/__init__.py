"""Readings and needs in, Go, Wait or Never out: decided purely, the clock is an argument.

May import: common, config, models.
"""
