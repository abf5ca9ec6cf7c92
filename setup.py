"""Says why a checkout without symbolic links cannot be built; all else is in `pyproject.toml`."""

import sys
from pathlib import Path

from setuptools import setup

for name in ("envs", "configs"):
    if not Path(__file__).with_name("maven_jax").joinpath(name).is_dir():
        sys.exit(
            f"maven_jax/{name} is no link to the folder {name}: this checkout was made without "
            "symbolic links. Run: git config core.symlinks true && git checkout -- maven_jax"
        )

setup()
