"""Fixtures for tests on real machines."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serving
from host import unavailable
from machine import Machine
from releases import RELEASES

PACKAGERS = (
    *("dh", "dh_python3", "dpkg-buildpackage", "lintian"),
    *("rpm", "rpmbuild", "rpmlint", "createrepo_c", "dnf", "zypper"),
)
ENDS = (next(iter(RELEASES)), next(reversed(RELEASES)))
# Whose tests take minutes each
LONGEST = ("test_image_builders", "test_selinux", "test_interruptions")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have each row of a table meet the oldest release, the newest, and one of the two in between, by turns.

    What takes longest begins first, so that no worker is left with it in the end.
    """
    between = [suite for suite in RELEASES if suite not in ENDS]
    left_out = []
    for item in items:
        if isinstance(item, pytest.Function) and "each" in item.fixturenames:
            rows = [index for name, index in item.callspec.indices.items() if name != "suite"]
            turn = between[sum(rows) % len(between)]
            if item.callspec.params["suite"] not in (*ENDS, turn):
                left_out.append(item)
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def requires_machines() -> None:
    """Skip where no machine can be booted; on CI, where a skip would go unseen, fail."""
    reason = unavailable()
    if reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session", params=RELEASES)
def suite(request: pytest.FixtureRequest) -> str:
    """Name each release in turn; session-scoped, so that a fixture of any scope may use it."""
    return str(request.param)


def _releases(*suites: str) -> list[object]:
    """Return parameters for all releases, of which only these are for where there is little time."""
    return [pytest.param(suite, marks=() if suite in suites else pytest.mark.slow) for suite in RELEASES]


@pytest.fixture(scope="session", params=_releases(*ENDS))
def oldest_or_newest(request: pytest.FixtureRequest) -> str:
    """Name the oldest and the newest release, and where there is time those in between."""
    return str(request.param)


@pytest.fixture(scope="session", params=_releases(ENDS[1]))
def newest_of_all(request: pytest.FixtureRequest) -> str:
    """Name the newest release, and where there is time all others."""
    return str(request.param)


# Machines that enforce a policy, one for all files of a worker: each test begins with serving.as_it_was.


@pytest.fixture(scope="session")
def oldest() -> Iterator[Machine]:
    with serving.enforcing(ENDS[0]) as machine:
        yield machine


@pytest.fixture(scope="session")
def newest() -> Iterator[Machine]:
    with serving.enforcing(ENDS[1]) as machine:
        yield machine


@pytest.fixture(scope="session")
def each(suite: str) -> Iterator[Machine]:
    with serving.enforcing(suite) as machine:
        yield machine


@pytest.fixture
def machines() -> Iterator[Callable[..., Machine]]:
    """Make machines, with the arguments of Machine, which the end of the test throws away."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(Machine(*args, **kwargs))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both packages, built once."""
    missing = [tool for tool in PACKAGERS if shutil.which(tool) is None]
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"packages need {', '.join(missing)} (make host-package)"
        )
    folder = tmp_path_factory.mktemp("packages")
    subprocess.run((Path(__file__).resolve().parents[2] / "packaging/build.sh", folder), check=True)
    return folder


@pytest.fixture(scope="session")
def deb(packages: Path) -> Path:
    (found,) = packages.glob("*.deb")
    return found


@pytest.fixture(scope="session")
def rpm(packages: Path) -> Path:
    (found,) = packages.glob("*.rpm")
    return found
