"""What the pillar declares of the app shop, in tests of its settings."""

SHA256 = "0" * 64
BUILD = {"source": "/srv/builds/shop.tar.gz", "sha256": SHA256}
SHOP = {"port": 8000, "build": BUILD}


def shop(**settings):
    """Return a pillar with shop and more settings of it."""
    return {"app": {"shop": SHOP | settings}}
