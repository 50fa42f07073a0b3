"""Drawings of `distill.report.numbers` by matplotlib: SVG with text as text, equal bytes for equal data."""
