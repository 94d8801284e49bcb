"""Words that every room shares: no folder of a line, no state, no process.

May import: nothing.
"""
