"""The only code that touches a line's folders; every operation may be killed and repeated.

May import: common.
"""
