"""Knowledge distillation of image classifiers: one trainer, one schedule; only the loss differs."""

__version__ = "0.1.0"
