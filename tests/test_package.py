"""What a user installs: one new top-level name, with everything the command line needs."""

import ast
import inspect
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jaxtyping
import pytest
import yaml
from build.util import project_wheel_metadata
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import maven_jax
from maven_jax.experiments.memory import format_bytes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


UNPACKAGED = shutil.ignore_patterns(
    ".*", "*.egg-info", "__pycache__", "build", "dist", "runs", "tests", "docs", "benchmarks"
)


def copy_of_sources(target: Path, *, links: bool) -> Path:
    """A copy, so that the checkout stays clean; without links they are files that hold a path."""
    shutil.copytree(ROOT, target, symlinks=True, ignore=UNPACKAGED)
    if not links:
        for link in (target / "maven_jax" / "envs", target / "maven_jax" / "configs"):
            path = str(link.readlink())
            link.unlink()
            link.write_text(path)
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


@pytest.mark.skipif(not (ROOT / "maven_jax" / "envs").is_symlink(), reason="an sdist has no links")
def test_sources_without_links_say_why_they_cannot_be_built(tmp_path):
    built = build_wheel(copy_of_sources(tmp_path / "source", links=False))
    assert built.returncode != 0
    assert "this checkout was made without symbolic links" in built.stdout + built.stderr
    assert not list(tmp_path.glob("*.whl"))


LINK = re.compile(r"""(!?)\[[^\]]*\]\(([^)#]+)[^)]*\)|(?:src|href)=["']([^"'#]+)""")
ADDRESS = "https://host.example/owner/maven-jax"


def links_of(markdown: str) -> set[tuple[bool, str]]:
    """Whether a link shows a picture, and its target; blocks and spans of code have none."""
    prose = re.sub(r"(?ms)^```.*?^```|`[^`]+`|^    .*?$", "", markdown)
    return {(bool(mark), shown or other) for mark, shown, other in LINK.findall(prose)}


def links_of_index_page(source: Path, address: str) -> set[tuple[bool, str]]:
    """Those that a package index shows if the repository is at an address, or at none."""
    file = source / "pyproject.toml"
    bare = re.sub(r"(?m)^\[project\.urls\]\n(\w+ = .*\n)+", "", file.read_text())
    urls = f'\n[project.urls]\nRepository = "{address}"\n' if address else ""
    file.write_text(bare + urls)
    return links_of(project_wheel_metadata(source, isolated=False).get_payload())


def test_links_on_an_index_page_lead_into_the_repository_or_are_words(tmp_path):
    here = links_of((ROOT / "README.md").read_text())
    files = {(picture, target) for picture, target in here if not target.startswith("http")}
    assert all((ROOT / target).exists() for _, target in files)
    assert {picture for picture, _ in files} == {True, False}

    source = copy_of_sources(tmp_path / "source", links=True)
    of = {kind: f"{ADDRESS}/{kind}/v{maven_jax.__version__}" for kind in ("raw", "blob")}
    led = {(picture, f"{of['raw' if picture else 'blob']}/{target}") for picture, target in files}
    assert links_of_index_page(source, "") == here - files
    assert links_of_index_page(source, ADDRESS) == (here - files) | led


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
            if path.suffix in (".py", ".yaml", ".typed"):
                assert prefix + str(path.relative_to(ROOT)) in packaged


def test_an_unpacked_wheel_runs_from_another_folder(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    code = (
        "import maven_jax.envs, maven_jax.configs as c;"
        "print(maven_jax.__file__); print({**c.packaged_configs(), **c.packaged_studies()})"
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
