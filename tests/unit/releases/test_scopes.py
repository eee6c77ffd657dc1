"""Control groups of processes."""

from saltern.releases import scopes


def test_what_runs_as_a_process_is_in_a_control_group_of_its_own(groups):
    groups(r"app-my\x2dshop.slice", r"app-my\x2dshop-send_mail\x2dnow-1.v12.scope", 41, 42)
    assert scopes.pids("my-shop", 12, "send_mail-now.1") == [41, 42]
    assert scopes.pids("my-shop", 12, "send_mail-now.2") == []
    assert scopes.pids("my", 12, "shop.1") == []
