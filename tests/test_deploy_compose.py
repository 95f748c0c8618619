"""
deploy/compose.yaml, as far as it can be judged without starting it.

Rules of this file: what the containers are given is put in a folder as they would see it,
and read there by whatever reads it in them.
"""

from __future__ import annotations

import json
import shutil
import subprocess

from pathlib import Path

import pytest
import yaml

from popfetchd.cli.parser import build_parser
from popfetchd.config.load import load


ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
PORT = "10995"


def mounts(service):
    """
    Return what a container is given of this folder, by where it finds it.
    """
    given = (volume.split(":") for volume in SERVICES[service].get("volumes", []))
    return {words[1]: words for words in given if words[0].startswith(".")}


def seen(service, folder, tmp_path):
    """
    Put what a container finds in *folder* in a folder of its own; return that.
    """
    for place, words in mounts(service).items():
        if Path(place).is_relative_to(folder):
            source, target = (
                DEPLOY / words[0],
                tmp_path / Path(place).relative_to(folder),
            )
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    for entry in (tmp_path, *tmp_path.rglob("*")):  # whatever the umask of the checkout
        entry.chmod(0o755 if entry.is_dir() else 0o644)
    return tmp_path


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_may_do_nothing_beside_its_task(service):
    """
    A root that is not written, no capability, no new privileges, a user without a name.
    """
    asked = SERVICES[service]
    assert asked["read_only"] is True
    assert ["ALL"] == asked["cap_drop"]
    assert ["no-new-privileges:true"] == asked["security_opt"]
    assert "0" != asked["user"].partition(":")[0]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & asked.keys()


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_container_is_given_is_there(service):
    """
    Each file of ours exists, and is given to be read; each volume has its name below.
    """
    for words in mounts(service).values():
        assert (DEPLOY / words[0]).exists(), words[0]
        assert "ro" == words[2]
    named = (volume.split(":")[0] for volume in SERVICES[service].get("volumes", []))
    ours = {name for name in named if not name.startswith(".")}
    assert ours <= COMPOSE["volumes"].keys()


@pytest.mark.parametrize("service", SERVICES)
def test_a_port_is_published_on_loopback(service):
    """
    What is served has no password.
    """
    for port in SERVICES[service]["ports"]:
        assert port.startswith("127.0.0.1:")


def test_the_images_are_what_the_dockerfile_makes():
    """
    Built from this checkout, for its user; the demo with the lock that it needs.
    """
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    for name in ("popfetchd", "demo"):
        asked = SERVICES[name]
        assert ROOT == (DEPLOY / asked["build"]["context"]).resolve()
        assert f"USER {asked['user']}\n" in dockerfile
        for argument, value in asked["build"].get("args", {}).items():
            assert f"\nARG {argument}=" in dockerfile
            assert (ROOT / f"locks/{value}.lock").exists()
    assert SERVICES["popfetchd"]["image"] != SERVICES["demo"]["image"]
    assert {"popfetchd": "/var/lib/popfetchd"} == {
        words[0]: words[1]
        for volume in SERVICES["popfetchd"]["volumes"]
        if not (words := volume.split(":"))[0].startswith(".")
    }
    assert "\nVOLUME /var/lib/popfetchd\n" in dockerfile


def test_the_configuration_works_as_it_stands(tmp_path):
    """
    Without an account there is no mistake and no doubt, and the page is seen outside.
    """
    etc = seen("popfetchd", "/etc/popfetchd", tmp_path)
    loaded = load(etc / "popfetchd.yaml", {"STATE_DIRECTORY": "/var/lib/popfetchd"})
    assert () == loaded.held_back + loaded.doubts + loaded.configuration.accounts
    assert f"0.0.0.0:{PORT}" == loaded.configuration.http.listen


def test_the_example_of_an_account_becomes_one(tmp_path):
    """
    Without `.example` it is an account: archived on the volume, its secret where they are.
    """
    etc = seen("popfetchd", "/etc/popfetchd", tmp_path)
    (etc / "accounts.d/alice.yaml.example").rename(etc / "accounts.d/alice.yaml")
    loaded = load(etc / "popfetchd.yaml", {"STATE_DIRECTORY": "/var/lib/popfetchd"})
    (account,) = loaded.configuration.accounts
    assert () == loaded.held_back + loaded.doubts
    assert account.archive.path.startswith("/var/lib/popfetchd/")
    assert "alice" == account.password_credential
    assert "/run/secrets" in mounts("popfetchd")


def test_the_demo_is_a_command_that_popfetchd_takes():
    """
    It listens where its port is published and its health is asked for.
    """
    asked = SERVICES["demo"]
    demo = build_parser().parse_args(asked["command"])
    assert ("demo", f"0.0.0.0:{PORT}") == (demo.verb, demo.listen)
    assert asked["ports"][0].endswith(f":{PORT}")
    told, *words = asked["healthcheck"]["test"]
    assert ["CMD", "popfetchd"] == [told, words.pop(0)]
    assert f"http://127.0.0.1:{PORT}/healthz" == build_parser().parse_args(words).url
    assert ["demo"] == asked["profiles"]
    assert ["/tmp"] == asked["tmpfs"]  # its folder is made there


def test_prometheus_takes_what_it_is_given(tmp_path):
    """
    The configuration is found good by promtool, with the rules where it finds them.
    """
    if shutil.which("promtool") is None:
        pytest.skip("NOT CHECKED: promtool is absent (apt install prometheus)")
    etc = seen("prometheus", "/etc/prometheus", tmp_path)
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"],
        cwd=etc,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_prometheus_asks_whom_there_is():
    """
    Its targets are containers of ours at their port, as the job that the alerts name.
    """
    words = mounts("prometheus")["/etc/prometheus/prometheus.yml"]
    (job,) = yaml.safe_load((DEPLOY / words[0]).read_text())["scrape_configs"]
    assert "popfetchd" == job["job_name"]
    (always,), (sometimes,) = job["static_configs"], job["dns_sd_configs"]
    assert [f"popfetchd:{PORT}"] == always["targets"]
    assert (["demo"], int(PORT)) == (sometimes["names"], sometimes["port"])
    assert {"popfetchd", "demo"} <= SERVICES.keys()
    assert "profiles" not in SERVICES["popfetchd"]


def test_grafana_finds_prometheus_and_the_dashboard(tmp_path):
    """
    Its source is the container of that name; its dashboards lie where it looks.
    """
    found = seen("grafana", "/etc/grafana", tmp_path)
    sources = yaml.safe_load(
        (found / "provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    assert ["http://prometheus:9090"] == [source["url"] for source in sources]
    assert SERVICES["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    boards = yaml.safe_load(
        (found / "provisioning/dashboards/popfetchd.yml").read_text()
    )
    (folder,) = [board["options"]["path"] for board in boards["providers"]]
    home = Path(
        SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    )
    assert folder == str(home.parent)
    assert json.loads((DEPLOY / mounts("grafana")[folder][0] / home.name).read_text())
