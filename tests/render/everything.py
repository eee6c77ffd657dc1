"""A pillar with every setting, and the values in it that no output may show."""

# Every setting, with secret values. Each password has characters that a shell, Redis and SQL treat specially.
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
            "attach": {
                "DATABASE_URL": {"postgres": "tickets", "pool": "transaction"},
                "MAIL_URL": {"url": "smtp://user:canary@mail.example.com"},
            },
            "site": {
                "extra": "location = /robots.txt {\n    return 204;\n}\n",
                "access": {"users": {"ada": f"{CANARY}-ada"}, "allow": ["192.0.2.7"], "exempt_paths": ["/hooks/"]},
                "limits": {"rate": "10/s", "burst": 40, "connections": 50, "exempt_addresses": ["2001:db8::/32"]},
            },
        },
    },
    "postgres": {
        "databases": {name: {"password": f"{CANARY}-postgres-{name}"} for name in ("faq", "tickets")},
        "pool_settings": {"query_wait_timeout": "30", "listen_backlog": "256"},
    },
    "redis": {"instances": {"tickets": {"password": f"{CANARY}-redis"}}},
}
