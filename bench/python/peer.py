"""The equivalent service loop on aiomqtt, pydantic and orjson.

It is given its job as JSON on the command line and talks with the harness in lines, as every peer
does (bench/src/peer/mod.rs): `ready`, `go`, `done`, `end`, and a report.
"""

import asyncio
import itertools
import json
import math
import sys
import time
import uuid
from typing import Any

import aiomqtt
import orjson
from pydantic import BaseModel


class Word(BaseModel):
    text: str
    start: float
    end: float


class Transcript(BaseModel):
    n: int
    text: str
    language: str
    confidence: float
    words: list[Word]


class Envelope(BaseModel):
    id: str
    type: str
    ts: float
    source: str
    data: Transcript


def transcript(size: int) -> Transcript:
    """As `Transcript::of_size` in bench/src/event.rs."""
    made = Transcript(n=0, text="bring the grüne teapot", language="en", confidence=0.953125, words=[])
    length = len(orjson.dumps(made.model_dump()))
    said = itertools.cycle(["bring", "the", "grüne", "teapot", "please"])
    for number, text in enumerate(said):
        word = Word(text=text, start=number * 0.25, end=number * 0.25 + 0.21)
        length += len(orjson.dumps(word.model_dump())) + 1
        if length > size:
            return made
        made.words.append(word)
    return made


def say(line: str) -> None:
    print(line, flush=True)


async def hear(word: str) -> None:
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    if line.strip() != word:
        sys.exit(f"`{line}` came, where `{word}` was expected")


async def publish(client: aiomqtt.Client, job: dict[str, Any], report: dict[str, Any]) -> None:
    data = transcript(job["size"])
    numbers = iter(range(job["messages"]))

    async def worker() -> None:
        for n in numbers:
            data.n = n
            envelope = Envelope(id=uuid.uuid4().hex, type="stt.final", ts=time.time(), source="bench", data=data)
            await client.publish(job["topic"], orjson.dumps(envelope.model_dump()), qos=job["qos"])
            report["count"] += 1

    report["first"] = time.monotonic_ns()
    workers = 1 if job["pace"] == "awaited" else job["window"]
    await asyncio.gather(*(worker() for _ in range(workers)))


async def subscribe(client: aiomqtt.Client, job: dict[str, Any], report: dict[str, Any]) -> None:
    report["sum"] = 0
    async for message in client.messages:
        # A fifth faster than by way of orjson; for writing orjson is.
        envelope = Envelope.model_validate_json(message.payload)
        report["count"] += 1
        report["sum"] += envelope.data.n
        if report["count"] == job["messages"]:
            return


async def main() -> None:
    job = json.loads(sys.argv[1])
    identifier = f"{job['topic'].replace('/', '-')}-{job['side']}"
    side = {"publish": publish, "subscribe": subscribe}[job["side"]]
    report: dict[str, Any] = {"count": 0, "sum": None, "first": 0}
    # Without a time limit, for which asyncio would set a timer a publish: that takes a fifth of the CPU time.
    async with aiomqtt.Client(
        "127.0.0.1",
        job["port"],
        identifier=identifier,
        timeout=math.inf,
        max_inflight_messages=job["window"],
    ) as client:
        client.pending_calls_threshold = job["window"] + 10
        if job["side"] == "subscribe":
            await client.subscribe(job["topic"], qos=job["qos"])
        say("ready")
        await hear("go")
        cpu = time.process_time_ns()
        await side(client, job, report)
        report["last"] = time.monotonic_ns()
        say("done")
        await hear("end")
        report["cpu"] = time.process_time_ns() - cpu
        report["resident"] = 0
        say(json.dumps(report))


asyncio.run(main())
