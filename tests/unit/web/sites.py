"""Sites of an app for the tests."""


def site(*drained, hosts=("app1", "app2", "app3")):
    servers = [
        {"id": name, "address": f"10.0.0.{number}:8100", "drained": name in drained}
        for number, name in enumerate(hosts, 1)
    ]
    return {"status": 200, "timeout": 6, "servers": servers}
