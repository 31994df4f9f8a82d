"""A bundle that is not what daybook export writes changes nothing, whatever is wrong with it."""

from __future__ import annotations

import gzip
import io
import json
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundles import archives, export_bundle, import_bundle
from pipeline.bundles.archives import MANIFEST, Member, encode_header, make_manifest
from pipeline.errors import BundleInvalid, InputInvalid
from store.data_root import DataRoot
from store.documents import encode_readably, hash_metadata
from store.identity import hash_bytes
from tests.pipeline.built_store import COHORT

zstd = archives.zstd
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def files(built, tmp_path_factory) -> Files:
    """The members of a sound bundle of one essay, by path, in order."""
    essay = DataRoot(built.data).documents.list_ids("essay")[0]
    path = tmp_path_factory.mktemp("sound") / "b.tar"
    export_bundle(built, [essay], path)
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.name != MANIFEST]
        return {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]


def describe(files: Files) -> list[Member]:
    return [Member(name, len(content), hash_bytes(content)) for name, content in files.items()]


def pack(files: Files, members: list[Member] | None = None, **about: Any) -> bytes:
    """Return a bundle whose manifest lists `members`, or what is in it."""
    manifest = make_manifest(about, describe(files) if members is None else members)
    return pack_all([(encode_header(MANIFEST, len(manifest.content)), manifest.content), *plain(files)])


def plain(files: Files) -> list[tuple[bytes, bytes]]:
    return [(encode_header(name, len(content)), content) for name, content in files.items()]


def pack_all(parts: list[tuple[bytes, bytes]], end: bytes = bytes(1024)) -> bytes:
    return b"".join(header + content + bytes(-len(content) % 512) for header, content in parts) + end


def refuse(tmp_path: Path, content: bytes) -> str:
    """Import a bundle that is to be refused with the store unchanged, and return why it was."""
    data, path = DataRoot(tmp_path / "data"), tmp_path / "b.tar"
    path.write_bytes(content)
    with pytest.raises(BundleInvalid) as caught:
        import_bundle(data, path)
    assert not data.path.exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.tar"]
    return caught.value.problem


def test_the_members_as_they_are_make_a_sound_bundle(files, tmp_path):
    (tmp_path / "b.tar").write_bytes(pack(files))

    assert import_bundle(DataRoot(tmp_path / "data"), tmp_path / "b.tar")["counts"]["docs"]["placed"] == 2


# Names


@pytest.mark.parametrize(
    "name",
    [
        "../x.txt",
        "docs/../../x",
        "/etc/cron.d/x",
        "docs/essay/../../../x",
        "docs/essay/0123456789abcdef/../x",
        "docs/essay/0123456789abcdef/a/b/c",
        "docs/essay/0123456789abcdef/.hidden",
        "docs/essay/0123456789ABCDEF/raw.txt",
        "docs\\essay\\x",
        "C:/x",
        "calls/zz/0123456789abcdef/0001/request.json",
        "calls/01/0123456789abcdef/0001/../x",
        "texts/00/../../x.txt",
        "tasks/../x.csv",
        "config/../../x.toml",
        "config/.git/config",
        "trash/x",
        "journal/x",
        ".tmp/x",
        "docs/essay/0123456789abcdef/raw.txt\u202egpj",
        "docs/essay/0123456789abcdef/" + "a" * 150,
        "",
        ".",
    ],
)
def test_a_name_that_no_bundle_holds_is_refused(name, files, tmp_path):
    manifest = make_manifest({}, [Member(name, 1, hash_bytes(b"x")), *describe(files)])
    header = encode_header(MANIFEST, len(manifest.content))

    refuse(tmp_path, pack_all([(header, manifest.content), (bytes(512), b"x"), *plain(files)]))


# Members


def change_header(files: Files, change: Callable[[tarfile.TarInfo], None]) -> bytes:
    """Return a bundle in which the first member has another header than the manifest gives."""
    manifest = make_manifest({}, describe(files))
    parts = plain(files)
    name, content = next(iter(files.items()))
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o444
    change(info)
    parts[0] = (info.tobuf(tarfile.PAX_FORMAT), parts[0][1])
    return pack_all([(encode_header(MANIFEST, len(manifest.content)), manifest.content), *parts])


def set_fields(**fields: Any) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        for name, value in fields.items():
            setattr(info, name, value)

    return change


@pytest.mark.parametrize(
    "fields",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "../../x"},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
        {"type": tarfile.BLKTYPE},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.DIRTYPE},
        {"type": tarfile.GNUTYPE_SPARSE},
        {"mode": 0o4755},
        {"uid": 1},
        {"name": "../../x"},
        {"name": "x" * 300},
        {"size": 1},
        {"size": 2**40},
        {"pax_headers": {"path": "../../x"}},
    ],
    ids=str,
)
def test_a_member_that_is_no_plain_file_of_its_name_and_size_is_refused(fields, files, tmp_path):
    problem = refuse(tmp_path, change_header(files, set_fields(**fields)))

    assert "there is something else" in problem


def test_a_flipped_bit_in_any_member_is_found_before_anything_is_placed(files, tmp_path):
    for name in files:
        changed = {**files, name: bytes([files[name][0] ^ 1]) + files[name][1:]}
        assert refuse(tmp_path, pack(changed, describe(files))) == f"{name} does not match its hash"


def test_a_duplicate_and_a_wrong_order_are_refused(files, tmp_path):
    members = describe(files)
    twice = make_manifest({}, [members[0], *members])
    header = encode_header(MANIFEST, len(twice.content))

    assert "twice" in refuse(tmp_path, pack_all([(header, twice.content), plain(files)[0], *plain(files)]))
    assert "out of order" in refuse(tmp_path, pack(dict(reversed(files.items()))))


def test_an_extra_member_a_missing_one_and_bytes_behind_the_end_are_refused(files, tmp_path):
    extra = {**files, "texts/zz/x.txt": b"x"}
    assert "more than" in refuse(tmp_path, pack(extra, describe(files)))
    assert "ends in the middle" in refuse(tmp_path, pack_all([(pack(files)[:512], b"")], end=b""))
    assert "more than" in refuse(tmp_path, pack(files) + b"x")
    without = dict(list(files.items())[:-1])
    assert "something else" in refuse(tmp_path, pack(without, describe(files)))


def test_bytes_between_two_members_are_refused(files, tmp_path):
    sound = bytearray(pack(files))
    size = len(make_manifest({}, describe(files)).content)
    assert size % 512
    sound[512 + size] = 1

    assert "between" in refuse(tmp_path, bytes(sound))


def test_a_bundle_cut_at_any_block_is_refused(files, tmp_path):
    for suffix, compressed in (
        (".tar", pack(files)),
        (".gz", gzip.compress(pack(files))),
        (".zst", zstd.compress(pack(files))),
    ):
        for length in range(0, len(compressed), max(len(compressed) // 25, 1)):
            assert refuse(tmp_path, compressed[:length]), (suffix, length)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputInvalid, match="cannot be opened"):
        import_bundle(DataRoot(tmp_path / "data"), tmp_path / "none.tar")
    assert "does not begin" in refuse(tmp_path, b"\x1f" * 2048)


# Manifests


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[]\n",
        b'{"schema":2,"members":0}\n',
        b'{"schema":1,"members":9}\n',
        b'{"schema":1,"members":1}\n{"path":"x"}\n',
        b'{"schema":1,"members":1}\n{"path":["x"],"size_bytes":1,"blake3":"x"}\n',
        b'{"schema":1,"members":1}\n{"path":"texts/x","size_bytes":-1,"blake3":"x"}\n',
        b'{"schema":1,"members":1}\n{"path":"texts/x","size_bytes":1e3,"blake3":"x"}\n',
        b'{"schema":1,"members":1}\n{"path":"texts/x","size_bytes":true,"blake3":"x"}\n',
        b'{"schema":1,"members":1}\n{"path":"texts/x","size_bytes":99999999999,"blake3":"x"}\n',
        b'{"schema":1,"members":1}\n' + b"[" * 100_000 + b"\n",
        b'{"schema":1,"members":1}\n{"path":"' + b"x" * 10_000 + b'","size_bytes":1,"blake3":"x"}\n',
        b"\xff\xfe\n",
    ],
    ids=range(14),
)
def test_a_manifest_that_is_none_is_refused(manifest, tmp_path):
    refuse(tmp_path, pack_all([(encode_header(MANIFEST, len(manifest)), manifest)]))


# Bombs


def test_a_manifest_above_the_limit_is_refused_before_it_is_read(tmp_path):
    header = encode_header(MANIFEST, archives.MANIFEST_LIMIT + 1)

    assert "at most" in refuse(tmp_path, zstd.compress(header + bytes(2**20)))


def test_more_bytes_than_the_disk_has_are_refused_before_they_are_read(tmp_path):
    members = [Member(f"texts/00/{number:064x}.txt", archives.MEMBER_LIMIT, "0" * 64) for number in range(20_000)]

    assert "left" in refuse(tmp_path, zstd.compress(pack({}, members)))


def test_a_bomb_takes_no_more_memory_than_it_has_bytes_before_it_is_refused(tmp_path):
    """The compressed stream is a gigabyte of zeros where a member of a megabyte is to be."""
    member = Member("texts/00/" + "0" * 64 + ".txt", 2**20, hash_bytes(bytes(2**20)))
    manifest = make_manifest({}, [member])
    head = pack_all([(encode_header(MANIFEST, len(manifest.content)), manifest.content)], end=b"")
    content = io.BytesIO()
    with zstd.ZstdFile(content, "wb") as stream:
        stream.write(head + encode_header(member.path, member.size_bytes))
        for _ in range(1024):
            stream.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    problem = refuse(tmp_path, content.getvalue())

    assert len(content.getvalue()) < 2**20
    assert "holds more than" in problem
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # in KB


def test_a_frame_that_asks_for_too_large_a_window_is_refused(files, tmp_path):
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})

    problem = refuse(tmp_path, compressor.compress(pack(files)) + compressor.flush())

    assert "cannot be read to its end" in problem


# Documents and attempts with right hashes and wrong content


def forge(files: Files, change: Callable[[dict[str, Any]], None]) -> Files:
    """Return the members with the essay's metadata changed, and its own hash made right again."""
    name = next(name for name in files if name.startswith("docs/essay/") and name.endswith("metadata.json"))
    metadata = json.loads(files[name])
    change(metadata)
    metadata["self_blake3"] = hash_metadata(metadata)
    return {**files, name: encode_readably(metadata)}


def test_a_document_that_is_not_what_its_own_record_says_is_refused(files, tmp_path):
    essay = next(name for name in files if name.startswith("docs/essay/"))
    folder = essay.rpartition("/")[0]
    cases = {
        "raw.txt does not match": {**files, f"{folder}/parsed.txt": b"another"},
        "absent or no JSON": {name: files[name] for name in files if name != f"{folder}/metadata.json"},
        "digest does not follow": forge(files, lambda metadata: metadata["inputs"].update(replicate=99)),
        "belongs to": forge(files, lambda metadata: metadata.update(doc_id="0" * 16)),
        "has schema": forge(files, lambda metadata: metadata.update(schema=99)),
    }
    cases["parsed.txt does not match"] = cases.pop("raw.txt does not match")
    for problem, changed in cases.items():
        assert problem in refuse(tmp_path, pack(changed))


def test_a_document_under_another_id_is_refused(files, tmp_path):
    doc_id = next(name.split("/")[2] for name in files if name.startswith("docs/essay/"))
    renamed = {name.replace(doc_id, "f" * 16): content for name, content in files.items()}

    assert "belongs to" in refuse(tmp_path, pack(renamed))


def test_a_text_and_an_attempt_that_are_not_what_their_names_say_are_refused(files, tmp_path):
    text = next(name for name in files if name.startswith("texts/"))
    request = next(name for name in files if name.endswith("request.json"))
    response = next(name for name in files if name.endswith("response.bin"))
    record = {**json.loads(files[request]), "call_id": "0" * 16}

    assert "not those of its name" in refuse(tmp_path, pack({**files, text: b"another"}))
    assert "belongs to call" in refuse(tmp_path, pack({**files, request: encode_readably(record)}))
    assert "not what outcome.json recorded" in refuse(tmp_path, pack({**files, response: b"another"}))


def test_a_bundle_that_changes_between_the_two_readings_is_refused(built, tmp_path):
    """The manifest's hash is compared, and each member's again."""
    path = tmp_path / "b.tar"
    export_bundle(built, [COHORT], path)
    data = DataRoot(tmp_path / "data")
    with archives.open_archive(path) as archive:
        with archive.read() as (manifest, members):
            list(members)
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.seek(path.stat().st_size - 1024 - 512)
            file.write(b"\x01")
        with archive.read() as (again, members):
            assert again.bundle_id == manifest.bundle_id
            with pytest.raises(BundleInvalid):
                list(members)
    assert not data.path.exists()
