"""Pages in a real browser: they ask no server, run nothing of a conversation, and the index can be searched.

Skipped where no Chromium is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.archive.conversations import Attachment, Block
from pipeline.archive.transcripts import Format, read_template, render_transcript
from pipeline.archive.transcripts.index_page import IndexEntry, write_index
from pipeline.archive.transcripts.turns import Options
from tests.archive.made_views import keep_file, make_png, make_view, open_documents, say
from tests.archive.pages import Page
from tests.archive.test_transcripts import fill

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

# Everything that makes a browser ask for something as soon as it sees it; SERVER is the address.
ASKING_FORM = """<img src="SERVER/img"><img srcset="SERVER/srcset 1x"><picture><source srcset="SERVER/source"></picture>
<script src="SERVER/script"></script><script>RUN;fetch("SERVER/fetch")</script>
<link rel="stylesheet" href="SERVER/css"><link rel="prefetch" href="SERVER/prefetch">
<link rel="icon" href="SERVER/icon">
<style>@import "SERVER/import"; body { background: url(SERVER/background) }</style>
<div style="background:url(SERVER/style)">
<iframe src="SERVER/frame"></iframe><object data="SERVER/object"></object><embed src="SERVER/embed">
<video src="SERVER/video" poster="SERVER/poster" autoplay></video><audio src="SERVER/audio" autoplay></audio>
<meta http-equiv="refresh" content="0;url=SERVER/refresh"><base href="SERVER/base/"><form action="SERVER/form"></form>
<svg><image href="SERVER/svg"/><use href="SERVER/use#a"/></svg><input type="image" src="SERVER/input">
<img src=x onerror="RUN;new Image().src='SERVER/onerror'"><body onload="RUN">
<details open ontoggle="RUN"></details>

![a](SERVER/markdown) [![b](SERVER/nested)](SERVER/link) ![c][r] ![d](<SERVER/angle>)

[r]: SERVER/reference

```html
<img src="SERVER/code">
```"""
ASKING = ASKING_FORM.replace("RUN", "document.documentElement.dataset.run=1")


class Server:
    """A server that counts what it is asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        paths = self.paths

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                paths.append(self.path)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def start_browser(tmp_path: Path, *arguments: str) -> str:
    """Run the browser until a page is loaded, and return what it printed."""
    plain = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=4000")
    command = [str(CHROMIUM), *plain, f"--user-data-dir={tmp_path / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def open_page(path: Path, *, fragment: str = "") -> Page:
    """Return a page as it stands in the browser after it was loaded."""
    return Page(start_browser(path.parent, "--dump-dom", f"{path.as_uri()}{fragment}"))


def draw_page(path: Path) -> bytes:
    """Return a picture of a page."""
    picture = path.parent / "picture.png"
    start_browser(path.parent, "--window-size=400,600", f"--screenshot={picture}", path.as_uri())
    return picture.read_bytes()


def has_run(page: Page) -> bool:
    return any("data-run" in element.attributes for element in page.elements if element.tag == "html")


def test_a_careless_page_would_ask_and_run(server, tmp_path):
    """The others would pass for nothing if the browser could not reach the server."""
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><title>x</title>{ASKING.replace('SERVER', server.address)}")

    page = open_page(path)

    assert {"/img", "/script", "/frame"} <= set(server.paths)
    assert has_run(page)


def test_a_transcript_asks_no_server_and_runs_nothing(server, tmp_path):
    attack = ASKING.replace("SERVER", server.address)
    documents = open_documents(tmp_path)
    drawing = f"<svg xmlns='http://www.w3.org/2000/svg'><image href='{server.address}/drawing'/></svg>".encode()
    view = make_view(say("u1", "x"))._replace(conversation=fill(attack))
    view.conversation.messages[0].blocks += [
        Block("attachment", attachment=keep_file(documents, "d.svg", drawing)),
        Block("attachment", attachment=Attachment(name="e", status="external", url=f"{server.address}/external")),
    ]
    rendered = render_transcript(documents, view, read_template(tmp_path, Format.HTML), Options(shows_hidden=True))
    path = tmp_path / "page.html"
    path.write_bytes(rendered.content)

    page = open_page(path)

    assert server.paths == []
    assert not has_run(page)
    assert "/markdown" in page.text


def test_a_picture_beside_the_page_is_shown(tmp_path):
    documents = open_documents(tmp_path)
    content = make_png(30, 20) + bytes(50_000)
    view = make_view(say("u1", blocks=[Block("attachment", attachment=keep_file(documents, "photo.png", content))]))
    rendered = render_transcript(documents, view, read_template(tmp_path, Format.HTML), Options())
    path = tmp_path / f"{rendered.name}.html"
    path.write_bytes(rendered.content)

    without = draw_page(path)
    (tmp_path / f"{rendered.name}.files").mkdir()
    (tmp_path / f"{rendered.name}.files" / "photo.png").write_bytes(content)

    assert draw_page(path) != without


ENTRY = IndexEntry(
    path="p/2026/a.html",
    title="Café at the harbour",
    provider="chatgpt",
    created="2026-03-01T09:00:00Z",
    updated=None,
    models=("gpt-4o",),
    project=None,
    messages=2,
    beginning="Where?",
    is_gone=False,
)


def test_the_index_is_searched_from_the_disk(tmp_path):
    other = ENTRY._replace(path="p/2026/b.html", title="Knots", provider="claude")
    path = tmp_path / "index.html"
    path.write_bytes(write_index([ENTRY, other]))

    everything = open_page(path)
    found = open_page(path, fragment="#CAFE%20where")
    nothing = open_page(path, fragment="#zeppelin")

    def shown(page: Page) -> int:
        return sum(element.tag == "li" and "hidden" not in element.attributes for element in page.elements)

    assert [shown(page) for page in (everything, found, nothing)] == [2, 1, 0]
    assert "1 of 2 transcripts" in found.text
    assert "Nothing has all of these words." in nothing.text


def test_nothing_in_the_index_runs_or_asks(server, tmp_path):
    attack = ASKING.replace("SERVER", server.address)
    entry = IndexEntry("p/a.html", attack, attack, attack, attack, (attack,), attack, 1, attack, True)
    path = tmp_path / "index.html"
    path.write_bytes(write_index([entry]))

    page = open_page(path)

    assert server.paths == []
    assert not has_run(page)
    assert "/markdown" in page.text
