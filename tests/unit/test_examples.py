"""What `ssh-keepalive check` says of the examples."""

import io
import sys
from pathlib import Path

import pytest
from ssh_keepalive.cli import main
from terraform import rendered

TOP = Path(__file__).resolve().parents[2]
USER_DATA = sorted((TOP / "examples/user-data").iterdir())

# The pairs of others' profiles are kept to the letter, and mean something else than they read like; a demo is short.
WARNED_OF = {
    "azure.yaml": "client_alive_interval: 180 x 3 reads like 540 s, but a dead client is disconnected after 720 s",
    "bastion.yaml": "match[1].client_alive_interval: 10 x 3 reads like 30 s, but a dead client is disconnected after",
    "cis-debian.yaml": "client_alive_interval: 300 x 3 reads like 900 s, but a dead client is disconnected after 1200",
    "cis-rhel.yaml": "client_alive_interval: 300 x 1 reads like 300 s, but a dead client is disconnected after 600 s",
    "minimal.yaml": "idle_timeout: ends a command that prints nothing for so long",
    "openscap.yaml": "client_alive_interval: 300 x 3 reads like 900 s, but a dead client is disconnected after 1200 s",
    "stig.yaml": "client_alive_interval: 600 x 1 reads like 600 s, but a dead client is disconnected after 1200 s",
}


@pytest.mark.parametrize("file", USER_DATA, ids=lambda file: file.name)
def test_user_data_has_no_mistakes(file, capsys):
    assert main(["check", str(file)]) == 0
    said = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith(str(file))]
    warning = WARNED_OF.get(file.name)
    start = "warning: ssh_keepalive.{}".format(warning)
    assert [line.startswith(start) for line in said] == [True] * bool(warning)


@pytest.mark.parametrize("file", USER_DATA, ids=lambda file: file.name)
def test_user_data_says_what_it_is_for(file):
    first, second = file.read_text().splitlines()[:2]
    assert first == "#cloud-config"
    assert second.startswith("# ")


def test_what_terraform_renders_has_the_policy(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(rendered().encode())))
    assert main(["check", "-"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "stdin: note: base64 around all of it: not each datasource takes that off, and cloud-init would ignore it then",
        "stdin (part 2, role.yaml): note: not checked: how X-Merge-Type merges it",
    ]
