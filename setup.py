"""What `pyproject.toml` cannot say: README.md for a package index, and why a build is refused."""

import re
import sys
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

for name in ("envs", "configs"):
    if not (ROOT / "maven_jax" / name).is_dir():
        sys.exit(
            f"maven_jax/{name} is no link to the folder {name}: this checkout was made without "
            "symbolic links. Run: git config core.symlinks true && git checkout -- maven_jax"
        )


def for_an_index(text: str, repository: str) -> str:
    """Markdown whose links to files lead to this version in the repository.

    Without a repository the words of a link stay, and pictures are left out.
    """
    (version,) = re.findall(
        r'__version__ = "(.+)"', (ROOT / "maven_jax" / "__init__.py").read_text()
    )

    def link(match: re.Match) -> str:
        picture, words, target = match.groups()
        if repository:
            kind = "raw" if picture else "blob"
            return f"{picture}[{words}]({repository}/{kind}/v{version}/{target})"
        return "" if picture else words

    return re.sub(r"(?<!\w)(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)]+)\)", link, text)


setup(
    long_description=for_an_index(
        (ROOT / "README.md").read_text(encoding="utf-8"),
        PROJECT.get("urls", {}).get("Repository", ""),
    ),
    long_description_content_type="text/markdown",
)
