"""The tutorials run in a real kernel, and what their text says of the numbers holds."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parent.parent.parent / "docs" / "tutorials"
NAMES = sorted(path.stem for path in TUTORIALS.glob("*.ipynb"))
FACTS = {
    "seeds_and_z": """
        assert last["return"].median() > last["return_uniform"].median() > 5
        assert {int(x) for row in branches.values() for x in row} >= {0, 3}
    """,
    "sweep": """
        assert len(choice) == 4 and (choice["low"] <= choice["IQM"]).all()
        assert choice["IQM"].max() > 5 and chosen[1] == 0.002
        assert (last.groupby(POINT).size() == 12).all()
    """,
    "custom_environment": """
        assert maven_jax.check_env(env) == [] != maven_jax.check_env(Wrong())
        assert results.evaluate(episodes=256)["return"].mean() > 0.9
    """,
    "custom_mixer": """
        returns = final_returns(results)
        assert (returns.loc[["vdn", "weighted_sum"]] == 5).all(axis=None)
        assert returns.loc["qmix"].mean() > 5
        assert (final_returns(optimistic) == 11).all(axis=None)
    """,
    "custom_loop": """
        assert differ[0] < 0.8 and differ[1] == 1 and (paid > 0.95).all()
        assert abs(bounds[1, :, -1].mean() - 0.69) < 0.02
    """,
    "acting": """
        returns_of_z = over_z(policy, jax.random.key(0), jnp.eye(8))[1]
        assert sorted(map(float, returns_of_z)) == [10] * 3 + [13] * 5
        assert total == 13 and returns.mean() > 12.5
    """,
}
"""What holds after the last cell of each, in its own names."""


def read(name: str):
    return nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTS)
def test_a_tutorial_runs_and_says_what_holds(name, tmp_path):
    notebook = read(name)
    facts = "\n".join(line.strip() for line in FACTS[name].splitlines())
    notebook.cells.append(nbformat.v4.new_code_cell(facts))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()


def test_each_tutorial_has_facts_and_all_begin_with_the_same_installation():
    assert set(FACTS) == set(NAMES)
    first = {next(c.source for c in read(name).cells if c.cell_type == "code") for name in NAMES}
    assert len(first) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_saved_outputs_are_whole_small_and_of_no_machine(name):
    """Every code cell has run once, in order; no error, no path of where it ran."""
    code = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    assert not {"error"} & {output["output_type"] for output in outputs}
    assert not re.search(r"/(home|tmp|root|work)/", str(outputs))
    assert (TUTORIALS / f"{name}.ipynb").stat().st_size < 150_000


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_ends_with_two_pages_to_read_next(name):
    end = read(name).cells[-1].source
    assert len(re.findall(r"\]\(\.\./(?:how_to|algorithms)/\w+\.md\)", end)) == 2
