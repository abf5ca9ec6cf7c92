"""The files that README.md links to are there; of the pages, `make docs` checks this."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_links_of_the_readme_lead_to_files():
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []
