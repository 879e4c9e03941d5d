"""What a package publishes is sorted, importable, documented and versioned."""

import importlib
import inspect
import re

import pytest
from tests.architecture.source import PACKAGES


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_sorted_and_importable(package: str) -> None:
    module = importlib.import_module(package)
    assert list(module.__all__) == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_listed_by_dir(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", PACKAGES)
def test_public_functions_and_classes_say_what_they_are(package: str) -> None:
    module = importlib.import_module(package)
    public = [(name, getattr(module, name)) for name in module.__all__]
    silent = [
        name
        for name, value in public
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("quire_")
        and not (value.__doc__ or "").strip()
    ]
    assert silent == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_knows_its_version(package: str) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", importlib.import_module(package).__version__)
