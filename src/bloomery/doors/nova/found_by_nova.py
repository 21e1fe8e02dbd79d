"""Where Nova finds Bloomery: `compute_driver = bloomery.IronicDriver` is looked for under `nova.virt`, and nowhere else.

The wheel carries this file a second time, as `nova/virt/bloomery/__init__.py`, beside Nova's own drivers.
"""

from bloomery.doors.nova.driver import IronicDriver

__all__ = ["IronicDriver"]
