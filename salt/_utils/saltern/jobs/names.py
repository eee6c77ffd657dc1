"""What a job has on a host: its units, its files, and the names of what is kept of it."""

UNITS = "/etc/systemd/system"
# What a converge writes for the runner, which has no pillar.
DECLARED = "/etc/saltern/jobs"
# The runs on this host, by app and job.
RECORDS = "/var/lib/saltern/jobs"
# systemd's note of when a timer last elapsed.
STAMPS = "/var/lib/systemd/timers"
RUNNER = "/usr/local/lib/saltern/job"
LAUNCHER = "/usr/local/lib/saltern/process"
RUNTIME = "/run/saltern/jobs"


def unit(app: str, job: str) -> str:
    """Return how the names of a job's units begin. No app's name has a dot.

    :param app: the app's name.
    :param job: the job's name.
    """
    return f"saltern-job-{app}.{job}"


def run_unit(app: str, job: str, run: str) -> str:
    """Return the unit of a run: of its runner, which starts the app's processes in a scope.

    :param app: the app's name.
    :param job: the job's name.
    :param run: the run's number.
    """
    return f"{unit(app, job)}.{run}.service"


def scope(app: str, kind: str, job: str, run: str, release: int) -> str:
    """Return the scope in which the app's processes of a run are, as the launcher names it.

    :param app: the app's name.
    :param kind: the process type.
    :param job: the job's name.
    :param run: the run's number.
    :param release: the release's number.
    """
    escaped = "-".join(name.replace("-", "\\x2d") for name in (app, kind, job))
    return f"app-{escaped}.{run}.v{release}.scope"


def declared(app: str, job: str) -> str:
    """Return the file that tells the runner what is declared.

    :param app: the app's name.
    :param job: the job's name.
    """
    return f"{DECLARED}/{app}.{job}.json"


def lease(job: str) -> str:
    """Return the name of the lease that a run has while it goes on, but where runs may overlap."""
    return f"job/{job}/run"


def moment(job: str) -> str:
    """Return the name of the kept value that says which scheduled moment was taken last, and by whom."""
    return f"job/{job}/moment"


def suspended(job: str) -> str:
    """Return the name of the kept value that says who has suspended a job; empty where it is not suspended."""
    return f"job/{job}/suspended"


def replaced(job: str) -> str:
    """Return the name of the kept value that says which run is asked to end, for another one in its place."""
    return f"job/{job}/replaced"


def last(job: str) -> str:
    """Return the name of the kept value that has the last run and the last success of all hosts."""
    return f"job/{job}/last"
