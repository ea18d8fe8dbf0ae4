"""
A web service that is a member of a topic.

Usage::

    DTT_CONFIG=chat.toml uvicorn fastapi_app:app

C{POST /say} broadcasts the body of the request, C{GET /heard} returns the last messages, and
C{GET /neighbors} the peer ids of the neighbours.  The file is a configuration file of dtt with one
C{[[topic]]}.  The tracker runs on the event loop of the server.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request

from dtt import TopicId, aio
from dtt.config import load_toml
from dtt.errors import ContentTooLarge, DuplicateContent
from dtt.state import read_secret_file

#: No message is larger; the limit of the topic may be lower.
MAX_BODY = 65536

#: The last messages.
heard: deque[str] = deque(maxlen=100)


async def listen(topic: aio.AsyncTopic) -> None:
    """
    Keep the messages of others.
    """
    async for message in topic.messages():
        heard.append(message.content.decode("utf-8", "replace"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """
    Take part in the topic while the server runs.
    """
    config, (table,) = load_toml(Path(os.environ["DTT_CONFIG"]))
    secret = read_secret_file(table.secret_file) if table.secret_file is not None else b""
    async with aio.tracker(config) as tracker:
        app.state.topic = tracker.join(TopicId.parse(table.name), secret)
        listening = asyncio.create_task(listen(app.state.topic))
        yield
        listening.cancel()


app = FastAPI(lifespan=lifespan)


@app.post("/say", status_code=204)
async def say(request: Request) -> None:
    """
    Broadcast the body.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413)
    try:
        await request.app.state.topic.broadcast(body)
    except ContentTooLarge as error:
        raise HTTPException(413, str(error)) from error
    except DuplicateContent as error:
        raise HTTPException(409, str(error)) from error


@app.get("/heard")
async def get_heard() -> list[str]:
    """
    Return the last messages, the oldest first.
    """
    return list(heard)


@app.get("/neighbors")
async def get_neighbors(request: Request) -> list[str]:
    """
    Return the peer ids of the neighbours, in hex.
    """
    return [peer_id.hex() for peer_id in request.app.state.topic.neighbors()]
