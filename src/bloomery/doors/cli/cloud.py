"""The cloud that a command works on: from clouds.yaml, `OS_*` variables and `--os-*` options, as the openstack command has it."""

from __future__ import annotations

import itertools
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import typer

from bloomery import lab
from bloomery.doors.cli.output import note
from bloomery.doors.http.client import connect as connect_to_service
from bloomery.errors import BloomeryError, InvalidRequest
from bloomery.library import Bloomery, connect
from bloomery.secret import Secret

SERVICE_USER, SERVICE_PASSWORD = "BLOOMERY_SERVICE_USER", "BLOOMERY_SERVICE_PASSWORD"
FIRST_ANSWER_S = 5.0
"""How long somebody at a terminal wants to wait for a service that is not there."""

CLOUD_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "os_cloud": "A cloud of clouds.yaml; else OS_CLOUD.",
        "os_auth_type": "password, token, none, http_basic and whatever else keystoneauth knows.",
        "os_auth_url": "Keystone's address.",
        "os_endpoint": "Ironic's address, where there is no Keystone.",
        "os_token": "A token, for the auth type token.",
        "os_username": "User.",
        "os_user_id": "User, by id.",
        "os_user_domain_name": "The user's domain.",
        "os_user_domain_id": "The user's domain, by id.",
        "os_password": "Password; better in clouds.yaml or OS_PASSWORD, where other users cannot see it.",
        "os_project_name": "Project.",
        "os_project_id": "Project, by id.",
        "os_project_domain_name": "The project's domain.",
        "os_project_domain_id": "The project's domain, by id.",
        "os_domain_name": "The domain to be authorised for.",
        "os_domain_id": "The domain to be authorised for, by id.",
        "os_system_scope": "all, to be authorised for the whole system.",
        "os_application_credential_id": "Application credential.",
        "os_application_credential_name": "Application credential, by name and user.",
        "os_application_credential_secret": "Its secret; better in clouds.yaml.",
        "os_region_name": "Region.",
        "os_interface": "Which endpoints of the catalogue: public, internal or admin.",
        "os_baremetal_endpoint_override": "Ironic's address, instead of the catalogue's.",
        "os_network_endpoint_override": "Neutron's address, instead of the catalogue's.",
        "os_image_endpoint_override": "Glance's address, instead of the catalogue's.",
        "os_cacert": "File with the CA certificates to trust.",
        "os_cert": "File with the client certificate.",
        "os_key": "File with the client certificate's key.",
    }
)
"""The global options that say which cloud, named as openstacksdk reads them, and their help."""
SECRET_OPTIONS = frozenset({"--os-token", "--os-password", "--os-application-credential-secret", "--database", "--bus"})
"""Options whose values are secrets, or have some in them."""


def secrets_among(arguments: Sequence[str]) -> list[str]:
    """What the arguments of a command say that nobody else may read."""
    apart = [value for name, value in itertools.pairwise(arguments) if name in SECRET_OPTIONS]
    joined = [value for name, _, value in (word.partition("=") for word in arguments) if name in SECRET_OPTIONS]
    return apart + joined


@dataclass(kw_only=True)
class Invocation:
    """One call of the command: what its global options say, and the connection that they lead to.

    Attributes:
        options: the `--os-*` options that were given, named as openstacksdk has them.
        use_lab: whether to work on the lab of this folder.
        service: the address of a service to work through, instead of on Ironic.
        is_debugging: whether a traceback is shown, and everything logged.
    """

    options: Mapping[str, str | bool] = field(default_factory=dict)
    use_lab: bool = False
    service: str | None = None
    is_debugging: bool = False

    @cached_property
    def api(self) -> Bloomery:
        """The connection, made when it is first needed.

        Raises:
            BloomeryError: there is none.
        """
        if self.service is not None:
            return self._through_service(self.service)
        if self.use_lab:
            return _connect_to_lab()
        try:
            api = connect(options=Namespace(**self.options), timeout_s=FIRST_ANSWER_S)
            if not api.services.ironic.transport.is_verified:
                note("warning: certificates are not checked: whoever answers gets what is sent, passwords too")
            return api
        except InvalidRequest as problem:
            if not self.names_cloud and lab.status().is_up:
                raise InvalidRequest(
                    problem.message,
                    reason=problem.reason,
                    advice="A lab is up here: `bloomery --lab …` works on it",
                ) from problem
            raise

    def _through_service(self, url: str) -> Bloomery:
        """The connection through a service: with the password or the token of the environment, as it asks for."""
        user, password = os.environ.get(SERVICE_USER), os.environ.get(SERVICE_PASSWORD)
        given = self.options.get("os_token")
        token = given if isinstance(given, str) else os.environ.get("OS_TOKEN")
        verify = self.options.get("os_cacert") or os.environ.get("OS_CACERT") or not self.options.get("insecure", False)
        return connect_to_service(
            url,
            user=user,
            password=Secret(password) if password is not None else None,
            token=Secret(token) if token is not None else None,
            verify=verify if isinstance(verify, bool) else str(verify),
        )

    @property
    def names_cloud(self) -> bool:
        """Whether the user said which cloud he means."""
        return "os_cloud" in self.options or bool(os.environ.get("OS_CLOUD"))

    def resource_class_of(self, node_uuid: str) -> str | None:
        """The node's resource class, if it can be had."""
        try:
            return self.api.node(node_uuid).resource_class
        except BloomeryError:
            return None


def _connect_to_lab() -> Bloomery:
    here = lab.status()
    if here.lab is None:
        raise InvalidRequest(
            f"no lab is up in {here.state}", advice="`bloomery lab up` brings one up; BLOOMERY_LAB names another folder"
        )
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(here.lab.cloud_config)
    return connect(here.lab.cloud, timeout_s=FIRST_ANSWER_S)


def invocation_of(ctx: typer.Context) -> Invocation:
    """The call that the command is part of."""
    found = ctx.find_object(Invocation)
    if found is None:
        raise AssertionError("the command runs without its root")
    return found


def api_of(ctx: typer.Context) -> Bloomery:
    """The connection that the command works with.

    Raises:
        BloomeryError: there is none.
    """
    return invocation_of(ctx).api
