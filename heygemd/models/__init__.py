"""Imported weights: kept, checked, and named with their terms.

May import: common, contract.
"""
