"""The composition root: presets and overrides in, plans out. Nothing below it sees a configuration object."""

from distill.config.locate import configs_dir

__all__ = ["configs_dir"]
