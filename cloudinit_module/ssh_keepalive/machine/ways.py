# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The ways to have sshd read a policy, each for where the ones before it do not do."""

from typing import Dict, List, Optional, Tuple

from .. import openssh, paths, sshd_config, tmout
from ..openssh import Settings
from . import files
from .files import File
from .host import Host
from .problem import Problem, SshdError

DROP_IN, INCLUDED, IN_MAIN = "drop-in", "drop-in that a block in the main file includes", "block in the main file"

Texts = Dict[File, Optional[str]]


def possible(settings: Settings, main: str, host: Host) -> List[str]:
    """Return the ways in which an sshd with some main file may read settings; raise SshdError if there is none."""
    is_ours_to_change = main == host.at(paths.MAIN)
    if not openssh.has(settings.version, "reads-drop-ins"):
        if not is_ours_to_change:
            version = openssh.name_of(settings.version)
            raise SshdError(Problem(f"{version} reads no drop-ins, and {main} is not ours to change"))
        return [IN_MAIN]
    found = [] if sshd_config.holds_policy(files.text(main) or "") else [DROP_IN]
    return found + ([INCLUDED, IN_MAIN] if is_ours_to_change else []) or [DROP_IN]


def texts(way: str, settings: Optional[Settings], places: Tuple[File, File, File], main: str) -> Texts:
    """Return what the files of a transaction are to hold, None for nothing; `main` is the text of the main file.

    Without settings there is to be no policy. What is left out stays.
    """
    drop_in, profile, main_file = places
    found: Texts = {drop_in: None, profile: None}
    if settings is None:
        bare = sshd_config.without_block(main)
        return found if bare == main else {**found, main_file: bare}
    if way != IN_MAIN:
        found[drop_in] = sshd_config.render(settings)
    if settings.tmout:
        found[profile] = tmout.render(settings.tmout)
    if way == INCLUDED:
        found[main_file] = sshd_config.with_include(main, drop_in.path)
    elif way == IN_MAIN:
        found[main_file] = sshd_config.with_block(main, settings)
    return found
