"""Files that stay inside a root."""

import functools
import os

import pytest
from images import make
from ssh_keepalive.image.root import ImageError, Root
from ssh_keepalive.machine import host
from ssh_keepalive.machine.host import Host


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ImageError, match="nowhere: no such folder"):
        Root(str(tmp_path / "nowhere"))


def test_no_name_is_no_root():
    with pytest.raises(ImageError, match="no such folder"):
        Root("")


def test_links_in_a_circle_are_an_error(folder, root):
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        root.real("/a/x")


@pytest.mark.parametrize("target", ["/srv", "../../../srv", "/../srv/../srv"])
def test_a_link_is_followed_inside_the_root(folder, root, target):
    make(folder, {"srv/x": "inside"})
    (folder / "etc/link").symlink_to(target)
    assert root.real("/etc/link/x") == str(folder / "srv/x")
    assert root.read("/etc/link/x") == b"inside"
    assert root.real("/etc/link", follow=False) == str(folder / "etc/link")


def test_a_link_to_a_folder_is_no_folder(folder, root):
    (folder / "link").symlink_to("/etc")
    assert (root.is_folder("/etc"), root.is_folder("/link"), root.is_folder("/x")) == (True, False, False)


def test_what_is_not_there_holds_nothing(root):
    assert root.holds("/etc/cloud/cloud.cfg.d/05_logging.cfg", b"_log: x\n")
    assert not root.holds("/etc/cloud/cloud.cfg.d/05_logging.cfg", b"")
    assert not root.holds("/nowhere/x", b"")
    assert not root.holds("/etc/cloud/cloud.cfg/x", b"")


def test_a_file_is_written_anew_only_if_that_changes_it(folder, root):
    root.write("/new/x", b"1", 0o640)
    before = (folder / "new/x").stat()
    root.write("/new/x", b"1", 0o640)
    after = (folder / "new/x").stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_mode) == (before.st_ino, before.st_mtime_ns, before.st_mode)
    root.write("/new/x", b"1", 0o600)
    assert root.mode("/new/x") == 0o600
    root.write("/new/x", b"2", 0o600)
    assert root.read("/new/x") == b"2"
    assert os.listdir(str(folder / "new")) == ["x"]


RESTORECON = """\
#!/bin/sh
echo "$@" >>"$0.calls"
case $* in
*wrong*) echo "no policy" >&2; exit 1 ;;
*slow*) exec sleep 9 ;;
esac
"""


@pytest.fixture
def restorecon(tmp_path, monkeypatch):
    """A restorecon that notes its arguments, fails for a file called wrong, and takes long for one called slow."""
    program = tmp_path / "restorecon"
    program.write_text(RESTORECON)
    program.chmod(0o755)
    monkeypatch.setattr(host, "Host", functools.partial(Host, path=f"{tmp_path}:/bin"))
    return program


def test_a_running_machines_files_get_the_selinux_contexts_of_their_names(tmp_path, restorecon):
    (tmp_path / "a").symlink_to("nowhere")
    assert Root("/").label([f"{tmp_path}/a", f"{tmp_path}/b", str(restorecon)]) == []
    calls = (tmp_path / "restorecon.calls").read_text()
    assert calls == f"{tmp_path}/a {restorecon}\n"


def test_a_context_that_cannot_be_set_is_a_note(tmp_path, restorecon):
    (tmp_path / "wrong").touch()
    assert Root("/").label([f"{tmp_path}/wrong"]) == ["restorecon: no policy"]


def test_contexts_that_are_not_set_in_time_are_a_note(tmp_path, restorecon, monkeypatch):
    monkeypatch.setitem(Host.run.__kwdefaults__, "seconds", 0.3)
    (tmp_path / "slow").touch()
    assert Root("/").label([f"{tmp_path}/slow"]) == [f"restorecon {tmp_path}/slow did not answer within 0.3 s"]


def test_no_context_is_set_in_an_image(tmp_path, folder, root, restorecon):
    assert root.label(["/etc/cloud/cloud.cfg"]) == []
    assert not (tmp_path / "restorecon.calls").exists()
