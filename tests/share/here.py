"""A line's operations done in this process, through the same JSON as in a child."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

from heygemd.common.errors import HeygemdError
from heygemd.share import __main__
from heygemd.share.client import ShareChild, ShareClient, ShareError


class Here(ShareChild):
    """``refuse`` says which operations fail the next time, ``before`` is called before each."""

    def __init__(self) -> None:
        super().__init__("main", ())
        self.refuse: dict[str, OSError | HeygemdError] = {}
        self.asked: list[str] = []
        self.before: Callable[[str, Sequence[object]], None] = lambda operation, args: None

    async def ask(self, operation: str, args: Sequence[object], seconds: float) -> object:
        del seconds
        self.asked.append(operation)
        self.before(operation, args)
        await asyncio.sleep(0)  # somebody else may come in between, as with a child
        if error := self.refuse.pop(operation, None):
            raise error
        answer = json.loads(json.dumps(__main__.answer(operation, json.loads(json.dumps(args)))))
        if "errno" in answer:
            raise ShareError(answer["error"], answer["errno"], answer["path"])
        return answer["value"]


def client(here: Here) -> ShareClient:
    """A client whose operations are done here."""
    return ShareClient("main", 1.0, (), here)
