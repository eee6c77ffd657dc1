"""What the lab uses in place of an environment's secrets, and what it leaves out."""

import yaml

from lab.stand_in import substitutes, within

FILES = {
    "common.sls": {"app": {"shop": {"attach": {"DATABASE_URL": {"postgres": "shop"}, "REDIS_URL": {"redis": "jobs"}}}}},
    "environments/production.sls": {
        "app": {"shop": {"attach": {"DATABASE_URL": {"postgres": "shop", "url": "x://y"}}}}
    },
    "environments/dev.sls": {"ephemeral": True},
    "secrets/dev.sls": {"app": {"shop": {"config": {"SECRET_KEY": "of dev"}}}},
    "secrets/production.sls": {
        "app": {
            "shop": {
                "config": {"SECRET_KEY": "-----BEGIN", "TOKEN": "-----BEGIN"},
                "attach": {"MAIL_URL": {"url": "-----BEGIN"}},
                "site": {"key": "-----BEGIN"},
            }
        }
    },
}


def test_what_is_secret_has_another_value_and_what_is_elsewhere_none(tmp_path):
    for name, said in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump(said))
    found = substitutes(tmp_path, "production")
    assert found.keys() == {
        "app.shop.config.SECRET_KEY",
        "app.shop.config.TOKEN",
        "postgres.databases.shop.password",
        "redis.instances.jobs.password",
    }
    assert found.pop("app.shop.config.SECRET_KEY") == "of dev"
    assert len(set(found.values())) == len(found)
    assert not any("BEGIN" in value for value in found.values())


def test_nothing_leads_out_of_the_lab():
    said = {
        "nginx": {"tls": {"source": "acme", "acme": {"email": "ops@example.com", "agree_terms": True}}},
        "app": {
            "shop": {
                "attach": {"DATABASE_URL": {"postgres": "shop", "url": "x://y"}, "MAIL_URL": {"url": "smtp://y"}},
                "site": {"certificate": "-----BEGIN", "body_size": "1m"},
            },
            "faq": None,
        },
    }
    before = yaml.safe_dump(said)
    assert within(said) == {
        "nginx": {"tls": {"source": "authority", "acme": {"email": "ops@example.com", "agree_terms": True}}},
        "app": {
            "shop": {
                "attach": {"DATABASE_URL": {"postgres": "shop"}, "MAIL_URL": {"url": "smtp://y"}},
                "site": {"body_size": "1m"},
            },
            "faq": None,
        },
    }
    assert yaml.safe_dump(said) == before
    assert within({}) == {}
