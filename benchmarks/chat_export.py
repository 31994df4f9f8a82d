"""A conversations.json of any size, in the form of a ChatGPT export: trees with branches, tools, code, all of Unicode.

    python -m benchmarks.chat_export PATH MEGABYTES

Equal arguments give equal bytes. The lengths of conversations are spread as people's are: most have a few messages,
some have hundreds; one is about 80 KB. An answer in ten has searched, and carries what it found. The texts are drawn
from a stock of sentences, so that writing a gigabyte takes half a minute.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MEGABYTE = 1_000_000
START = 1_700_000_000  # epoch seconds of the first conversation
STOCK_TEXT = (
    "tide harbour mooring rope anchor chart wind swell pilot buoy keel mast sail reef knot lantern pier channel "
    "Übersicht niveau été façade naïve 港 湾 船 шлюпка порт λιμάνι מגדלור 🙂 ⚓ coefficient function returns value"
)
WORDS = STOCK_TEXT.split()
CODE = 'def depth(port: str) -> float:\n    """Return metres."""\n    return TABLE[port] * 0.3048\n'
STOCK = 4000  # sentences

Json = dict[str, Any]


class ExportWriter:
    """Draws conversations."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  no secrets
        self._sentences = [" ".join(self._random.choices(WORDS, k=self._random.randint(5, 25))) for _ in range(STOCK)]

    def draw_conversations(self) -> Iterator[Json]:
        number = 0
        while True:
            yield self._draw_conversation(number)
            number += 1

    def _draw_conversation(self, number: int) -> Json:
        name = self._draw_id()
        started = START + number * 977.25
        mapping: Json = {}
        root = self._add_node(mapping, None, None)
        leaf = self._add_node(mapping, root, self._draw_system(started))
        for turn in range(max(1, int(self._random.lognormvariate(1.8, 1.0)))):
            at = started + turn * 61.5
            prompt = leaf = self._add_node(mapping, leaf, self._draw_message("user", at, self._draw_text(1, 6)))
            if self._random.random() < 0.15:
                leaf = self._add_node(mapping, leaf, self._draw_call(at + 2))
                leaf = self._add_node(mapping, leaf, self._draw_output(at + 4))
            if self._random.random() < 0.1:  # an answer that was asked for again
                self._add_node(mapping, prompt, self._draw_message("assistant", at + 5, self._draw_text(5, 40)))
            answer = self._draw_message("assistant", at + 9, self._draw_text(5, 40))
            if self._random.random() < 0.1:
                answer["metadata"] |= self._draw_searches()
            leaf = self._add_node(mapping, leaf, answer)
        return {
            "title": self._random.choice(self._sentences)[:60],
            "create_time": started,
            "update_time": started + 3600,
            "mapping": mapping,
            "moderation_results": [],
            "current_node": leaf,
            "conversation_id": name,
            "id": name,
            "default_model_slug": "model-demo",
            "gizmo_id": None,
            "is_archived": False,
            "safe_urls": [],
        }

    def _add_node(self, mapping: Json, parent: str | None, message: Json | None) -> str:
        name = message["id"] if message else self._draw_id()
        mapping[name] = {"id": name, "message": message, "parent": parent, "children": []}
        if parent is not None:
            mapping[parent]["children"].append(name)
        return str(name)

    def _draw_id(self) -> str:
        digits = f"{self._random.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def _draw_text(self, fewest: int, most: int) -> str:
        count = self._random.randint(fewest, most)
        sentences = [f"{self._random.choice(self._sentences).capitalize()}." for _ in range(count)]
        code = f"\n\n```python\n{CODE}```\n" if self._random.random() < 0.2 else ""
        return " ".join(sentences) + code

    def _draw_message(self, role: str, at: float, text: str, **fields: Any) -> Json:
        name = self._draw_id()
        metadata = {"request_id": name[:18], "message_type": "next", "timestamp_": "absolute", "message_source": None}
        if role == "assistant":
            finish = {"type": "stop", "stop_tokens": [200002]}
            metadata |= {"model_slug": "model-demo", "finish_details": finish, "is_complete": True}  # type: ignore[dict-item]
        return {
            "id": name,
            "author": {"role": role, "name": None, "metadata": {}},
            "create_time": at,
            "update_time": None,
            "content": {"content_type": "text", "parts": [text]},
            "status": "finished_successfully",
            "end_turn": role == "assistant" or None,
            "weight": 1.0,
            "metadata": metadata,
            "recipient": "all",
            "channel": None,
            **fields,
        }

    def _draw_searches(self) -> Json:
        found = [self._draw_page(number) for number in range(self._random.randint(8, 24))]
        groups = [{"type": "search_result_group", "domain": page["attribution"], "entries": [page]} for page in found]
        references = [
            {
                "matched_text": f"\ue200cite\ue202turn0search{number}\ue201",
                "start_idx": number * 90,
                "end_idx": number * 90 + 22,
                "alt": f"([{page['attribution']}]({page['url']}))",
                "type": "grouped_webpages",
                "items": [page],
                "fallback_items": None,
                "status": "done",
            }
            for number, page in enumerate(found[:6])
        ]
        return {"search_result_groups": groups, "content_references": references}

    def _draw_page(self, number: int) -> Json:
        site = f"www.{self._random.choice(WORDS[:17])}.example"
        return {
            "type": "search_result",
            "url": f"https://{site}/{self._draw_id()}?utm_source=model",
            "title": self._random.choice(self._sentences)[:80],
            "snippet": " ".join(self._random.choices(self._sentences, k=2)),
            "ref_id": {"turn_index": 0, "ref_type": "search", "ref_index": number},
            "content_type": None,
            "pub_date": 1_700_000_000.0 + number,
            "attribution": site,
        }

    def _draw_system(self, at: float) -> Json:
        hidden = {"is_visually_hidden_from_conversation": True}
        return self._draw_message("system", at, "", weight=0.0, metadata=hidden)

    def _draw_call(self, at: float) -> Json:
        code = {"content_type": "code", "language": "unknown", "response_format_name": None, "text": CODE}
        return self._draw_message("assistant", at, "", content=code, recipient="python", end_turn=False)

    def _draw_output(self, at: float) -> Json:
        author = {"role": "tool", "name": "python", "metadata": {}}
        output = {"content_type": "execution_output", "text": "12.5\n"}
        return self._draw_message("tool", at, "", content=output, author=author)


def write_export(file: BinaryIO, size_bytes: int, *, seed: int = 1) -> int:
    """Write an export of about `size_bytes`; return how many conversations it has."""
    file.write(b"[")
    written = count = 0
    for conversation in ExportWriter(seed).draw_conversations():
        content = json.dumps(conversation, ensure_ascii=count % 2 == 0).encode()  # both forms occur
        file.write((b", " if count else b"") + content)
        written, count = written + len(content), count + 1
        if written >= size_bytes:
            break
    file.write(b"]")
    return count


def main() -> None:
    with Path(sys.argv[1]).open("wb") as file:
        print(write_export(file, int(float(sys.argv[2]) * MEGABYTE)))


if __name__ == "__main__":
    main()
