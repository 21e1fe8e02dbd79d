"""The two drivers that the scenarios run against, and which scenarios Nova's own one is known to fail."""

from collections.abc import Mapping

OURS = "bloomery.IronicDriver"
UPSTREAM = "ironic.IronicDriver"

UPSTREAM_FAILS: Mapping[str, str] = {
    "test_a_rebuild_installs_the_new_image_and_keeps_the_rest": "D7: every rebuild at compute API 2.93 or later fails",
}
"""Test function -> the defect, by its number in the list of what breaks in Nova's own driver (nova 34.0.0)."""
