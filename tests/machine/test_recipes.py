"""The recipes for images: what takes seconds. Their builders are run in test_image_builders.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import hcl2
import pytest
from baking import bake
from built import RECIPES, SUITE, is_baked, run
from machine import Machine

FILES = sorted(recipe for recipe in RECIPES.iterdir() if recipe.is_file())


@pytest.mark.parametrize("recipe", FILES, ids=lambda recipe: recipe.name)
def test_every_recipe_says_what_it_makes_and_how_it_is_run(recipe: Path) -> None:
    lines = [line for line in recipe.read_text().splitlines() if not line.startswith("#!")]
    assert lines[0].startswith("# ")
    if recipe.read_text().startswith("#!/bin/sh\n"):
        assert os.access(recipe, os.X_OK)
        run("sh", "-n", recipe)


def test_the_script_for_mkosi_bakes(machines: Callable[..., Machine]) -> None:
    root = machines(SUITE).root
    run("env", f"--chdir={RECIPES}", "./mkosi.finalize", "final", BUILDROOT=str(root))
    assert is_baked(root)


# What cloud-init makes of three kinds of user-data, and whether an image shall be built on a machine that got it.
BOOTS = {
    "#cloud-config\nssh_keepalive: true\n": (0, True),
    "#cloud-config\nno_such_key: true\n": (2, True),
    "#cloud-config\nssh_keepalive: {unresponsive_timeout: 10s}\n": (1, False),
}


def provisioners() -> list[tuple[str, dict[str, Any]]]:
    """Return kind and settings of each step of the recipe for Packer, in their order."""
    options = hcl2.SerializationOptions(strip_string_quotes=True)
    (build,) = hcl2.loads((RECIPES / "packer.pkr.hcl").read_text(), serialization_options=options)["build"]
    return [(kind, settings) for step in build["provisioner"] for kind, settings in step.items()]


@pytest.mark.parametrize("user_data", BOOTS, ids=["done", "degraded", "error"])
def test_packer_goes_on_after_a_boot_that_is_good_enough(machines: Callable[..., Machine], user_data: str) -> None:
    (kind, wait), *_ = provisioners()
    assert kind == "shell"
    machine = machines(SUITE, user_data)
    bake(machine)
    machine.boot()
    code = machine.sh("\n".join(wait["inline"]), check=False).returncode
    assert (code, code in wait["valid_exit_codes"]) == BOOTS[user_data]
