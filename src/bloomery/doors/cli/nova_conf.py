"""A nova.conf, read without Nova: what it says of Ironic and of this driver, and the connections that it leads to."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from keystoneauth1.adapter import Adapter

from bloomery.doors.cli.cloud import FIRST_ANSWER_S
from bloomery.errors import InvalidRequest, NotSupported
from bloomery.library import IDENTITY_TIMEOUT_S, Adapters, Bloomery

SERVICE_TYPES: Mapping[str, str] = {"ironic": "baremetal", "service_user": "compute", "keystone_authtoken": "compute"}
"""The sections whose credentials are of use here, and the service that each is to be used for."""


class NovaConf:
    """What the files say.

    Args:
        paths: configuration files, and folders of them, in nova-compute's order; a folder `FILE.d` beside a file is read
            after it.

    Attributes:
        files: what was read.
        wrong: of each option whose value is none that it takes: why.

    Raises:
        InvalidRequest: a file is not there, or is no configuration file.
        NotSupported: oslo.config is not installed here.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        try:
            from oslo_config import cfg
        except ImportError:
            raise NotSupported(
                "nova.conf cannot be read here",
                reason="oslo.config is not installed",
                advice="Run this with nova-compute's own Python, or install bloomery[nova]",
            ) from None
        self._errors = (cfg.Error, ValueError, ksa_exceptions.ClientException)
        self.files = [file for path in paths for file in _files_of(path)]
        self._given: dict[str, dict[str, list[str]]] = {}
        self._conf = cfg.ConfigOpts()
        names = [str(file) for file in self.files]
        try:
            for name in names:
                cfg.ConfigParser(name, self._given).parse()
            self._conf([], project="nova", default_config_files=names, default_config_dirs=[])
        except (cfg.Error, cfg.ParseError, OSError, UnicodeDecodeError) as problem:
            raise InvalidRequest(
                "the configuration cannot be read", reason=str(problem), advice="Give the files that nova-compute reads"
            ) from problem
        self._options = _options_by_section()
        for section, options in self._options.items():
            self._conf.register_opts(options, group=None if section == "DEFAULT" else section)
        self.wrong = tuple(self._wrong_values())

    def of(self, section: str, option: str) -> Any:
        """The option's value, or its default; None where the value is none that the option takes."""
        try:
            return self._conf[option] if section == "DEFAULT" else self._conf[section][option]
        except self._errors:
            return None

    @property
    def host(self) -> str:
        """The compute service's name."""
        return str(self.of("DEFAULT", "host"))

    def known_in(self, section: str) -> dict[str, str]:
        """Of every name that an option of the section may be written with: the name that it has now."""
        options = list(self._options[section])
        auth_type = self.of(section, "auth_type") if section in SERVICE_TYPES else None
        if auth_type:
            with self._making_sense(section):
                options += loading.get_auth_plugin_conf_options(auth_type)
        names = {_plain(option.dest): _plain(option.dest) for option in options}
        for option in options:
            for old in option.deprecated_opts:
                names.setdefault(_plain(str(old.name)), _plain(option.dest))
        return names

    def given_in(self, section: str) -> dict[str, str]:
        """What the files say in the section, by option; of several values the last."""
        return {_plain(name): values[-1] for name, values in self._given.get(section, {}).items()}

    def _wrong_values(self) -> Iterator[str]:
        for section, options in self._options.items():
            for option in options:
                try:
                    _ = self._conf[option.dest] if section == "DEFAULT" else self._conf[section][option.dest]
                except self._errors as problem:
                    yield str(problem)

    @contextmanager
    def _making_sense(self, section: str) -> Iterator[None]:
        try:
            yield
        except self._errors as problem:
            raise InvalidRequest(
                f"the credentials in [{section}] make no sense",
                reason=str(problem),
                advice="auth_type, auth_url, username, password, project_name and the domains of both are the usual ones",
            ) from problem

    def adapter(self, section: str) -> Adapter:
        """The service that the section's credentials lead to.

        Raises:
            InvalidRequest: the section does not say enough, or something that makes no sense.
        """
        with self._making_sense(section):
            auth = loading.load_auth_from_conf_options(self._conf, section)
        if auth is None:
            raise InvalidRequest(
                f"[{section}] has no credentials", reason="auth_type is missing", advice="`password` is the usual one"
            )
        with self._making_sense(section):
            # review: the timeout is set on the next line
            session = loading.load_session_from_conf_options(self._conf, section, auth=auth)
            # Without it a token would be waited for without end.
            session.timeout = session.timeout or IDENTITY_TIMEOUT_S
            # review: the transport gives each request its own timeout
            adapter = loading.load_adapter_from_conf_options(self._conf, section, session=session, auth=auth)
        adapter.service_type = adapter.service_type or SERVICE_TYPES[section]
        return adapter

    def connect(self) -> Bloomery:
        """Ironic, as nova-compute talks to it.

        Raises:
            BloomeryError: it cannot be had.
        """
        adapters = Adapters(baremetal=self.adapter("ironic"), network=None, image=None)
        return Bloomery.over(adapters, connections=2, timeout_s=FIRST_ANSWER_S)


def adapter_of_environment(service_type: str) -> Adapter:
    """The service, as the `OS_*` variables say.

    Raises:
        InvalidRequest: they make no sense.
    """
    from openstack import exceptions as sdk_exceptions
    from openstack.config import OpenStackConfig

    try:
        region = OpenStackConfig().get_one()
        session = region.get_session()
    except (sdk_exceptions.SDKException, ksa_exceptions.ClientException, OSError) as problem:
        raise InvalidRequest("the OS_* variables cannot be used", reason=str(problem)) from problem
    session.timeout = session.timeout or IDENTITY_TIMEOUT_S
    return Adapter(
        session,
        service_type=service_type,
        region_name=region.get_region_name(service_type),
        interface=region.get_interface(service_type),
        endpoint_override=region.get_endpoint(service_type),
    )


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.conf"))
    if not path.is_file():
        raise InvalidRequest(f"there is no file {path}", advice="/etc/nova/nova.conf is the usual one")
    beside = path.with_name(f"{path.name}.d")
    return [path, *(sorted(beside.glob("*.conf")) if beside.is_dir() else [])]


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _options_by_section() -> dict[str, list[Any]]:
    """Nova's options, as far as they matter here: names, types and defaults are Nova's."""
    from oslo_config import cfg

    from bloomery.doors.nova.options import OPTIONS

    sections: dict[str, list[Any]] = {
        "DEFAULT": [
            cfg.StrOpt("compute_driver"),
            cfg.StrOpt("host", default=socket.gethostname()),
            cfg.StrOpt("config_drive_format", default="iso9660"),
        ],
        "bloomery": OPTIONS,
        "ironic": [
            cfg.IntOpt("api_max_retries", default=60, min=0),
            cfg.IntOpt("api_retry_interval", default=2, min=0),
            cfg.IntOpt("serial_console_state_timeout", default=10, min=0),
            cfg.IntOpt("vnc_console_state_timeout", default=60, min=0),
            cfg.StrOpt("conductor_group", deprecated_name="partition_key", regex=r"^[a-zA-Z0-9_.-]*$"),
            cfg.StrOpt("shard", regex=r"^[a-zA-Z0-9_.-]+$"),
            cfg.ListOpt("peer_list", default=[]),
        ],
    }
    for section in SERVICE_TYPES:
        of_ironic = [
            *loading.get_session_conf_options(),
            *loading.get_auth_common_conf_options(),
            *loading.get_adapter_conf_options(include_deprecated=False),
        ]
        if section == "ironic":
            cfg.set_defaults(of_ironic, valid_interfaces=["internal", "public"], service_type="baremetal")
        sections.setdefault(section, []).extend(of_ironic)
    return sections
