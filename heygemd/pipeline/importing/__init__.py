"""Checks and converts model files, in a child process that is thrown away."""
