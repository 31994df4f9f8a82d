"""Keys: read from the environment when they are needed, and dropped from everything that is written."""

from __future__ import annotations

import base64
import os
from urllib.parse import quote

SHORTEST_SECRET = 8  # characters; replacing shorter "keys", as local servers take, would garble every text
MARK = b"<key>"


def find_key(variable: str) -> str | None:
    """Return the key in an environment variable; None if there is none."""
    return os.environ.get(variable, "").strip() or None


def drop_key(content: bytes, key: str | None) -> bytes:
    """Return the bytes without the key, also where it stands URL-encoded or in base64."""
    if key is None or len(key) < SHORTEST_SECRET:
        return content
    plain = key.encode()
    forms = {plain, quote(key, safe="").encode(), base64.b64encode(plain), base64.urlsafe_b64encode(plain)}
    for form in sorted(forms, key=len, reverse=True):
        content = content.replace(form, MARK)
    return content


def drop_key_from_text(text: str, key: str | None) -> str:
    return drop_key(text.encode(errors="replace"), key).decode(errors="replace")
