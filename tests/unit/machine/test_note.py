"""What the unit notes, and for what it fails."""

from ssh_keepalive.machine.status import note
from states import COPY, IGNORED, WITH_TAB, asks, handed


def noted(machine):
    """Return the verdict of the unit, and what it says, as it is said on a machine."""
    found = note(machine.host())
    return found.verdict, found.exit_code, [machine.shown(problem) for problem in found.problems]


def test_the_unit_says_nothing_of_what_is_in_effect(enforced):
    asks(enforced, "{unresponsive_timeout: 3m}")
    assert noted(enforced) == ("enforced", 0, [])
    assert len(enforced.calls("sshd")) == 2


def test_the_unit_says_nothing_of_a_machine_without_a_policy(machine):
    assert noted(machine) == ("not-configured", 0, [])
    assert machine.calls("sshd") == []


def test_the_unit_fails_for_what_is_not_in_effect(enforced):
    asks(enforced, "{unresponsive_timeout: 3m}")
    (enforced.file.parent / "00-a.conf").write_text("ClientAliveInterval 7\n")
    problem = "ClientAliveInterval is 7 where 5 is expected, /etc/ssh/sshd_config.d/00-a.conf:1 overrides it"
    verdict, code, problems = noted(enforced)
    assert (verdict, code, problems[:1]) == ("not-enforced", 1, [problem + ": remove that line and restart sshd"])
    # What others have changed since it may have read, or not.
    assert [one.split(" has read ")[0] for one in problems[1:]] == ["whether ssh.service (process 5000001, port 22)"]


def test_the_unit_fails_for_what_was_ignored(enforced):
    handed(enforced, WITH_TAB)
    handed(enforced, {"95_x.cfg": "ssh_keepalive: true"}, "etc/cloud/cloud.cfg.d")
    assert noted(enforced) == ("not-enforced", 1, ["{}: {}".format(IGNORED, COPY)])


def test_what_the_unit_cannot_tell_is_unknown(enforced):
    said = "Missing privilege separation directory: /run/sshd"
    enforced.set("sshd", answers={"-ddd": (255, "", "debug1: sshd version\n" + said)})
    assert noted(enforced)[:2] == ("unknown", 2)
