"""What a move does to requests."""

import pytest

from saltern.releases import serving

CUT = {
    "nothing": ((0, 0), ""),
    "a request": ((1, 0), "1 request cut off, not ended in 90 s"),
    "requests and streams": ((2, 3), "2 requests cut off, not ended in 90 s; 3 streams cut off, not ended in 5 s"),
}


@pytest.mark.parametrize("counts, said", CUT.values(), ids=CUT)
def test_what_a_release_cut_off_is_said(counts, said):
    cut = dict(zip(("requests", "streams"), counts, strict=True))
    assert serving.cut_off(cut, {"requests": "not ended in 90 s", "streams": "not ended in 5 s"}) == said
