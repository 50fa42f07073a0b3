"""Runs: their identity, their directory, resume and locks.

`identity`, `store`, `lock`, `layout`, `files`, `lines` and `config_file` import no torch, so listing and
tables answer at once; `directory`, `checkpoint`, `provenance` belong to training. Import what you need from
its module.
"""
