"""The weaknesses that a review can name, each with its parent in CWE's research view (CWE-1000), up to the ten pillars.

Only what occurs in a rule stands here, and what lies between that and its pillar. Where CWE gives a weakness several parents,
the one that fits what the rules here look for is followed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Weakness:
    """An entry of CWE; `parent` is None for a pillar."""

    number: int
    name: str
    parent: int | None = None

    def __str__(self) -> str:
        return f"CWE-{self.number}"


_KNOWN = (
    Weakness(284, "Improper Access Control"),
    Weakness(435, "Improper Interaction Between Multiple Correctly-Behaving Entities"),
    Weakness(664, "Improper Control of a Resource Through its Lifetime"),
    Weakness(682, "Incorrect Calculation"),
    Weakness(691, "Insufficient Control Flow Management"),
    Weakness(693, "Protection Mechanism Failure"),
    Weakness(697, "Incorrect Comparison"),
    Weakness(703, "Improper Check or Handling of Exceptional Conditions"),
    Weakness(707, "Improper Neutralization"),
    Weakness(710, "Improper Adherence to Coding Standards"),
    # access control
    Weakness(285, "Improper Authorization", 284),
    Weakness(732, "Incorrect Permission Assignment for Critical Resource", 285),
    Weakness(287, "Improper Authentication", 284),
    Weakness(295, "Improper Certificate Validation", 287),
    Weakness(1390, "Weak Authentication", 287),
    Weakness(1391, "Use of Weak Credentials", 1390),
    Weakness(798, "Use of Hard-coded Credentials", 1391),
    Weakness(259, "Use of Hard-coded Password", 798),
    # interaction
    Weakness(436, "Interpretation Conflict", 435),
    # lifetime
    Weakness(400, "Uncontrolled Resource Consumption", 664),
    Weakness(404, "Improper Resource Shutdown or Release", 664),
    Weakness(459, "Incomplete Cleanup", 404),
    Weakness(460, "Improper Cleanup on Thrown Exception", 459),
    Weakness(662, "Improper Synchronization", 664),
    Weakness(820, "Missing Synchronization", 662),
    Weakness(821, "Incorrect Synchronization", 662),
    Weakness(1088, "Synchronous Access of Remote Resource without Timeout", 821),
    Weakness(666, "Operation on Resource in Wrong Phase of Lifetime", 664),
    Weakness(605, "Multiple Binds to the Same Port", 666),
    Weakness(668, "Exposure of Resource to Wrong Sphere", 664),
    Weakness(377, "Insecure Temporary File", 668),
    Weakness(200, "Exposure of Sensitive Information to an Unauthorized Actor", 668),
    Weakness(209, "Generation of Error Message Containing Sensitive Information", 200),
    Weakness(538, "Insertion of Sensitive Information into Externally-Accessible File or Directory", 200),
    Weakness(532, "Insertion of Sensitive Information into Log File", 538),
    Weakness(706, "Use of Incorrectly-Resolved Name or Reference", 664),
    Weakness(22, "Improper Limitation of a Pathname to a Restricted Directory", 706),
    Weakness(913, "Improper Control of Dynamically-Managed Code Resources", 664),
    Weakness(502, "Deserialization of Untrusted Data", 913),
    # control flow
    Weakness(834, "Excessive Iteration", 691),
    Weakness(835, "Loop with Unreachable Exit Condition", 834),
    # protection
    Weakness(311, "Missing Encryption of Sensitive Data", 693),
    Weakness(319, "Cleartext Transmission of Sensitive Information", 311),
    Weakness(326, "Inadequate Encryption Strength", 693),
    Weakness(327, "Use of a Broken or Risky Cryptographic Algorithm", 693),
    Weakness(330, "Use of Insufficiently Random Values", 693),
    # comparison
    Weakness(1025, "Comparison Using Wrong Factors", 697),
    Weakness(486, "Comparison of Classes by Name", 1025),
    # exceptional conditions
    Weakness(755, "Improper Handling of Exceptional Conditions", 703),
    Weakness(248, "Uncaught Exception", 755),
    Weakness(390, "Detection of Error Condition Without Action", 755),
    Weakness(636, "Not Failing Securely", 755),
    # neutralization
    Weakness(20, "Improper Input Validation", 707),
    Weakness(74, "Improper Neutralization of Special Elements in Output", 707),
    Weakness(77, "Command Injection", 74),
    Weakness(78, "OS Command Injection", 77),
    Weakness(79, "Cross-site Scripting", 74),
    Weakness(80, "Basic Cross-site Scripting", 79),
    Weakness(94, "Code Injection", 74),
    Weakness(943, "Improper Neutralization of Special Elements in Data Query Logic", 74),
    Weakness(89, "SQL Injection", 943),
    Weakness(116, "Improper Encoding or Escaping of Output", 707),
    # coding standards
    Weakness(1164, "Irrelevant Code", 710),
)
WEAKNESSES = {weakness.number: weakness for weakness in _KNOWN}
PILLARS = tuple(weakness for weakness in _KNOWN if weakness.parent is None)


def pillar_of(number: int) -> Weakness:
    """The pillar that the weakness belongs to.

    Raises:
        KeyError: the weakness is not in the table.
    """
    weakness = WEAKNESSES[number]
    while weakness.parent is not None:
        weakness = WEAKNESSES[weakness.parent]
    return weakness
