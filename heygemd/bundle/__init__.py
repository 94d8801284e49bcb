"""Packs what a server without a network needs: wheels, Debian packages, models, an install script.

May import: common, models.
"""
