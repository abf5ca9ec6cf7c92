"""What a user installs: one new top-level name, with everything the command line needs."""

import ast
import inspect
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jaxtyping
import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import maven_jax
from maven_jax.experiments.memory import format_bytes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def copy_of_sources(target: Path, *, links: bool) -> Path:
    """A copy, so that the checkout stays clean; without links they are files that hold a path."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in files:
        if name.startswith(("tests/", "docs/")) or not (ROOT / name).exists():
            continue
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not (ROOT / name).is_symlink():
            copy.write_bytes((ROOT / name).read_bytes())
        elif links:
            copy.symlink_to((ROOT / name).readlink())
        else:
            copy.write_text(str((ROOT / name).readlink()))
    return target


def build_wheel(source: Path) -> subprocess.CompletedProcess[str]:
    """Builds into the folder above the sources."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", ".."]
    return subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    assert build_wheel(copy_of_sources(folder / "source", links=True)).returncode == 0
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_sources_without_links_say_why_they_cannot_be_built(tmp_path):
    built = build_wheel(copy_of_sources(tmp_path / "source", links=False))
    assert built.returncode != 0
    assert "this checkout was made without symbolic links" in built.stdout + built.stderr
    assert not list(tmp_path.glob("*.whl"))


def test_a_wheel_has_the_version_of_the_package_and_of_its_citation(wheel):
    assert Path(wheel.filename).name.startswith(f"maven_jax-{maven_jax.__version__}-")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert cited == maven_jax.__version__


def test_a_wheel_brings_one_top_level_name_with_every_module_and_configuration(wheel):
    packaged = set(wheel.namelist())
    tops = {name.split("/")[0] for name in packaged}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"maven_jax"}
    for folder, prefix in (("maven_jax", ""), ("envs", "maven_jax/"), ("configs", "maven_jax/")):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".typed", ".npz", ".json", ".csv"):
                assert prefix + str(path.relative_to(ROOT)) in packaged


def test_an_unpacked_wheel_runs_from_another_folder(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    code = (
        "import maven_jax.envs, maven_jax.configs as c;"
        "print(maven_jax.__file__); print({**c.packaged_configs(), **c.packaged_studies()});"
        "print(len(maven_jax.load_example('maven_team').frame()))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert printed[0].startswith(str(tmp_path / "site"))
    assert "maven" in printed[1]
    assert "ten_step" in printed[1]
    assert int(printed[2]) > 0


@pytest.mark.parametrize(
    ("version", "works"),
    [("0.9.2", False), ("0.10.0", True), ("0.11.1.dev3", True), ("0.12.7", True), ("0.13", False)],
)
def test_a_jax_that_is_not_allowed_is_refused_at_import(version, works):
    """The versions are those that `pyproject.toml` lets pip take."""
    (allowed,) = re.findall(r'"jax(>=\S+)"', (ROOT / "pyproject.toml").read_text())
    assert (Version(version) in SpecifierSet(allowed)) == works
    code = (
        "from importlib import metadata; known = metadata.version;"
        f"metadata.version = lambda name: {version!r} if name == 'jax' else known(name);"
        "import maven_jax"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode == 0) == works
    if not works:
        line = f"maven_jax needs jax of at least 0.10 and below 0.13, not {version}"
        assert ended.stderr.endswith(f"ImportError: {line}\n")


PUBLIC = """
import sys
import maven_jax
assert "jax" not in sys.modules
assert set(maven_jax.__all__) <= set(dir(maven_jax))
from maven_jax import *
import maven_jax.config, maven_jax.training.train, maven_jax.functional.losses
assert (Config, make_train, losses) == (
    maven_jax.config.Config,
    maven_jax.training.train.make_train,
    sys.modules["maven_jax.functional.losses"],
)
assert train is maven_jax.train and train.__module__ == "maven_jax.api"
assert not hasattr(maven_jax, "no_such_name")
"""


def test_public_names_are_imported_when_they_are_used():
    ended = subprocess.run([sys.executable, "-c", PUBLIC], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_type_checkers_know_the_public_names():
    """`TYPE_CHECKING` imports them from where they are found when they are used."""
    tree = ast.parse(Path(maven_jax.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(declared) == sorted(maven_jax.__all__)
    for name, module in declared.items():
        value = getattr(maven_jax, name)
        assert inspect.ismodule(value) or getattr(sys.modules[module], name) is value


def test_shapes_and_types_are_checked_while_the_tests_run():
    """The suite's checking is switched off silently if something imports the package too early."""
    with pytest.raises(jaxtyping.TypeCheckError):
        format_bytes("many")
