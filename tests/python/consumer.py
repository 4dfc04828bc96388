"""A Python service as they run in the fleet, as strict as they come.

Every model forbids fields it does not know and converts nothing. What it is sent on a topic it
has a model for is judged, and the judgement published as a `py.judged` event, so that the other
side sees what this one thinks of its messages. Besides, it

- sends back the data of each `py/echo` event, decoded and encoded again,
- answers `py/sum` requests on `py/response`, with the request's id as the envelope's id,
- publishes a typed event, its health in the original format, and a heartbeat.

It is told where the broker is by MQTT_HOST and MQTT_PORT, says `ready` once its subscriptions are
granted, and ends with a `py/stop` event. `system/health/original-…` is judged by the original
format of health, all other health by the reference.
"""

import asyncio
import os
import time
import uuid
from typing import Annotated, Any, Literal

import aiomqtt
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Envelope(Strict):
    id: Annotated[str, Field(min_length=1)]
    type: Annotated[str, Field(min_length=1)]
    ts: float
    source: str
    data: dict[str, Any]


class Word(Strict):
    text: str
    start: float
    end: float


class FinalTranscript(Strict):
    text: str
    confidence: Annotated[float, Field(ge=0, le=1)]
    words: list[Word]
    language: str | None = None


class Health(Strict):
    ok: bool
    event: str | None = None
    error: str | None = None
    timestamp: float


class OriginalHealth(Strict):
    message_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    ok: bool
    event: str | None = None
    err: str | None = None
    timestamp: float


class Heartbeat(Strict):
    ok: Literal[True]
    event: Literal["heartbeat"]
    timestamp: float


class Sum(Strict):
    numbers: list[int]


def envelope(event_type: str, data: dict[str, Any], id: str | None = None) -> bytes:
    fields = {"id": id or uuid.uuid4().hex, "type": event_type, "ts": time.time(), "source": "py", "data": data}
    return orjson.dumps(fields)


def judge(topic: str, payload: bytes) -> Envelope | Heartbeat:
    """The message as a model; raises what is wrong with it."""
    message = orjson.loads(payload)
    if topic.startswith("system/keepalive/"):
        return Heartbeat.model_validate(message)
    event = Envelope.model_validate(message)
    if list(message) != ["id", "type", "ts", "source", "data"]:
        raise ValueError(f"the fields are in the order {list(message)}")
    if topic.startswith("system/health/original-"):
        OriginalHealth.model_validate(event.data)
    elif topic.startswith("system/health/"):
        Health.model_validate(event.data)
    elif topic == "stt/final":
        FinalTranscript.model_validate(event.data)
    return event


async def handle(client: aiomqtt.Client, topic: str, payload: bytes) -> None:
    judgement: dict[str, Any] = {"topic": topic}
    try:
        message = judge(topic, payload)
    except (ValidationError, ValueError) as error:
        judgement["problem"] = str(error)
    else:
        if isinstance(message, Envelope):
            judgement |= {"id": message.id, "event": message.data.get("event")}
            if topic == "py/echo":
                await client.publish("py/echoed", envelope("py.echoed", message.data, message.id), qos=1)
            elif topic == "py/sum":
                answer = {"sum": sum(Sum.model_validate(message.data).numbers)}
                await client.publish("py/response", envelope("py.response", answer, message.id), qos=1)
    await client.publish("py/judged", envelope("py.judged", judgement), qos=1)


async def introduce(client: aiomqtt.Client) -> None:
    health = {"message_id": uuid.uuid4().hex, "ok": False, "event": "ready", "err": "microphone missing"}
    health["timestamp"] = time.time()
    await client.publish("system/health/py", envelope("health.status", health), qos=1, retain=True)
    beat = {"ok": True, "event": "heartbeat", "timestamp": time.time()}
    await client.publish("system/keepalive/py", orjson.dumps(beat))
    measured = {"name": "Küche 🌡", "celsius": 21.5, "samples": [20, 21.25, -3], "note": None}
    await client.publish("py/measured", envelope("py.measured", measured), qos=1)


async def main() -> None:
    host, port = os.environ["MQTT_HOST"], int(os.environ["MQTT_PORT"])
    async with aiomqtt.Client(host, port, identifier="py") as client:
        filters = ["stt/final", "py/echo", "py/sum", "py/stop", "system/health/+", "system/keepalive/+"]
        await client.subscribe([(filter, 1) for filter in filters])
        await introduce(client)
        print("ready", flush=True)
        async for message in client.messages:
            topic = str(message.topic)
            if topic == "py/stop":
                return
            if topic.endswith("/py"):  # its own
                continue
            await handle(client, topic, message.payload)


if __name__ == "__main__":
    asyncio.run(main())
