"""Conversation documents: one a distinct record of an export, as it was parsed by one version of its importer.

    docs/conversation/<doc_id>/   conversation.json   extras/…   metadata.json

A record is addressed by what it says and not by the file that says it, so a conversation that a newer export holds
unchanged is the same document. Nothing in it depends on when or how often it was made: created_at is the time of the
set that brought it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.archive.conversations import Conversation, Origin, Role, decode_conversation, encode_conversation
from pipeline.archive.exports import describe_parent
from pipeline.archive.importers.interface import Importer, Member, Parsed, Record
from pipeline.archive.reading import hash_pair
from pipeline.stages import ArchiveStage, Status
from store.documents import DocumentStore
from store.identity import check_file_name, digest_of, id_from_digest, id_of

CONVERSATION_FILE = "conversation.json"
EXTRAS_FOLDER = "extras/"
CONVERSATION_VERSION = 1  # raise it when the same parsed conversation is written in another way: all ids change
COPYING_LINKS = ("fork", "resume", "compaction", "branch")  # kinds of lineage with which messages are copied

Json = dict[str, Any]


class RecordIdentity(NamedTuple):
    """What a conversation document is made from, and its name."""

    inputs: Json
    digest: str
    doc_id: str


class Facts(NamedTuple):
    """What views are grouped by, told without reading the conversation."""

    conversation_id: str  # made from provider and native id, whichever account it is of
    provider: str
    account: str  # "" if it is not known
    native_id: str
    importer: str
    version: int  # of the importer
    created: str  # the oldest time that it shows; "" if it shows none
    updated: str  # the newest one, or the time of its last update
    first_prompt: str  # id of its first human message, which copies of the conversation share; "" if ids say nothing
    relatives: tuple[str, ...]  # native ids of the conversations that it was forked or resumed from


def identify_record(importer: Importer, record: Record) -> RecordIdentity:
    inputs = {
        "stage_version": CONVERSATION_VERSION,
        "provider": importer.provider,
        "importer": importer.name,
        "version": importer.version,
        "key": record.key,
        "record": hash_pair(record.value, record.context, record.written),
    }
    digest = digest_of(ArchiveStage.CONVERSATION, inputs)
    return RecordIdentity(inputs, digest, id_from_digest(digest))


def identify_conversation(provider: str, native_id: str, *, account: str | None = None) -> str:
    """Return the conversation_id of a conversation; `account`: of one whose id an older one of another account has."""
    name = {"provider": str(provider), "native_id": native_id}
    return id_of("archived_conversation", name if account is None else {**name, "account": account})


def tell_facts(conversation: Conversation, importer: Importer) -> Facts:
    oldest, newest = _find_times(conversation)
    return Facts(
        identify_conversation(conversation.provider, conversation.native_id),
        str(conversation.provider),
        conversation.account or "",
        conversation.native_id,
        importer.name,
        importer.version,
        oldest,
        newest,
        _find_first_prompt(conversation),
        tuple(sorted({link.native_id for link in conversation.lineage if link.kind in COPYING_LINKS})),
    )


def _find_times(conversation: Conversation) -> tuple[str, str]:
    """Return the oldest and the newest time of a conversation; "" if it shows none."""
    created, updated = conversation.created, conversation.updated
    if created and updated:
        return created, updated
    times = [time for message in conversation.messages for time in (message.created, message.updated) if time]
    return created or min(times, default=updated or ""), updated or max(times, default=created or "")


def _find_first_prompt(conversation: Conversation) -> str:
    """Return the id of the oldest message of a person; "" where messages have no ids of their own."""
    if conversation.is_append_only:
        return ""
    prompts = [message for message in conversation.messages if message.role == Role.USER]
    human = [message for message in prompts if message.origin in (None, Origin.HUMAN) and not message.hidden]
    first = min(human, key=lambda message: message.created or "", default=None)
    return (first.native_id or first.key) if first else ""


class Composed(NamedTuple):
    """All that is committed of a conversation document."""

    identity: RecordIdentity
    files: dict[str, bytes]
    metadata: Json
    facts: Facts

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.files.values()))


def compose(
    importer: Importer,
    identity: RecordIdentity,
    record: Record,
    parsed: Parsed,
    *,
    member: Member,
    blake3s: Mapping[str, str],
    created_at: str,
) -> Composed:
    """Return the document of a parsed record. Pure. `blake3s` has the hash of every export of the set.

    Raises ValueError for a conversation that is not plain JSON, NameInvalid for a name in extras that cannot be one.
    """
    files = {CONVERSATION_FILE: encode_conversation(parsed.conversation)}
    for name, content in sorted(parsed.extras.items()):
        files[check_file_name(EXTRAS_FOLDER + name)] = content
    facts = tell_facts(parsed.conversation, importer)
    exports = dict.fromkeys([member.export, *sorted(record.sources)])
    metadata = {
        "created_at": created_at,
        "digest": identity.digest,
        "inputs": identity.inputs,
        "parents": [describe_parent(export, blake3s[export]) for export in exports],
        "member": member.name,
        "place": record.place,
        "facts": {**facts._asdict(), "relatives": list(facts.relatives)},
        "status": str(Status.OK),
    }
    return Composed(identity, files, metadata, facts)


def read_conversation(documents: DocumentStore, doc_id: str) -> Conversation:
    """Return the conversation of a document. Raises DocumentMissing, DocumentInvalid, DocumentCorrupt."""
    document = documents.read(ArchiveStage.CONVERSATION, doc_id)
    return decode_conversation(document.read_bytes(CONVERSATION_FILE))


def read_facts(documents: DocumentStore, doc_id: str) -> Facts:
    """Return what a document's metadata says of its conversation. Raises DocumentMissing, DocumentInvalid."""
    facts = documents.read_metadata(ArchiveStage.CONVERSATION, doc_id)["facts"]
    return Facts(**{**facts, "relatives": tuple(facts["relatives"])})
