"""Finished runs taken elsewhere: loaded in Python, or written as safetensors, ONNX and torch.export.

`finding`, `forms` and `folder` import no torch, so a refusal comes at once. Import what you need from its module.
"""
