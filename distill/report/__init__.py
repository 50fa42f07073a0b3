"""Figures and a page from finished runs: `numbers` measure, `figures` draw them, `chapters` tell them, `page` lays out.

Networks are asked elsewhere: what comes in are records of runs, and arrays of what their networks said.
"""
