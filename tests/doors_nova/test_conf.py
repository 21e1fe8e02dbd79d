"""What is read of a nova.conf without Nova is what Nova reads."""

from __future__ import annotations

from pathlib import Path

import nova.conf
import pytest

from bloomery.doors.cli.nova_conf import NovaConf

CONF = nova.conf.CONF
IGNORED = ("version", "min_version", "max_version")
"""Options that Nova has only so that they do nothing."""


@pytest.fixture
def conf(tmp_path: Path) -> NovaConf:
    path = tmp_path / "nova.conf"
    path.write_text("[DEFAULT]\n")
    return NovaConf([path])


@pytest.mark.parametrize("section", ["ironic", "bloomery"])
def test_the_options_and_their_defaults_are_those_of_nova(conf: NovaConf, section: str) -> None:
    theirs = {info["opt"].dest: info["opt"] for info in CONF._groups[section]._opts.values()}
    theirs = {name: option for name, option in theirs.items() if name not in IGNORED}
    known = conf.known_in(section)
    assert theirs.keys() - known.keys() == set()
    for name, option in theirs.items():
        assert conf.of(section, name) == option.default, name
        for old in option.deprecated_opts:
            assert known[str(old.name).replace("-", "_")] == name


@pytest.mark.parametrize("option", ["config_drive_format", "compute_driver"])
def test_the_other_options_have_novas_defaults(conf: NovaConf, option: str) -> None:
    assert conf.of("DEFAULT", option) == CONF._opts[option]["opt"].default
