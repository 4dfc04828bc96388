"""A Python service of a mixed fleet: it asks and answers, streams both ways, reads the health and
the heartbeats of its peers and has its own, and handles what comes twice once.

Its models are those of consumer.py, as strict: they forbid fields they do not know and convert
nothing. It does by hand what services of the fleet do by hand.

| request | what it does, and replies on `py/told` with the request's id |
|---|---|
| `py/ask` | asks `rs/sum`; the sum, or the error it got |
| `py/ask_twice` | sends one request to `rs/sum` twice, byte by byte the same; both sums |
| `py/listen` | asks `rs/count` for a stream; its words, or the error in its place |
| `py/twice` | publishes one event to `rs/job` twice, and then another one |
| `py/health` | waits for a status of a peer's health; that status |
| `py/beats` | waits for three heartbeats of a peer |
| `py/jobs` | the jobs of `py/job` it has handled |

Besides it answers `py/sum` on `py/response`, and `py/count` with a stream on `py/stream`.
"""

import asyncio
import hashlib
import os
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Annotated, Any, Literal

import aiomqtt
import orjson
from consumer import Envelope, Health, Heartbeat, Strict, Sum, envelope
from pydantic import Field, TypeAdapter, ValidationError

PATIENCE = 20.0


class Summed(Strict):
    sum: int


class Problem(Strict):
    error: str
    kind: str


class Delta(Strict):
    word: str
    id: str
    seq: int
    done: Literal[False]


class Done(Strict):
    id: str
    seq: int
    done: Literal[True]


class Broken(Strict):
    error: str
    kind: str
    id: str
    seq: int
    done: Literal[True]


Item = TypeAdapter(Annotated[Delta | Done | Broken, Field(union_mode="smart")])


class Words(Strict):
    words: list[str]


class Peer(Strict):
    id: str
    event: str | None = None


class Job(Strict):
    number: int


class Deduplicator:
    """As the original has it: the key from type, id and `seq` or a digest of the data."""

    def __init__(self, most: int = 1000) -> None:
        self.seen: OrderedDict[str, None] = OrderedDict()
        self.most = most

    def is_new(self, event: Envelope) -> bool:
        seq = event.data.get("seq")
        if isinstance(seq, int):
            key = f"{event.type}|{event.id}|seq={seq}"
        else:
            digest = hashlib.sha1(orjson.dumps(event.data, option=orjson.OPT_SORT_KEYS)).hexdigest()
            key = f"{event.type}|{event.id}|hash={digest}"
        if key in self.seen:
            return False
        self.seen[key] = None
        if len(self.seen) > self.most:
            self.seen.popitem(last=False)
        return True


class Service:
    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.replies: dict[str, asyncio.Queue[Envelope]] = {}
        self.changed = asyncio.Condition()
        self.health: dict[str, list[Health]] = {}
        self.beats: Counter[str] = Counter()
        self.new = Deduplicator()
        self.jobs: list[int] = []

    async def publish(self, topic: str, event_type: str, data: dict[str, Any], id: str | None = None) -> None:
        await self.client.publish(topic, envelope(event_type, data, id), qos=1)

    async def request(self, topic: str, data: dict[str, Any], replies: int = 1, times: int = 1) -> list[Envelope]:
        """Sends it so many times, and waits for so many replies; 0: until one is `done`."""
        id = uuid.uuid4().hex
        payload = envelope(topic.replace("/", "."), data, id)
        queue = self.replies[id] = asyncio.Queue()
        try:
            for _ in range(times):
                await self.client.publish(topic, payload, qos=1)
            answers: list[Envelope] = []
            while replies == 0 or len(answers) < replies:
                answers.append(await asyncio.wait_for(queue.get(), PATIENCE))
                if replies == 0 and answers[-1].data.get("done") is True:
                    break
            return answers
        finally:
            del self.replies[id]

    async def until(self, there: Callable[[], Any]) -> Any:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(there), PATIENCE)
        return there()

    async def ask(self, data: dict[str, Any]) -> dict[str, Any]:
        answer, = await self.request("rs/sum", Sum.model_validate(data).model_dump())
        if answer.type == "rs.response.error":
            return {"problem": Problem.model_validate(answer.data).model_dump()}
        assert answer.type == "rs.response", answer.type
        return {"sums": [Summed.model_validate(answer.data).sum]}

    async def ask_twice(self, data: dict[str, Any]) -> dict[str, Any]:
        answers = await self.request("rs/sum", Sum.model_validate(data).model_dump(), replies=2, times=2)
        return {"sums": [Summed.model_validate(answer.data).sum for answer in answers]}

    async def listen(self, data: dict[str, Any]) -> dict[str, Any]:
        items = await self.request("rs/count", Words.model_validate(data).model_dump(), replies=0)
        words = []
        for number, event in enumerate(items):
            item = Item.validate_python(event.data)
            kind = {Delta: "delta", Done: "done", Broken: "error"}[type(item)]
            assert (event.type, item.id, item.seq) == (f"rs.stream.{kind}", event.id, number), event
            if isinstance(item, Delta):
                words.append(item.word)
            if isinstance(item, Broken):
                return {"words": words, "problem": {"error": item.error, "kind": item.kind}}
        return {"words": words}

    async def twice(self, data: dict[str, Any]) -> dict[str, Any]:
        payload = envelope("rs.job", Job.model_validate(data).model_dump())
        for _ in range(2):
            await self.client.publish("rs/job", payload, qos=1)
        await self.publish("rs/job", "rs.job", {"number": 0})
        return {}

    async def peer_health(self, data: dict[str, Any]) -> dict[str, Any]:
        peer = Peer.model_validate(data)

        def status() -> Health | None:
            return next((known for known in self.health.get(peer.id, []) if known.event == peer.event), None)

        return {"health": (await self.until(status)).model_dump(exclude_none=True)}

    async def peer_beats(self, data: dict[str, Any]) -> dict[str, Any]:
        peer = Peer.model_validate(data)
        await self.until(lambda: self.beats[peer.id] >= 3)
        return {}

    async def handled(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"jobs": self.jobs}

    async def answer_sum(self, event: Envelope) -> None:
        try:
            numbers = Sum.model_validate(event.data).numbers
        except ValidationError as error:
            await self.publish("py/response", "py.response.error", {"error": str(error), "kind": "invalid"}, event.id)
        else:
            await self.publish("py/response", "py.response", {"sum": sum(numbers)}, event.id)

    async def answer_count(self, event: Envelope) -> None:
        words = Words.model_validate(event.data).words
        for seq, word in enumerate(words):
            data = {"id": event.id, "seq": seq, "word": word, "done": False}
            await self.client.publish("py/stream", envelope("py.stream.delta", data, event.id))
        data = {"id": event.id, "seq": len(words), "done": True}
        await self.client.publish("py/stream", envelope("py.stream.done", data, event.id))

    async def tell(self, command: Callable[[dict[str, Any]], Any], event: Envelope) -> None:
        try:
            told = await command(event.data)
        except Exception as error:  # the other side is to know
            print(f"{event.type} failed: {error!r}", flush=True)
            await self.publish("py/told", "py.told.error", {"error": repr(error), "kind": "python"}, event.id)
        else:
            await self.publish("py/told", "py.told", told, event.id)

    async def handle(self, topic: str, payload: bytes) -> None:
        commands = {
            "py/ask": self.ask, "py/ask_twice": self.ask_twice, "py/listen": self.listen, "py/twice": self.twice,
            "py/health": self.peer_health, "py/beats": self.peer_beats, "py/jobs": self.handled,
        }
        if topic.startswith("system/keepalive/"):
            Heartbeat.model_validate(orjson.loads(payload))
            async with self.changed:
                self.beats[topic.rsplit("/", 1)[1]] += 1
                self.changed.notify_all()
            return
        event = Envelope.model_validate(orjson.loads(payload))
        if topic in commands:
            await self.tell(commands[topic], event)
        elif topic == "py/sum":
            await self.answer_sum(event)
        elif topic == "py/count":
            await self.answer_count(event)
        elif topic == "py/job":
            if self.new.is_new(event):
                self.jobs.append(Job.model_validate(event.data).number)
        elif topic in ("rs/response", "rs/stream"):
            if event.id in self.replies:
                self.replies[event.id].put_nowait(event)
        elif topic.startswith("system/health/"):
            async with self.changed:
                self.health.setdefault(event.source, []).append(Health.model_validate(event.data))
                self.changed.notify_all()


def health(ok: bool, event: str, **more: str) -> bytes:
    """In the original format."""
    data = {"message_id": uuid.uuid4().hex, "ok": ok, "event": event, **more, "timestamp": time.time()}
    return envelope("health.status", data)


async def beat(client: aiomqtt.Client) -> None:
    while True:
        await client.publish(
            "system/keepalive/py", orjson.dumps({"ok": True, "event": "heartbeat", "timestamp": time.time()})
        )
        await asyncio.sleep(0.2)


def report(task: asyncio.Task[None]) -> None:
    """A task that failed ends the service: a model did not fit."""
    if not task.cancelled() and (error := task.exception()):
        print(f"failed: {error!r}", flush=True)
        os._exit(1)


async def main() -> None:
    host, port = os.environ["MQTT_HOST"], int(os.environ["MQTT_PORT"])
    will = aiomqtt.Will("system/health/py", health(False, "offline", err="connection lost"), qos=1, retain=True)
    async with aiomqtt.Client(host, port, identifier="py", will=will) as client:
        service = Service(client)
        filters = ["py/+", "rs/response", "rs/stream", "system/health/+", "system/keepalive/+"]
        await client.subscribe([(filter, 1) for filter in filters])
        await client.publish("system/health/py", health(True, "ready"), qos=1, retain=True)
        print("ready", flush=True)
        tasks = {asyncio.create_task(beat(client))}
        async for message in client.messages:
            topic = str(message.topic)
            # What it says itself.
            if topic in ("py/told", "py/response", "py/stream") or topic.endswith("/py"):
                continue
            task = asyncio.create_task(service.handle(topic, message.payload))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(report)


if __name__ == "__main__":
    asyncio.run(main())
