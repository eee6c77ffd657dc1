"""What nginx serves of an app on its host, and what it has in flight for it."""

from collections.abc import Iterable, Mapping, Sequence

from saltern.host import Host
from saltern.releases import history, published, supervisor
from saltern.releases import process as processes
from saltern.releases.move import Move
from saltern.releases.process import Ports
from saltern.system import files
from saltern.web import in_flight, routes, tree, workers


def _servers(host: Host, app: str, ports: Ports) -> dict[str, str]:
    """Return the files of nginx's tree that name the processes of each type that listens, if nginx serves it here."""
    if app not in host.pillar["nginx"]["fronts"]:
        return {}
    return {
        tree.upstream_path(app, kind): tree.upstream(
            port for process, port in ports.items() if port and process.startswith(f"{kind}.")
        )
        for kind in routes.listening(host.pillar["app"][app])
    }


def serve(host: Host, app: str, ports: Ports) -> None:
    """Have nginx send requests to these processes.

    :param host: the host.
    :param app: the app's name.
    :param ports: port, or ``None``, by process.
    """
    texts = unserved(host, app, ports)
    if texts:
        tree.promote(tree.ROOT, texts)


def serve_again(host: Host, app: str, number: int) -> None:
    """Have nginx serve a release's files, and send requests to its processes, if it is known which these are.

    :param host: the host.
    :param app: the app's name.
    :param number: the release's number.
    """
    if app in host.pillar["app"]:
        published.point(app, host.pillar["app"][app], number)
    ports = supervisor.used(app, number)
    if any(ports.values()):
        serve(host, app, ports)


def unserved(host: Host, app: str, ports: Ports) -> dict[str, str]:
    """Return what nginx is to have of the processes and has not: another text, or one that it has not read yet.

    :param host: the host.
    :param app: the app's name.
    :param ports: port, or ``None``, by process.
    """
    texts = _servers(host, app, ports)
    return {
        path: text
        for path, text in texts.items()
        if files.read(f"{tree.ROOT}/{path}", errors="replace") != text or workers.is_stale(tree.ROOT, [path])
    }


def servers_of(app: str, numbers: Iterable[int]) -> list[str]:
    """Return the addresses of the processes of releases that listen.

    :param app: the app's name.
    :param numbers: of the releases.
    """
    ports = [port for number in numbers for port in processes.configured(app, number).values()]
    return [f"127.0.0.1:{port}" for port in ports if port]


def leaving(move: Move) -> list[str]:
    """Return the addresses of the processes that listen and are to be stopped.

    :param move: to the release.
    """
    app = move.app
    others = [number for _, number in processes.releases(app) if number != move.number]
    configured = processes.configured(app, move.number)
    own = [f"127.0.0.1:{port}" for name, port in configured.items() if port and name not in move.ports]
    return own + servers_of(app, others)


def wait(
    move: Move,
    servers: Sequence[str],
    numbers: Iterable[int | None],
    limits: Mapping[str, int] | None = None,
    why: Mapping[str, str] | None = None,
) -> None:
    """Wait until nginx has in flight nothing for some servers, and tell what had not ended in its time.

    :param move: to the release.
    :param servers: such as ``127.0.0.1:8101``.
    :param numbers: of the releases that they are of.
    :param limits: the seconds for each kind, those of ``app.<name>.in_flight`` where they are not given.
    :param why: by kind, the end of the sentence that tells of what was cut off.
    """
    if not servers:
        return
    limits = limits or move.settings["in_flight"]
    what = f"{move.app}: {' and '.join(f'v{number}' for number in numbers if number is not None)}"
    cut = in_flight.drain(workers.old, servers, move.app, limits["requests"], limits["streams"], what)
    why = why or {kind: f"not ended in {limits[kind]} s (app.{move.app}.in_flight.{kind})" for kind in cut}
    tell_of(move, cut_off(cut, why))


def tell_of(move: Move, what: str, number: int | None = None) -> None:
    """Tell, and note, what a move did to requests; nothing where ``what`` is empty.

    :param move: to the release.
    :param what: a sentence.
    :param number: the release that they were of, the one that was left where it is not given.
    """
    number = number or move.left or move.number
    if what:
        move.told.append(f"v{number}: {what}")
        history.note(move.app, "cut off", number, reason=what)


def cut_off(cut: Mapping[str, int], why: Mapping[str, str]) -> str:
    """Say how many requests and streams a move cut off, empty where it was none.

    :param cut: how many of each kind, ``requests`` and ``streams``.
    :param why: the end of the sentence, by kind.
    """
    worded = in_flight.worded
    return "; ".join(f"{worded(count, kind)} cut off, {why[kind]}" for kind, count in sorted(cut.items()) if count)
