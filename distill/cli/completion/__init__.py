"""Completion of command lines: what the shell is told, and the words that presets and runs offer."""
