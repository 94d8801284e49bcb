"""heygemd: folders in, lip-synced films out.  Imports nothing heavy."""

__version__ = "0.1.0"
