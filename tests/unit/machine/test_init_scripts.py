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
