"""What keeps a policy from being in effect is named with its file, line and remedy, and no file changes."""

import pytest
from ssh_keepalive.machine.apply import apply
from ssh_keepalive.policy import Policy, PolicyError

POLICY = Policy(unresponsive_timeout=180)
REMEDY = "remove that line and restart sshd"
OPTION_REMEDY = "remove that, systemctl cat ssh.service shows it, then systemctl restart ssh.service"


def test_the_same_text_that_no_longer_wins_is_an_error(machine, refused):
    apply(POLICY, machine.host())
    (machine.file.parent / "00-a.conf").write_text("ClientAliveInterval 7\n")
    assert refused() == (
        "ClientAliveInterval is 7 where 5 is expected, /etc/ssh/sshd_config.d/00-a.conf:1 overrides it: " + REMEDY
    )


@pytest.mark.parametrize("is_there", [False, True], ids=["candidate", "in-place"])
def test_every_value_that_does_not_win_is_named(machine, refused, is_there):
    if is_there:
        apply(POLICY, machine.host())
    # The candidate would come before all drop-ins.
    machine.main.write_text("ClientAliveCountMax 1\nClientAliveInterval 7\n" + machine.main.read_text())
    if not is_there:
        machine.main.write_text("Match all\nClientAliveCountMax 1\nClientAliveInterval 7\n")
    first = 1 if is_there else 2
    assert refused() == (
        "ClientAliveInterval is 7 where 5 is expected, /etc/ssh/sshd_config:{} overrides it: {remedy}; "
        "ClientAliveCountMax is 1 where 35 is expected, /etc/ssh/sshd_config:{} overrides it: {remedy}"
    ).format(first + 1, first, remedy=REMEDY)


def test_a_match_that_fits_everybody_is_named(machine, refused):
    with machine.main.open("a") as stream:
        stream.write("Match all\nClientAliveCountMax 9\n")
    assert refused() == (
        "ClientAliveCountMax is 9 where 35 is expected, /etc/ssh/sshd_config:4 overrides it: " + REMEDY
    )


def test_the_lines_of_others_are_counted_as_they_stay(machine, refused):
    machine.main.write_text("UsePAM yes\nMatch all\nClientAliveCountMax 9\n")
    expected = "ClientAliveCountMax is 9 where 35 is expected, /etc/ssh/sshd_config:{} overrides it: " + REMEDY
    assert refused() == expected.format(3)
    machine.main.write_text("UsePAM yes\n")
    apply(POLICY, machine.host())
    with machine.main.open("a") as stream:
        stream.write("Match all\nClientAliveCountMax 9\n")
    # With the block of the policy before
    assert refused() == expected.format(6)
    assert machine.main.read_text().split("\n")[5] == "ClientAliveCountMax 9"


def test_somebody_elses_broken_drop_in_is_named_before_anything_is_replaced(machine, refused):
    (machine.file.parent / "50-b.conf").write_text("Broken yes\n")
    assert refused() == (
        "sshd refuses its configuration: /etc/ssh/sshd_config.d/50-b.conf: line 1: Bad configuration option: Broken / "
        "/etc/ssh/sshd_config.d/50-b.conf: terminating, 1 bad configuration options"
        ": correct that until /usr/sbin/sshd -t is silent"
    )


def test_a_broken_drop_in_of_ours_is_replaced(machine):
    machine.file.write_text("Broken yes\n")
    apply(POLICY, machine.host())
    assert machine.file.read_text().endswith("ClientAliveInterval 5\nClientAliveCountMax 35\n")


def test_a_broken_drop_in_of_ours_comes_back_where_something_else_is_wrong_too(machine, refused):
    machine.file.write_text("Broken yes\n")
    (machine.file.parent / "50-b.conf").write_text("Broken yes\n")
    assert "/etc/ssh/sshd_config.d/50-b.conf: line 1" in refused()


def test_our_own_old_text_does_not_stand_in_the_way_of_a_new_one(machine):
    # A Match of ours comes before all globals, and is still there when the candidate is verified.
    machine.file.write_text("ClientAliveInterval 7\nMatch all\nClientAliveInterval 8\n")
    apply(POLICY, machine.host())
    assert "Match" not in machine.file.read_text()


def test_what_others_set_stands_in_the_way_of_a_new_text_beside_our_old_one(machine, refused):
    machine.file.write_text("Match all\nClientAliveInterval 8\n")
    machine.main.write_text(machine.main.read_text() + "Match all\nClientAliveCountMax 9\n")
    assert refused() == (
        "ClientAliveCountMax is 9 where 35 is expected, /etc/ssh/sshd_config:4 overrides it: " + REMEDY
    )


def test_what_root_is_exempted_from_by_name_is_told(machine):
    (machine.file.parent / "50-root.conf").write_text("Match User root\nClientAliveInterval 0\n")
    report = apply(POLICY, machine.host())
    assert machine.shown(report.notes[0]) == (
        "ClientAliveInterval is 0 where 5 is expected for user root from 192.0.2.1, "
        "/etc/ssh/sshd_config.d/50-root.conf:2 overrides it"
    )
    assert len(report.notes) == 1
    assert machine.file.exists()


def test_what_root_has_by_a_match_for_many_is_an_error(machine, refused):
    (machine.file.parent / "50-all.conf").write_text("Match User *,!.invalid\nClientAliveInterval 0\n")
    assert refused() == (
        "ClientAliveInterval is 0 where 5 is expected for user root from 192.0.2.1, "
        "/etc/ssh/sshd_config.d/50-all.conf:2 overrides it: "
        "remove that line and restart sshd, or name whom it is for in ssh_keepalive.match"
    )


def test_an_option_of_the_unit_is_handed_on_and_named(machine, refused):
    machine.add_unit("ssh.service", words="-D -o ClientAliveInterval=0 -p 2222")
    assert refused() == (
        "ClientAliveInterval is 0 where 5 is expected, sshd is started with -o ClientAliveInterval=0, "
        "which overrides it: " + OPTION_REMEDY
    )
    assert machine.calls("sshd")[1].startswith("-T -o ClientAliveInterval=0 -p 2222 -f ")


def test_an_option_that_sets_the_same_is_no_obstacle(machine):
    machine.add_unit("ssh.service", words="-D -o ClientAliveInterval=5")
    apply(POLICY, machine.host())
    assert machine.file.exists()


def test_an_option_from_a_file_of_the_units_environment(machine, refused):
    defaults = machine.root / "etc/default/ssh"
    defaults.parent.mkdir()
    defaults.write_text("SSHD_OPTS='-o ClientAliveCountMax=9'\n")
    machine.set_unit(EnvironmentFiles="/etc/default/ssh (ignore_errors=yes)")
    assert refused() == (
        "ClientAliveCountMax is 9 where 35 is expected, sshd is started with -o ClientAliveCountMax=9, which "
        "overrides it: remove that, systemctl cat ssh.service or /etc/default/ssh shows it, then systemctl restart "
        "ssh.service"
    )


def test_a_main_file_of_the_units_own_is_the_one_that_is_asked_about(machine, refused):
    other = machine.root / "etc/ssh/other"
    other.write_text("UsePAM yes\n")
    machine.add_unit("ssh.service", words="-D -f {}".format(other))
    assert refused() == (
        "ClientAliveInterval is 0 where 5 is expected, ClientAliveCountMax is 3 where 35 is expected: "
        "/etc/ssh/other does not read "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf: "
        "put 'Include /etc/ssh/sshd_config.d/00-ssh-keepalive.conf' on its first line, and restart sshd"
    )
    other.write_text(machine.main.read_text())
    apply(POLICY, machine.host())
    assert machine.calls("sshd")[-1].startswith("-T -ddd -f {} -C user=".format(other))


def test_what_this_sshd_cannot_do_is_refused(refused):
    said = refused(Policy(idle_timeout=900), error=PolicyError)
    assert said.startswith("ssh_keepalive.idle_timeout: 900: OpenSSH 8.4 has no ChannelTimeout: ")


@pytest.mark.parametrize("in_a_match", [False, True])
def test_files_of_more_than_sshd_takes_are_refused(machine, refused, in_a_match):
    big = machine.ssh / "big.conf"
    with machine.main.open("a") as stream:
        stream.write("Match User nobody-at-all\n" * in_a_match + "Include {}\n".format(big))
    big.write_text("#" * 245000)
    machine.openssh("10.0p2")
    apply(POLICY, machine.host())
    big.write_text("#" * 249800)
    read = len(machine.main.read_bytes()) + 249800 + len(machine.file.read_bytes())
    read += sum(2 * len(str(name)) + 16 for name in (machine.main, machine.file, big))
    assert refused(Policy(unresponsive_timeout=240)) == (
        "the configuration of ssh.service has {} bytes, above 256 KiB this version refuses every login: "
        "shorten /etc/ssh/sshd_config and what it includes, then systemctl restart ssh.service"
    ).format(read)
    machine.openssh("10.3p1")
    apply(Policy(unresponsive_timeout=240), machine.host())


def test_no_sshd_at_all(machine, refused):
    (machine.bin / "sshd").unlink()
    machine.units.units.clear()
    machine.units.save()
    assert refused() == "sshd is not on this machine (looked in /usr/sbin)"
