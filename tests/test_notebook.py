"""The package in a Jupyter kernel: a real one, whose outputs are those that a notebook shows."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from small_experiments import SMALL

pytestmark = pytest.mark.slow

README = Path(__file__).parent.parent / "README.md"
TRAIN = """
from maven_jax.config import from_dict
from maven_jax.environments.registry import make_env
from maven_jax.experiments.grid import make_lanes
from maven_jax.experiments.grid import Part
from maven_jax.experiments.plan import Plan, train_plan
import yaml
config = from_dict(yaml.safe_load(open("small.yaml")))
part = Part("", config, make_lanes(config.hyperparameters, [0]), {})
(run,) = train_plan(Plan((part,)), "run")
assert run.info["status"] == "finished"
"""
COMMAND = "!{PYTHON} -m maven_jax train small.yaml --seeds 1 --no-tensorboard --out command"
SHOWN = (
    "compiling one program for 1 run",
    " steps, return ",
    "60 of 60 steps, return ",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The outputs of a notebook's cells, by what the cell does."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "small.yaml").write_text(SMALL.format(algorithm="vdn"))
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    cells = {
        "import": "from maven_jax.envs import MStepMatrixGame",
        "backend": "import matplotlib; print(matplotlib.get_backend(), __IPYTHON__)",
        "example": example,
        "plot": "results.plot()",
        "train": TRAIN,
        "command": f"import sys; PYTHON = sys.executable\n{COMMAND}",
    }
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(x) for x in cells.values()]
    )
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return dict(zip(cells, (cell.outputs for cell in notebook.cells), strict=True))


def test_the_environments_are_imported_and_the_backend_is_unchanged(outputs):
    (printed,) = outputs["backend"]
    backend, in_ipython = printed["text"].split()
    assert backend.endswith(("inline", "backend_inline"))
    assert in_ipython == "True"


def test_the_example_of_the_readme_runs(outputs):
    printed = "".join(output.get("text", "") for output in outputs["example"])
    assert "num_updates" in printed


def test_a_plot_is_shown_once(outputs):
    (shown,) = outputs["plot"]
    assert "image/png" in shown["data"]


@pytest.mark.parametrize("cell", ["train", "command"])
def test_training_prints_plain_lines(outputs, cell):
    assert {output["output_type"] for output in outputs[cell]} == {"stream"}
    text = "".join(output["text"] for output in outputs[cell])
    assert not set("\x1b\r\b") & set(text.replace("\r\n", "\n"))
    assert len(text.splitlines()) < 10
    for words in SHOWN:
        assert words in text
