"""Two small exports, written for tests: a ChatGPT conversation with a branch, and a Claude Code session in lines.

folder = write_exports(tmp_path); run("import", folder)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SESSION = "0b54d0a4-97c7-4d8c-a0a3-30a5ac1e6f01"
PROMPT, ANSWER = "11111111-aaaa-4aaa-8aaa-000000000001", "11111111-aaaa-4aaa-8aaa-000000000002"
START = 1772355600  # 2026-03-01T09:00:00Z


def write_exports(folder: Path) -> Path:
    exports = folder / "exports"
    exports.mkdir()
    (exports / "chats.json").write_text(json.dumps([make_chat()]))
    (exports / "session.jsonl").write_text("".join(json.dumps(line) + "\n" for line in make_session()))
    return exports


def make_chat() -> dict[str, Any]:
    """Return "Tide tables": three turns, the last prompt in two versions, a file without bytes, a thought, a call."""
    pointer = {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_0001", "size_bytes": 7}
    nodes = [
        _node("root", None, None),
        _node("u1", "root", _message("user", ["When is low tide in the harbour?"], 0)),
        _node("a1", "u1", _message("assistant", ["The tide is low at noon."], 5, model_slug="gpt-4o")),
        _node("u2", "a1", _message("user", ["And on Sunday?"], 10)),
        _node("u3", "a1", _message("user", ["And on Monday, as in the picture?", pointer], 20)),
        _node("a3", "u3", _message("assistant", ["An hour later, says the table."], 30, model_slug="o3")),
    ]
    return {
        "conversation_id": "tide-tables",
        "title": "Tide tables",
        "create_time": START,
        "update_time": START + 30,
        "current_node": "a3",
        "mapping": {node["id"]: node for node in nodes},
    }


def _node(name: str, parent: str | None, message: Any) -> dict[str, Any]:
    content = None if message is None else {"id": name, **message}
    return {"id": name, "parent": parent, "children": [], "message": content}


def _message(role: str, parts: list[Any], seconds: int, **metadata: str) -> dict[str, Any]:
    kind = "multimodal_text" if any(isinstance(part, dict) for part in parts) else "text"
    return {
        "author": {"role": role},
        "create_time": START + seconds,
        "content": {"content_type": kind, "parts": parts},
        "metadata": metadata,
    }


def make_session() -> list[dict[str, Any]]:
    """Return lines of which the second and the third are messages; the first names one of them, too."""
    common = {"sessionId": SESSION, "cwd": "/home/me/boat", "version": "2.0.0", "isSidechain": False}
    usage = {"input_tokens": 10, "output_tokens": 5}
    answer = {"id": "msg_1", "role": "assistant", "model": "claude-opus-4", "usage": usage}
    blocks = [
        {"type": "thinking", "thinking": "A knot that holds"},
        {"type": "text", "text": "A bowline holds the mooring."},
        {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "grep -rn bowline"}},
    ]
    time = "2026-03-02T10:00:0{}.000Z"
    prompt = {"role": "user", "content": "Which knot holds a rope?"}
    return [
        {"type": "summary", "summary": "Knots that hold", "leafUuid": ANSWER},
        {"type": "user", "uuid": PROMPT, "parentUuid": None, "timestamp": time.format(1), "message": prompt, **common},
        {
            "type": "assistant",
            "uuid": ANSWER,
            "parentUuid": PROMPT,
            "timestamp": time.format(2),
            "requestId": "req_1",
            "message": {**answer, "content": blocks},
            **common,
        },
    ]
