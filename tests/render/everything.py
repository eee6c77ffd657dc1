"""All that a pillar can say, and what must not be seen of it."""

# All that can be said, with values that must not be seen. Each password has what a shell, Redis and SQL would touch.
CANARY = "canary'\"\\<&>%$#{}!"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n"
EVERYTHING = {
    "base": {"packages": ["htop"], "ca_certificates": {"site": CERTIFICATE}},
    "nginx": {
        "trusted_proxies": ["10.0.0.0/8"],
        "tls": {
            "source": "acme",
            "redirect": True,
            "hsts": {"max_age": 31536000, "include_subdomains": True, "preload": True},
            "acme": {"server": "https://acme.example.com/dir", "email": "ops@example.com", "agree_terms": True},
        },
    },
    "firewall": {
        "ssh": ["10.9.0.0/16", "2001:db8::/32"],
        "ssh_port": 2222,
        "allow": {"metrics": {"port": 9100, "networks": ["10.2.0.0/16"]}},
        "forward": True,
    },
    "app": {
        "faq": {"config": {"SECRET_KEY": f"{CANARY}-1", "PASSWORD": f"{CANARY}-2"}, "domains": ["faq.example.com"]},
        "tickets": {
            "config": {"SECRET_KEY": f"{CANARY}-3"},
            "attach": {"MAIL_URL": {"url": "smtp://user:canary@mail.example.com"}},
            "site": {"extra": "location = /robots.txt {\n    return 204;\n}\n"},
        },
    },
    "postgres": {"databases": {name: {"password": f"{CANARY}-postgres-{name}"} for name in ("faq", "tickets")}},
    "redis": {"instances": {"tickets": {"password": f"{CANARY}-redis"}}},
}
