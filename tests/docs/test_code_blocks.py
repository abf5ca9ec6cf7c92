"""The unchanged Python code of README.md and of every page runs; a page is one program.

A block that is not to run has the line `<!-- not run: reason -->` before it.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- not run: ([^\n]*) -->\n+)?^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Why a block is not run, if it is not, and its code."""
    return BLOCK.findall(page.read_text())


WITH_CODE = [page for page in PAGES if any(not reason for reason, _ in blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_found_and_is_python(page):
    found = blocks(page)
    text = page.read_text()
    assert len(found) == len(re.findall(r"```(?:python|py)\b", text))
    assert sum(bool(reason) for reason, _ in found) == text.count("<!-- not run")
    for _, code in found:
        ast.parse(code)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_runs(page, tmp_path):
    """In a process of its own, in an empty folder from which docs/ is seen."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    code = "\n".join(code for reason, code in blocks(page) if not reason)
    (tmp_path / "page.py").write_text(code)
    ended = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
