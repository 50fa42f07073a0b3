"""The second stage: cross-entropy with the labels."""

from ce import reference

__all__ = ["reference"]
