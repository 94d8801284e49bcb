"""Builds the offline installer: wheels, Debian packages, models and an install script.

May import: common, models.
"""
