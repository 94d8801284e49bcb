"""Typed data that crosses a process boundary, defined once for both sides.

May import: common.
"""
