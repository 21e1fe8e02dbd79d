"""The two drivers that the scenarios run against, and which scenarios Nova's own one is known to fail."""

import os
from collections.abc import Mapping

OURS = "bloomery.IronicDriver"
UPSTREAM = "ironic.IronicDriver"

CHOICE = "BLOOMERY_NOVA_DRIVERS"
"""The variable that names the drivers, separated by commas; ours alone if it is not set."""

CHOSEN = tuple(os.environ.get(CHOICE, OURS).split(","))

UPSTREAM_FAILS: Mapping[str, str] = {
    "test_a_rebuild_installs_the_new_image_and_keeps_the_rest": "D7: a rebuild at compute API 2.93 or later fails",
    "test_a_server_is_deleted_while_it_is_being_deployed": "D11: a delete while Ironic deploys fails",
    "test_a_deploy_goes_on_when_nova_compute_was_killed": "D30: what was being deployed ends in ERROR",
    "test_a_volume_backed_server_has_its_volume_as_a_target_in_ironic": "D32: the volume target stays behind",
}
"""Test function -> the defect, by its number in the list of what breaks in Nova's own driver (nova 34.0.0)."""
