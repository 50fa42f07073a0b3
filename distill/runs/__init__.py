"""Runs: their identity, their directory, resume and locks.

`directory`, `checkpoint`, `provenance` and `foreign` import torch; the other modules do not, so listing and tables
start quickly. Import what you need from its module.
"""
