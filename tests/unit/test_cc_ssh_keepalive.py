import inspect
import logging
import os
import subprocess
import sys

import cc_ssh_keepalive
import pytest
from cc_ssh_keepalive import handle, meta
from ssh_keepalive.machine import apply as apply_module
from ssh_keepalive.policy import Policy, PolicyError

SOURCE = os.path.dirname(cc_ssh_keepalive.__file__)


class Cloud:
    """Stand in for cloud-init's Cloud, of which the module asks one thing."""

    class distro:  # noqa: N801
        @staticmethod
        def get_option(name, default=None):
            return {"ssh_svcname": "sshd"}.get(name, default)


@pytest.fixture
def applied(monkeypatch):
    policies = []

    def apply(policy, host):
        policies.append((policy, host.services, host.attended))
        return "report"

    monkeypatch.setattr(apply_module, "apply", apply)
    return policies


def test_nothing_but_the_standard_library_is_imported_with_it():
    code = (
        "import sys; before = set(sys.modules); import cc_ssh_keepalive; new = set(sys.modules) - before;"
        "print(sorted(n for n in new if n.split('.')[0] in ('ssh_keepalive', 'jsonschema', 'yaml', 'cloudinit')))"
    )
    env = {"PYTHONPATH": SOURCE}
    assert subprocess.check_output([sys.executable, "-c", code], env=env) == b"[]\n"


def test_the_contract_with_cloud_init():
    assert not hasattr(cc_ssh_keepalive, "schema")
    assert meta["frequency"] == cc_ssh_keepalive.frequency == "once-per-instance"
    assert meta["distros"] == cc_ssh_keepalive.distros == ["all"]
    assert meta["activate_by_schema_keys"] == ["ssh_keepalive"]
    parameters = list(inspect.signature(handle).parameters.values())
    # Five are reported as deprecated by 23.2 and later
    assert len(parameters) == 6
    assert [parameter.default for parameter in parameters[2:]] == [None] * 4


@pytest.mark.parametrize("cfg", [{}, {"ssh_keepalive": None}])
def test_an_absent_section_touches_nothing(cfg, applied):
    handle("ssh_keepalive", cfg, Cloud(), None, [])
    assert applied == []


def test_both_ways_of_calling_it(applied, caplog):
    caplog.set_level(logging.INFO)
    handle("ssh_keepalive", {"ssh_keepalive": True}, Cloud(), logging.getLogger(), [])
    handle(name="ssh_keepalive", cfg={"ssh_keepalive": True}, cloud=Cloud(), args=[])
    assert applied == [(Policy(unresponsive_timeout=180), ("sshd",), False)] * 2
    assert [(record.levelname, record.message) for record in caplog.records] == [("INFO", "report")] * 2


def test_bad_input_raises_before_anything_is_touched(applied):
    with pytest.raises(PolicyError) as caught:
        handle("ssh_keepalive", {"ssh_keepalive": {"unresponsive_timeout": "1s", "x": 1}}, Cloud(), None, [])
    assert applied == []
    assert repr(caught.value).startswith("PolicyError(")
    assert "ssh_keepalive.unresponsive_timeout: '1s'" in str(caught.value)
    assert "; ssh_keepalive.x: unknown key" in str(caught.value)
