"""What hashicorp's provider renders for examples/terraform, where neither can be had."""

from __future__ import annotations

import base64
import gzip
import re
from pathlib import Path
from typing import Any

import hcl2

FOLDER = Path(__file__).resolve().parents[1] / "examples/terraform"


def rendered() -> str:
    """Return what data.cloudinit_config.machine.rendered is."""
    options = hcl2.SerializationOptions(strip_string_quotes=True)
    (data,) = hcl2.loads((FOLDER / "main.tf").read_text(), serialization_options=options)["data"]
    config = data["cloudinit_config"]["machine"]
    assert {"gzip", "base64_encode", "boundary"}.isdisjoint(config)  # true, true and MIMEBOUNDARY by default
    return base64.b64encode(gzip.compress(mime(config["part"]).encode())).decode()


def mime(parts: list[dict[str, Any]]) -> str:
    """Return a multi-part as the provider writes it, line ends and order of headers included."""
    text = 'Content-Type: multipart/mixed; boundary="MIMEBOUNDARY"\nMIME-Version: 1.0\r\n\r\n'
    for number, part in enumerate(parts):
        headers = {
            "Content-Disposition": f'attachment; filename="{part["filename"]}"',
            "Content-Transfer-Encoding": "7bit",
            "Content-Type": part["content_type"],
            "Mime-Version": "1.0",
        }
        if "merge_type" in part:
            headers["X-Merge-Type"] = part["merge_type"]
        text += "\r\n" * bool(number) + "--MIMEBOUNDARY\r\n"
        text += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        text += "\r\n" + content(part["content"])
    return text + "\r\n--MIMEBOUNDARY--\r\n"


def content(expression: str) -> str:
    """Return the file that an expression reads."""
    name = re.fullmatch(r'\$\{file\("\$\{path\.module\}/([a-z-]+\.yaml)"\)\}', expression)
    assert name, expression
    return (FOLDER / name.group(1)).read_text()
