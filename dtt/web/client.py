"""
The client of a running daemon, for commands and programs: its HTTP interface over the Unix
socket in the state directory (docs/reference/http.md).

Rules: every method returns a Deferred that can be cancelled.  Every failure is a
L{DTTError<dtt.errors.DTTError>} whose message is one line that says what to do.
"""

from __future__ import annotations

import errno
import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from dtt.errors import LocalError, RemoteError, UsageError
from dtt.files import shown
from dtt.web.unix import ShortPath

#: The largest answer that is read, bytes (guess: a snapshot of hundreds of topics).
MAX_ANSWER: Final = 16 * 1024 * 1024

#: The longest line of an event stream, bytes (guess: the largest message in hexadecimal digits).
MAX_LINE: Final = 64 * 1024

#: Seconds until an answer must have come: the daemon is on the same machine (guess).
TIMEOUT: Final = 10.0

_CLOSED: Final = "the daemon has closed the connection; see its log"

#: Called with each event of a stream: an object as in docs/reference/events.md.
OnEvent = Callable[[dict[str, Any]], object]


class NoDaemon(LocalError):
    """
    No daemon is running with this state directory, or we may not connect to it.
    """


class Refused(UsageError):
    """
    The daemon has refused a request.

    @ivar status: the HTTP status, for example 404: the topic is not joined; 409: it is
        already, or the message is a duplicate.
    """

    def __init__(self, status: int, message: str) -> None:
        """
        @param status: the HTTP status.
        @param message: what the daemon said: one line.
        """
        super().__init__(message)
        self.status = status


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """
    Connects to the socket, whatever the URL is.
    """

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        """
        Return the endpoint.
        """
        return UNIXClientEndpoint(self._reactor, self._path, timeout=int(TIMEOUT))


class _Body(Protocol):
    """
    Reads the body of an answer.
    """

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received
        self._done: Deferred[bool] = Deferred(lambda _: self._close())

    def read(self, response: IResponse) -> Deferred[bool]:
        """
        Read a body.

        @return: fires at its end, with whether it is complete; fails with what the function
            for the data raises.  Cancelling it closes the connection.
        """
        response.deliverBody(self)
        return self._done

    def dataReceived(self, data: bytes) -> None:
        """
        Pass data on.
        """
        if self._done.called:
            return
        try:
            self._received(data)
        except Exception:
            self._done.errback()
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The end.
        """
        if not self._done.called:
            self._done.callback(reason.check(ResponseDone) is not None)

    def _close(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()


class DaemonClient:
    """
    The client of a running daemon.
    """

    def __init__(self, reactor: Any, state_dir: Path) -> None:
        """
        @param reactor: provides C{IReactorUNIX} and C{IReactorTime}.
        @param state_dir: the state directory of the daemon.
        """
        self._reactor = reactor
        self._state_dir = state_dir

    def status(self) -> Deferred[dict[str, Any]]:
        """
        Request the snapshot.

        @return: fires with L{TrackerStatus<dtt.tracker.status.TrackerStatus>} as JSON; fails
            with L{NoDaemon}.
        """
        return self._call("GET", "/v1/status")

    def peers(self, topic_id: bytes) -> Deferred[dict[str, Any]]:
        """
        Request the neighbours and the other members of a topic.

        @param topic_id: 32 bytes.
        @return: fires with an object with C{neighbors} and C{recent}, lists of
            L{NeighborStatus<dtt.tracker.status.NeighborStatus>} and
            L{RecordStatus<dtt.tracker.status.RecordStatus>} as JSON; fails with L{Refused}
            if the topic is not joined.
        """
        return self._call("GET", f"/v1/topics/{topic_id.hex()}/peers")

    def join(self, topic: str, secret: bytes) -> Deferred[dict[str, Any]]:
        """
        Join a topic until the daemon stops.

        @param topic: a name, or C{hex:} and 64 hexadecimal digits.
        @param secret: the secret.
        @return: fires with the topic's status; fails with L{Refused} if it is already joined.
        """
        return self._call(
            "POST", "/v1/topics", {"topic": topic, "secret_base64": b64encode(secret).decode("ascii")}
        )

    def leave(self, topic_id: bytes) -> Deferred[None]:
        """
        Leave a topic.

        @param topic_id: 32 bytes.
        @return: fires when it is left.
        """
        return self._call("DELETE", f"/v1/topics/{topic_id.hex()}").addCallback(lambda _: None)

    def send(self, topic_id: bytes, content: bytes, *, neighbors_only: bool = False) -> Deferred[int]:
        """
        Send a message to a topic.

        @param topic_id: 32 bytes.
        @param content: the message, at most 4055 bytes.
        @param neighbors_only: whether to send it only to direct neighbours.
        @return: fires with the number of neighbours, 0 if nobody receives it; fails with
            L{Refused}.
        """
        body = {
            "content_base64": b64encode(content).decode("ascii"),
            "scope": "neighbors" if neighbors_only else "swarm",
        }
        return self._call("POST", f"/v1/topics/{topic_id.hex()}/messages", body).addCallback(
            lambda answer: int(answer["neighbors"])
        )

    def events(self, on_event: OnEvent, topic_id: bytes | None = None) -> Deferred[None]:
        """
        Listen to events.

        @param on_event: called with each event: an object with C{event}, C{time} and the
            fields of docs/reference/events.md.
        @param topic_id: 32 bytes; C{None}: events of all topics, and those of the tracker.
        @return: fires when the daemon ends the stream; fails with L{NoDaemon} or L{Refused}.
            Cancelling it ends the stream.
        """
        path = "/v1/events" if topic_id is None else f"/v1/topics/{topic_id.hex()}/events"
        return Deferred.fromCoroutine(self._listen(path, on_event))

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Deferred[Any]:
        calling = Deferred.fromCoroutine(self._answer(method, path, body))
        return calling.addTimeout(
            TIMEOUT,
            self._reactor,
            onTimeoutCancel=lambda result, seconds: Failure(
                RemoteError(f"the daemon has not answered within {seconds:.0f} s; see its log")
            ),
        )

    async def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        response = await self._request(method, path, body)
        return await self._read(response)

    async def _listen(self, path: str, on_event: OnEvent) -> None:
        response = await self._request("GET", path, None)
        if response.code != 200:
            await self._read(response)
        buffer = bytearray()

        def received(data: bytes) -> None:
            buffer.extend(data)
            while (end := buffer.find(b"\n")) >= 0:
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                if line.startswith(b"data: "):
                    on_event(_object(line.removeprefix(b"data: "), "an event of the daemon"))
            if len(buffer) > MAX_LINE:
                raise RemoteError("an event of the daemon is too long")

        await _Body(received).read(response)

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> IResponse:
        from treq.client import HTTPClient

        from dtt.net.http import WholeBody

        short = ShortPath(self._state_dir)
        try:
            agent = Agent.usingEndpointFactory(
                self._reactor, _Endpoints(self._reactor, short.path), HTTPConnectionPool(self._reactor, False)
            )
            headers: dict[bytes | str, bytes | str] = (
                {"Content-Type": "application/json"} if body is not None else {}
            )
            data = None if body is None else WholeBody(json.dumps(body).encode("ascii"))
            response: IResponse = await HTTPClient(agent).request(
                method, f"http://localhost{path}", headers=headers, data=data, unbuffered=True
            )
        except ConnectError as error:
            self._no_daemon(error)
        except (RequestTransmissionFailed, ResponseFailed) as error:
            # The agent reports that it was cancelled like this, too.
            if any(reason.check(CancelledError) for reason in error.reasons):
                raise CancelledError from None
            raise RemoteError(_CLOSED) from None
        finally:
            short.close()
        return response

    def _no_daemon(self, error: ConnectError) -> NoReturn:
        where = shown(self._state_dir)
        if error.osError in (errno.EACCES, errno.EPERM):
            raise NoDaemon(f"no access to the daemon of {where}; run this as its user") from None
        raise NoDaemon(
            f"no daemon is running with the state directory {where}; start one (dtt run), or give --state-dir"
        ) from None

    async def _read(self, response: IResponse) -> Any:
        data = bytearray()

        def received(chunk: bytes) -> None:
            data.extend(chunk)
            if len(data) > MAX_ANSWER:
                raise RemoteError("the answer of the daemon is too long")

        if not await _Body(received).read(response):
            raise RemoteError(_CLOSED)
        if response.code == 204:
            return None
        answer = _object(data, f"the daemon's answer {response.code}")
        if response.code >= 400:
            message = answer.get("error")
            raise Refused(response.code, str(message or f"the daemon has answered with {response.code}"))
        return answer


def _object(data: bytes | bytearray, what: str) -> dict[str, Any]:
    """
    Read a JSON object.

    @param what: what it is, for the message.
    @raise RemoteError: it is something else.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RemoteError(f"{what} is no JSON object; is the daemon of another version?")
    return value
