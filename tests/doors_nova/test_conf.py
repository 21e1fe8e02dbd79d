"""What is read of a nova.conf without Nova is what Nova reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nova.conf
import pytest

from bloomery.doors.cli.nova_conf import NovaConf
from bloomery.doors.nova.config import services_of_conf
from bloomery.testing import IronicSimulator

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


A_FILE = str(Path(__file__))
"""Without TLS nobody reads it, but it has to be there."""
REACHED: dict[str, tuple[dict[str, Any], Callable[[Any], Any], Any]] = {
    "region": ({"region_name": "rack"}, lambda adapter: adapter.region_name, "rack"),
    "interfaces": ({"valid_interfaces": ["admin"]}, lambda adapter: adapter.interface, ["admin"]),
    "authority": ({"cafile": A_FILE}, lambda adapter: adapter.session.verify, A_FILE),
    "no check": ({"insecure": True}, lambda adapter: adapter.session.verify, False),
    "our own certificate": (
        {"certfile": A_FILE, "keyfile": A_FILE},
        lambda adapter: adapter.session.cert,
        (A_FILE, A_FILE),
    ),
}
"""What [ironic] says, and where the connection to Ironic shows it."""


@pytest.mark.parametrize("what", REACHED)
def test_ironic_is_reached_as_the_section_says(what: str) -> None:
    given, seen, wanted = REACHED[what]
    with IronicSimulator() as ironic:
        options = {"auth_type": "none", "endpoint_override": ironic.url, **given}
        for name, value in options.items():
            CONF.set_override(name, value, group="ironic")
        try:
            transport = services_of_conf().ironic.transport
            assert transport.root == ironic.url
            assert seen(transport.adapter) == wanted
        finally:
            for name in options:
                CONF.clear_override(name, group="ironic")
