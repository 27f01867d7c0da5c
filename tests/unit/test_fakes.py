"""The fakes are told what to do by switches that they have."""

import subprocess
from pathlib import Path

import pytest
from fakes.switches import DEFAULTS

FAKES = Path(__file__).resolve().parents[1] / "fakes"


def test_a_switch_that_is_not_there_fails_the_test(machine):
    with pytest.raises(KeyError, match="no such switch: versoin"):
        machine.set("sshd", versoin="OpenSSH_9.2")
    with pytest.raises(KeyError):
        machine.set("ssh", version="OpenSSH_9.2")


@pytest.mark.parametrize("fake", DEFAULTS)
def test_every_switch_is_read(fake):
    script = FAKES / ("service" if fake == "rc-service" else fake)
    source = script.read_text() + (FAKES / "switches.py").read_text()
    assert [name for name in DEFAULTS[fake] if 'switches["{}"]'.format(name) not in source] == []


def test_a_fake_does_what_is_switched_on_for_the_words_that_it_is_called_with(machine):
    there, gone = machine.root / "there", machine.root / "gone"
    gone.touch()
    machine.set(
        "sshd", answers={"-t": (7, "out", "err")}, meanwhile=[("-t -f", str(there), "x"), ("-t", str(gone), None)]
    )
    call = [str(machine.bin / "sshd"), "-t", "-f", "/x"]
    for _ in range(2):
        done = subprocess.run(call, env={"PATH": str(machine.bin) + ":/usr/bin"}, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (7, "out", "err")
        assert (there.read_text(), gone.exists()) == ("x", False)
        there.write_text("x")
    assert machine.calls("sshd") == ["-t -f /x"] * 2


# What OpenSSH 8.4, 10.0 and 10.6 say, where MAIN has an Include, and a Match with an Include in it
TRACE = """\
debug2: load_server_config: filename {ssh}/sshd_config
debug2: load_server_config: done config len = {main}
debug2: parse_server_config_depth: config {ssh}/sshd_config len {main}
debug2: {ssh}/sshd_config line 1: new include {ssh}/sshd_config.d/*.conf
debug2: {ssh}/sshd_config line 1: including {ssh}/sshd_config.d/00-x.conf
debug2: load_server_config: filename {ssh}/sshd_config.d/00-x.conf
debug2: load_server_config: done config len = 62
debug2: parse_server_config_depth: config {ssh}/sshd_config.d/00-x.conf len 62
debug3: {ssh}/sshd_config.d/00-x.conf:1 setting ClientAliveInterval 45
debug3: checking syntax for 'Match User root'{at2}
debug3: {ssh}/sshd_config:2 setting UsePAM yes
debug3: checking syntax for 'Match User bob'{at3}
debug2: {ssh}/sshd_config line 4: new include {ssh}/other*.conf
debug2: {ssh}/sshd_config line 4: including {ssh}/other1.conf
debug2: load_server_config: filename {ssh}/other1.conf
debug2: load_server_config: done config len = 23
debug2: parse_server_config_depth: config {ssh}/other1.conf len 23 [checking syntax only]
debug2: parse_server_config_depth: config reprocess config len {main}
debug2: parse_server_config_depth: config {ssh}/sshd_config.d/00-x.conf len 62
debug3: checking match for 'User root' {who}{at2}
debug3: match found{at2}
debug3: {ssh}/sshd_config.d/00-x.conf:3 setting ClientAliveInterval 30
debug3: checking match for 'User bob' {who}{at3}
debug3: match not found{at3}
debug2: parse_server_config_depth: config {ssh}/other1.conf len 23 [checking syntax only]
"""
WHO = "user root host .invalid addr 192.0.2.1 laddr 192.0.2.1 lport 22"


@pytest.mark.parametrize(
    ("version", "at2", "at3", "domain"),
    [
        ("8.4p1", "", "", ""),
        ("10.0p2", " on line 2", " on line 3", ""),
        ("10.6p1", " on line 2", " on line 3", " rdomain (null)"),
    ],
)
def test_the_trace_is_that_of_a_real_sshd(machine, version, at2, at3, domain):
    machine.openssh(version)
    (machine.run / "sshd").mkdir()
    (machine.file.parent / "00-x.conf").write_text("ClientAliveInterval 45\nMatch User root\nClientAliveInterval 30\n")
    (machine.ssh / "other1.conf").write_text("ClientAliveCountMax 9\n\n")
    with machine.main.open("a") as stream:
        stream.write("Match User bob\nInclude {}/other*.conf\n".format(machine.ssh))
    who = "user=root,host=.invalid,addr=192.0.2.1,laddr=192.0.2.1,lport=22"
    call = [str(machine.bin / "sshd"), "-T", "-ddd", "-C", who]
    done = subprocess.run(call, env={"PATH": str(machine.bin) + ":/usr/bin"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = "".join(line + "\n" for line in done.stderr.splitlines() if not line.startswith("debug1: "))
    main = machine.main.stat().st_size
    assert said == TRACE.format(ssh=machine.ssh, main=main, at2=at2, at3=at3, who=WHO + domain)
    assert "clientaliveinterval 30\n" in done.stdout.lower()
    assert "clientalivecountmax 3\n" in done.stdout.lower()
