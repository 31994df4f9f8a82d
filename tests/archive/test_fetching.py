"""Fetching: whole files or none, taken up where they stopped, checked, and never from where it was not meant."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.archive.fetching import Drive, fetch
from pipeline.archive.fetching.addresses import is_public
from pipeline.archive.fetching.download_folder import LOG_FILE, PARTS_FOLDER, find_name, make_safe_name
from pipeline.archive.fetching.drive import DriveUnreadable
from pipeline.archive.fetching.wanted import Wanted, read_list
from pipeline.cli import main
from pipeline.errors import InputInvalid
from store.errors import WriteFailed
from store.identity import hash_bytes
from tests.archive.file_server import Fault, FileServer
from tests.programs import run, start

CONTENT = bytes(range(256)) * 4000  # about a megabyte


def fetch_here(wanted, out, **options):
    return fetch(wanted, out, **{"allow_private": True, "first_wait_seconds": 0.001, **options})


def list_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != LOG_FILE}


@pytest.fixture
def server():
    with FileServer({"export.zip": CONTENT, "notes.txt": b"short"}) as server:
        yield server


def test_files_are_fetched_whole_under_their_names(server, tmp_path):
    result = fetch_here([Wanted(server.url("export.zip")), Wanted(server.url("notes.txt"), "my notes.txt")], tmp_path)

    assert [outcome.status for outcome in result.outcomes] == ["fetched", "fetched"]
    assert list_files(tmp_path) == {"export.zip": CONTENT, "my notes.txt": b"short"}
    assert result.progress.bytes == len(CONTENT) + 5
    assert list((tmp_path / PARTS_FOLDER).iterdir()) == []


def test_a_second_run_fetches_nothing(server, tmp_path):
    wanted = [Wanted(server.url("export.zip"))]
    fetch_here(wanted, tmp_path)
    before = (tmp_path / "export.zip").stat().st_mtime_ns

    result = fetch_here(wanted, tmp_path)

    assert [outcome.status for outcome in result.outcomes] == ["unchanged"]
    assert result.progress.bytes == 0
    assert (tmp_path / "export.zip").stat().st_mtime_ns == before


def test_a_file_whose_digest_is_known_is_not_even_asked_for(server, tmp_path):
    wanted = [Wanted(server.url("export.zip"), digest=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")]
    fetch_here(wanted, tmp_path)
    asked = len(server.requests)

    fetch_here(wanted, tmp_path)

    assert len(server.requests) == asked


def test_behind_a_line_of_the_log_that_a_crash_cut_the_next_file_is_noted_on_its_own(server, tmp_path):
    wanted = [Wanted(server.url("notes.txt"), digest=f"sha256:{hashlib.sha256(b'short').hexdigest()}")]
    fetch_here([Wanted(server.url("export.zip"))], tmp_path)
    os.truncate(tmp_path / LOG_FILE, (tmp_path / LOG_FILE).stat().st_size - 10)
    fetch_here(wanted, tmp_path)
    asked = len(server.requests)

    fetch_here(wanted, tmp_path)

    assert len(server.requests) == asked


def test_a_file_that_was_deleted_is_fetched_again(server, tmp_path):
    wanted = [Wanted(server.url("export.zip"))]
    fetch_here(wanted, tmp_path)
    (tmp_path / "export.zip").unlink()

    result = fetch_here(wanted, tmp_path)

    assert result.outcomes[0].status == "fetched"
    assert (tmp_path / "export.zip").read_bytes() == CONTENT


def test_a_cut_download_goes_on_where_it_stopped(server, tmp_path):
    server.faults["export.zip"] = [Fault(cut_after=300_000), Fault(cut_after=300_000)]

    result = fetch_here([Wanted(server.url("export.zip"))], tmp_path)

    assert list_files(tmp_path) == {"export.zip": CONTENT}
    assert [request.headers.get("range") for request in server.requests] == [None, "bytes=300000-", "bytes=600000-"]
    assert result.progress.bytes == len(CONTENT)


def test_who_makes_headway_may_be_cut_off_more_often_than_there_are_tries(server, tmp_path):
    server.faults["export.zip"] = [Fault(cut_after=50_000)] * 12

    result = fetch_here([Wanted(server.url("export.zip"))], tmp_path, tries=3)

    assert result.outcomes[0].status == "fetched"


def test_another_version_does_not_go_on_where_the_first_one_stopped(server, tmp_path):
    server.faults["export.zip"] = [Fault(cut_after=300_000)]
    assert fetch_here([Wanted(server.url("export.zip"))], tmp_path, tries=1).outcomes[0].status == "failed"
    server.files["export.zip"] = CONTENT[::-1]

    fetch_here([Wanted(server.url("export.zip"))], tmp_path)

    assert server.requests[-1].headers["range"] == "bytes=300000-"
    assert list_files(tmp_path) == {"export.zip": CONTENT[::-1]}


@pytest.mark.parametrize("fault", [Fault(ignores_range=True), Fault(wrong_range=True)], ids=["ignored", "wrong"])
def test_a_server_that_gets_ranges_wrong_still_gives_the_right_file(server, tmp_path, fault):
    server.faults["export.zip"] = [Fault(cut_after=300_000), fault]

    fetch_here([Wanted(server.url("export.zip"))], tmp_path)

    assert list_files(tmp_path) == {"export.zip": CONTENT}


def test_without_a_version_to_name_a_cut_download_begins_again(tmp_path):
    with FileServer({"export.zip": CONTENT}, has_etags=False) as server:
        server.faults["export.zip"] = [Fault(cut_after=300_000)]

        fetch_here([Wanted(server.url("export.zip"))], tmp_path)

        assert [request.headers.get("range") for request in server.requests] == [None, None]
    assert list_files(tmp_path) == {"export.zip": CONTENT}


def test_a_whole_part_that_was_not_placed_before_a_crash_needs_no_byte_more(server, tmp_path):
    server.faults["export.zip"] = [Fault(cut_after=300_000)]
    fetch_here([Wanted(server.url("export.zip"))], tmp_path, tries=1)
    (part,) = (tmp_path / PARTS_FOLDER).glob("*.part")
    part.write_bytes(CONTENT)

    result = fetch_here([Wanted(server.url("export.zip"))], tmp_path)

    assert result.progress.bytes == 0
    assert list_files(tmp_path) == {"export.zip": CONTENT}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(server, tmp_path, status):
    server.faults["notes.txt"] = [Fault(status=status), Fault(status=status)]

    result = fetch_here([Wanted(server.url("notes.txt"))], tmp_path)

    assert result.outcomes[0].status == "fetched"
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 410])
def test_what_cannot_succeed_is_not_tried_again_and_the_others_come(server, tmp_path, status):
    server.faults["export.zip"] = [Fault(status=status)] * 9

    result = fetch_here([Wanted(server.url("export.zip")), Wanted(server.url("notes.txt"))], tmp_path)

    assert [outcome.status for outcome in result.outcomes] == ["failed", "fetched"]
    assert f"HTTP {status}" in result.outcomes[0].reason
    assert len(server.requests) == 2


def test_of_what_failed_it_is_told_whether_asking_again_may_help(server, tmp_path, capsys):
    server.faults = {"export.zip": [Fault(status=503)] * 9, "notes.txt": [Fault(status=405)] * 9}
    server.faults["gone.zip"] = [Fault(status=410)]
    urls = [server.url("export.zip"), server.url("notes.txt")]

    result = fetch_here([Wanted(url) for url in urls], tmp_path / "here", tries=2)
    code = main(["fetch", urls[1], server.url("gone.zip"), "--allow-private", "--out", str(tmp_path / "out")])

    assert [outcome.may_pass for outcome in result.outcomes] == [True, False]
    assert code == 33
    refused, gone, *_, last = capsys.readouterr().out.splitlines()
    assert "in a browser" in refused
    assert "ask for a new one" in gone
    assert last == "2 will fail again as asked for: beside each stands what would help."


def test_a_server_is_waited_for_as_long_as_it_asks(server, tmp_path):
    server.faults["notes.txt"] = [Fault(status=429, headers={"retry-after": "1"})]
    started = time.monotonic()

    fetch_here([Wanted(server.url("notes.txt"))], tmp_path)

    assert time.monotonic() - started >= 1


@pytest.mark.parametrize(
    "wanted",
    [
        {"size_bytes": 4},
        {"digest": "sha256:" + "0" * 64},
        {"digest": "md5:" + "0" * 32},
        {"digest": "blake3:" + "0" * 64},
    ],
)
def test_what_is_not_as_the_list_says_is_not_placed(server, tmp_path, wanted):
    result = fetch_here([Wanted(server.url("notes.txt"), **wanted)], tmp_path, tries=2)

    assert result.outcomes[0].status == "failed"
    assert "as the list says" in result.outcomes[0].reason
    assert list_files(tmp_path) == {}


def test_a_body_shorter_than_promised_is_not_placed(server, tmp_path):
    server.faults["notes.txt"] = [Fault(cut_after=5, stated_length=9)]

    result = fetch_here([Wanted(server.url("notes.txt"))], tmp_path, tries=1)

    assert result.outcomes[0].status == "failed"
    assert list_files(tmp_path) == {}


def test_a_name_that_other_bytes_have_is_left_to_them(server, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")

    result = fetch_here([Wanted(server.url("notes.txt"))], tmp_path)

    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / result.outcomes[0].name).read_bytes() == b"short"


def test_a_download_for_which_every_name_is_taken_is_kept_as_a_part_and_told(server, tmp_path):
    hashed = hash_bytes(b"short")
    for name in ("notes.txt", f"notes-{hashed[:8]}.txt", f"notes-{hashed}.txt"):
        (tmp_path / name).write_text("mine")

    with pytest.raises(WriteFailed, match="taken by other bytes"):
        fetch_here([Wanted(server.url("notes.txt"))], tmp_path)

    (part,) = (tmp_path / PARTS_FOLDER).glob("*.part")
    assert part.read_bytes() == b"short"
    assert set(list_files(tmp_path).values()) == {b"mine"}


def test_a_file_that_changed_at_its_address_does_not_replace_the_one_before(server, tmp_path):
    fetch_here([Wanted(server.url("notes.txt"))], tmp_path)
    server.files["notes.txt"] = b"longer than before"

    result = fetch_here([Wanted(server.url("notes.txt"))], tmp_path)

    assert result.outcomes[0].status == "fetched"
    assert sorted(list_files(tmp_path).values()) == [b"longer than before", b"short"]
    assert fetch_here([Wanted(server.url("notes.txt"))], tmp_path).outcomes[0].status == "unchanged"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
        "::",
        "ff02::1",
    ],
)
def test_addresses_that_only_this_network_has_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"])
def test_addresses_of_the_internet_are_public(address):
    assert is_public(address)


def test_a_machine_of_this_network_is_not_connected_to(server, tmp_path):
    result = fetch([Wanted(server.url("notes.txt"))], tmp_path)

    assert result.outcomes[0].status == "failed"
    assert "--allow-private" in result.outcomes[0].reason
    assert server.requests == []


def test_a_name_that_resolves_to_this_machine_is_not_connected_to(server, tmp_path):
    url = server.url("notes.txt").replace("127.0.0.1", "localhost")

    result = fetch([Wanted(url)], tmp_path)

    assert "localhost" in result.outcomes[0].reason
    assert server.requests == []


def test_redirects_are_followed_but_not_in_circles_and_to_no_other_scheme(server, tmp_path):
    server.redirects = {"old": server.url("notes.txt"), "round": server.url("round"), "file": "file:///etc/passwd"}

    result = fetch_here([Wanted(server.url(name)) for name in ("old", "round", "file")], tmp_path)

    assert [outcome.status for outcome in result.outcomes] == ["fetched", "failed", "failed"]
    assert list_files(tmp_path) == {"notes.txt": b"short"}


def test_a_folder_of_drive_is_fetched_with_all_its_pages_and_folders(server, tmp_path):
    folder, document = "application/vnd.google-apps.folder", "application/vnd.google-apps.document"
    server.files |= {"id1": b"one", "id2": b"two", "id3": b"three"}
    server.drive = {
        "top": [
            {"id": "id1", "name": "chat one", "size": "3", "md5Checksum": hashlib.md5(b"one").hexdigest()},
            {"id": "id2", "name": "../chat two", "size": "3"},
            {"id": "sub", "name": "more", "mimeType": folder},
            {"id": "doc", "name": "a page", "mimeType": document},
        ],
        "sub": [{"id": "id3", "name": "chat three"}, {"id": "top", "name": "round", "mimeType": folder}],
    }
    server.token = "a-secret-token"
    server.faults["drive"] = [Fault(status=503)]

    result = fetch_here([], tmp_path, drive=Drive("top", "a-secret-token", f"{server.address}/drive"))

    assert list_files(tmp_path) == {"chat one": b"one", "chat two": b"two", "chat three": b"three"}
    assert [(left.name, left.reason.split(":")[0]) for left in result.left_out] == [("a page", "document")]


def test_drives_token_goes_to_drive_and_to_no_address_of_a_list(server, tmp_path):
    server.drive, server.token = {"top": []}, "a-secret-token"
    drive = Drive("top", server.token, f"{server.address}/drive")

    fetch_here([Wanted(server.url("notes.txt"))], tmp_path, drive=drive)

    tokens = {request.path.split("?")[0]: request.headers.get("authorization") for request in server.requests}
    assert tokens == {"/drive/files": "Bearer a-secret-token", "/notes.txt": None}


def test_a_wrong_token_is_named(server, tmp_path):
    server.drive, server.token = {"top": []}, "a-secret-token"

    with pytest.raises(DriveUnreadable, match="DAYBOOK_DRIVE_TOKEN"):
        fetch_here([], tmp_path, drive=Drive("top", "another-token", f"{server.address}/drive"))


def test_as_many_files_as_allowed_are_under_way_at_a_time(tmp_path):
    with FileServer({f"{number}.txt": b"x" for number in range(40)}, latency_seconds=0.05) as server:
        wanted = [Wanted(server.url(f"{number}.txt")) for number in range(40)]

        result = fetch_here(wanted, tmp_path, concurrency=8)

        assert result.count("fetched") == 40
        assert result.progress.seconds >= 40 / 8 * 0.05


def run_command(*words, **environment):
    return run(Path.cwd(), "daybook", "fetch", *words, code=None, **environment)


def test_the_command_tells_what_came_and_what_did_not(server, tmp_path):
    addresses = tmp_path / "list.txt"
    addresses.write_text(f"# exports\n{server.url('export.zip')}\n\n{server.url('gone.zip')}\n")
    out = tmp_path / "out"

    done = run_command("--list", str(addresses), "--out", str(out), "--allow-private")

    assert done.returncode == 33
    assert "HTTP 404" in done.stdout
    assert "1 fetched, 0 unchanged, 1 failed" in done.stdout
    assert f"Next: daybook import {out}" in done.stdout
    as_json = json.loads(run_command(server.url("export.zip"), "--out", str(out), "--allow-private", "--json").stdout)
    assert (as_json["unchanged"], as_json["failed"]) == (1, 0)


def test_downloads_lie_in_the_data_folder_unless_told_otherwise(server, tmp_path):
    done = run_command(server.url("notes.txt"), "--allow-private", "--data-root", str(tmp_path / "data"))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "downloads" / "notes.txt").read_bytes() == b"short"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Nothing to fetch"),
        (["ftp://example.org/x"], "is no address"),
        (["--list", "absent.txt"], "cannot be read"),
        (["https://example.org/x", "--concurrency", "0"], "1 to 64"),
    ],
)
def test_what_cannot_be_fetched_is_said_before_anything_is_asked(words, message):
    done = run_command(*words)

    assert done.returncode in (1, 2)
    assert message in done.stderr


def test_a_fetch_that_was_killed_goes_on_where_it_stopped(tmp_path):
    with FileServer({"big.bin": CONTENT * 40}, latency_seconds=0.01) as server:
        server.faults["big.bin"] = [Fault(cut_after=20_000_000)]
        words = [server.url("big.bin"), "--out", str(tmp_path), "--allow-private"]
        process = start(tmp_path, "daybook", "fetch", *words)
        parts = tmp_path / PARTS_FOLDER
        while not any(part.stat().st_size > 1_000_000 for part in parts.glob("*.part")):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert list_files(tmp_path) == {}

        assert run_command(*words).returncode == 0

        assert "range" in server.requests[-1].headers
    assert (tmp_path / "big.bin").read_bytes() == CONTENT * 40


def test_two_fetches_into_one_folder_do_not_meet(server, tmp_path):
    from pipeline.archive.fetching.download_folder import DownloadFolder

    with DownloadFolder(tmp_path).hold(), pytest.raises(InputInvalid, match="Another process"):
        fetch_here([Wanted(server.url("notes.txt"))], tmp_path)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("a\\b\\c.zip", "c.zip"),
        ("x\u202egpj.exe", "x_gpj.exe"),
        ("", "download"),
        ("..", "download"),
        (".fetched.jsonl", "fetched.jsonl"),
        ("con.txt", "_con.txt"),
        ("a\x00b", "a_b"),
        ("é" * 200 + ".zip", "é" * 88 + ".zip"),
    ],
)
def test_a_name_is_one_file_in_one_folder(name, safe):
    assert make_safe_name(name) == safe


def test_the_name_is_the_lists_else_the_servers_else_the_addresss():
    disposition = "attachment; filename*=UTF-8''my%20chats.zip"

    assert find_name("mine.zip", disposition, "https://x/y.zip") == "mine.zip"
    assert find_name(None, disposition, "https://x/y.zip") == "my chats.zip"
    assert find_name(None, None, "https://x/a%20b.zip?token=1") == "a b.zip"


def test_a_list_may_be_csv(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f"url,name,size_bytes,digest\nhttps://x.org/a,first,12,\nhttps://x.org/b,,,md5:{'0' * 32}\n")

    assert read_list(path) == [
        Wanted("https://x.org/a", "first", 12, None),
        Wanted("https://x.org/b", None, None, f"md5:{'0' * 32}"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://x.org/a\nnonsense\n", "line 2"),
        ("url,colour\nhttps://x.org/a,red\n", "colour"),
        ("url,size_bytes\nhttps://x.org/a,many\n", "whole number"),
        ("url,digest\nhttps://x.org/a,crc:1\n", "sha256"),
        ("url,name\nhttps://x.org/a\n", "line 2"),
    ],
)
def test_a_mistake_in_a_list_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_text(text)

    with pytest.raises(InputInvalid, match=message):
        read_list(path)
