"""The package imports from a wheel, an editable install and a checkout, and brings no backend."""

import email
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "prune_keras": "prune_keras",
    "prune_keras.callbacks": "callbacks",
    "prune_keras.models": "models",
}
PRINT_PLACES = f"""
import importlib
for name in {list(FOLDERS)}:
    print(importlib.import_module(name).__file__)
"""


def pip(*arguments, cwd=None):
    """Run pip offline, with the setuptools of this environment."""
    command = [sys.executable, "-m", "pip", "-q", *arguments, "--no-deps", "--no-build-isolation"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def places(cwd, *path, before=""):
    """Return the folders that the packages come from in `cwd`, with `path` in front of sys.path.

    `-S` leaves out the .pth files of this environment, and with them its own editable install.
    """
    keras = Path(importlib.util.find_spec("keras").origin).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*path, keras]))}
    command = [sys.executable, "-S", "-c", before + PRINT_PLACES]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [Path(line).resolve().parent for line in done.stdout.splitlines()]


# They share what is built.
pytestmark = pytest.mark.xdist_group("packaging")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what is packaged: building leaves files behind."""
    copy = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=ignore)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", checkout, "--wheel-dir", folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    pip("install", wheel, "--target", folder)
    return folder


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_imports_from_a_wheel(installed, tmp_path):
    assert places(tmp_path, installed) == [
        installed / name.replace(".", os.sep) for name in FOLDERS
    ]


def test_imports_from_an_editable_install(checkout, tmp_path):
    pip("install", "--editable", checkout, "--target", tmp_path)
    read_pth_files = f"import site; site.addsitedir({str(tmp_path)!r})"
    assert places(tmp_path, before=read_pth_files) == [checkout / f for f in FOLDERS.values()]


def test_imports_from_a_checkout_in_front_of_a_wheel(installed):
    assert places(ROOT, installed) == [ROOT / folder for folder in FOLDERS.values()]


def test_imports_from_a_checkout_alone(checkout):
    assert places(checkout) == [checkout / folder for folder in FOLDERS.values()]


def test_wheel_holds_every_module(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {"prune_keras/py.typed"}
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            relative = path.relative_to(ROOT / folder).as_posix()
            expected.add(f"{package.replace('.', '/')}/{relative}")
    assert packed == expected


def test_no_backend_is_required(metadata):
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    names = {re.match(r"[\w.-]+", line)[0] for line in required}
    assert "keras" in names
    assert not [name for name in names if re.match("tensorflow|jax|torch", name)]


def test_each_tensorflow_extra_brings_exactly_one(metadata):
    lines = metadata.get_all("Requires-Dist")
    for extra, package in {"cpu": "tensorflow-cpu", "gpu": "tensorflow[and-cuda]"}.items():
        (line,) = (line for line in lines if f'extra == "{extra}"' in line)
        assert re.match(r"[^\s;<>=]+", line)[0] == package


def test_version_has_one_source(metadata):
    import prune_keras

    assert metadata["Version"] == prune_keras.__version__


def test_readme_holds_the_test_command_that_ci_runs():
    (pattern,) = re.findall(r"grep -xE '(.*)' README.md", (ROOT / ".ci/run").read_text())
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line]
    matches = [line for line in commands if re.fullmatch(pattern, line)]
    assert len(matches) == 1
    assert matches[0].endswith("&& pytest")
