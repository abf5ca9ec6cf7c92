"""What a user installs: one new top-level name, with everything the command line needs."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jaxtyping
import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from maven_jax.memory import format_bytes

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """A wheel of a copy of the sources, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
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
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        else:
            target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_a_wheel_brings_one_top_level_name(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"maven_jax"}


def test_a_wheel_holds_every_module_configuration_and_environment(wheel):
    packaged = set(wheel.namelist())
    for folder, prefix in (("maven_jax", ""), ("envs", "maven_jax/"), ("configs", "maven_jax/")):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".typed"):
                assert prefix + str(path.relative_to(ROOT)) in packaged


def test_an_unpacked_wheel_runs_from_another_folder(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    code = (
        "import maven_jax.envs, maven_jax.config as c;"
        "print(maven_jax.__file__); print(sorted(c.packaged_configs()))"
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


@pytest.mark.parametrize(
    ("version", "works"), [("0.9.2", False), ("0.10.0", True), ("0.12.7", True), ("0.13.0", False)]
)
def test_a_jax_that_is_not_allowed_is_refused_at_import(version, works):
    """The versions are those that `pyproject.toml` lets pip take."""
    (allowed,) = re.findall(r'"jax(>=\S+)"', (ROOT / "pyproject.toml").read_text())
    assert (Version(version) in SpecifierSet(allowed)) == works
    code = (
        f"import jax; jax.__version__ = {version!r};"
        f"jax.__version_info__ = {tuple(map(int, version.split('.')))};"
        "import maven_jax"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode == 0) == works
    if not works:
        line = f"maven_jax needs jax of at least 0.10 and below 0.13, not {version}"
        assert ended.stderr.endswith(f"ImportError: {line}\n")


def test_shapes_and_types_are_checked_while_the_tests_run():
    """The suite's checking is switched off silently if something imports the package too early."""
    with pytest.raises(jaxtyping.TypeCheckError):
        format_bytes("many")
