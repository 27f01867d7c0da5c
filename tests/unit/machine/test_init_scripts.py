"""What init scripts tell."""

import pytest
from ssh_keepalive.machine import init_scripts


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("default/ssh", "SSHD_OPTS=-4\n", ("-4",)),
        ("sysconfig/sshd", 'OPTIONS="-o UseDNS=no"\n', ("-o", "UseDNS=no")),
        ("conf.d/sshd", "SSHD_OPTS=''\n", ()),
        ("default/ssh", "OPTIONS=-4\n", ()),
        # Alpine's
        ("conf.d/sshd", "command_args='-4'\nSSHD_OPTS='-6'\n", ("-4",)),
        ("conf.d/sshd", "SSHD_OPTS='-6'\ncfgfile=/etc/ssh/other\n", ("-6", "-f", "/etc/ssh/other")),
        # Gentoo's
        ("conf.d/sshd", 'SSHD_CONFDIR="${RC_PREFIX%/}/etc/ssh"\nSSHD_OPTS=""\n', ()),
        ("conf.d/sshd", "SSHD_CONFIG=/srv/sshd\n", ("-f", "/srv/sshd")),
        ("conf.d/sshd", "SSHD_CONFIG=/etc/ssh/sshd_config\n", ()),
        ("conf.d/sshd", 'SSHD_CONFIG="${SSHD_CONFDIR}/other"\n', ()),
    ],
)
def test_arguments_of_an_init_script(machine, file, text, words):
    path = machine.root / "etc" / file
    path.parent.mkdir()
    path.write_text(text)
    assert init_scripts.default_words(machine.host()) == words


def test_no_manager_of_services(machine):
    assert init_scripts.script(machine.host()) is None


def test_the_names_of_the_service_are_asked_in_their_order(machine):
    machine.have("service")
    machine.start_by_hand()
    assert init_scripts.script(machine.host()) == init_scripts.Script("ssh", "service")
    assert init_scripts.script(machine.host(services=("sshd",))) is None
    machine.set("service", names=["ssh", "sshd"])
    assert init_scripts.script(machine.host(services=("sshd",))) == init_scripts.Script("sshd", "service")
