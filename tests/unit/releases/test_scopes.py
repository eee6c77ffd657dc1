"""Control groups of processes."""

from saltern.releases import scopes


def test_what_runs_as_a_process_is_in_a_control_group_of_its_own(groups):
    groups(r"app-my\x2dshop.slice", r"app-my\x2dshop-send_mail\x2dnow-1.v12.scope", 41, 42)
    assert scopes.pids("my-shop", 12, "send_mail-now.1") == [41, 42]
    assert scopes.pids("my-shop", 12, "send_mail-now.2") == []
    assert scopes.pids("my", 12, "shop.1") == []


def test_a_release_that_a_run_of_a_job_or_a_command_has_is_in_use_and_no_process_of_supervisors(
    groups, monkeypatch, tmp_path
):
    monkeypatch.setattr(scopes.processes, "CONFIG", str(tmp_path))
    (tmp_path / "my-shop.v13.conf").touch()
    groups(r"app-my\x2dshop.slice", r"app-my\x2dshop-send_mail\x2dnow-nightly\x2dmail.1764454512345.v12.scope", 41)
    groups(r"app-my\x2dshop.slice", r"app-my\x2dshop-web-1.v13.scope", 42)
    groups("app-my.slice", "app-my-sweep-sweep.1764454512346.v3.scope", 43)
    groups("app-my.slice", "app-my-sweep-sweep.1764454512347.v2.scope")
    groups("app-my.slice", "app-my-run-41.1764454512347.v4.scope", 44)
    groups("app-my.slice", "app-my-run-45.1764454512348.v1.scope")
    assert scopes.of_runs() == [("my", 3), ("my", 4), ("my-shop", 12)]
    assert scopes.of_runs("my") == [("my", 3), ("my", 4)]
    assert scopes.in_use() == [("my", 3), ("my", 4), ("my-shop", 12), ("my-shop", 13)]
    assert scopes.known("my-shop") == {"my-shop.v13.web.1"}
    assert scopes.known("my") == set()
