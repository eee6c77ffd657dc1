"""The external pillar: what the pillar files say gives way to what the check returns."""

import sys

import pytest
from salt.exceptions import CommandExecutionError

from saltern.settings import pillar as pillars

OPTIONS = {"pillar_roots": {"base": []}, "file_roots": {"base": []}, "cachedir": ""}


@pytest.mark.parametrize(
    "answer, given",
    [
        (({}, ["nginx: wrong"]), {"_errors": ["nginx: wrong"]}),
        (({"nginx": {}}, []), {"nginx": {}}),
    ],
    ids=["mistakes", "settings"],
)
def test_what_the_pillar_files_say_gives_way_to_what_the_check_returns(
    pillar_settings, dunders, monkeypatch, answer, given
):
    whole, files = {"nginx": {"a": 1}}, {"app": {"secret": 2}}
    monkeypatch.setattr(pillars, "compiled", lambda pillar, minion_id, *tree: answer)
    dunders(pillar_settings, salt={}, pillar=files, opts=OPTIONS | {"id": "one"})
    assert pillar_settings.ext_pillar("one", whole) == given
    assert whole == files == {}


def test_nothing_of_the_pillar_files_is_left_where_the_check_itself_fails(pillar_settings, dunders, monkeypatch):
    def compiled(pillar, minion_id, *tree):
        raise CommandExecutionError("broken")

    files = {"app": {"secret": 2}}
    monkeypatch.setattr(pillars, "compiled", compiled)
    dunders(pillar_settings, salt={}, pillar=files, opts=OPTIONS | {"id": "one"})
    with pytest.raises(CommandExecutionError, match="broken"):
        pillar_settings.ext_pillar("one", files)
    assert files == {}


def test_a_master_s_own_pillar_has_nothing(pillar_settings, dunders, monkeypatch):
    # A master imports the package anew after each pillar. The other tests in this process must keep their modules.
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    files = {"app": {"secret": 2}}
    dunders(pillar_settings, salt={}, pillar=files, opts={"id": "master1_master", "__role": "master"})
    assert pillar_settings.ext_pillar("master1_master", files) == {}
    assert files == {}
