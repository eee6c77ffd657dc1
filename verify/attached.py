"""The values that a process has of an attachment, read on its host."""

# The beginning of a script that runs on a host. Its arguments: the PID of a process, the variable or the prefix of the
# parts, and changes as JSON. ``parts`` has the attachment's parts by name, even if the process has a URL.
PARTS = """
import json, os, sys, urllib.parse
pid, variable, changes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with open(f"/proc/{pid}/environ", "rb") as stream:
    items = stream.read().decode(errors="surrogateescape").split(chr(0))
environ = dict(item.split("=", 1) for item in items if "=" in item)
if variable in environ:
    url, unquote = urllib.parse.urlsplit(environ[variable]), urllib.parse.unquote
    parts = {"HOST": url.hostname, "PORT": url.port, "USER": unquote(url.username), "PASSWORD": unquote(url.password)}
    parts |= {"DATABASE": unquote(url.path[1:])}
    parts |= {key.upper(): value for key, value in urllib.parse.parse_qsl(url.query)}
else:
    prefix = variable if variable == "PG" else variable + "_"
    parts = {name.removeprefix(prefix): value for name, value in environ.items() if name.startswith(prefix)}
"""
