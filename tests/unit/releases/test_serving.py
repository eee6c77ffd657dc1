"""What a move does to requests."""

import pytest

from saltern.host import Host
from saltern.releases import serving
from saltern.web import tree, workers

CUT = {
    "nothing": ((0, 0), ""),
    "a request": ((1, 0), "1 request cut off, not ended in 90 s"),
    "requests and streams": ((2, 3), "2 requests cut off, not ended in 90 s; 3 streams cut off, not ended in 5 s"),
}


@pytest.mark.parametrize("counts, said", CUT.values(), ids=CUT)
def test_what_a_release_cut_off_is_said(counts, said):
    cut = dict(zip(("requests", "streams"), counts, strict=True))
    assert serving.cut_off(cut, {"requests": "not ended in 90 s", "streams": "not ended in 5 s"}) == said


def test_nginx_has_the_processes_of_each_type_that_listens(monkeypatch, tmp_path):
    monkeypatch.setattr(tree, "ROOT", str(tmp_path))
    monkeypatch.setattr(workers, "is_stale", lambda root, paths: False)
    routes = {"/ws/": {"process": "asgi"}, "/flower/": {"process": "flower"}}
    host = Host.of({}, {"app": {"shop": {"site": {"routes": routes}}}, "nginx": {"fronts": {"shop": {}}}}, {})
    ports = {"web.1": 8101, "asgi.1": 8139, "asgi.2": 8137, "worker.1": None, "webhook.1": None}
    found = serving.unserved(host, "shop", ports)
    assert found == {
        "upstreams/shop.conf": "server 127.0.0.1:8101 max_fails=0;\n",
        "upstreams/shop.asgi.conf": "server 127.0.0.1:8137 max_fails=0;\nserver 127.0.0.1:8139 max_fails=0;\n",
        # Its build has none of this type: nginx answers 502 at its path.
        "upstreams/shop.flower.conf": "server 127.0.0.1:1 down;\n",
    }
