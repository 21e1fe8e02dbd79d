"""The command `bloomery`."""
