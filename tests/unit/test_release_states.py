"""The state of an app's release."""

PRUNED = {"releases": ["v1"], "builds": ["a" * 12]}
PLAN = {
    "number": 4,
    "held": {},
    "changes": {"release": {"old": "v3", "new": "v4"}, "pruned": PRUNED},
    "stay": ["v2 and its build stay"],
}


def test_what_is_pruned_and_what_stays_is_told_by_a_dry_run_and_by_the_run(release_states, dunders):
    told = {"release": 4, "pruned": PRUNED, "told": PLAN["stay"]}
    salt = {"release.plan": lambda app: PLAN, "release.deploy": lambda app: told}
    for is_dry in (True, False):
        dunders(release_states, salt=salt, opts={"test": is_dry})
        ret = release_states.current("shop")
        assert ret["changes"] == PLAN["changes"]
        assert ret["comment"] == f"v4 {'would serve' if is_dry else 'serves'}\nv2 and its build stay"


def test_what_was_pruned_is_told_and_not_what_was_planned(release_states, dunders):
    # A run of a job began with v1 in between.
    told = {"release": 4, "pruned": {}, "told": ["v1 and its build stay", "v2 and its build stay"]}
    salt = {"release.plan": lambda app: PLAN, "release.deploy": lambda app: told}
    dunders(release_states, salt=salt, opts={"test": False})
    ret = release_states.current("shop")
    assert ret["changes"] == {"release": {"old": "v3", "new": "v4"}}
    assert ret["comment"].splitlines() == ["v4 serves", *told["told"]]
