"""In what the simulator is known to differ from the real Ironic 39; whatever else differs is a bug of the simulator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the simulator is not like Ironic."""

    name: str
    sentence: str


KNOWN_DIFFERENCES: tuple[Difference, ...] = (
    Difference("no authentication", "Every request is let in, as with auth_strategy = noauth; no policy is applied."),
    Difference("locks do not retry", "A locked node is refused at once; Ironic tries three times, a second apart."),
    Difference("standard traits", "Every trait with a standard prefix is accepted; Ironic knows a list of them."),
    Difference("schema messages", "Refusals of bad fields name the same fault with fewer words of the schema."),
    Difference("unknown interfaces", "Any name of a hardware interface is accepted; Ironic knows those it enabled."),
    Difference("no periodic tasks", "No power sync, and no timeout but by `time_out`."),
    Difference("agent network", "The neutron interface creates no ports on provisioning or cleaning networks."),
    Difference("images", "No image is fetched; image_source and checksums are only checked to be there."),
    Difference("null config drive members", "JSON config drives are stored as they came, without network data."),
    Difference("one conductor", "There is one conductor, for all conductor groups."),
    Difference("root documents", "The root names only the collections that the simulator serves."),
    Difference("steps of the driver", "Clean and service steps are run whatever their name; Ironic asks the driver."),
    Difference("allowed methods", "A 405 does not say in a header which methods are allowed."),
    Difference(
        "method and path",
        "Ironic answers 500 where a path goes on after a leaf, and 400 to a POST on a node; the simulator answers 405.",
    ),
    Difference("malformed steps", "Ironic answers 500 to a deploy step without interface; the simulator answers 400."),
    Difference("record numbers", "Messages that name a record by its number in the database may name another number."),
    Difference("flat without Neutron", "Without a linked Neutron, flat VIFs are kept, and nobody is asked or told."),
    Difference("console address", "Every enabled console has an address, and nothing listens there."),
    Difference("wait for the agent", "Redfish nodes wait for an agent that calls after a set time, always."),
    Difference("history words", "History tells of cleaning and of errors only, in fewer words."),
    Difference("chassis, BIOS, RAID", "Lists of chassis, BIOS settings and firmware are empty; RAID is not there."),
    Difference("runbooks and templates", "Runbooks, deploy templates, inspection rules and events are not there."),
    Difference("vendor and virtual media", "Vendor passthru, virtual media and indicators are not there."),
)
