"""`distill import` behind its command line: with torch and Hydra, for which no help waits.

`parts` composes what the command names, `foreign` makes a run of somebody else's weights, `restore` brings a run of
distill's back, `folder` writes either, `measured` measures them.
"""
