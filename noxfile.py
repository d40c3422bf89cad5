#!/usr/bin/env -S python3
# /// script
# dependencies = ["nox>=2025.10.14"]
# ///
"""Sessions that need environments of their own: `nox -l` lists them. Day to day, `make` is enough."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "venv"

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


# What `make test` runs; `nox -s tests -- -m "not soak"` runs those that need engines, too.
PYTEST = ("pytest", "-n", "3", "--dist", "loadgroup", "--no-loadscope-reorder", "-m", "not soak and not engines")


@nox.session(python=PYTHONS, default=True)
def tests(session: nox.Session) -> None:
    """Run the tests that need no engine."""
    session.install("-e", ".", *group("test"))
    session.run("python", "tools/worlds.py", "yadage")
    session.run(*PYTEST, *session.posargs)


# jq before 1.10 changes numbers that only pass through it, and older ones abort on some programs.
NEW_JQ = "jq or numbers_that_are_only_moved or identity_in_other_words"


@nox.session(python=PYTHONS[0], default=False)
def oldest(session: nox.Session) -> None:
    """Run these tests with the oldest dependencies that pyproject.toml allows."""
    session.install("-e", ".", *group("test"), "-c", "tests/oldest-constraints.txt")
    session.run(*PYTEST, "--ignore", "tests/dropin", "-k", f"not ({NEW_JQ})", *session.posargs)


@nox.session(python=PYTHONS, default=False)
@nox.parametrize("pin", ["jsonschema==3.2.0", "jsonschema<=4.9.1"])
def beside(session: nox.Session, pin: str) -> None:
    """Run these tests beside the jsonschema that workflow engines pin."""
    session.install("-e", ".", *group("test"), pin)
    session.run(*PYTEST, "--ignore", "tests/dropin", *session.posargs)


@nox.session(python=PYTHONS, default=False)
@nox.parametrize("world", ["yadage", "yadage-old", "newest", "reana"])
def worlds(session: nox.Session, world: str) -> None:
    """Run workflows on this package in an environment as its users have it, and compare with the original's."""
    session.install("-e", ".", *group("test"))
    also = ["newest-jsonschema"] if world == "newest" else []
    session.run("python", "tools/worlds.py", world, f"{world}:original", *also)
    tests = "tests/dropin/test_platform.py" if world == "reana" else "tests/dropin"
    session.run("pytest", tests, "-m", "not everywhere", *session.posargs, env={"PACKTIVITY_TEST_WORLD": world})


@nox.session(default=True)
def lint(session: nox.Session) -> None:
    """Check style, types, layers, packaging and workflows."""
    session.install("-e", ".", *group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports")
    session.run("validate-pyproject", "pyproject.toml")
    session.run("repo-review", ".")
    session.run("zizmor", "--offline", "--quiet", ".github")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation; `nox -s docs -- linkcheck` checks its links."""
    session.install("-e", ".", *group("docs"))
    builder = session.posargs[0] if session.posargs else "html"
    session.run("sphinx-build", "-W", "--keep-going", "-b", builder, "docs", f"docs/_build/{builder}")


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel and check their metadata."""
    session.install("build", "twine")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", "dist/*")


if __name__ == "__main__":
    nox.main()
