"""Our check beside cloud-init's, on the same files: what either says, and what cloud-init makes of them at boot."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from baking import bake
from machine import Machine
from ssh_keepalive.check import diagnostics, userdata
from user_data_files import FILES

# Too long for cloud-init, or for the time of a test
LEFT_OUT = {"a-billion-laughs", "a-gzip-bomb", "a-hundred-thousand-deep", "five-mebibytes", "an-alias-within-itself"}
# Clouds take the base64 off before cloud-init sees it; the rest is what check says that it does not check.
DIFFERENT = {"base64", "gzip-in-base64", "a-json-patch", "merge-how-with-two", "merge-header-with-two"}

# What cloud-init 26.2 does at boot with user-data from its datasource, up to the merged configuration
MERGE = """\
import json, logging, pathlib, sys
from cloudinit import handlers, user_data, util
from cloudinit.handlers.cloud_config import CloudConfigPartHandler

logging.disable(logging.CRITICAL)
util.fetch_ssl_details = lambda paths: {}

class Paths:
    def get_ipath(self, name): return None
    def get_ipath_cur(self, name): return "/tmp"

class Processor(user_data.UserDataProcessor):
    def _do_include(self, content, append_msg): pass

def merged(content):
    handler = CloudConfigPartHandler(Paths())
    def handle(data, filename, payload, headers):
        if headers["Content-Type"] in ("text/cloud-config", "text/cloud-config-jsonp"):
            handler.handle_part(None, headers["Content-Type"], filename, payload, "always", headers)
    try:
        handlers.walk(Processor(Paths()).process(content), handle, None)
    except Exception:
        pass  # gzip cut off
    return handler.cloud_buf or {}

sections = {}
for file in pathlib.Path("/srv/files").iterdir():
    config = merged(file.read_bytes())
    sections[file.name] = [config["ssh_keepalive"]] if "ssh_keepalive" in config else []
json.dump(sections, sys.stdout)
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with the newest cloud-init, which knows the key, and all files but the longest."""
    with Machine("forky") as machine:
        bake(machine)
        folder = machine.root / "srv/files"
        folder.mkdir()
        for file in FILES:
            if file.name not in LEFT_OUT:
                (folder / file.name).write_bytes(file.content)
        (machine.root / "srv/merge.py").write_text(MERGE)
        machine.boot()
        machine.wait()
        yield machine


@pytest.mark.slow
def test_the_section_is_the_one_that_cloud_init_makes(machine: Machine) -> None:
    theirs = json.loads(machine.run("python3", "/srv/merge.py").stdout)
    ours = {}
    for file in FILES:
        if file.name in theirs:
            data = userdata.read(file.content)
            ours[file.name] = [data.section] if data.part else []
    assert len(theirs) == len(FILES) - len(LEFT_OUT)
    assert {name for name in theirs if theirs[name] != ours[name]} == DIFFERENT


@pytest.mark.slow
def test_the_same_files_through_cloud_init_schema(machine: Machine) -> None:
    misses = []
    print("\n| file | ours | where | cloud-init schema -c |\n|---|---|---|---|")
    for file in FILES:
        # The first that decides: an error, if there is one
        first = next((line for line in file.said if " error: " in line), (file.said or [""])[0])
        where, _, _ = first.partition(": ")
        level = re.search("(error|warning|note): ", first)
        said = "{} {}".format(file.code, level.group(1) if level else "clean")
        their_code, theirs = (None, "left out") if file.name in LEFT_OUT else schema(machine, file.name)
        print(f"| {file.name} | {said} | {where} | {theirs} |")
        if file.code == 1 and their_code == 0:
            misses.append(file.name)
    # cloud-init schema is 0 for what it does not look into; the last of equal keys is all that it sees.
    assert {"a-key-twice", "the-section-twice", "another-key-twice"} <= set(misses)


def schema(machine: Machine, name: str) -> tuple[int, str]:
    """Return the exit code of cloud-init schema for a file, with the start of what it says."""
    answer: subprocess.CompletedProcess[str] = machine.run(
        "cloud-init", "schema", "-c", f"/srv/files/{name}", check=False
    )
    lines = [line.strip() for line in (answer.stderr + "\n" + answer.stdout).splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"\w+Error: |Error: Cloud config schema errors: ", line)]
    text = [*telling, *(line for line in lines if line != "Error: Invalid schema: user-data"), ""][0]
    text = text.replace("Error: Cloud config schema errors: ", "").replace("|", "\\|")
    return answer.returncode, f"{answer.returncode} {diagnostics.printable(text[:100])}"


@pytest.mark.slow
def test_the_exit_codes_are_those_of_the_table_on_the_machine_too(machine: Machine) -> None:
    wanted = {file.name: file.code for file in FILES if file.name not in LEFT_OUT}
    codes = {
        file.name: machine.run(
            "ssh-keepalive", "check", f"/srv/files/{file.name}", *file.options, check=False
        ).returncode
        for file in FILES
        if file.name in wanted
    }
    assert codes == wanted
