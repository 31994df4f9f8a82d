"""The catalogue: which documents are observations of one conversation. Read from record tables, not from conversations.

A conversation is known by its provider, its account where that is known, and its native id. Its conversation_id is
made from provider and native id alone, so it stays the same when the account becomes known later. Where two accounts
have a conversation under one native id, the older one has that id, and the id of the other one has the account in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from pipeline.archive.conversation_documents import Facts, identify_conversation, read_facts
from pipeline.archive.record_tables import list_tables, read_table
from pipeline.archive.times import order_of
from pipeline.stages import ArchiveStage
from store.data_root import DataRoot

Account = tuple[str, str]  # provider and account
NOTHING: frozenset[str] = frozenset()


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
    """All conversations of a store by their conversation_id, sorted."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self.groups = {group.conversation_id: group for group in sorted(groups, key=attrgetter("conversation_id"))}
        self._by_prompt: dict[tuple[str, str], list[Group]] = defaultdict(list)
        self._by_native_id: dict[tuple[str, str], list[Group]] = defaultdict(list)
        for group in self.groups.values():
            self._by_native_id[group.provider, group.native_id].append(group)
            for prompt in group.first_prompts:
                self._by_prompt[group.provider, prompt].append(group)

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
    for set_id in list_tables(data.tasks_folder):
        if table := read_table(data.tasks_folder, set_id):
            facts |= {row.doc_id: row.facts for row in table.rows if row.doc_id in present}
            if table.is_whole:
                whole_exports.append(_group_by_account(row.facts for row in table.rows))
    facts |= {doc_id: read_facts(data.documents, doc_id) for doc_id in sorted(present - facts.keys())}
    groups = _group(facts)
    return Catalogue(_mark_gone(groups, whole_exports))


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
