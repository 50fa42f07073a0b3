"""The suite that every loss preset has to pass. None is listed: `pytest tests/losses/conformance -k crd` takes one.

Presets of one's own: `DISTILL_TEST_PRESETS=DIR` (with DIR/loss/NAME.yaml and DIR/references/NAME.py) adds them.
"""
