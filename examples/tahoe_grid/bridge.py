"""
Connects a Tahoe-LAFS node to a grid that has no introducer: run it beside the node.

Usage::

    python bridge.py CONFIG [--port PORT]

CONFIG is a configuration file of dtt with a C{state_dir} and one C{[[topic]]}.  When the
bridge runs, C{introducer.furl} in the state directory has the FURL for the node's
C{private/introducers.yaml}; it stays the same.
"""

# mypy: allow-untyped-calls
# Much of Twisted and all of foolscap has no types.

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from announcement import Announcement, BadAnnouncement
from foolscap.pb import Tub
from introducer import LocalIntroducer
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from dtt import Config, TopicId, Tracker
from dtt.config import load_toml
from dtt.contrib.latest import Entry, LatestValues, Limits
from dtt.errors import DTTError, UsageError
from dtt.events import short
from dtt.state import read_secret_file

# The maximum number of nodes of a grid. An announcement takes about 600 bytes.
MAX_NODES = 1000

LOOPBACK = "127.0.0.1"

_log = Logger()


class Bridge(MultiService):
    """
    A tracker for the grid, and an introducer for the node.

    @ivar furl: the FURL of the introducer.
    """

    def __init__(self, reactor: Any, config: Config, name: str, secret: bytes, port: int) -> None:
        """
        @param reactor: the reactor.
        @param config: the settings of dtt, with a C{state_dir}.
        @param name: the topic of the grid.
        @param secret: its secret.
        @param port: the TCP port on the loopback interface for the node.
        @raise UsageError: there is no C{state_dir}.
        """
        super().__init__()
        if config.state_dir is None:
            raise UsageError("state_dir is missing: the FURL must stay the same")
        self._tracker = Tracker(reactor, config)
        self._tracker.setServiceParent(self)
        topic = self._tracker.join(TopicId.parse(name), secret)
        self._state = LatestValues(
            reactor,
            topic,
            check=self._is_announcement,
            on_change=self._changed,
            limits=Limits(authors=MAX_NODES),
        )
        self._introducer = LocalIntroducer(self._published, self._known)
        self._tub = Tub(certFile=str(config.state_dir / "tub.pem"))
        self._tub.setServiceParent(self)
        self._tub.listenOn(f"tcp:{port}:interface={LOOPBACK}")
        self._tub.setLocation(f"tcp:{LOOPBACK}:{port}")
        self.furl = self._tub.registerReference(
            self._introducer, furlFile=str(config.state_dir / "introducer.furl")
        )

    async def stop(self) -> None:
        """
        Say goodbye to the other members, and close everything.
        """
        self._state.close()
        await maybeDeferred(self.stopService)

    def _published(self, announcement: Announcement) -> None:
        self._state.put(announcement.author, announcement.number, announcement.value)
        _log.info("our node offers {service}", service=announcement.service)
        # Tahoe's introducer also notifies the publisher: a node may store on itself.
        self._introducer.announce(announcement)

    def _known(self) -> list[Announcement]:
        return [Announcement.from_entry(entry) for entry in self._state.entries()]

    def _is_announcement(self, entry: Entry) -> bool:
        try:
            Announcement.from_entry(entry)
        except BadAnnouncement as error:
            _log.warn("an announcement was refused: {error}", error=error)
            return False
        return True

    def _changed(self, entry: Entry) -> None:
        announcement = Announcement.from_entry(entry)
        _log.info("node {key} offers {service}", key=short(announcement.key), service=announcement.service)
        self._introducer.announce(announcement)


def make_bridge(reactor: Any, arguments: Sequence[str]) -> Bridge:
    """
    Read the command line and the files that it names.

    @raise DTTError: they are invalid.
    """
    parser = argparse.ArgumentParser(
        description="Connects a Tahoe-LAFS node to a grid without an introducer."
    )
    parser.add_argument(
        "config", type=Path, help="configuration file of dtt, with state_dir and one [[topic]]"
    )
    parser.add_argument("--port", type=int, default=14444, help="TCP port for the node (default: 14444)")
    options = parser.parse_args(arguments)
    config, topics = load_toml(options.config)
    if len(topics) != 1 or topics[0].secret_file is None:
        raise UsageError(f"{options.config}: one [[topic]] with a secret_file is needed")
    secret = read_secret_file(topics[0].secret_file)
    return Bridge(reactor, config, topics[0].name, secret, options.port)


def main() -> int:
    """
    Run the bridge until it is stopped.

    @return: the exit code.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    os.umask(0o077)
    informative: Any = LogLevelFilterPredicate(LogLevel.info)
    to_stderr: Any = textFileLogObserver(sys.stderr)
    observer: Any = FilteringLogObserver(to_stderr, [informative])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    try:
        bridge = make_bridge(reactor, sys.argv[1:])
        bridge.privilegedStartService()
        bridge.startService()
    except (DTTError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(bridge.stop()))
    print("ready", flush=True)
    reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
