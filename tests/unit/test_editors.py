"""What editors and check-jsonschema say of user-data by the schema: they refuse what check refuses, nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
SCHEMA = TOP / "schema/ssh-keepalive.schema.json"
GOOD = sorted((TOP / "examples/user-data").glob("*.yaml"))
TIME = "expected a time from 15s to 1d, for example 3m"
# A section, and what yaml-language-server says of it at a line and a column, from 0 on
REFUSED = [
    ("unresponsive_timeout: 10s", (3, 24), TIME),
    ("unresponsive_timeout: 2d", (3, 24), TIME),
    ("unresponsive_timeout: 10", (3, 24), "Value is below the minimum of 15."),
    ("client_alive_interval: 3s", (3, 25), "expected a time from 5s to 1h, or 0 for off, for example 60"),
    ("idle_timeout: 5 minutes", (3, 16), "expected a time from 1m to 1d, or none, for example 15m"),
    ("idle_timout: 15m", (3, 2), "Property idle_timout is not allowed."),
    ("match: [{unresponsive_timeout: 1h}]", (3, 10), 'Missing property "user".'),
    (
        "match: [{user: a b, unresponsive_timeout: 1h}]",
        (3, 17),
        "expected a pattern or a list of them (letters, digits, . _ - @ + $, ? for one character, at most two * for "
        "any text), for example backup",
    ),
]


class LanguageServer:
    """Speak with yaml-language-server as an editor does; microsoft.github.io/language-server-protocol."""

    def __init__(self, command):
        self._process = subprocess.Popen([*command, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._send("initialize", {"processId": None, "rootUri": None, "capabilities": {}}, number=1)
        self._until(lambda message: message.get("id") == 1)
        self._send("initialized", {})

    def diagnostics(self, file):
        """Return place and words of what is said of a file that is opened."""
        document = {"uri": file.as_uri(), "languageId": "yaml", "version": 1, "text": file.read_text()}
        self._send("textDocument/didOpen", {"textDocument": document})
        published = "textDocument/publishDiagnostics"
        found = self._until(lambda one: one.get("method") == published and one["params"]["uri"] == file.as_uri())
        starts = [(one["range"]["start"], one["message"]) for one in found["params"]["diagnostics"]]
        return [((start["line"], start["character"]), message) for start, message in starts]

    def close(self):
        self._process.kill()
        self._process.communicate()

    def _send(self, method, params, number=None):
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        self._write({**message, "id": number} if number else message)

    def _write(self, message):
        body = json.dumps(message).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _until(self, is_it):
        while True:
            length = 0
            for line in iter(self._process.stdout.readline, b"\r\n"):
                assert line, "the server has ended"
                name, _, value = line.decode().partition(": ")
                length = int(value) if name == "Content-Length" else length
            message = json.loads(self._process.stdout.read(length).decode())
            if "id" in message and "method" in message:
                # It asks for settings of the editor's, which has none.
                items = message["params"].get("items", []) if isinstance(message["params"], dict) else []
                self._write({"jsonrpc": "2.0", "id": message["id"], "result": [{} for _ in items]})
            if is_it(message):
                return message


@pytest.fixture(scope="module")
def server():
    npm = shutil.which("npm")
    if not npm:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("apt install npm")
    folder = TOP / ".cache/editors"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(str(TOP / "tests/editors" / name), str(folder))
    subprocess.run([npm, "ci", "--silent", "--no-audit", "--no-fund"], cwd=str(folder), check=True)
    server = LanguageServer([str(folder / "node_modules/.bin/yaml-language-server")])
    yield server
    server.close()


def user_data(folder, section):
    """Write a file as README.md says: its second line tells editors where the schema is."""
    file = folder / "user-data.yaml"
    mark = "# yaml-language-server: $schema={}".format(SCHEMA)
    file.write_text("#cloud-config\n{}\nssh_keepalive:\n  {}\n".format(mark, section))
    return file


@pytest.mark.slow
@pytest.mark.parametrize(("section", "place", "words"), REFUSED, ids=[section for section, _, _ in REFUSED])
def test_an_editor_refuses_it_there_in_our_words(server, tmp_path, section, place, words):
    assert server.diagnostics(user_data(tmp_path, section)) == [(place, words)]


@pytest.mark.slow
@pytest.mark.parametrize("example", GOOD, ids=lambda file: file.name)
def test_an_editor_has_nothing_to_say_of_the_examples(server, tmp_path, example):
    section = yaml.safe_load(example.read_text())["ssh_keepalive"]
    assert server.diagnostics(user_data(tmp_path, json.dumps(section))) == []


def check_jsonschema(*files):
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--schemafile", str(SCHEMA)]
    return subprocess.run([*command, *map(str, files)], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("section", [section for section, _, _ in REFUSED])
def test_check_jsonschema_refuses_it(tmp_path, section):
    answer = check_jsonschema(user_data(tmp_path, section))
    assert answer.returncode == 1
    assert "ssh_keepalive" in answer.stdout


@pytest.mark.slow
def test_check_jsonschema_accepts_the_examples():
    assert check_jsonschema(*GOOD).returncode == 0
