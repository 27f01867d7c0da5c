import json
import os
import time
from pathlib import Path

import pytest
from jsonschema import Draft4Validator
from proc import Proc
from ssh_keepalive.inspection import inspect
from ssh_keepalive.policy import Entry, Policy
from ssh_keepalive.sshd import apply

POLICY = Policy(unresponsive_timeout=180)
PROMISE = "a client that stopped answering is gone 180 s after its last sign of life"
NO_CLOUD_INIT = "note: no cloud-init here that would run the module"
SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "schema/status.schema.json").read_text())


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path / "proc")


@pytest.fixture
def kept(machine, proc):
    """A machine with a policy, and an sshd that has read it."""
    machine.sshd_is("active")
    apply(POLICY, machine.sshd())
    proc.add(5, 1, "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups")
    (machine.run / "sshd.pid").write_text("5\n")
    machine.calls_file.unlink()
    return machine


def told(machine, proc, code, **changes):
    """Return what is said of a machine, which stays as it is."""
    before = machine.files(), sorted(str(path) for path in machine.run.rglob("*"))
    found = inspect(machine.sshd(**changes), str(machine.root), str(proc.folder))
    assert (machine.files(), sorted(str(path) for path in machine.run.rglob("*"))) == before
    assert found.exit_code == code
    Draft4Validator(SCHEMA).validate(json.loads(json.dumps(found.as_json())))
    return str(found).replace(str(machine.root), "").splitlines()


def reads(machine, ago):
    """Have sshd have read its configuration some seconds ago."""
    now = time.time() - ago
    os.utime(str(machine.run / "sshd.pid"), (now, now))


def test_the_schema_is_one():
    Draft4Validator.check_schema(SCHEMA)


def test_a_kept_policy(kept, proc):
    lines = told(kept, proc, 0)
    read = lines.pop(5)
    assert lines == [
        "kept: " + PROMISE,
        'asked: {"unresponsive_timeout": 180}',
        "asked by: ssh-keepalive apply, or an earlier instance",
        "openssh: 8.4",
        "wanted: ClientAliveInterval 45, ClientAliveCountMax 3",
        NO_CLOUD_INIT,
    ]
    assert read.startswith("sshd: process 5 has read its configuration at ")
    assert read.endswith(", as it is now")
    nobody = "-T -ddd -C addr=192.0.2.1,host=.invalid,laddr=192.0.2.1,lport=1,user=.invalid"
    assert kept.calls("sshd") == ["-V", nobody]
    assert kept.calls("systemctl") == []


def test_a_newer_sshd_is_asked_for_its_configuration_alone(kept, proc):
    kept.openssh("9.9")
    told(kept, proc, 0)
    assert kept.calls("sshd")[1].startswith("-G -T -ddd -C ")


def test_nothing_is_asked(machine, proc):
    assert told(machine, proc, 0) == ["nothing asked", NO_CLOUD_INIT]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("true", "user-data asks for a policy, and there is no /etc/ssh/sshd_config.d/00-ssh-keepalive.conf"),
        (
            "{unresponsive_timeout: 1s}",
            "user-data asks for what is refused: ssh_keepalive.unresponsive_timeout: '1s': "
            "expected a time from 15s to 1d, for example 3m",
        ),
    ],
)
def test_what_was_asked_and_is_not_there(machine, proc, section, message):
    folder = machine.root / "var/lib/cloud/instance"
    folder.mkdir(parents=True)
    (folder / "cloud-config.txt").write_text("ssh_keepalive: " + section)
    assert told(machine, proc, 1)[:2] == [
        "not kept: " + message,
        "remedy: correct that, then ssh-keepalive apply FILE",
    ]


def fails(machine, error):
    """Have cloud-init have written down how the module failed."""
    result = machine.root / "run/cloud-init/result.json"
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps({"v1": {"datasource": None, "errors": ["('ssh', OSError(1))", error]}}))


# What cloud-init has written on Python 3.6, and does from 3.7 on.
@pytest.mark.parametrize(
    "error", ["""('ssh_keepalive', SshdError("it's so",))""", """('ssh_keepalive', SshdError("it's so"))"""]
)
def test_the_reason_is_told_for_which_it_is_not_there(machine, proc, error):
    folder = machine.root / "var/lib/cloud/instance"
    folder.mkdir(parents=True)
    (folder / "cloud-config.txt").write_text("ssh_keepalive: true")
    fails(machine, error)
    assert told(machine, proc, 1)[0] == (
        "not kept: user-data asks for a policy, and there is no /etc/ssh/sshd_config.d/00-ssh-keepalive.conf: it's so"
    )


def test_an_older_policy_than_the_one_that_failed(kept, proc):
    folder = kept.root / "var/lib/cloud/instance"
    folder.mkdir(parents=True)
    (folder / "cloud-config.txt").write_text("ssh_keepalive: {unresponsive_timeout: 1h}")
    assert told(kept, proc, 0)[0] == "kept: " + PROMISE
    fails(kept, "('ssh_keepalive', SshdError('no luck'))")
    result = kept.root / "run/cloud-init/result.json"
    later = time.time() + 60
    os.utime(str(result), (later, later))
    assert told(kept, proc, 1)[:2] == [
        "not kept: cloud-init's configuration was refused, this is an older policy: no luck",
        "remedy: correct that, then ssh-keepalive apply FILE",
    ]
    # One that was applied by hand after that
    os.utime(str(result), (1000, 1000))
    assert told(kept, proc, 0)[0] == "kept: " + PROMISE


def test_off_is_kept_where_nothing_is(machine, proc):
    folder = machine.root / "var/lib/cloud/instance"
    folder.mkdir(parents=True)
    (folder / "cloud-config.txt").write_text("ssh_keepalive: false")
    assert told(machine, proc, 0)[:2] == ["nothing asked", "cloud-init's configuration: false by user-data"]


def test_each_value_that_does_not_win_is_a_problem(kept, proc):
    (kept.ssh / "sshd_config.d/00-a.conf").write_text("ClientAliveInterval 7\nClientAliveCountMax 1\n")
    assert told(kept, proc, 1)[:4] == [
        "not kept: ClientAliveInterval is 7 where 45 is wanted: /etc/ssh/sshd_config.d/00-a.conf:1 sets it and wins",
        "remedy: remove that line and restart sshd",
        "problem: ClientAliveCountMax is 1 where 3 is wanted: /etc/ssh/sshd_config.d/00-a.conf:2 sets it and wins",
        "remedy: remove that line and restart sshd",
    ]


def test_a_main_file_that_reads_no_drop_ins(kept, proc):
    kept.main.write_text("UsePAM yes\n")
    assert told(kept, proc, 1)[:2] == [
        "not kept: ClientAliveInterval is 0 where 45 is wanted: "
        "/etc/ssh/sshd_config does not read /etc/ssh/sshd_config.d/00-ssh-keepalive.conf",
        "remedy: ssh-keepalive reapply",
    ]


def test_a_match_of_somebody_elses_for_a_user_a_network_and_unknown_ones(kept, proc):
    with kept.main.open("a") as stream:
        stream.write("Match User !bob,al*\nClientAliveInterval 9\nMatch Address 10.0.0.0/8\nClientAliveInterval 8\n")
        stream.write("Match Group root\nClientAliveInterval 45\nMatch Version old\nClientAliveInterval 6\n")
    lines = told(kept, proc, 1)
    remedy = "remedy: remove that line and restart sshd, or name whom it is for in ssh_keepalive.match"
    said = "ClientAliveInterval is {} where 45 is wanted for Match {}: /etc/ssh/sshd_config:{} sets it and wins"
    assert lines[:4] == [
        "not kept: " + said.format(9, "User !bob,al*", 4),
        remedy,
        "problem: " + said.format(8, "Address 10.0.0.0/8", 6),
        remedy,
    ]
    assert lines[-2:] == [
        "note: what Match Version old changes is not known, since nobody is whom it fits",
        NO_CLOUD_INIT,
    ]


def test_entries_of_match_are_asked_about(machine, proc):
    entries = (
        Entry("user", ("root",), client_alive_interval=30, client_alive_count_max=3),
        Entry("group", ("no-such-group",), client_alive_interval=31, client_alive_count_max=3),
    )
    apply(POLICY._replace(match=entries), machine.sshd())
    lines = told(machine, proc, 0)
    assert "note: match[1] is not proved, Match Group no-such-group fits nobody who is known here yet" in lines
    assert "note: what Match Group no-such-group changes is not known, since nobody is whom it fits" not in lines


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Interval 45", "Interval 99", "ClientAliveInterval is 99 where 45 is wanted: {} was changed by hand"),
        ("ClientAliveInterval 45\n", "", "ClientAliveInterval is 0 where 45 is wanted: {} was changed by hand"),
        ("Interval 45", "Interval 30", "ClientAliveInterval is 30 where 45 is wanted: {} was changed by hand"),
    ],
)
def test_a_drop_in_that_was_changed_by_hand(kept, proc, old, new, message):
    kept.file.write_text(kept.file.read_text().replace(old, new))
    assert told(kept, proc, 1)[:2] == [
        "not kept: " + message.format("/etc/ssh/sshd_config.d/00-ssh-keepalive.conf"),
        "remedy: ssh-keepalive reapply",
    ]


def test_a_drop_in_for_another_openssh(kept, proc):
    kept.openssh("9.2")
    assert told(kept, proc, 1)[:2] == [
        "not kept: ClientAliveInterval is 45 where 18 is wanted: "
        "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf is written for another OpenSSH",
        "remedy: ssh-keepalive reapply",
    ]


def test_a_policy_that_this_openssh_cannot_keep(machine, proc):
    machine.openssh("9.9")
    apply(Policy(idle_timeout=900), machine.sshd())
    script = (machine.bin / "sshd").read_text()
    (machine.bin / "sshd").write_text(script.replace("OpenSSH_9.9", "OpenSSH_8.4"))
    assert told(machine, proc, 1)[:2] == [
        "not kept: ssh_keepalive.idle_timeout: 900: OpenSSH 8.4 has no ChannelTimeout: set idle_fallback: tmout, which "
        "ends shells at their prompt and nothing else, remove idle_timeout, or use OpenSSH 9.2 or later",
        "remedy: ssh-keepalive apply FILE, with a policy that it can keep",
    ]


def test_a_profile_that_is_gone(machine, proc):
    apply(Policy(idle_timeout=900, idle_fallback="tmout"), machine.sshd())
    assert told(machine, proc, 0)[-2] == "sshd: none listens, one that starts reads the configuration as it is now"
    (machine.profile / "zz-ssh-keepalive.sh").unlink()
    assert told(machine, proc, 1)[:2] == [
        "not kept: /etc/profile.d/zz-ssh-keepalive.sh is not as it was written",
        "remedy: ssh-keepalive reapply",
    ]


def test_an_sshd_that_has_not_read_a_file(kept, proc):
    reads(kept, 60)
    lines = told(kept, proc, 1)
    assert lines[:2] == [
        "not kept: sshd has not read /etc/ssh/sshd_config since it changed",
        "remedy: restart sshd, open sessions survive",
    ]


def test_an_sshd_from_before_a_file_went(kept, proc):
    later = time.time() + 60
    os.utime(str(kept.file.parent), (later, later))
    assert told(kept, proc, 1)[0] == "not kept: sshd has not read /etc/ssh/sshd_config.d since it changed"


def test_what_a_landing_leaves_in_the_folder_is_no_change(kept, proc):
    later = time.time() + 5
    os.utime(str(kept.file.parent), (later, later))
    assert told(kept, proc, 0)[0] == "kept: " + PROMISE


def test_a_session_from_before(kept, proc):
    proc.add(6, 5, "sshd: root@pts/0", began=time.time() - 3600)
    proc.add(7, 5, "sshd: anna [priv]", began=time.time() + 1)
    proc.add(8, 7, "sshd: anna@pts/1", began=time.time() + 1, uid=1000)
    (line,) = [line for line in told(kept, proc, 0) if line.startswith("older settings: ")]
    assert line.startswith("older settings: root, process 6, since ")


def test_a_file_that_cannot_be_read(kept, proc, monkeypatch):
    sshd = kept.sshd()

    def text(file):
        raise PermissionError(13, "Permission denied", file)

    monkeypatch.setattr(sshd, "text", text)
    found = inspect(sshd, str(kept.root), str(proc.folder))
    assert str(found).replace(str(kept.root), "").splitlines() == [
        "cannot tell: /etc/ssh/sshd_config: Permission denied",
        "remedy: ask as root",
    ]
    assert found.exit_code == 2


def test_no_sshd(kept, proc):
    assert told(kept, proc, 2, path="/nowhere")[:2] == [
        "cannot tell: sshd is not on this machine (looked in /nowhere)",
        "remedy: have sshd answer",
    ]


@pytest.mark.parametrize(
    ("said", "code", "verdict"),
    [
        (
            "Missing privilege separation directory: /run/sshd",
            2,
            "cannot tell: sshd -T answers once sshd has started: {}",
        ),
        ("sshd: no hostkeys available -- exiting.", 2, "cannot tell: sshd -T answers once sshd has started: {}"),
        ("/x: line 1: Bad configuration option: y", 1, "not kept: sshd refuses its configuration: {}"),
    ],
)
def test_an_sshd_that_does_not_say(kept, proc, said, code, verdict):
    script = (kept.bin / "sshd").read_text()
    new = "if '-ddd' in arguments:\n    sys.exit('debug1: sshd version\\n' + {!r})\nwho = ".format(said)
    (kept.bin / "sshd").write_text(script.replace("who = ", new))
    assert told(kept, proc, code)[0] == verdict.format(said)


def test_a_drop_in_without_a_policy(kept, proc):
    kept.file.write_text("ClientAliveInterval 45\n")
    assert told(kept, proc, 1)[:2] == [
        "not kept: /etc/ssh/sshd_config.d/00-ssh-keepalive.conf has no policy line that can be read",
        "remedy: ssh-keepalive apply FILE",
    ]


def test_a_cloud_init_that_cannot_run_the_module(kept, proc):
    file = kept.root / "usr/lib/python3/dist-packages/cloudinit/version.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    lines = told(kept, proc, 1)
    assert lines[:3] == [
        "not registered: cloud-init may not run the module: "
        "/etc/cloud/cloud.cfg: not in the image, install cloud-init first",
        "remedy: correct that, then ssh-keepalive register",
        'asked: {"unresponsive_timeout": 180}',
    ]


def test_a_policy_in_the_main_file(machine, proc):
    machine.openssh("8.0")
    machine.main.write_text("UsePAM yes\n")
    apply(POLICY, machine.sshd())
    lines = told(machine, proc, 0)
    assert lines[0] == "kept: " + PROMISE
    text = machine.main.read_text()
    machine.main.write_text(text.replace("Interval 45", "Interval 46"))
    assert told(machine, proc, 1)[:2] == [
        "not kept: ClientAliveInterval is 46 where 45 is wanted: /etc/ssh/sshd_config was changed by hand",
        "remedy: ssh-keepalive reapply",
    ]


def test_what_the_configuration_asks_and_this_sshd_cannot_keep(kept, proc):
    folder = kept.root / "etc/cloud/cloud.cfg.d"
    folder.mkdir(parents=True)
    (folder / "95_ssh_keepalive.cfg").write_text("ssh_keepalive: {idle_timeout: 15m}\n")
    lines = told(kept, proc, 1)
    assert "asks for what is refused: ssh_keepalive.idle_timeout: 900: OpenSSH 8.4 has no ChannelTimeout" in lines[0]
    assert lines[1] == "remedy: correct that, then ssh-keepalive apply FILE"


def test_an_option_of_the_sshd_that_runs(kept, proc):
    title = "sshd: /usr/sbin/sshd -D -o ClientAliveInterval=0 [listener] 0 of 10-100 startups"
    (proc.folder / "5/cmdline").write_text(title)
    assert told(kept, proc, 1)[:2] == [
        "not kept: ClientAliveInterval is 0 where 45 is wanted: "
        "sshd was started with -o ClientAliveInterval=0, which wins",
        "remedy: remove that from its service (/etc/default/ssh, /etc/sysconfig/sshd), and restart it",
    ]
