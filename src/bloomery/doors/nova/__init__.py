"""The door for Nova: `compute_driver = bloomery.IronicDriver`."""
