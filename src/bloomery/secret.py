"""The type that holds what nobody may read in a log."""

from __future__ import annotations

from typing import Generic, NoReturn, TypeVar

T = TypeVar("T")


class Secret(Generic[T]):
    """A value that shows itself to nobody who does not ask for it by name.

    Passwords, config drives, user data and tokens are held in it. `str`, `repr` and `format` give asterisks; pickling and
    JSON encoding fail; `reveal` gives the value, and stands only where it goes to the wire or to its owner's eyes.
    """

    __slots__ = ("__value",)

    def __init__(self, value: T) -> None:
        self.__value = value

    def reveal(self) -> T:
        """The value itself."""
        return self.__value

    def __repr__(self) -> str:
        return "Secret(******)"

    def __str__(self) -> str:
        return "******"

    def __format__(self, _spec: str) -> str:
        return "******"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(self.reveal() == other.reveal())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: it goes to the wire and to nothing else")
