"""Whether an orchestration is alone in its environment."""

from saltern.fleet import ready


def test_one_orchestration_at_a_time_moves_an_environment(tmp_path):
    lock = ready.locked(str(tmp_path), "dev")
    assert ready.locked(str(tmp_path), "dev") is None
    with ready.locked(str(tmp_path), "staging"):
        pass
    lock.close()
    with ready.locked(str(tmp_path), "dev") as again:
        assert again is not None
