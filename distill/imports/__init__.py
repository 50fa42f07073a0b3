"""Weights from elsewhere: files of other projects read without executing anything, and brought to a network's names.

`files` turns bytes into plain values and tensors, `checkpoint` knows the layouts, `fitting` compares with a network.
Nothing here knows a configuration or writes a run.
"""
