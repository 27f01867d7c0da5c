"""Files, and what is staged beside them."""

import os

import pytest
from ssh_keepalive.machine import files
from ssh_keepalive.machine.files import ChangedError, Transaction
from ssh_keepalive.machine.problem import SshdError
from ssh_keepalive.paths import HEADER, OLD_HEADER


@pytest.fixture
def transaction(machine):
    host = machine.host()
    return Transaction(host, files.main(str(machine.main), host))


def test_the_text_of_a_file_to_the_byte(tmp_path):
    file = tmp_path / "file"
    assert files.text(str(file)) is None
    file.write_bytes(b"a\r\n\xff\n")
    assert files.text(str(file)) == "a\r\n\udcff\n"


def test_whether_a_text_is_there_as_it_would_be_written(machine, transaction):
    drop_in, _, main = transaction.files
    assert files.stands(drop_in, None)
    assert not files.stands(drop_in, "x")
    machine.file.write_text(OLD_HEADER + "\nx")
    machine.file.chmod(0o600)
    assert files.stands(drop_in, HEADER + "\nx")
    assert not files.stands(drop_in, HEADER + "\ny")
    assert not files.stands(drop_in, None)
    machine.file.chmod(0o644)
    assert not files.stands(drop_in, HEADER + "\nx")
    assert files.stands(main, machine.main.read_text())
    assert not files.stands(main, machine.main.read_text() + "\n")


def test_a_file_of_another_owner_is_not_as_it_would_be_written(machine, transaction, monkeypatch):
    machine.file.write_text("x")
    machine.file.chmod(0o600)
    assert files.stands(transaction.files[0], "x")
    monkeypatch.setattr(os, "getegid", lambda: 1)
    assert not files.stands(transaction.files[0], "x")


@pytest.mark.parametrize("content", ["new", None])
@pytest.mark.parametrize("old", ["old", None])
def test_a_file_is_replaced_and_comes_back(machine, transaction, old, content):
    drop_in = transaction.files[0]
    if old:
        machine.file.write_text(old)

    def interrupted():
        with transaction.staged({drop_in: content}):
            assert files.text(drop_in.path) == old
            with transaction.replaced(drop_in, content, None):
                assert files.text(drop_in.path) == content
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files.text(drop_in.path) == old


def test_what_somebody_has_written_since_stays(machine, transaction):
    main = transaction.files[2]
    with transaction.staged({main: "new"}), pytest.raises(ChangedError):
        transaction.replaced(main, "new", "as it was").__enter__()
    assert files.text(main.path) == "Include {}/*.conf\nUsePAM yes\n".format(machine.file.parent)


def test_a_mount_cannot_be_replaced(machine, transaction, monkeypatch):
    def rename(source, target):
        raise OSError(16, "Device or resource busy")

    main = transaction.files[2]
    text = files.text(main.path)
    monkeypatch.setattr(os, "rename", rename)
    # What puts it back cannot either, and has nothing to put back.
    monkeypatch.setattr(transaction, "_put_back", lambda *arguments: None)
    with transaction.staged({main: "new"}), pytest.raises(SshdError) as caught:
        transaction.replaced(main, "new", text).__enter__()
    assert machine.shown(caught.value) == (
        "/etc/ssh/sshd_config is a mount of its own and cannot be replaced: "
        "put 'Include /etc/ssh/sshd_config.d/00-ssh-keepalive.conf' on its first line where it comes from"
    )


def test_an_earlier_run_that_was_killed_is_seen(machine, transaction):
    with transaction.tidied([]):
        assert not transaction.unfinished
    (machine.file.parent / ".00-ssh-keepalive.conf.new").touch()
    with transaction.tidied([]):
        assert transaction.unfinished
    assert os.listdir(str(machine.file.parent)) == []


def test_what_is_staged_for_the_vendors_main_file_is_in_etc(machine):
    vendor = machine.root / "usr/etc/ssh/sshd_config"
    vendor.parent.mkdir(parents=True)
    vendor.touch()
    staged = files.main(str(vendor), machine.host()).temporary("new")
    assert machine.shown(staged) == "/etc/ssh/.00-ssh-keepalive.conf.main.new"
