"""The files of an app's repository, and checks of its build."""

import hashlib
import json
import re
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[4]
PROCFILE = "web: exec python -m http.server $PORT\nrelease: python -c 'print(\"migrated\")'\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"


def locked(name, marker=""):
    """Return a requirement of the tree's own lock, with its hashes, as a line of a requirements.txt."""
    lock = (ROOT / "requirements/dev.txt").read_text()
    version, hashes = re.search(rf"^{name}==(\S+)[^\\\n]*\\\n((?:    --hash=.*\n)+)", lock, re.MULTILINE).groups()
    return f"{name}=={version}{marker} \\\n{hashes}"


IDNA = locked("idna")
BARE = f"idna=={re.search('==([^ ]+)', IDNA)[1]}"
CONTRACT = """\
openapi: 3.1.0
info: {title: shop, version: "1.2"}
paths:
  /v1/items:
    get:
      responses:
        200: {description: Items., content: {application/json: {schema: {$ref: "#/components/schemas/Items"}}}}
components:
  schemas:
    Items: {type: array, items: {$ref: "#/components/schemas/Any"}, example: {$ref: an example}}
    Any: {}
"""


def write(directory, files):
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)


def contents(result):
    """Return the members of a build, a file's as bytes, by name."""
    with tarfile.open(result["path"]) as tar:
        return {one.name: tar.extractfile(one).read() if one.isfile() else None for one in tar}


def record(result):
    return json.loads(contents(result)["build.json"])


def refused(done, *words):
    """Check that a run was refused, in one line with these words."""
    lines = done.stderr.splitlines()
    if len(lines) > 1:
        # It may first have said what takes so long.
        assert lines[0].startswith("build: wheels: "), done.stderr
        del lines[0]
    assert (done.returncode, done.stdout, len(lines)) == (1, "", 1), done
    assert lines[0].startswith("build: ")
    for word in words:
        assert word in lines[0], lines[0]


def wheel(path, name, version, files, requires=""):
    path.mkdir(exist_ok=True)
    file = path / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
    files = files | {
        f"{name}-{version}.dist-info/METADATA": metadata,
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-{version}.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in files.items():
            archive.writestr(zipfile.ZipInfo(member), content)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"
