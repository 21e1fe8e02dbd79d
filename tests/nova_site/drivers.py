"""The two drivers that the scenarios run against, and which scenarios Nova's own one is known to fail."""

import os
from collections.abc import Mapping

import pytest

OURS = "bloomery.IronicDriver"
UPSTREAM = "ironic.IronicDriver"

CHOICE = "BLOOMERY_NOVA_DRIVERS"
"""The variable that names the drivers, separated by commas; ours alone if it is not set."""

CHOSEN = tuple(os.environ.get(CHOICE, OURS).split(","))

_D7 = "D7: a rebuild at compute API 2.93 or later fails"
_D30 = "D30: what was under way when nova-compute stopped ends in ERROR without a word"
_FOR_EVER = "D30: a rescue or unrescue that was under way when nova-compute stopped is under way for ever"
_D32 = "D32: the volume target stays behind"
_ABSENT = "not one of its features"

UPSTREAM_FAILS: Mapping[str, str] = {
    "test_a_rebuild_installs_the_new_image_and_keeps_the_rest": _D7,
    "test_a_server_in_error_is_rebuilt[2.100]": _D7,
    "test_a_rebuild_tells_ironic_whether_to_keep_the_ephemeral_partition[2.100]": _D7,
    "test_a_volume_backed_server_has_its_volume_as_a_target_in_ironic": _D32,
    "test_a_rebuild_of_a_volume_backed_server_is_refused_and_the_server_stays[2.92]": "D32: Nova's API refuses, and the server "
    "stays; when it is deleted, its volume target stays as well",
    "test_a_rebuild_of_a_volume_backed_server_is_refused_and_the_server_stays[2.100]": "D7: the refusal is an ERROR",
    "test_a_volume_comes_and_goes_while_the_server_is_stopped": "Nova takes the request, and the volume never comes to the node",
    "test_the_progress_of_a_server_moves_while_it_builds": "the progress is 0 until the server is ACTIVE",
    "test_diagnostics_and_the_console_log_are_answered": _ABSENT,
    "test_a_power_change_behind_novas_back_is_told_to_a_nova_that_never_compares": _ABSENT,
    "test_an_operator_is_shown_every_node_and_nova_compute_has_nothing_to_complain_of": "the uptime is refused",
    "test_a_rebuild_that_fails_says_why_and_more_of_it_to_the_operator_and_can_be_repeated": _ABSENT,
    "test_a_node_that_somebody_else_was_faster_to_claim_is_left_and_another_one_taken": "D17: the build is given up",
    "test_a_failed_tear_down_is_an_error_with_a_reason_and_can_be_repeated": "D6: the failure is taken for success",
    "test_a_tag_that_names_a_nic_puts_the_vif_there_and_the_guest_is_told": _ABSENT,
    "test_an_interface_is_attached_to_the_nic_that_its_tag_names": _ABSENT,
    "test_a_server_is_deleted_while_it_is_being_deployed": "the build that is cut short is an ERROR first",
    "test_a_deploy_goes_on_when_nova_compute_was_killed": _D30,
    "test_a_deploy_that_ironic_had_not_taken_up_is_an_error_and_the_node_free": _D30,
    "test_a_deploy_that_ended_while_nova_compute_was_dead_is_a_server": _D30,
    "test_a_deploy_that_an_operator_ended_while_nova_compute_was_down_is_an_error_with_a_reason": _D30,
    "test_a_rebuild_goes_on_when_nova_compute_was_killed": _D30,
    "test_a_rebuild_of_a_server_in_error_goes_on_when_nova_compute_was_killed": "D30: it is under way for ever",
    "test_a_rebuild_that_ironic_had_not_taken_up_is_an_error_and_can_be_repeated": _D30,
    "test_a_rebuild_that_ended_while_nova_compute_was_dead_has_the_new_image": _D30,
    "test_a_rescue_and_an_unrescue_go_on_when_nova_compute_was_killed": _FOR_EVER,
    "test_a_rescue_or_unrescue_that_ironic_had_not_taken_up_is_an_error_with_a_reason": _FOR_EVER,
    "test_whoever_is_on_a_serial_console_stays_on_it_when_another_asks_for_it": "D40: one that is off is not started",
    "test_a_node_without_a_console_is_a_clean_refusal[novnc]": "D42: a console of no type is 501",
    "test_a_console_that_was_open_when_nova_compute_was_killed_is_stopped_when_nobody_asks_for_it": "D43: it is never stopped",
    "test_a_server_deleted_while_nova_compute_was_down_is_reaped_and_its_node_reserved_until_then": "D5: it is never reaped",
}
"""Test function, or one case of it, -> the defect, by its number in the list of what breaks in Nova's own driver
(nova 34.0.0)."""


def defect_that_fails(test: pytest.Function) -> str | None:
    """Why Nova's own driver fails the test; None if it is to pass."""
    cases = [part for part in test.callspec.id.split("-") if "IronicDriver" not in part]
    return UPSTREAM_FAILS.get(f"{test.originalname}[{'-'.join(cases)}]") or UPSTREAM_FAILS.get(test.originalname)
