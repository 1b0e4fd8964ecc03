"""The version of poeflow."""

__version__ = "0.1.0"
