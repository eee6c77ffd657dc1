"""What runs before supervisor starts: the current release of each app starts alone, and nginx goes back to it."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "formulas/supervisor/files/current-alone.sh"
PLACES = {
    "/etc/supervisor/conf.d": "conf.d",
    "/srv/apps": "apps",
    "/etc/nginx/upstreams": "upstreams",
    "/run/saltern": "run",
}


def configured(release, ports):
    lines = [
        f"[program:shop.v{release}.{process}]\n"
        f"command=/usr/local/lib/saltern/process shop {release} {process} {port}\nautostart=true\n"
        for process, port in ports.items()
    ]
    return "\n".join(lines)


def test_nginx_goes_back_to_the_current_release_for_each_type_that_listens(tmp_path):
    for name in ("conf.d", "upstreams", "bin", "apps/shop/releases/1", "apps/shop/releases/2"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "apps/shop/current").symlink_to("releases/1")
    for release, slot in ((1, 0), (2, 49)):
        ports = {"web.1": 8101 + slot, "asgi.1": 8139 + slot, "asgi.2": 8138 + slot}
        (tmp_path / f"conf.d/shop.v{release}.conf").write_text(configured(release, ports))
    servers = {"shop": [8150], "shop.asgi": [8187, 8188], "shop-two": [8250]}
    for name, ports in servers.items():
        text = "".join(f"server 127.0.0.1:{port} max_fails=0;\n" for port in ports)
        (tmp_path / f"upstreams/{name}.conf").write_text(text)
    (tmp_path / "bin/systemd-run").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/ran\n')
    (tmp_path / "bin/systemd-run").chmod(0o755)
    script = SCRIPT.read_text()
    for path, name in PLACES.items():
        script = script.replace(path, str(tmp_path / name))
    subprocess.run(["sh", "-c", script], check=True, env={"PATH": f"{tmp_path}/bin:{os.defpath}"})
    found = {path.stem: path.read_text() for path in sorted((tmp_path / "upstreams").iterdir())}
    assert found == {
        "shop": "server 127.0.0.1:8101 max_fails=0;\n",
        "shop.asgi": "server 127.0.0.1:8138 max_fails=0;\nserver 127.0.0.1:8139 max_fails=0;\n",
        "shop-two": "server 127.0.0.1:8250 max_fails=0;\n",
    }
    assert [path.name for path in (tmp_path / "conf.d").iterdir()] == ["shop.v1.conf"]
    ran = (tmp_path / "ran").read_text()
    assert "process --end shop.v2.web.1 shop.v2.asgi.1 shop.v2.asgi.2" in ran
    assert ran.count("systemctl reload nginx") == 2


def test_what_a_release_has_ended_for_its_own_starts_again_and_is_not_away(tmp_path):
    for name in ("conf.d", "apps/shop/releases/1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "apps/shop/current").symlink_to("releases/1")
    text = configured(1, {"web.1": 8101, "asgi.1": 8139})
    ended = text.replace("autostart=true", "autostart=false", 1)
    (tmp_path / "conf.d/shop.v1.conf").write_text(ended)
    for name in ("shop.web", "shop-two.web"):
        (tmp_path / f"run-away.{name}").touch()
    script = SCRIPT.read_text()
    for path, name in PLACES.items():
        script = script.replace(path, str(tmp_path / name))
    subprocess.run(["sh", "-c", script], check=True)
    assert (tmp_path / "conf.d/shop.v1.conf").read_text() == text
    assert [path.name for path in tmp_path.glob("run-away.*")] == ["run-away.shop-two.web"]
