"""Runs: their identity, their directory, resume and locks.

`identity`, `store`, `lock`, `layout`, `files` and `config_file` import no torch, so listing and tables start
quickly; `directory`, `checkpoint`, `provenance` belong to training. Import what you need from
its module.
"""
