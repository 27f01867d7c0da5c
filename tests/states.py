"""What cloud-init and status say on a fake machine: what the one has asked for, and what the other makes of that."""

import json
import os
from pathlib import Path

from images import make
from jsonschema import Draft4Validator
from ssh_keepalive.machine.report import as_json, as_text
from ssh_keepalive.machine.status import status
from ssh_keepalive.policy import Policy

POLICY = Policy(unresponsive_timeout=180)
PROMISE = "a client that stopped answering is disconnected 180 s after its last sign of life"
SCHEMA = json.loads((Path(__file__).resolve().parents[1] / "schema/status.schema.json").read_text())
DROP_IN = "/etc/ssh/sshd_config.d/00-ssh-keepalive.conf"
INSTANCE = "/var/lib/cloud/instance"
IGNORED = (
    "cloud-init has ignored ssh_keepalive in user-data: "
    + INSTANCE
    + "/user-data.txt:3:1: not YAML: a tab, indent with spaces"
)
COPY = "cp {}/user-data.txt FILE, correct that in FILE, then ssh-keepalive apply FILE".format(INSTANCE)
WITH_TAB = {"user-data.txt": "#cloud-config\nssh_keepalive: true\n\t- a\n", "cloud-config.txt": "#cloud-config\n{}\n"}


def told(machine, code, **changes):
    """Return what is said of a machine, which stays as it is."""
    before = machine.files(), sorted(str(path) for path in machine.run.rglob("*"))
    found = status(machine.host(**changes))
    assert (machine.files(), sorted(str(path) for path in machine.run.rglob("*"))) == before
    assert machine.verbs() == []
    Draft4Validator(SCHEMA).validate(json.loads(json.dumps(as_json(found))))
    lines = machine.shown(as_text(found)).splitlines()
    assert found.exit_code == code, lines
    return lines


def asks(machine, section):
    """Have cloud-init's configuration of this instance ask for something."""
    handed(machine, {"cloud-config.txt": "ssh_keepalive: " + section, "sem/config_ssh_keepalive": ""})


def handed(machine, files, folder=INSTANCE[1:]):
    """Have files of this instance, or of another folder, say something."""
    make(machine.root / folder, files)


def fails(machine, error):
    """Have cloud-init have written down how the module failed."""
    result = machine.root / "run/cloud-init/status.json"
    result.parent.mkdir(parents=True)
    stage = {"errors": ["('ssh', OSError(1))", error], "start": 1.0, "finished": 2.0}
    result.write_text(json.dumps({"v1": {"datasource": None, "stage": None, "init": stage}}))
    return str(result)


def begins(machine, seconds):
    """Have this instance have begun so long after the policy was written."""
    began = machine.file.stat().st_mtime + seconds
    handed(machine, {"sem/consume_data": ""})
    os.utime(str(machine.root / INSTANCE[1:] / "sem/consume_data"), (began, began))
