"""What ``make bench`` measures."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def in_turn(contenders: Iterable[T], n: int) -> list[T]:
    """Return the contenders of a round, in an order that changes with the round: each one follows each other one.

    :param contenders: who takes part.
    :param n: the round's number.
    """
    all_of_them = list(contenders)
    first = n % len(all_of_them)
    return all_of_them[first:] + all_of_them[:first]
