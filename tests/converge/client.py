"""A client outside the hosts: what a person's browser or another company's program would do."""

import re

import requests

TIMEOUT = 30


class Client:
    """An HTTP client that reaches a host's proxy by its address and asks for one domain.

    :param address: the host's.
    :param domain: what goes into the header Host.
    """

    def __init__(self, address: str, domain: str):
        self.base = f"http://{address}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Host"] = domain

    def get(self, path: str, **options) -> requests.Response:
        """Ask for a path."""
        return self.session.get(self.base + path, timeout=TIMEOUT, **options)

    def post(self, path: str, **options) -> requests.Response:
        """Send to a path, without following where the answer leads."""
        return self.session.post(self.base + path, timeout=TIMEOUT, allow_redirects=False, **options)

    def submit(self, page: str, action: str, **fields: str) -> str:
        """Fill in the form of a page of a Django app and send it; return the path to which the answer leads.

        :param page: the path of the page with the form.
        :param action: the path that the form is sent to.
        :param fields: the form's fields.
        """
        form = self.get(page)
        form.raise_for_status()
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.text)[1]
        answer = self.post(action, data=fields | {"csrfmiddlewaretoken": token})
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]
