"""The example's OpenAPI documents."""

from pathlib import Path

import pytest

from saltern.contracts import openapi

FAQ = Path(__file__).parents[3] / "examples/faq/openapi"


@pytest.fixture
def faq():
    """Return a function that reads a document of the example."""
    return lambda version: openapi.parse((FAQ / f"{version}.yaml").read_text())
