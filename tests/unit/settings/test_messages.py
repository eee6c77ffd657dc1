"""What a message says is one readable line."""

import pytest

from saltern.settings.messages import dotted

SHA256 = "0" * 64
BUILD = {"source": "/srv/builds/shop.tar.gz", "sha256": SHA256}
SHOP = {"port": 8000, "build": BUILD}


def shop(**settings):
    return {"app": {"shop": SHOP | settings}}


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
