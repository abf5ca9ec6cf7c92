"""The example of the README runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    names = {}
    exec(example, names)
    assert (names["metrics"]["env_steps"].max(axis=1) >= 1_000).all()
    assert capsys.readouterr().out
