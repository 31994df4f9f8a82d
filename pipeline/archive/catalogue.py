"""The catalogue: which documents are observations of one conversation. Read from record tables, not from conversations.

A conversation is known by its provider, its account where that is known, and its native id. Its conversation_id is
made from provider and native id alone, so it stays the same when the account becomes known later. Where two accounts
have a conversation under one native id, the older one has that id, and the id of the other one has the account in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from pipeline.archive.conversation_documents import Facts, identify_conversation, read_facts
from pipeline.archive.record_tables import RecordTable, list_tables, read_table
from pipeline.archive.times import order_of
from pipeline.stages import ArchiveStage
from store.data_root import DataRoot

Account = tuple[str, str]  # provider and account
NOTHING: frozenset[str] = frozenset()
CONFIGURED = ("gemini_takeout",)  # importers that an import has options for


class Group(NamedTuple):
    """The observations of one conversation. `older`: documents of an earlier version of their importer."""

    conversation_id: str
    provider: str
    account: str  # "" if no observation knows it
    native_id: str
    created: str
    updated: str
    doc_ids: tuple[str, ...]  # sorted
    older: tuple[str, ...] = ()
    first_prompts: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()  # native ids of the conversations that it was forked or resumed from
    is_gone: bool = False

    @property
    def age(self) -> tuple[str, str, str]:
        """What orders conversations by their age."""
        return self.created, self.updated, self.conversation_id


class Catalogue:
    """All conversations of a store by their conversation_id, sorted.

    `replays` are no conversations of their own: copies that a program made to compact a session that is here, too.
    """

    def __init__(self, groups: Iterable[Group]) -> None:
        every = {group.conversation_id: group for group in sorted(groups, key=attrgetter("conversation_id"))}
        names = {(group.provider, group.native_id) for group in every.values()}
        self.replays = {each: group for each, group in every.items() if _is_replay(group, names)}
        self.groups = {each: group for each, group in every.items() if each not in self.replays}
        self._by_prompt: dict[tuple[str, str], list[Group]] = defaultdict(list)
        self._by_native_id: dict[tuple[str, str], list[Group]] = defaultdict(list)
        for group in self.groups.values():
            self._by_native_id[group.provider, group.native_id].append(group)
            for prompt in group.first_prompts:
                self._by_prompt[group.provider, prompt].append(group)

    def list_replays(self, group: Group) -> list[str]:
        """Return the native ids of the replays of a session."""
        replays = (each for each in self.replays.values() if each.provider == group.provider)
        return sorted(each.native_id for each in replays if group.native_id in each.links)

    def list_origins(self, group: Group) -> list[Group]:
        """Return the older conversations from which one may have copied messages, the oldest first."""
        if not group.links and all(len(self._by_prompt[group.provider, each]) == 1 for each in group.first_prompts):
            return []
        linked = [each for native_id in group.links for each in self._by_native_id.get((group.provider, native_id), [])]
        alike = [each for prompt in group.first_prompts for each in self._by_prompt[group.provider, prompt]]
        origins = {each.conversation_id: each for each in alike if _is_older(each, group)}
        origins |= {each.conversation_id: each for each in linked if not _is_linked(each, group)}
        origins.pop(group.conversation_id, None)
        return sorted(origins.values(), key=lambda each: each.age)


def _is_replay(group: Group, names: Collection[tuple[str, str]]) -> bool:
    """Whether a conversation is named under one that it copies, and that is here: `<session>:agent-acompact-77`."""
    return any(group.native_id.startswith(f"{link}:") and (group.provider, link) in names for link in group.links)


def _is_linked(group: Group, other: Group) -> bool:
    return other.native_id in group.links


def _is_older(group: Group, other: Group) -> bool:
    """Whether a conversation was there before another one that shares its beginning."""
    if _is_linked(group, other) or _is_linked(other, group):
        return _is_linked(other, group)
    return group.age < other.age


def read_catalogue(data: DataRoot) -> Catalogue:
    """Return the catalogue of a store. Raises StoreError for a document without a table whose metadata is damaged."""
    present = set(data.documents.list_ids(ArchiveStage.CONVERSATION))
    facts: dict[str, Facts] = {}
    whole_exports: list[Mapping[Account, Sequence[Facts]]] = []
    regrouped = _Regrouped()
    for set_id in list_tables(data.tasks_folder):
        if table := read_table(data.tasks_folder, set_id):
            facts |= {row.doc_id: row.facts for row in table.rows if row.doc_id in present}
            regrouped.note(table)
            if table.is_whole:
                whole_exports.append(_group_by_account(row.facts for row in table.rows))
    for doc_id in regrouped.list_left():
        facts.pop(doc_id, None)
        present.discard(doc_id)
    others = {doc_id: read_facts(data.documents, doc_id) for doc_id in sorted(present - facts.keys())}
    current = {each.conversation_id for each in facts.values()}
    alone = {doc_id: each for doc_id, each in others.items() if each.conversation_id not in current}
    superseded = _find_superseded(data, alone) if alone else NOTHING
    groups = _group(facts | {doc_id: each for doc_id, each in others.items() if doc_id not in superseded})
    return Catalogue(_mark_gone(groups, whole_exports))


class _Regrouped:
    """Files that were imported with several options, of which the latest count: they decide what is a conversation."""

    def __init__(self) -> None:
        self._tables: dict[str, list[tuple[str, bool, set[str]]]] = defaultdict(list)  # by export: time, options?, ids

    def note(self, table: RecordTable) -> None:
        if not any(file.importer in CONFIGURED for file in table.files):
            return
        ids: dict[int, set[str]] = defaultdict(set)
        for row in table.rows:
            if row.facts.importer in CONFIGURED:
                ids[row.file].add(row.doc_id)
        for number, doc_ids in ids.items():
            self._tables[table.files[number].export].append((table.created_at, bool(table.options), doc_ids))

    def list_left(self) -> set[str]:
        """Return the documents that only earlier imports of a file gave, with other options than the latest had."""
        left, kept = set(), set()
        for tables in self._tables.values():
            *earlier, latest = sorted(tables, key=lambda table: table[0])
            kept |= latest[2]
            if any(has_options for _, has_options, _ in tables):
                left |= {doc_id for _, _, doc_ids in earlier for doc_id in doc_ids}
            else:
                kept |= {doc_id for _, _, doc_ids in earlier for doc_id in doc_ids}
        return left - kept


def _find_superseded(data: DataRoot, alone: Mapping[str, Facts]) -> frozenset[str]:
    """Return the documents of conversations that an export no longer holds, as it is understood now.

    A later version of their importer has looked into the same bytes, lost nothing, and found other conversations there.
    """
    versions_by_export: dict[str, Mapping[str, int]] = {}
    for set_id in list_tables(data.tasks_folder):
        if table := read_table(data.tasks_folder, set_id):
            versions_by_export |= {file.export: table.importers for file in table.files if not file.skipped}
    found = []
    for doc_id, facts in alone.items():
        parents = data.documents.read_metadata(ArchiveStage.CONVERSATION, doc_id)["parents"]
        versions = versions_by_export.get(parents[0]["doc_id"], {}) if parents else {}
        if versions.get(facts.importer, facts.version) > facts.version:
            found.append(doc_id)
    return frozenset(found)


def _group_by_account(rows: Iterable[Facts]) -> dict[Account, list[Facts]]:
    grouped: dict[Account, list[Facts]] = defaultdict(list)
    for facts in rows:
        if facts.account:
            grouped[facts.provider, facts.account].append(facts)
    return grouped


def _group(facts_by_id: Mapping[str, Facts]) -> Iterator[Group]:
    by_conversation: dict[str, dict[str, Facts]] = defaultdict(dict)
    for doc_id, facts in facts_by_id.items():
        by_conversation[facts.conversation_id][doc_id] = facts
    for conversation_id, observations in by_conversation.items():
        accounts = {facts.account for facts in observations.values()} - {""}
        if len(accounts) < 2:
            yield _make_group(conversation_id, next(iter(accounts), ""), observations)
            continue
        for number, (account, members) in enumerate(_split_accounts(observations)):
            first = next(iter(members.values()))
            own = identify_conversation(first.provider, first.native_id, account=account)
            yield _make_group(own if number else conversation_id, account, members)


def _split_accounts(observations: Mapping[str, Facts]) -> list[tuple[str, dict[str, Facts]]]:
    """Return observations by their account, the oldest account first; it also has those whose account is unknown."""
    accounts = sorted({(facts.created, facts.account) for facts in observations.values() if facts.account})
    split: dict[str, dict[str, Facts]] = {account: {} for _, account in accounts}
    oldest = accounts[0][1]
    for doc_id, facts in observations.items():
        split[facts.account or oldest][doc_id] = facts
    return list(split.items())


def _make_group(conversation_id: str, account: str, observations: Mapping[str, Facts]) -> Group:
    """Return a group. Of each importer only the observations of its highest version count: it read the same bytes."""
    if len(observations) == 1:
        ((doc_id, facts),) = observations.items()
        prompts = frozenset((facts.first_prompt,)) if facts.first_prompt else NOTHING
        times, links = (facts.created, facts.updated), frozenset(facts.relatives)
        return Group(conversation_id, facts.provider, account, facts.native_id, *times, (doc_id,), (), prompts, links)
    highest: dict[str, int] = {}
    for facts in observations.values():
        highest[facts.importer] = max(facts.version, highest.get(facts.importer, 0))
    current = {doc_id: facts for doc_id, facts in observations.items() if facts.version == highest[facts.importer]}
    listed = list(current.values())
    return Group(
        conversation_id,
        listed[0].provider,
        account,
        listed[0].native_id,
        min((facts.created for facts in listed if facts.created), default=""),
        max((facts.updated for facts in listed), key=order_of),
        tuple(sorted(current)),
        tuple(sorted(observations.keys() - current.keys())),
        frozenset(facts.first_prompt for facts in listed if facts.first_prompt),
        frozenset(native_id for facts in listed for native_id in facts.relatives),
    )


def _mark_gone(groups: Iterable[Group], whole_exports: Sequence[Mapping[Account, Sequence[Facts]]]) -> Iterator[Group]:
    """Yield groups, those marked that the newest whole export of their account lacks, though it is newer than they."""
    newest: dict[Account, tuple[str, set[str]]] = {}
    for export in whole_exports:
        for account, rows in export.items():
            time, native_ids = max(order_of(facts.updated) for facts in rows), {facts.native_id for facts in rows}
            if time >= newest.get(account, ("", set()))[0]:
                is_equal = account in newest and newest[account][0] == time
                newest[account] = time, native_ids | (newest[account][1] if is_equal else set())
    for group in groups:
        time, native_ids = newest.get((group.provider, group.account), ("", {group.native_id}))
        is_gone = group.native_id not in native_ids and order_of(group.updated) <= time
        yield group._replace(is_gone=True) if is_gone else group
