"""The dependency rule of layers.toml holds in the source."""

import ast
import subprocess
import sys
import tomllib

import pytest
from tests.architecture.source import ROOT, imports, modules

RULES = tomllib.loads((ROOT / "tests/architecture/layers.toml").read_text())
LAYERS = {layer["name"]: depth for depth, layer in enumerate(RULES["layers"])}
DEPTHS = {prefix: LAYERS[layer["name"]] for layer in RULES["layers"] for prefix in layer["modules"]}


def under(module: str, prefixes: list[str]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


def depth(module: str) -> int:
    parts = module.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
    if module == "quire_engine":
        return 0
    return DEPTHS[next(prefix for prefix in prefixes if prefix in DEPTHS)]


@pytest.mark.parametrize("module", modules())
def test_a_package_imports_only_the_siblings_it_may(module: str) -> None:
    package = module.split(".")[0]
    siblings = {name.split(".")[0] for name in imports(modules()[module], lazy=True) if name.startswith("quire_")}
    assert siblings <= {package, *RULES["packages"][package]}


@pytest.mark.parametrize("module", modules())
def test_third_party_libraries_stay_in_their_packages(module: str) -> None:
    package = module.split(".")[0]
    foreign = {name.split(".")[0] for name in imports(modules()[module], lazy=True)}
    assert [name for name in foreign if package not in RULES["third_party"].get(name, [package])] == []


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith("quire_engine")])
def test_the_engine_imports_downward_only(module: str) -> None:
    upward = [
        name
        for name in imports(modules()[module], lazy=module != "quire_engine")
        if name.startswith("quire_engine") and name != "quire_engine" and depth(name) < depth(module)
    ]
    assert upward == []


@pytest.mark.parametrize("module", modules())
def test_nothing_imports_a_top(module: str) -> None:
    tops = {top for top in RULES["tops"]["modules"] if module not in RULES["tops"]["except"].get(top, [])}
    assert tops.isdisjoint(imports(modules()[module], lazy=True))


@pytest.mark.parametrize("module", modules())
def test_openai_is_imported_only_where_its_types_are_needed(module: str) -> None:
    wanted = any(name.split(".")[0] == "openai" for name in imports(modules()[module], lazy=False))
    assert not wanted or under(module, RULES["openai"]["modules"])


@pytest.mark.parametrize("module", modules())
def test_the_environment_is_read_in_few_places(module: str) -> None:
    reads = [
        node
        for node in ast.walk(modules()[module])
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"})
    ]
    assert not reads or under(module, RULES["environment"]["modules"])


def torch_free() -> list[str]:
    free = {LAYERS[name] for name in RULES["torch_free"]["layers"]}
    return sorted(
        module
        for module in modules()
        if module in RULES["torch_free"]["modules"]
        or module.split(".")[0] in RULES["torch_free"]["packages"]
        or (module.startswith("quire_engine.") and depth(module) in free)
        if not module.endswith("__main__")
    )


def test_what_plans_and_speaks_text_imports_no_torch() -> None:
    script = f"import sys, importlib\nfor name in {torch_free()!r}: importlib.import_module(name)\n"
    check = "assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", script + check], check=True, timeout=120)


@pytest.mark.parametrize("module", RULES["light"]["modules"])
def test_who_talks_to_an_engine_elsewhere_loads_nothing_that_only_an_engine_needs(module: str) -> None:
    script = f"import sys, {module}\nprint(*sorted({set(RULES['light']['without'])!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, timeout=120, capture_output=True, text=True)
    assert loaded.stdout.split() == []
