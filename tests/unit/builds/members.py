"""Members of a build's tarball, and the parts of a build."""

import base64
import hashlib
import io
import sys
import tarfile
import zipfile

LIMITS = {"megabytes": 10, "files": 100}


def member(name, kind=tarfile.REGTYPE, link="", mode=0o644, content=b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(content)
    return info, io.BytesIO(content)


def folder(name):
    return member(name, tarfile.DIRTYPE, mode=0o755)


def symlink(name, to):
    return member(name, tarfile.SYMTYPE, to)


def manifest(**changes):
    made = {"format": 1, "app": "shop", "version": "1", "commit": None, "python": "{}.{}".format(*sys.version_info)}
    return made | {"processes": {"web": "gunicorn"}, "contracts": {}, "wheels": {}} | changes


def unpacked(directory):
    """Make an unpacked build of a few files; return its path."""
    (directory / ".venv/bin").mkdir(parents=True)
    files = ("build.json", "shop/views/__init__.py", "shop/locale/de/LC_MESSAGES/django.mo")
    for name in (*files, ".venv/lib/python3.11/site-packages/django/db/models.py"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"# {name}\n")
    (directory / ".venv/bin/python").symlink_to(sys.executable)
    (directory / "link").symlink_to("shop")
    return directory


def wheel(directory, name, files):
    """Write a wheel, and return a line of a requirements.txt that asks for it."""
    meta = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members = files | {f"{name}-1.dist-info/{key}": text for key, text in meta.items()}
    digests = {
        member: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for member, text in members.items()
    }
    rows = [f"{member},sha256={digest.decode().rstrip('=')},\n" for member, digest in digests.items()]
    record = f"{name}-1.dist-info/RECORD"
    path = directory / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in (members | {record: "".join([*rows, f"{record},,\n"])}).items():
            # Without times, so that the same files give the same wheel.
            archive.writestr(zipfile.ZipInfo(member), content)
    return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def source_distribution(directory, name, code):
    """Write a source distribution that brings the code to build it, and return a line that asks for it."""
    path = directory / f"{name}-1.tar.gz"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "builder"\nbackend-path = ["."]\n',
        "builder.py": code,
    }
    with tarfile.open(path, "w:gz") as tar:
        for file, content in files.items():
            tar.addfile(*member(f"{name}-1/{file}", content=content.encode()))
    return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
