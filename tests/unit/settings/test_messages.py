"""What a message says is one readable line."""

import pytest

from saltern.settings.messages import dotted


@pytest.mark.parametrize(
    "path, expected",
    [
        (["app", "shop", "domains", 0], "app.shop.domains[0]"),
        (["a\nb"], "a\\nb"),
        (["é"], "\\xe9"),
        (["app", "shop "], "app.'shop '"),
        (["app", ""], "app.''"),
        ([], ""),
    ],
)
def test_a_path_is_one_readable_line(path, expected):
    assert dotted(path) == expected
