"""What crosses a process boundary, typed once for both sides.

May import: common.
"""
