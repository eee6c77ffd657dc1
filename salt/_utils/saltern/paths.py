"""Where the files of a tree are, as Salt's configuration says it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Roots:
    """Directories of a tree, and one for what need not be worked out again.

    :param pillar: the pillar's, in the order in which Salt looks into them.
    :param states: the states', in that order.
    :param cache: Salt's cache.
    """

    pillar: Sequence[str]
    states: Sequence[str]
    cache: str

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Roots":
        """Return those that Salt's options name.

        :param options: ``__opts__``.
        """
        return cls(options["pillar_roots"]["base"], options["file_roots"]["base"], options["cachedir"])
