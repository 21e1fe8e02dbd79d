"""What can go wrong with the lab itself, each in one line that says what would be right."""


class LabError(Exception):
    """The lab could not do what was asked; `message` says what, why and what would be right."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
