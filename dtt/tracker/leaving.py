"""
The base class of the services of a tracker that can be left.
"""

from __future__ import annotations

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure


class LeavableService(MultiService):
    """
    A child service of a tracker that its user can leave, even before the tracker has started.

    @ivar is_leaving: whether L{leave} was called.
    """

    is_leaving = False
    _leaving: Deferred[None] | None = None

    def leave(self) -> Deferred[None]:
        """
        Leave the topic.  This is possible even before the tracker has started.  Later calls of other methods
        raise L{TopicLeft<dtt.errors.TopicLeft>}; further calls of this method do not.

        @return: fires once all coroutines have ended and, in a swarm, the disconnect
            messages are sent.
        """
        self.is_leaving = True
        if self._leaving is None:
            if self.running:
                self._leaving = maybeDeferred(self.disownServiceParent)
            else:
                if self.parent is not None:
                    self.disownServiceParent()
                self._leaving = maybeDeferred(self.stopService)
        left: Deferred[None] = Deferred()

        def fire(result: Failure | None) -> Failure | None:
            if not left.called:
                left.callback(None)
            return result  # a failure is logged; nobody must wait for ever because of it

        self._leaving.addBoth(fire)
        return left
