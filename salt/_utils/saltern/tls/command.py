"""The command ``bin/issue-certificates``."""

import argparse
from collections.abc import Sequence

from saltern import commands, environments
from saltern.refusal import Refusal
from saltern.secrets.tree import Tree
from saltern.tls import certificate
from saltern.tls.issuing import issue, issue_for_site

DESCRIPTION = (
    "Issue the certificates by which the hosts of an environment know each other: pillar/certificates/<environment>/."
)

HELP = """\
Run again it changes nothing, until less than a third of a certificate's life is left, a host is new, or its id, its
address or its key in pillar/keys is another. Commit what it has written, and converge.

To replace the authority, three times: issue-certificates ENV --replace-authority, and converge all hosts. At first
they trust the new one too, then have certificates of it, then no longer trust the old one.

For an app's domains, where browsers know the environment's authority: issue-certificates ENV --site
shop=shop.example.com,www.example.com writes app.shop.site.certificate and .key. Run it again to renew.

Exit codes: 0, 1 for what was refused, with the reason, 2 for a command line that cannot be read."""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line; the process ends where it cannot be read."""
    parser = commands.parser("issue-certificates", DESCRIPTION, HELP)
    parser.add_argument("environment", metavar="ENV", help="dev, staging or production")
    parser.add_argument("--authority", metavar="DIR", help="where the authority's key is; outside the tree")
    parser.add_argument("--days", metavar="N", type=int, default=certificate.DAYS, help="how long new ones are valid")
    parser.add_argument("--renew", action="store_true", help="issue all of them anew")
    parser.add_argument("--replace-authority", action="store_true", help="go one step on to a new authority")
    parser.add_argument("--site", metavar="APP=DOMAIN,…", help="issue for an app's domains, and for no host")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str], root: str) -> int:
    """Run the command line.

    :param arguments: what follows the command's name.
    :param root: the directory of the tree.
    :return: an exit code: 0, or 1 for a refusal.
    """
    options, tree = parse_arguments(arguments), Tree(root)

    def work() -> None:
        known = environments.names(tree.pillar)
        if options.environment not in known:
            raise Refusal(f"ENV: no environment has this name; expected one of {', '.join(known)}")
        if not 1 <= options.days <= certificate.AUTHORITY_DAYS:
            raise Refusal(f"--days: expected 1 to {certificate.AUTHORITY_DAYS}")
        issue_for_site(tree, options) if options.site else issue(tree, options)

    return commands.run("issue-certificates", work, "mend that and run this again", "interrupted; run this again")
