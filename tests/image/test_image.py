"""
The image, run as an administrator runs one that is trusted with nothing.

Rules of this file:

- `make image` builds it and names it in POPFETCHD_IMAGE (and `…-demo`); without that, nothing here is
  tried, and says so. It needs root and podman with runc.
- Every container has a read-only root, no capability, no way to new privileges, uid
  65532, and no folder to write in but its volume.
- What a container may do is read from the kernel, not from what was asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from popfetchd import __version__
from popfetchd.maildrop.letters import letter
from tests.desk import CANARY, PATIENCE, desk, until
from tests.test_cli_fetch import Gate


IMAGE = os.environ.get("POPFETCHD_IMAGE", "")
USER = 65532
STOP_SECONDS = 2.0
HEALTHCHECK_CPU = 0.1
"""Seconds of user and system time; it runs every half minute, for years."""

CONFINED = [
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--no-healthcheck",  # podman wants systemd for its timer; it is asked by hand
    "--network=host",
]

pytestmark = pytest.mark.skipif(not IMAGE, reason="NOT CHECKED: no image (make image)")


def podman(*words, check=True):
    """
    Run podman; return what it did.
    """
    runtime = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    return subprocess.run(
        ["podman", f"--runtime={runtime}", *map(str, words)],
        check=check,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )


def ran(*words, entry="popfetchd"):
    """
    Run *entry* in a confined container, without a network; return what it wrote.
    """
    given = [*CONFINED[:-1], "--network=none", f"--entrypoint={entry}"]
    return podman("run", "--rm", *given, IMAGE, *words).stdout


class Container:
    """
    The service in a container, and what of it can be seen from outside.
    """

    def __init__(self, here, *words):
        self.etc = here.directory / "etc"
        self.state = here.directory / "state"
        mounts = [
            f"--volume={self.etc}:/etc/popfetchd:ro",
            f"--volume={here.directory / 'secrets'}:/run/secrets:ro",
            f"--volume={self.state}:/var/lib/popfetchd",
        ]
        run = podman("run", "--detach", *CONFINED, *mounts, *words, IMAGE)
        self.name = run.stdout.strip()
        shown = podman("inspect", "--format={{.State.Pid}}", self.name)
        self.pid = int(shown.stdout)

    def close(self):
        podman("rm", "--force", "--time=0", self.name)

    def exec(self, *words):
        return podman("exec", self.name, *words, check=False)

    def healthy(self):
        return self.exec("popfetchd", "healthcheck").returncode

    def archived(self):
        return len(list(self.state.glob("mail/alice/new/*")))

    def log(self):
        return podman("logs", self.name).stderr

    def ended(self, number=signal.SIGTERM):
        """
        Send a signal; return the exit code and the seconds that the end took.
        """
        begun = time.monotonic()
        os.kill(self.pid, number)
        code = int(podman("wait", "--interval=20ms", self.name).stdout)
        return code, time.monotonic() - begun

    def kernel(self):
        """
        Return what the kernel says of the process.
        """
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def letters(count):
    return [letter(number, datetime.now(UTC)) for number in range(count)]


@pytest.fixture
def here(tmp_path, capsys):
    with desk(tmp_path, capsys) as made:
        for name in ("etc", "secrets", "state"):
            (tmp_path / name).mkdir()
        os.chown(tmp_path / "state", USER, USER)
        yield made


@pytest.fixture
def start(here):
    """
    Give what starts the service, on a maildrop that holds *messages*.
    """
    started = []

    def begin(*messages, words=()):
        etc = here.directory / "etc"
        account = here.account(
            "alice",
            *messages,
            ca_file="ca.pem",
            password_file=None,
            password_credential="alice",
            archive={"format": "maildir", "path": "/var/lib/popfetchd/mail/alice"},
            every="1s",
            jitter="0s",
        )
        shutil.copy(here.certificate.ca_file, etc / "ca.pem")
        secret = here.directory / "secrets/alice"
        secret.write_text(f"{CANARY}-alice\n")
        secret.chmod(0o440)
        os.chown(secret, 0, USER)
        with socket.create_server(("127.0.0.1", 0)) as free:
            listen = f"127.0.0.1:{free.getsockname()[1]}"
        written = {"http": {"listen": listen}, "accounts": [account]}
        (etc / "popfetchd.yaml").write_text(yaml.safe_dump(written))
        (etc / "popfetchd.yaml").chmod(0o644)
        started.append(Container(here, *words))
        return started[-1]

    yield begin
    for container in started:
        container.close()


# -- what it is -----------------------------------------------------------------------


def test_the_image_says_what_it_is():
    """
    Its configuration is that of the Dockerfile, the health check with it.
    """
    (shown,) = json.loads(podman("image", "inspect", IMAGE).stdout)
    config = shown["Config"]
    assert f"{USER}:{USER}" == config["User"]
    assert ["popfetchd"] == config["Entrypoint"]
    assert ["run", "-c", "/etc/popfetchd/popfetchd.yaml"] == config["Cmd"]
    assert {"/var/lib/popfetchd"} == set(config["Volumes"])
    assert {"10995/tcp"} == set(config["ExposedPorts"])
    assert "SIGTERM" == config["StopSignal"]
    asked = shown.get("HealthCheck") or shown.get("Healthcheck")
    assert ["CMD", "popfetchd", "healthcheck"] == asked["Test"]
    assert __version__ == config["Labels"]["org.opencontainers.image.version"]


def test_it_needs_no_network_and_no_volume_to_answer():
    """
    `--version`, and whatever only reads, works with nothing mounted.
    """
    assert f"popfetchd {__version__}\n" == ran("--version")
    assert '"$schema"' in ran("config", "schema")


def test_authorities_and_time_zones_are_there():
    """
    TLS to a public server can be proved, and a crontab line has its time zone.
    """
    code = (
        "import ssl, zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin');"
        "print(len(ssl.create_default_context().get_ca_certs()) > 50)"
    )
    assert "True\n" == ran("-c", code, entry="python3")


def test_nothing_that_builds_came_along():
    """
    The environment holds what runs, and no pip.
    """
    code = "import os; print(*sorted(os.listdir('/opt/popfetchd/bin')))"
    names = set(ran("-c", code, entry="python3").split())
    assert "popfetchd" in names
    assert set() == {name for name in names if name.startswith(("pip", "hatch"))}


# -- what it does ---------------------------------------------------------------------


def test_it_fetches_with_no_rights_at_all(start, here):
    """
    Mail comes over TLS with a secret from /run/secrets, and is archived in the volume;
    the kernel holds the process to what was asked for.
    """
    service = start(*letters(20))
    until(lambda: service.archived() == 20)
    told = service.kernel()
    assert {str(USER)} == set(told["Uid"].split())
    assert {str(USER)} == set(told["Gid"].split())
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {0} == {int(told[kind], 16) for kind in sets}
    assert ("1", "2") == (told["NoNewPrivs"], told["Seccomp"])
    roots = Path(f"/proc/{service.pid}/mountinfo").read_text().splitlines()
    (root,) = [line.split() for line in roots if line.split()[4] == "/"]
    assert "ro" in root[5].split(",")
    assert 0 == service.healthy()
    assert CANARY not in service.log()
    code, took = service.ended()
    assert 0 == code
    assert STOP_SECONDS > took


def test_it_needs_no_shell(start, here):
    """
    With every shell replaced by an empty file it fetches, answers and ends.
    """
    empty = here.directory / "empty"
    empty.touch()
    words = [f"--volume={empty}:/usr/bin/{name}:ro" for name in ("sh", "dash", "bash")]
    service = start(b"one\r\n", words=words)
    until(lambda: service.archived() == 1)
    assert 0 != service.exec("sh", "-c", "true").returncode
    assert 0 == service.healthy()
    assert 0 == service.ended()[0]


def test_the_healthcheck_costs_little(start):
    """
    Less than 100 ms of CPU each time, asked and answered.
    """
    service = start()
    until(lambda: service.healthy() == 0)
    times = 10
    code = (
        "import resource, subprocess\n"
        f"for _ in range({times}):\n"
        "    subprocess.run(['popfetchd', 'healthcheck'], check=True, stdout=-3)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        f"print((used.ru_utime + used.ru_stime) / {times})"
    )
    assert HEALTHCHECK_CPU > float(service.exec("python3", "-c", code).stdout)


def test_a_service_that_stands_still_is_sick(start):
    """
    The health check fails while the process is stopped, and is well when it goes on.
    """
    service = start()
    until(lambda: service.healthy() == 0)
    os.kill(service.pid, signal.SIGSTOP)
    assert 1 == service.healthy()
    os.kill(service.pid, signal.SIGCONT)
    assert 0 == service.healthy()


def damaged(ledger):
    with ledger.open("r+b") as file:
        file.write(bytes(4096))


@pytest.mark.parametrize("harm", [damaged, Path.unlink], ids=["damaged", "gone"])
def test_a_service_without_its_ledger_is_sick(start, harm):
    """
    The health check fails once the ledger cannot be read, or is not there.
    """
    service = start(b"one\r\n")
    until(lambda: service.archived() == 1 and service.healthy() == 0)
    harm(service.state / "ledger.db")
    until(lambda: service.healthy() == 1)


def test_the_demo_runs_in_a_container():
    """
    Built with its lock, and given a /tmp, it archives mail of its own and ends by itself.
    """
    words = ["demo", "--seconds", "5", "--listen", "127.0.0.1:0"]
    done = podman("run", "--rm", *CONFINED, "--tmpfs=/tmp", f"{IMAGE}-demo", *words)
    assert done.stdout.startswith("demo: ")
    assert "status page   http://127.0.0.1:" in done.stderr


# -- how it ends ----------------------------------------------------------------------


def test_it_ends_soon_in_the_middle_of_a_visit(start, here):
    """
    SIGTERM while mail is coming: 0 in less than 2 s; the next start has the rest.
    """
    service = start(*letters(400))
    until(lambda: service.archived() > 3)
    code, took = service.ended()
    had = service.archived()
    assert 0 == code
    assert STOP_SECONDS > took
    assert 400 > had
    service = start()
    until(lambda: service.archived() == 400)
    assert 0 == service.ended()[0]


def test_it_ends_soon_while_a_server_is_silent(start, here):
    """
    SIGTERM while a server keeps it waiting: 0 as soon.
    """
    here.account("alice")
    gate = Gate(here.servers["alice"], at=3)
    service = start(*letters(5))
    assert gate.reached.wait(PATIENCE)
    code, took = service.ended()
    gate.open.set()
    assert 0 == code
    assert STOP_SECONDS > took
