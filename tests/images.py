"""Images for tests: a few files in a temporary folder, and what became of them."""

import json
import os
import stat
from pathlib import Path

import pytest
import yaml
from ssh_keepalive.image.installation import install
from ssh_keepalive.image.registration import status
from ssh_keepalive.image.root import ImageError, Root

PACKAGES = "usr/lib/python3/dist-packages"
LIST = "etc/cloud/cloud.cfg.d/99_zz_ssh_keepalive.cfg"
SCHEMA = PACKAGES + "/cloudinit/config/schemas/schema-cloud-config-v1.json"
ORIGINAL = SCHEMA + ".ssh-keepalive-original"
CLEAN = "etc/cloud/clean.d/50-ssh-keepalive"
UNIT = "usr/lib/systemd/system/ssh-keepalive-note.service"
UNIT_LINKS = [
    f"usr/lib/systemd/system/{wants}/ssh-keepalive-note.service"
    for wants in ("cloud-init.target.wants", "ssh.service.wants", "sshd.service.wants")
]
REGISTER_UNIT = "usr/lib/systemd/system/ssh-keepalive-register.service"
REGISTER_UNIT_LINK = "usr/lib/systemd/system/cloud-init.target.wants/ssh-keepalive-register.service"
UNITS = {UNIT, *UNIT_LINKS, REGISTER_UNIT, REGISTER_UNIT_LINK}
RUNTIME = "run/cloud-init/cloud.cfg"
MODULE = {PACKAGES + "/cc_ssh_keepalive.py": ""}
# Three lines for each file that dpkg-divert has moved: the file, where it goes, and whose diversion that is
DIVERSION = {"var/lib/dpkg/diversions": f"/{SCHEMA}\n/{ORIGINAL}\ncloud-init-ssh-keepalive\n"}
# As cloud-init 22.2 and 23.4 have it, cut down
OLD = '{ "$defs": {"cc_ssh": {}}, "allOf": [{"$ref": "#/$defs/cc_ssh"}] }\n'
NEW = """\
{
  "$defs": {
    "all_modules": {
      "enum": [
        "ssh"
      ]
    },
    "cc_ssh": {}
  },
  "allOf": [
    {
      "$ref": "#/$defs/cc_ssh"
    }
  ],
  "properties": {
    "ssh_pwauth": {}
  },
  "additionalProperties": false
}
"""
FILES = {
    "usr/bin/cloud-init": "#! /usr/bin/python3 -s\nimport cloudinit\n",
    PACKAGES + "/cloudinit/version.py": "",
    "etc/cloud/cloud.cfg": "cloud_init_modules: [migrator, users-groups, ssh]\ncloud_config_modules: [set-passwords]\n",
    "etc/cloud/cloud.cfg.d/05_logging.cfg": "_log: x\n",
    "etc/cloud/cloud.cfg.d/README": "cloud_init_modules: [not, read]\n",
    "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n",
}


def make(root, files):
    """Write files, by their paths, below a folder."""
    for name, text in files.items():
        file = Path(str(root)) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def tree(root):
    """Return everything below a folder: kind and mode, and the content or target."""
    found = {}
    for folder, folders, files in os.walk(str(root)):
        for name in folders + files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            content = None
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                content = Path(path).read_bytes()
            found[os.path.relpath(path, str(root))] = (stat.filemode(mode), content)
    return found


def modules(folder):
    """Return the list of modules that an image's cloud-init is to run."""
    return yaml.safe_load((folder / LIST).read_text())["cloud_init_modules"]


def refused(folder, run=install):
    """Return why something refuses an image, which it leaves as it is."""
    before = tree(folder)
    with pytest.raises(ImageError) as caught:
        run(Root(str(folder)))
    assert tree(folder) == before
    return str(caught.value)


def upgrade(file, text=NEW):
    """Put a newer schema in a file's place as package managers do."""
    new = file.with_name("new")
    new.write_text(text)
    new.rename(file)


def lay_in(file, key="other", place=None):
    """Put another tool's key into a schema, as a definition and where that is to be known; place: None for the end."""
    schema = json.loads(file.read_text())
    for names, value in ((schema["$defs"], {"properties": {key: {}}}), (schema.get("properties", {}), {})):
        entries = list(names.items())
        entries.insert(len(entries) if place is None else place, ("cc_" + key if "properties" in value else key, value))
        names.clear()
        names.update(entries)
    for entries, entry in (
        (schema["allOf"], {"$ref": "#/$defs/cc_" + key}),
        (schema["$defs"].get("all_modules", {}).get("enum", []), key),
    ):
        entries.insert(len(entries) if place is None else place, entry)
    file.write_text(json.dumps(schema, indent=4))


def known(file):
    """Return which keys a schema knows, of ours and the other tool's, and that it knows them everywhere or nowhere."""
    schema = json.loads(file.read_text())
    found = []
    for key in ("other", "ssh_keepalive"):
        places = {
            "cc_" + key in schema["$defs"],
            {"$ref": "#/$defs/cc_" + key} in schema["allOf"],
            key in schema.get("properties", {key: "cc_" + key in schema["$defs"]}) and "cc_" + key in schema["$defs"],
        }
        assert len(places) == 1
        found += [key] * places.pop()
    return found


def changed(root):
    """Return which files register would change, of an image that has the module."""
    found = status(root)
    assert found.missing is None
    return list(found.changed)
