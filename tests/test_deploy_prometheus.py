"""
What deploy/ gives to Prometheus and Grafana, held to the metrics and the docs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess

from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).parent.parent
RULES = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/dashboards/popfetchd.json"

GOLDEN = (ROOT / "tests/golden/metrics.txt").read_text()

SERIES = re.compile(r"\bpopfetchd_[a-z_]+")
RECORDS = re.compile(r"\bpopfetchd:[a-z0-9_:]+")
PARTS = re.compile(r"_(?:bucket|count|sum)$")


def rules(name):
    groups = yaml.safe_load((RULES / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels():
    found = json.loads(DASHBOARD.read_text())["panels"]
    return [inner for panel in found for inner in (panel, *panel.get("panels", []))]


def queries():
    """
    Return each expression that is asked of Prometheus, by where it stands.
    """
    asked = {
        rule.get("alert") or rule["record"]: rule["expr"]
        for name in ("alerts.yml", "records.yml")
        for rule in rules(name)
    }
    for panel in panels():
        for target in panel.get("targets", []):
            asked[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    return asked


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
RECORDED = {rule["record"] for rule in rules("records.yml")}
QUERIES = queries()


def promtool(*words):
    binary = shutil.which("promtool")
    if binary is None:
        pytest.skip("NOT CHECKED: promtool is absent (apt install prometheus)")
    return subprocess.run(
        [binary, *words], cwd=RULES, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml", "records.yml"],
        ["test", "rules", "tests.yml"],
    ],
    ids=" ".join,
)
def test_promtool_agrees(words):
    """
    Prometheus takes the rules, and each alert fires when it should and not before.
    """
    done = promtool(*words)
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_seen_firing_and_silent(alert):
    """
    The tests of an alert expect it at one time, and not at another.
    """
    tests = yaml.safe_load((RULES / "tests.yml").read_text())["tests"]
    (cases,) = [test["alert_rule_test"] for test in tests if test["name"] == alert]
    assert {alert} == {case["alertname"] for case in cases}
    assert {True, False} == {bool(case["exp_alerts"]) for case in cases}


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_leads_to_what_to_do(alert):
    """
    An alert says what is wrong and what goes on, and its link leads into the docs.
    """
    told = ALERTS[alert]["annotations"]
    assert {"summary", "description", "runbook_url"} == told.keys()
    page, _, anchor = told["runbook_url"].partition("#")
    headings = re.findall(r"(?m)^#+ (.*)$", (ROOT / page).read_text())
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
    assert ALERTS[alert]["labels"]["severity"] in {"critical", "warning"}


@pytest.mark.parametrize("where", QUERIES)
def test_each_series_asked_for_exists(where):
    """
    Whatever an alert, a record or a panel asks for is a metric, or a record of ours.
    """
    asked = {PARTS.sub("", name) for name in SERIES.findall(QUERIES[where])}
    shown = set(re.findall(r"(?m)^# TYPE (\S+) ", GOLDEN))
    assert set() == asked - shown
    assert set() == set(RECORDS.findall(QUERIES[where])) - RECORDED
