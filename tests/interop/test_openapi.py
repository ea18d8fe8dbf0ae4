"""
The HTTP interface of C{twistd dtt} against its own description: schemathesis makes requests that
fit the OpenAPI document, and others that don't.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue

from tests.interop.support import NO_INTEROP, until
from tests.interop.test_twistd import Twistd, TwistdCase

#: Checks that ask for what is deliberately otherwise here: refusals before the token is looked at,
#: and names of topics and messages that are valid by the schema, but not by their bytes.
EXCLUDED = "ignored_auth,unsupported_method,missing_required_header,positive_data_acceptance"


class OpenAPITests(TwistdCase):
    """
    The whole interface but event streams, which have no end.
    """

    skip = NO_INTEROP or (
        None if find_spec("schemathesis") else "schemathesis can't be imported (pip install '.[dev]')"
    )
    timeout = 600

    def test_conforms(self) -> Deferred[None]:
        """No request causes an error of the server, and all answers are as described."""

        async def run() -> None:
            served = self.twistd("--topic", "garden party", "--web", "tcp:0", state="served")
            await until(self.reactor, lambda: self.url(served))
            token = (self.folder / "served" / "web.token").read_text().strip()
            out, err, code = await getProcessOutputAndValue(
                sys.executable,
                [
                    *("-m", "schemathesis.cli", "run", f"{self.url(served)}v1/openapi.json"),
                    *("-H", f"Authorization: Bearer {token}", "--exclude-path-regex", "events"),
                    *("--max-examples", "15", "--checks", "all", "--exclude-checks", EXCLUDED),
                    *("--generation-database", "none", "--request-timeout", "30"),
                ],
                reactor=self.reactor,
            )
            self.assertEqual(code, 0, (out + err).decode()[-3000:])
            self.assertNotIn("Traceback", "".join(served.lines()))

        return Deferred.fromCoroutine(run())

    def url(self, served: Twistd) -> str | None:
        """The address of the interface."""
        for line in served.lines():
            if "status page is at " in line:
                return line.partition("status page is at ")[2].partition(";")[0]
        return None
