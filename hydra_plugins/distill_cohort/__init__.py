"""Hydra finds launchers in this namespace only; the work is done in `distill.execution.jobs`."""
