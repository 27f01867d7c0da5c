"""What the unit notes, and for what it fails."""

from ssh_keepalive.machine.apply import apply
from ssh_keepalive.machine.status import note
from states import COPY, IGNORED, POLICY, WITH_TAB, asks, handed


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


def test_the_unit_fails_for_a_profile_that_is_gone(machine):
    apply(POLICY._replace(idle_timeout=900, idle_fallback="tmout"), machine.host())
    machine.start()
    asks(machine, "{unresponsive_timeout: 3m, idle_timeout: 15m, idle_fallback: tmout}")
    assert noted(machine)[:2] == ("enforced", 0)
    (machine.profile / "zz-ssh-keepalive.sh").unlink()
    assert noted(machine)[0] == "not-enforced"


def test_the_unit_fails_for_an_sshd_that_has_failed(enforced):
    asks(enforced, "{unresponsive_timeout: 3m}")
    enforced.stop()
    enforced.set_unit(ActiveState="failed", SubState="failed", Result="exit-code")
    verdict, _, problems = noted(enforced)
    assert (verdict, problems[0].partition(":")[0]) == (
        "not-enforced",
        "ssh.service has failed (exit-code), it serves nobody",
    )


def test_the_unit_does_not_know_of_a_program_that_was_replaced(enforced):
    asks(enforced, "{unresponsive_timeout: 3m}")
    enforced.replace_program()
    assert noted(enforced)[:2] == ("unknown", 2)


def test_the_unit_fails_for_a_configuration_with_which_every_login_is_refused(enforced):
    asks(enforced, "{unresponsive_timeout: 3m}")
    with enforced.main.open("a") as stream:
        stream.write("Include {}\n".format(enforced.ssh / "big.conf"))
    (enforced.ssh / "big.conf").write_text("#" * 251000)
    enforced.openssh("10.0p2")
    enforced.start()
    verdict, code, problems = noted(enforced)
    assert (verdict, code) == ("not-enforced", 1)
    assert "above 256 KiB this version refuses every login" in problems[0]


def test_the_unit_does_not_know_of_matches_where_a_name_service_does_not_answer(enforced):
    asks(enforced, "{unresponsive_timeout: 3m}")
    with enforced.main.open("a") as stream:
        stream.write("Match User bob\n  X11Forwarding no\n")
    enforced.start()
    enforced.set("sshd", hangs={"-C": 60})
    verdict, code, problems = noted(enforced)
    assert (verdict, code) == ("unknown", 2)
    assert "a name service here does not answer, so that no Match could be asked about" in problems[0]


def test_what_was_ignored_for_sure_outweighs_what_is_unknown(enforced):
    enforced.main.write_text(enforced.main.read_text() + "Match Version old\nClientAliveInterval 6\n")
    enforced.start()
    assert noted(enforced)[:2] == ("unknown", 2)
    handed(enforced, WITH_TAB)
    verdict, code, problems = noted(enforced)
    assert (verdict, code, problems[0]) == ("not-enforced", 1, "{}: {}".format(IGNORED, COPY))
