"""The version of poeflow."""

__version__ = "0.2.0"
