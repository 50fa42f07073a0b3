"""Real processes of `distill`, forked from a server that has imported torch once (see `fork_server.py`)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from process_lab import BASELINE, Lab, Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for all tests of processes."""
    started = Server()
    yield started
    started.close()


@pytest.fixture
def lab(server: Server, tmp_path: Path) -> Iterator[Lab]:
    """Commands in an empty folder."""
    made = Lab(server, tmp_path)
    yield made
    made.kill_all()


@pytest.fixture(scope="session")
def reference(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `BASELINE`, trained without interruption and with no checkpoint at all."""
    lab = Lab(server, tmp_path_factory.mktemp("reference"))
    assert lab.run(*BASELINE).code == 0
    return lab.run_of("Tiny-ce-s1")
