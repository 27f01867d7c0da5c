"""The unit that registers anew: what it runs, on a root, and what it takes for a change."""

import os
import re
import subprocess

import pytest
import yaml
from images import FILES, LIST, NEW, ORIGINAL, RUNTIME, SCHEMA, make
from ssh_keepalive.image import module_list, register_unit
from ssh_keepalive.image.root import Root

CFG, DROP_INS = "etc/cloud/cloud.cfg", "etc/cloud/cloud.cfg.d/"
# What the command would do, after it has said that it was called
REGISTER = """\
#!/bin/sh
echo called
test ! -e {folder}/new || cat {folder}/new >{folder}/{list}
"""


class Boot:
    """A machine whose / is a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.root = Root("/")
        self.schema = str(folder / SCHEMA)
        make(folder, {**FILES, SCHEMA: NEW, "register": REGISTER.format(folder=folder, list=LIST)})
        (folder / "register").chmod(0o755)

    def register(self, lines=None):
        """Write the list as register does."""
        known = register_unit.lines(self.root, self.schema)
        text = module_list.list_text(["ssh"], known if lines is None else lines)
        (self.folder / LIST).write_text(text)
        return text

    def unit(self):
        """Run what the unit runs; return whether all is well, and whether it has called the command."""
        (command,) = re.findall(r"^ExecStart=/bin/sh -c '(.*?)'$", register_unit.render(self.schema), re.M | re.S)
        # As systemd.service(5) has it, also of the end of a line
        script = command.replace("\\\n", " ").replace("$$", "$").replace("%%", "%")
        done = subprocess.run(["/bin/sh", "-c", script], env={**os.environ, "LC_ALL": "C"}, stdout=subprocess.PIPE)
        assert done.stdout in (b"", b"called\n")
        return done.returncode == 0, done.stdout != b""

    def init_script(self, script="/etc/init.d/cloud-init-local", verb="start"):
        """Read what an init script reads, as it does when it is told something; return whether that has registered."""
        defaults = self.folder / "defaults"
        defaults.write_text(register_unit.render_defaults(self.schema))
        command = ["/bin/sh", "-ec", ". {}".format(defaults), script, verb]
        return subprocess.run(command, stdout=subprocess.PIPE).stdout == b"called\n"


@pytest.fixture
def boot(tmp_path, monkeypatch):
    machine = Boot(tmp_path)
    for module, names in (
        (register_unit, ("CLOUD_CFG", "CLOUD_CFG_FOLDER", "MODULE_LIST", "RUNTIME_CFG", "RUNTIME_CFG_FOLDER")),
        (module_list, ("CLOUD_CFG", "CLOUD_CFG_FOLDER", "MODULE_LIST")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, str(tmp_path) + getattr(module, name))
    monkeypatch.setattr(register_unit, "COMMAND", str(tmp_path / "register"))
    machine.register()
    return machine


DROP_IN = DROP_INS + "a list\\\n# Made from: x\n.cfg"
OTHERS = {DROP_INS + "95_ssh_keepalive.cfg": "ssh_keepalive: true\n", DROP_INS + "README": "cloud_init_modules"}


def test_it_calls_nothing_where_nothing_has_changed(boot):
    assert boot.unit() == (True, False)
    make(boot.folder, OTHERS)
    (boot.folder / DROP_INS / "10_a_folder.cfg").mkdir()
    assert boot.unit() == (True, False)


@pytest.mark.parametrize(
    "change",
    [
        {CFG: "cloud_init_modules: [migrator]\n"},
        {DROP_IN: "cloud_init_modules: [migrator]\n"},
        {SCHEMA: "{}"},
        {ORIGINAL: "{}"},
        {LIST: "cloud_init_modules: [migrator]\n"},
    ],
    ids=["cloud.cfg", "drop-in", "schema", "original", "list"],
)
def test_what_has_changed_is_registered(boot, change):
    make(boot.folder, change)
    # The command that does nothing here leaves a list that is wrong, a schema at most that is.
    assert boot.unit() == (bool({SCHEMA, ORIGINAL} & set(change)), True)
    (boot.folder / "new").write_text(boot.register())
    make(boot.folder, change if LIST in change else {})
    assert boot.unit() == (True, LIST in change)
    assert boot.unit() == (True, False)


def test_a_schema_that_cannot_be_written_waits(boot, monkeypatch):
    monkeypatch.setattr(register_unit, "_SCRIPT", register_unit._SCRIPT.replace("test -w", "false"))
    make(boot.folder, {SCHEMA: "{}"})
    assert boot.unit() == (True, False)
    boot.register(lines=register_unit.lines(boot.root, None))
    assert boot.unit() == (True, False)


@pytest.mark.parametrize("gone", [LIST, DROP_IN, CFG, SCHEMA])
def test_so_is_what_is_gone(boot, gone):
    make(boot.folder, {DROP_IN: "cloud_init_modules: [migrator]\n"})
    boot.register()
    assert boot.unit() == (True, False)
    (boot.folder / gone).unlink()
    # A cloud-init without a schema has none that could know the key.
    assert boot.unit() == ((True, False) if gone == SCHEMA else (False, True))


def test_a_drop_in_of_another_name_comes_in_another_place(boot):
    make(boot.folder, {DROP_IN: "cloud_init_modules: [migrator]\n"})
    boot.register()
    (boot.folder / DROP_IN).rename(boot.folder / DROP_INS / "99_zzz.cfg")
    assert boot.unit() == (False, True)


# cloud-init reads hidden files, too.
NAMES = ("a.cfg", "B.cfg", "_.cfg", "ä.cfg", ".x.cfg", "-.cfg", "..cfg")


def test_names_are_in_the_order_of_their_bytes(boot):
    make(boot.folder, {DROP_INS + name: "cloud_init_modules: []\n" for name in NAMES})
    boot.register()
    assert boot.unit() == (True, False)


def test_a_list_that_was_made_of_what_is_gone_is_not_right(boot):
    (boot.folder / CFG).write_text("users: []\n")
    assert boot.unit() == (False, True)


def test_the_list_of_this_boot_will_do(boot):
    text = boot.register()
    boot.register(lines=())
    assert boot.unit() == (False, True)
    make(boot.folder, {RUNTIME: "datasource_list: [x]\n" + text})
    assert boot.unit() == (True, False)


def test_only_the_start_of_the_first_init_script_registers(boot):
    assert not boot.init_script()
    make(boot.folder, {CFG: "cloud_init_modules: [migrator]\n"})
    assert boot.init_script()
    # As the links in rc?.d are called
    assert boot.init_script("/etc/rcS.d/S16cloud-init-local")
    for verb in ("stop", "status", "restart", "force-reload", ""):
        assert not boot.init_script(verb=verb)
    assert not boot.init_script("/etc/init.d/cloud-init")


def test_the_times_of_a_boot_are_bounded():
    lines = register_unit.render("/schema").splitlines()
    assert {"TimeoutStartSec=30", "TimeoutStopSec=5", "DefaultDependencies=no"} < set(lines)
    assert [line for line in lines if line.startswith("Before=")] == [
        "Before=cloud-init-local.service cloud-init-main.service shutdown.target"
    ]


@pytest.mark.parametrize("name", [b"\xff.cfg", b"\x07.cfg", b"a\r\n\t.cfg", "\u2028.cfg".encode()])
def test_no_name_makes_a_list_that_cloud_init_cannot_read(boot, name):
    file = os.path.join(os.fsencode(str(boot.folder / DROP_INS)), name)
    with open(file, "w") as stream:
        stream.write("cloud_init_modules: []\n")
    text = boot.register()
    assert yaml.safe_load(text.encode()) == {"cloud_init_modules": ["ssh"]}
    # sha256sum before coreutils 9 has a carriage return as it is.
    assert b"\r" in name or boot.unit() == (True, False)
