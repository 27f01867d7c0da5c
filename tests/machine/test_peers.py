"""What others' programs say of a machine with the module: security scanners, and cloud-init's own unit tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from baking import DROP_IN, bake, effective
from bases import base
from machine import Machine
from roots import apt, chroot, fetch
from ssh_keepalive.image.cloud_init_schema import with_key
from ssh_keepalive.policy import load_schema

pytestmark = pytest.mark.slow

TOP = Path(__file__).resolve().parents[2]

# OpenSCAP's content for Debian 13, and CIS for 12, are in testing alone; what they say may change with it.
OPENSCAP = ("openscap-scanner", "ssg-debian/forky", "linux-base")  # without linux-base a machine counts as a container
LYNIS = ("lynis", "procps")
SCANNERS = {"bookworm": OPENSCAP + LYNIS, "trixie": OPENSCAP + LYNIS, "forky": LYNIS}
CONTENT = {"bookworm": "ssg-debian12-ds.xml", "trixie": "ssg-debian13-ds.xml"}
CIS = "cis_level1_server"
OUR_RULES = ("sshd_set_idle_timeout", "sshd_set_keepalive")
RULES = (*OUR_RULES, "sshd_set_keepalive_0", "accounts_tmout")

MAIN = "etc/ssh/sshd_config"
OPENSCAP_EXAMPLE = (TOP / "examples/user-data/openscap.yaml").read_text()
SHOW = "\n".join(yaml.safe_load(OPENSCAP_EXAMPLE)["runcmd"])


@pytest.fixture(scope="module", params=SCANNERS)
def scanned(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine of each release with the module and scanners."""
    with Machine(request.param) as machine:
        install(machine, *SCANNERS[request.param])
        bake(machine)
        yield machine


with_openscap = pytest.mark.parametrize("scanned", CONTENT, indirect=True, scope="module")


def install(machine: Machine, *wanted: str) -> None:
    """Install packages in a machine before its boot."""
    sources = tuple(dict.fromkeys((machine.suite, "forky")))
    fetch(machine.root, sources, *wanted)
    chroot(machine.root, apt(sources, "--no-download", "install", *wanted))


def first_boot(machine: Machine, user_data: str) -> str:
    """Boot a machine as a new instance with Debian's own configuration; return interval/count in effect."""
    if machine.running:
        machine.poweroff()
    (machine.root / DROP_IN[1:]).unlink(missing_ok=True)
    shutil.copy(base(machine.suite) / MAIN, machine.root / MAIN)
    return boot(machine, user_data)


def boot(machine: Machine, user_data: str) -> str:
    """Boot a machine as a new instance; return interval/count in effect."""
    machine.reseed(user_data)
    machine.boot()
    machine.wait()
    assert machine.run("cloud-init", "status").stdout == "status: done\n"
    return in_effect(machine)


def in_effect(machine: Machine) -> str:
    """Return interval/count as sshd reports them."""
    values = effective(machine)
    return "{clientaliveinterval}/{clientalivecountmax}".format(**values)


def openscap(machine: Machine, profile: str, *options: str, rules: tuple[str, ...] = RULES) -> dict[str, str]:
    """Return what OpenSCAP says of rules, with the numbers of a profile."""
    prefix = "xccdf_org.ssgproject.content_rule_"
    chosen = [f"--rule={prefix}{rule}" for rule in rules]
    content = f"/usr/share/xml/scap/ssg/content/{CONTENT[machine.suite]}"
    command = ("oscap", "xccdf", "eval", "--profile", profile, *chosen, *options, content)
    said = machine.run(*command, check=False, timeout=120).stdout
    return dict(re.findall(rf"^Rule\s+{prefix}(\w+)\s+Result\s+(\w+)$", said, re.MULTILINE))


def verdicts(machine: Machine, ours: str) -> dict[str, str]:
    """Return what all rules say where OUR_RULES say this."""
    others = {"accounts_tmout": "fail"}
    if machine.suite == "bookworm":  # Debian 13's content has no such rule
        # It wants a count of 0, with which sshd keeps dead clients for ever since 8.2; the module refuses that.
        others["sshd_set_keepalive_0"] = "fail"
    return {**dict.fromkeys(OUR_RULES, ours), **others}


@with_openscap
@pytest.mark.parametrize(
    ("section", "profile", "kept", "verdict"),
    [
        (
            "{client_alive_interval: 300, client_alive_count_max: 3}",
            CIS,
            {"bookworm": "300/3", "trixie": "300/3"},
            {"bookworm": "pass", "trixie": "pass"},
        ),
        # CIS wants a count of 3 to the letter, although the client is gone sooner with these.
        (
            "{unresponsive_timeout: 3m}",
            CIS,
            {"bookworm": "3/29", "trixie": "5/35"},
            {"bookworm": "fail", "trixie": "fail"},
        ),
        (
            "{client_alive_interval: 300, client_alive_count_max: 1}",
            "standard",
            {"bookworm": "300/1", "trixie": "300/1"},
            {"bookworm": "pass", "trixie": "pass"},
        ),
    ],
    ids=["pair", "three-minutes", "standard-profile"],
)
def test_openscap_sees_only_what_the_main_file_says(
    scanned: Machine, section: str, profile: str, kept: dict[str, str], verdict: dict[str, str]
) -> None:
    assert first_boot(scanned, f"#cloud-config\nssh_keepalive: {section}\n") == kept[scanned.suite]
    assert openscap(scanned, profile) == verdicts(scanned, "fail")
    scanned.sh(SHOW)
    assert openscap(scanned, profile) == verdicts(scanned, verdict[scanned.suite])
    assert in_effect(scanned) == kept[scanned.suite]


@with_openscap
def test_the_example_for_openscap_passes_and_leaves_the_policy_to_the_module(scanned: Machine) -> None:
    assert first_boot(scanned, OPENSCAP_EXAMPLE) == "300/3"
    assert openscap(scanned, CIS) == verdicts(scanned, "pass")
    main = (scanned.root / MAIN).read_text()
    assert "\nInclude /etc/ssh/sshd_config.d/*.conf\nclientaliveinterval 300\nclientalivecountmax 3\n" in main

    # What is behind the Include has no say, and the next instance writes it anew.
    scanned.poweroff()
    changed = OPENSCAP_EXAMPLE.replace("interval: 300", "interval: 240")
    assert boot(scanned, changed.partition("runcmd:")[0]) == "240/3"
    assert (scanned.root / MAIN).read_text() == main
    scanned.poweroff()
    assert boot(scanned, changed) == "240/3"
    assert openscap(scanned, CIS) == verdicts(scanned, "pass")
    assert (scanned.root / MAIN).read_text() == main.replace("interval 300", "interval 240")


@with_openscap
def test_what_openscap_repairs_wins_and_is_named_if_it_differs(scanned: Machine) -> None:
    again = ("cloud-init", "single", "--name", "ssh_keepalive", "--frequency", "always")
    first_boot(scanned, "#cloud-config\nssh_keepalive: {client_alive_interval: 300, client_alive_count_max: 3}\n")
    fixed = dict.fromkeys(OUR_RULES, "fixed")
    assert openscap(scanned, CIS, "--remediate", rules=OUR_RULES) == fixed
    assert (scanned.root / MAIN).read_text().startswith("ClientAliveInterval 300\nClientAliveCountMax 3\n")
    scanned.run(*again)
    assert in_effect(scanned) == "300/3"

    first_boot(scanned, "#cloud-config\nssh_keepalive: {client_alive_interval: 240, client_alive_count_max: 3}\n")
    assert openscap(scanned, CIS, "--remediate", rules=OUR_RULES) == fixed
    assert scanned.run(*again, check=False).returncode == 1
    assert (
        "SshdError: ClientAliveInterval is 300 where 240 is expected, "
        "/etc/ssh/sshd_config:1 overrides it: remove that line and restart sshd\n"
    ) in (scanned.root / "var/log/cloud-init.log").read_text()
    assert in_effect(scanned) == "300/3"


def lynis(machine: Machine) -> dict[str, str]:
    """Return what lynis says of sshd's values that the module may set."""
    command = ("lynis", "audit", "system", "--quick", "--no-colors", "--skip-plugins", "--tests-from-group", "ssh")
    machine.run(*command, check=False, timeout=120)
    log = (machine.root / "var/log/lynis.log").read_text()
    said = re.findall(r" Result: Option (\w+) (?:value is (\w+)|(not found in output))$", log, re.MULTILINE)
    judged = dict(re.findall(r" Result: OpenSSH option (\w+) is (.+)$", log, re.MULTILINE))
    ours = ("ClientAliveInterval", "ClientAliveCountMax", "TCPKeepAlive")
    return {option: f"{value}: {judged[option]}" if value else no for option, value, no in said if option in ours}


GOOD, FAIR, WEAK = "configured very well", "configured reasonably", "in a weak configuration state and should be fixed"


def test_lynis_asks_sshd_but_takes_no_interval_for_a_short_one(scanned: Machine) -> None:
    options = ("ClientAliveCountMax", "ClientAliveInterval", "TCPKeepAlive")
    first_boot(scanned, "#cloud-config\n{}\n")
    before = lynis(scanned)
    first_boot(scanned, "#cloud-config\nssh_keepalive: {unresponsive_timeout: 3m, tcp_keep_alive: false}\n")
    after = lynis(scanned)
    if scanned.suite == "forky":  # it looks for the lower case that sshd -T printed before OpenSSH 10.5
        assert before == after == dict.fromkeys(options, "not found in output")
        return
    assert before == dict(zip(options, (f"3: {FAIR}", f"0: {GOOD}", f"YES: {WEAK}")))
    # It counts probes, not the time that they take.
    kept = {"bookworm": (f"29: {WEAK}", f"3: {GOOD}"), "trixie": (f"35: {WEAK}", f"5: {GOOD}")}[scanned.suite]
    assert after == dict(zip(options, (*kept, f"NO: {GOOD}")))


# Releases of cloud-init, and the Debian whose Python and pytest fit.
UNIT_TESTS = {
    "22.4.2": "bookworm",
    "23.4": "bookworm",
    "24.1": "bookworm",
    "24.4": "trixie",
    "25.3": "trixie",
    "26.2": "forky",
}
# Their list of all subschemas stands in the test itself.
EXPECTED_FAILURE = "tests/unittests/config/test_schema.py::TestGetSchema::test_get_schema_coalesces_known_schema"
WHY = "Right contains one more item: {'$ref': '#/$defs/cc_ssh_keepalive'}"


@pytest.fixture(scope="module")
def trees() -> Path:
    """The folder with cloud-init's own source in folders named by version."""
    trees = os.environ.get("CLOUD_INIT_TREES")
    if not trees:
        pytest.skip(f"CLOUD_INIT_TREES names no folder with cloud-init's source in folders {', '.join(UNIT_TESTS)}")
    return Path(trees)


@pytest.fixture(scope="module")
def with_pytest(request: pytest.FixtureRequest, trees: Path) -> Iterator[Machine]:
    """A machine of a release with what cloud-init's unit tests take."""
    libraries = ["passlib", "pyfakefs", "pytest", "pytest-mock", "responses", "serial", "setuptools"]
    if request.param == "bookworm":
        libraries.append("netifaces")
    with Machine(request.param) as machine:
        install(machine, *(f"python3-{library}" for library in libraries))
        yield machine


@pytest.mark.parametrize(
    ("version", "with_pytest"), UNIT_TESTS.items(), ids=UNIT_TESTS, indirect=["with_pytest"], scope="module"
)
def test_cloud_inits_own_unit_tests(version: str, with_pytest: Machine, trees: Path) -> None:
    root = with_pytest.root
    if not (trees / version).is_dir():
        pytest.skip(f"CLOUD_INIT_TREES has no folder {version}")

    def run(tree: str) -> subprocess.CompletedProcess[str]:
        files = "tests/unittests/config/test_modules.py tests/unittests/config/test_schema.py"
        script = f"cd {tree}; LC_ALL=C.UTF-8 python3 -m pytest -v -rA --tb=short {files}"
        return subprocess.run(("chroot", root, "sh", "-ec", script), stdout=subprocess.PIPE, text=True)

    shutil.copytree(trees / version, root / "srv" / version, symlinks=True)
    plain = run(f"/srv/{version}")
    assert plain.returncode == 0, plain.stdout[-8000:]

    package = root / "srv" / version / "cloudinit/config"
    shutil.copy(TOP / "cloudinit_module/cc_ssh_keepalive.py", package)
    schema = package / "schemas/schema-cloud-config-v1.json"
    schema.write_text(with_key(schema.read_text(), load_schema()["properties"]["ssh_keepalive"]))
    ours = run(f"/srv/{version}")
    assert re.findall(r"^(?:FAILED|ERROR) (\S+)", ours.stdout, re.MULTILINE) == [EXPECTED_FAILURE], ours.stdout[-8000:]
    assert WHY in ours.stdout
    passed = set(re.findall("^PASSED (.+)$", ours.stdout, re.MULTILINE))
    assert passed >= set(re.findall("^PASSED (.+)$", plain.stdout, re.MULTILINE)) - {EXPECTED_FAILURE}
    of_ours = sorted(test.rpartition("::")[2] for test in passed if "ssh_keepalive" in test)
    print(f"cloud-init {version}: {len(passed)} passed, among them {', '.join(of_ours)}")
    assert of_ours
