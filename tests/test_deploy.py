"""
Tests for the files of docs/deploy/.
"""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import shutil
import subprocess
from contextlib import redirect_stderr
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import dtt
from dtt.config import load_toml
from dtt.web.metrics import exposition
from tests.web.test_page import STATUS

DEPLOY = Path(dtt.__file__).parents[1] / "docs" / "deploy"

#: The highest exposure that systemd-analyze may find in the unit; 10 is the most.
EXPOSURE = 2.5


class DeployTests(SynchronousTestCase):
    """
    Tests for unit files, rules and settings.
    """

    def setUp(self) -> None:
        """The documentation is only in a checkout."""
        if not DEPLOY.is_dir():
            raise SkipTest("the documentation is not beside an installed package")

    def metrics(self) -> set[str]:
        """The names of all metrics."""
        text, _ = exposition(STATUS)
        return set(re.findall(r"^# TYPE (\w+)", text.decode(), re.M))

    def used(self, name: str) -> set[str]:
        """The metrics that a file uses."""
        return set(re.findall(r"\bdtt_\w+", (DEPLOY / name).read_text("utf-8")))

    def test_settings(self) -> None:
        """The configuration files are valid, and their topics have a secret."""
        for name in ("dtt.toml", "container.toml"):
            config, topics = load_toml(DEPLOY / name)
            self.assertEqual((config.listen[1], config.dht.port), (6881, 6881))
            self.assertTrue(all(topic.secret_file is not None for topic in topics))

    def test_metrics(self) -> None:
        """Rules and dashboard use metrics that there are, and the documentation lists them."""
        for name in ("alerts.yaml", "dashboard.json"):
            self.assertTrue(self.used(name))
            self.assertEqual(self.used(name) - self.metrics(), set(), name)
        listed = set(
            re.findall(r"`(dtt_\w+)", (DEPLOY.parent / "how-to" / "monitoring.md").read_text("utf-8"))
        )
        self.assertEqual(self.metrics() - listed, {"dtt_dht_round_trip_seconds"} - listed)

    def test_dashboard(self) -> None:
        """The dashboard is JSON; its panels have unique ids, and don't overlap."""
        panels = json.loads((DEPLOY / "dashboard.json").read_text("utf-8"))["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
        self.assertEqual(len(places), len(panels))

    @skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_queries(self) -> None:
        """Prometheus accepts each query of the dashboard."""
        panels = json.loads((DEPLOY / "dashboard.json").read_text("utf-8"))["panels"]
        queries = [
            target["expr"].replace("$instance", ".*") for panel in panels for target in panel["targets"]
        ]
        self.assertTrue(queries)
        rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
        path = Path(self.mktemp())
        path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
        checked = subprocess.run(["promtool", "check", "rules", path], capture_output=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_health_check(self) -> None:
        """Without a service, the health check of the container fails with one line, and no traceback."""
        main = runpy.run_path(str(DEPLOY / "healthcheck.py"))["main"]
        self.patch(os, "environ", {"DTT_STATE_DIR": "/nonexistent"})
        said = io.StringIO()
        with redirect_stderr(said):
            self.assertEqual(main(), 1)
        self.assertEqual(said.getvalue().count("\n"), 1)

    @skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_rules(self) -> None:
        """Prometheus accepts the rules."""
        checked = subprocess.run(
            ["promtool", "check", "rules", DEPLOY / "alerts.yaml"], capture_output=True, check=False
        )
        self.assertEqual(checked.returncode, 0, checked.stderr)

    @skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_alerts(self) -> None:
        """Each rule fires for what it is for, and none for a service that is well."""
        of, topic = '{job="dtt",instance="a"}', '{job="dtt",instance="a",topic="14e0"}'
        well = {
            f"up{of}": "1+0x90",
            f"dtt_running{of}": "1+0x90",
            f"dtt_dht_ready{of}": "1+0x90",
            f"dtt_connections{of}": "1+0x90",
            f"dtt_connections_limit{of}": "10+0x90",
            f"dtt_start_time_seconds{of}": "100+0x90",
            f"dtt_topic_neighbors{topic}": "1+0x90",
            f"dtt_topic_records_found{topic}": "1+0x90",
            f"dtt_topic_records_unreadable{topic}": "0+0x90",
            'dtt_topic_info{job="dtt",instance="a",topic="14e0",name="garden party"}': "1+0x90",
        }
        ill = {
            "DttDown": {f"dtt_running{of}": "0+0x90"},
            "DttNoDHT": {f"dtt_dht_ready{of}": "0+0x90"},
            "DttTopicAlone": {f"dtt_topic_neighbors{topic}": "0+0x90"},
            "DttOtherSecret": {
                f"dtt_topic_records_found{topic}": "0+0x90",
                f"dtt_topic_records_unreadable{topic}": "3+0x90",
            },
            "DttConnectionsFull": {f"dtt_connections{of}": "9+0x90"},
            "DttRestarts": {f"dtt_start_time_seconds{of}": "100+60x90"},
        }
        rules = (DEPLOY / "alerts.yaml").read_text("utf-8")
        self.assertEqual(sorted(ill), sorted(re.findall(r"- alert: (\w+)", rules)))
        tests = [
            {
                "interval": "1m",
                "input_series": [{"series": each, "values": values} for each, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": "80m",
                        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in firing],
                    }
                ],
            }
            for firing, series in [([], well), *(([name], {**well, **ill[name]}) for name in ill)]
        ]
        path = Path(self.mktemp())
        path.write_text(json.dumps({"rule_files": [str(DEPLOY / "alerts.yaml")], "tests": tests}), "utf-8")
        checked = subprocess.run(
            ["promtool", "test", "rules", path], capture_output=True, check=False, text=True
        )
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    @skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_exposition(self) -> None:
        """promtool finds nothing to say about the metrics."""
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=exposition(STATUS)[0], capture_output=True, check=False
        )
        self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, b"", b""))

    def test_unit(self) -> None:
        """
        The unit runs only what the virtual environment and a minimal system have; and memory
        may be writable and executable, since pyOpenSSL makes callbacks at run time.
        """
        unit = (DEPLOY / "dtt.service").read_text("utf-8")
        programs = re.findall(r"^Exec\w+=(\S+)", unit, re.M)
        self.assertEqual(programs, ["/opt/dtt/bin/twistd", "/bin/sh"])
        self.assertNotIn("MemoryDenyWriteExecute", unit)

    @skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_exposure(self) -> None:
        """systemd finds the unit valid, and hardly exposed."""
        checked = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", DEPLOY / "dtt.service"],
            capture_output=True,
            check=False,
            text=True,
        )
        if "--offline" in checked.stderr:
            raise SkipTest("systemd is older than 250")
        found = re.search(r"exposure level for dtt.service: ([\d.]+)", checked.stdout)
        assert found is not None, checked.stdout + checked.stderr
        self.assertLessEqual(float(found[1]), EXPOSURE)
