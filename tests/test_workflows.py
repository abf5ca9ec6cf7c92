"""The workflows run on every change what `.ci/run` does."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def targets_of(workflow: Path) -> set[str]:
    """What its jobs make, with a matrix of targets filled in."""
    found = set()
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for command in (step.get("run", "") for step in job["steps"]):
            if command == "make ${{ matrix.target }}":
                found |= set(matrix["target"])
            else:
                found |= set(re.findall(r"^make (\S+)$", command, re.MULTILINE))
    return found


def test_workflows_make_what_ci_makes():
    makes = set(re.findall(r"^make (\S+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    both = re.search(r"^test-all: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    expected = (makes - {"test-all"}) | set(both[1].split())
    assert expected <= set().union(*map(targets_of, WORKFLOWS))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_jobs_have_a_limit_and_least_permissions(workflow):
    described = yaml.safe_load(workflow.read_text())
    assert described["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in described["jobs"].values())
