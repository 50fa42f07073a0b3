"""Hydra's repository of presets with every file read and parsed once: Hydra reads them all anew for every job."""

import copy

from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.config_source import ConfigResult


class ReadOnce(ConfigRepository):
    """What was read is handed out as copies, since composing changes it; another search path is read anew."""

    _read: dict[str, ConfigResult | None]

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look where `config_search_path` says."""
        super().initialize_sources(config_search_path)
        self._read = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A copy of the preset at that path, None where there is none."""
        if config_path not in self._read:
            self._read[config_path] = super().load_config(config_path)
        return copy.deepcopy(self._read[config_path])

    def __deepcopy__(self, memo: dict[int, object]) -> "ReadOnce":
        # Hydra takes a copy for every job, to change its sources where hydra.searchpath names others
        return copy.copy(self)
