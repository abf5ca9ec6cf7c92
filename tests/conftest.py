"""Fixtures shared by the whole suite."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of recorded cases; `MAVEN_GOLDEN_DIR` names another one of the same form."""
    return Path(os.environ.get("MAVEN_GOLDEN_DIR") or Path(__file__).parent / "golden")
