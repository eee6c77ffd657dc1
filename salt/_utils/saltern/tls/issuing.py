"""The certificates of an environment's hosts, and of apps' domains, issued into the pillar by its authority."""

import argparse
import datetime
import glob
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saltern import environments
from saltern.refusal import Refusal
from saltern.secrets import files, keys
from saltern.secrets.names import judge_name
from saltern.secrets.tree import Tree
from saltern.secrets.values import read_secrets, with_values, write_secrets
from saltern.tls import certificate
from saltern.tls.authority import Authority, default_directory

# What the file of a host's certificate says.
Said = dict[str, Any]

# As in formulas/app/settings.yaml, which a run goes by.
DOMAIN = r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HEADER = """\
{first}
# Written by `bin/issue-certificates`: for this host alone.
"""


def files_of(tree: Tree, environment: str) -> dict[str, Said]:
    """List the files of certificates that are there: what each says, by name below ``pillar/``."""
    names = sorted(glob.glob(f"certificates/{environment}/*.sls", root_dir=f"{tree.root}/pillar"))
    return {name: (tree.read_yaml(name) or {}).get("certificates", {}) for name in names}


def reason_to_issue(
    said: Said, names: Sequence[str], authority: str, now: datetime.datetime, is_readable: bool, is_client: bool = False
) -> str:
    """Say why a host needs a new certificate; nothing where it does not.

    :param said: what its file says.
    :param names: at which the host is reached.
    :param authority: the certificate of the authority that issues.
    :param now: the time.
    :param is_readable: whether the host and the operators, and nobody else, can read its private key.
    :param is_client: whether a host of its environment has the role etcd, which must know by it who asks.
    """
    if not all(said.get(word) for word in ("authorities", "certificate", "key")):
        return "issued"
    try:
        if found := certificate.amiss(None, said["certificate"], [authority], names, now, is_client):
            return f"issued anew: the one before {', '.join(found.values())}"
        if certificate.left(said["certificate"], now) < certificate.RENEWED:
            return f"renewed: {(certificate.until(said['certificate']) - now).days} days were left"
    except ValueError:
        return "issued anew: the one before could not be read"
    return "" if is_readable else "issued anew: the keys of those who may read it have changed"


def written(said: Said, in_clear: bool) -> str:
    """Return the text of a host's file, whose key is encrypted or in clear."""
    lines = [HEADER.format(first="#!yaml" if in_clear else files.HEADER), "certificates:\n  authorities:\n"]
    lines += [f"    - |\n{textwrap.indent(one.rstrip(), ' ' * 6)}\n" for one in said["authorities"]]
    lines += [
        f"  {word}: |\n{textwrap.indent(said[word].rstrip(), ' ' * 4, lambda _: True)}\n"
        for word in ("certificate", "key")
    ]
    return "".join(lines)


def issue(tree: Tree, options: argparse.Namespace) -> None:
    """Write the certificates of an environment, all or none."""
    environment, now = options.environment, datetime.datetime.now(datetime.UTC)
    # The hosts of an ephemeral environment are thrown away: nothing there is secret.
    in_clear = environments.is_ephemeral(tree.pillar, environment)
    ids = tree.hosts_of(environment)
    rows = {id: row for id, row in tree.read_yaml("hosts.yaml").items() if id in ids}
    has_etcd = any("etcd" in row["roles"] for row in rows.values())
    authority = Authority(options.authority or default_directory(environment), environment, tree.root)
    with tree.only_one(), keys.throw_away_gpg() as gpg:
        readers = {} if in_clear else readers_of(tree, rows, gpg)
        there = files_of(tree, environment)
        judge(authority, there, environment)
        said_last: list[str] = []
        if not authority.read():
            authority.make("authority", now)
            said_last.append(f"the authority of {environment} is made")
        elif options.replace_authority:
            said_last.append(authority.replace(now))
        trusted, lines = authority.trusted, list[str]()
        texts: dict[str, str] = {}
        for id, row in rows.items():
            name = files.certificates(environment, id)
            said = there.pop(name, {})
            is_readable = in_clear or (said.get("key") and not keys.is_stale(said["key"], readers[id], gpg))
            names = certificate.names_of(id, row["address"])
            reason = reason_to_issue(said, names, trusted[0], now, bool(is_readable), has_etcd)
            if not reason and options.renew:
                reason = "renewed"
            if reason:
                key, own = certificate.parted(
                    certificate.issue(authority.read() or "", id, row["address"], now, options.days)
                )
                message = key if in_clear else keys.encrypt(key.rstrip("\n").encode(), readers[id], gpg)
                said = {"certificate": own, "key": message}
            elif said["authorities"] != trusted:
                reason = "trusts others now"
            if reason:
                texts[name] = written(said | {"authorities": trusted}, in_clear)
            until = f"{certificate.until(said['certificate']):%Y-%m-%d}"
            lines.append(f"pillar/{name}: {reason or 'unchanged'}; valid until {until}")
        os.makedirs(f"{tree.root}/pillar/certificates/{environment}", exist_ok=True)
        write_secrets(tree, texts)
        for name in there:
            os.unlink(f"{tree.root}/pillar/{name}")
            lines.append(f"pillar/{name}: removed; no host of {environment} has it")
    if certificate.left(trusted[0], now) < certificate.RENEWED:
        said_last.append(f"it ends on {certificate.until(trusted[0]):%Y-%m-%d}; replace it: --replace-authority")
    print("\n".join([*lines, f"{authority.directory}: {'; '.join([*said_last, 'its key is for operators alone'])}"]))


def issue_for_site(tree: Tree, options: argparse.Namespace) -> None:
    """Write the certificate of an app's domains and its key into the pillar, both or none."""
    environment, now = options.environment, datetime.datetime.now(datetime.UTC)
    app, _, names = options.site.partition("=")
    domains = names.split(",")
    if environments.is_ephemeral(tree.pillar, environment):
        raise Refusal(
            f"--site: the hosts of {environment} issue for their apps themselves; expected another environment"
        )
    judge_name(tree.schemas(environment), f"app.{app}.site.key")
    if not all(re.fullmatch(DOMAIN, name) for name in domains):
        raise Refusal(f"--site: expected an app and its domains, {app}=shop.example.com,www.example.com")
    authority = Authority(options.authority or default_directory(environment), environment, tree.root)
    with tree.only_one(), keys.throw_away_gpg() as gpg:
        readers = keys.readers_of(tree, tree.hosts_of(environment), gpg)
        judge(authority, files_of(tree, environment), environment)
        if not authority.read():
            authority.make("authority", now)
        text = certificate.issue_for(authority.read() or "", domains[0][:64], domains, now, options.days)
        key, own = certificate.parted(text)
        message = keys.encrypt(key.rstrip("\n").encode(), readers, gpg)
        secrets, settings = f"secrets/{environment}.sls", f"environments/{environment}.sls"
        before, _ = read_secrets(tree, secrets, environment)
        with open(f"{tree.root}/pillar/{settings}", encoding="utf-8") as stream:
            plain = stream.read()
        path = ("app", app, "site")
        write_secrets(
            tree,
            {
                secrets: with_values(before, {(*path, "key"): message}),
                settings: with_values(plain, {(*path, "certificate"): own}),
            },
        )
    print(f"pillar/{settings}: app.{app}.site.certificate is written; valid until {certificate.until(own):%Y-%m-%d}")
    print(f"pillar/{secrets}: app.{app}.site.key is written; it can be read by {keys.names_of(readers)}")


def readers_of(tree: Tree, hosts: Iterable[str], gpg: keys.Gpg) -> dict[str, list[keys.Reader]]:
    """Return who may read each host's private key, by its id.

    :raises Refusal: with all that keeps keys from being used.
    """
    readers: dict[str, list[keys.Reader]] = {}
    found: list[str] = []
    for id in hosts:
        try:
            readers[id] = keys.readers_of(tree, [id], gpg)
        except Refusal as refusal:
            found += [line for line in str(refusal).splitlines() if line not in found]
    if found:
        raise Refusal("\n".join(found))
    return readers


def judge(authority: Authority, there: Mapping[str, Said], environment: str) -> None:
    """Refuse to issue by another authority than the one that has issued what is there.

    :raises Refusal: with what is to be done.
    """
    trusted = {one for said in there.values() for one in said.get("authorities") or []}
    if trusted and not trusted & set(authority.trusted):
        known = "another authority" if authority.trusted else "no authority"
        raise Refusal(
            f"{authority.directory}: {known}, and that of pillar/certificates/{environment} is to be replaced step by "
            "step; expected --authority with the directory that has its key. If that is lost, remove "
            f"pillar/certificates/{environment} and run this again: apps are cut off until all hosts have converged"
        )
