"""A client of Python's websockets library, as it is: what comes goes to stdout, a line of JSON each; lines of stdin are said."""

import asyncio
import json
import sys

import websockets


def tell(**fields):
    print(json.dumps(fields), flush=True)


async def main(url):
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with websockets.connect(url) as socket:
        tell(agreed=" ".join(str(extension) for extension in socket.extensions))

        async def hear():
            async for frame in socket:
                tell(frame=frame)

        async def say():
            while line := await lines.readline():
                await socket.send(line.decode().rstrip("\n"))

        await asyncio.gather(hear(), say())


asyncio.run(main(sys.argv[1]))
