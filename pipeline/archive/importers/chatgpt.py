"""ChatGPT: conversations of its exports, of downloads of one, and of shared pages.

    conversations.json, conversations-000.json, … ─split─▶ a record each, with what other files say of it
    mapping: node id ─▶ {parent, children, message} ─parse─▶ the tree, without the nodes that hold no message

A node's id is the key of its message: two nodes may carry one message. The order of a mapping differs between exports
and says nothing, so messages stand in the order of the tree. Formats: `mapping` since 2023, read up to those of 2026.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.archive.conversations import Block, Conversation, Kind, Message, Origin, Role
from pipeline.archive.importers.chatgpt_attachments import key_in_context, settle_attachment
from pipeline.archive.importers.chatgpt_canvas import add_canvas_versions, attach_final_text, list_canvas_ids
from pipeline.archive.importers.chatgpt_content import CONTEXT_TYPES, content_type_of, read_blocks, tool_of
from pipeline.archive.importers.chatgpt_files import Asked, ExportFiles, files_around, shard_number
from pipeline.archive.importers.chatgpt_side_files import SideFile, name_side_file
from pipeline.archive.importers.chatgpt_values import keep_rest
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.odd_values import TIME_WITHOUT_ZONE
from pipeline.archive.importers.values import flag_of, id_of, list_of, object_of, objects_of, odd_of, text_of
from pipeline.archive.reading import Item, hash_record, read_items
from pipeline.archive.times import is_damaged_time, lacks_zone, order_of, read_time
from pipeline.archive.titles import choose_title
from pipeline.archive.trees import settle_tree

PROVIDER = "chatgpt"
NODE_FIELDS = frozenset({"id", "parent", "children", "message"})
PROJECT_PREFIX = "g-p-"
WRAPPERS = ("conversations", "chats")  # keys of an object that may hold the list
SHOWN_KEYS = 8  # of what is no conversation
# Content that asks for no file, unless its metadata does.
PLAIN_TYPES = frozenset({"text", "code", "execution_output", "thoughts", "reasoning_recap", *CONTEXT_TYPES})

FLAGS = {
    "is_archived": "archived",
    "is_starred": "starred",
    "is_temporary": "temporary",
    "is_read_only": "read_only",
    "is_do_not_remember": "do_not_remember",
    "is_study_mode": "study_mode",
}
CONVERSATION_FIELDS = frozenset(
    {"id", "conversation_id", "title", "create_time", "update_time", "mapping", "current_node", "default_model_slug"}
    | {"model_slug", "gizmo_id", "conversation_template_id", *FLAGS}
)
SHARED_FIELDS = frozenset({"messages"})
MESSAGE_FIELDS = frozenset(
    {"id", "author", "create_time", "update_time", "content", "status", "end_turn", "weight", "metadata", "recipient"}
    | {"channel"}
)
HIDDEN_FLAG = "is_visually_hidden_from_conversation"
KIND_BY_FIELD: dict[str, type] = {
    **dict.fromkeys(["id", "conversation_id", "title", "current_node", "default_model_slug", "model_slug"], str),
    **dict.fromkeys(["gizmo_id", "conversation_template_id"], str),
    **dict.fromkeys(FLAGS, bool),
}
KIND_BY_NODE_FIELD: dict[str, type] = {"id": str, "parent": str, "children": list}
KIND_BY_MESSAGE_FIELD: dict[str, type] = {"id": str, "author": dict, "metadata": dict, "end_turn": bool}
KIND_BY_METADATA_FIELD: dict[str, type] = {"model_slug": str, "attachments": list, HIDDEN_FLAG: bool}
# By names of this module, since a member of an enumeration is looked up slowly, and this is done for every message.
USER, ASSISTANT, SYSTEM, TOOL = Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.TOOL
TOOL_USE, TOOL_RESULT, CITATION = Kind.TOOL_USE, Kind.TOOL_RESULT, Kind.CITATION
HUMAN = Origin.HUMAN
ROLES = frozenset({USER, ASSISTANT, SYSTEM, TOOL})
SHOWN_AUTHOR_FIELDS = frozenset({"role", "name"})
AUTHOR_FIELDS = SHOWN_AUTHOR_FIELDS | {"metadata"}  # which is nearly always empty
METADATA_FIELDS = frozenset({"model_slug", "attachments", HIDDEN_FLAG})
INTERRUPTED = "interrupted"
WEIGHTLESS = ("0", "0.0")  # written as texts


class ChatGptImporter:
    """The importer of ChatGPT's conversations."""

    name = "chatgpt"
    provider = PROVIDER
    version = 2

    def recognise(self, peek: Peek) -> Recognition | None:
        objects = [value for item in peek.items for value in _unwrap(item)]
        if any(map(is_conversation, objects)):
            return Recognition("a mapping of nodes with id, parent, children, message: ChatGPT's conversations")
        if any(map(is_shared_page, objects)):
            return Recognition("shared_conversation_id, and messages with node_id: a page that ChatGPT shares")
        if side_file := name_side_file(peek):
            return Recognition(f"ChatGPT's {side_file}", is_artifact=not _has_unknown_chats(peek, side_file))
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:
        files = files_around(file, siblings)
        yield from files.side_files.problems
        yield from _find_missing_shards(file, files)
        for item in read_items(file, ("item", *(f"{name}.item" for name in WRAPPERS))):
            if isinstance(item, Skip):
                yield item
            else:
                yield _make_record(item, f"{file.name}[{item.index}]", files)

    def parse(self, record: Record) -> Parsed:
        value, context = object_of(record.value), object_of(record.context)
        if is_shared_page(value):
            value = _as_mapping(value)
        conversation = _read_conversation(value, record.key, context)
        tree = _read_tree(object_of(value.get("mapping")), conversation)
        conversation.messages = tree.messages
        leaf = text_of(value.get("current_node"))
        settle_tree(conversation, leaf=tree.key_by_id.get(leaf or "", leaf), links=tree.links)
        _join_pieces(conversation.messages)
        _pair_calls(conversation.messages)
        extras = _add_context(conversation, context)
        choose_title(conversation, (text_of(value.get("title")), "provider"))
        _count_unknown(conversation)
        return Parsed(conversation, extras)


# Recognising


def _unwrap(value: Any) -> list[Any]:
    """Return the objects of {"conversations": […]}, or the value alone."""
    if isinstance(value, dict) and "mapping" not in value:
        return next((value[name] for name in WRAPPERS if isinstance(value.get(name), list)), [value])
    return [value]


def _has_unknown_chats(peek: Peek, side_file: SideFile) -> bool:
    """Whether a file has chats of which nobody knows the form: each is told as a skip."""
    return side_file is SideFile.GROUP_CHATS and any(object_of(item).get("chats") for item in peek.items)


def is_conversation(value: Any) -> bool:
    """Whether a value is a conversation, perhaps cut. An empty chat has no author, so something else must tell."""
    mapping = object_of(value).get("mapping")
    if not isinstance(mapping, dict) or not mapping:
        return False
    nodes = [node for node in mapping.values() if isinstance(node, dict) and not NODE_FIELDS.isdisjoint(node)]
    if not nodes:
        return False
    if "current_node" in value or "conversation_id" in value:
        return True
    return any("role" in object_of(object_of(node.get("message")).get("author")) for node in nodes)


def is_shared_page(value: Any) -> bool:
    """Whether a value is what a shared page holds: the messages in a list, and no mapping."""
    if not isinstance(value, dict) or "mapping" in value or not text_of(value.get("shared_conversation_id")):
        return False
    messages = objects_of(value.get("messages"))
    return any("node_id" in message and "role" in message for message in messages)


# Splitting


def _find_missing_shards(file: Member, files: ExportFiles) -> Iterator[Skip]:
    """Yield a skip for each number that is missing among conversations-000.json, …; told with the first of them."""
    folder, name = file.name[: file.name.rfind("/") + 1], file.name
    if not files.shards or shard_number(name, folder) != min(files.shards):
        return
    expected = {*range(max(files.shards)), *files.side_files.listed_shards}
    for number in sorted(expected - files.shards):
        yield Skip("missing_shard", f"{folder}conversations-{number:03}.json", "the export has others with numbers")


def _make_record(item: Item, place: str, files: ExportFiles) -> Record | Skip:
    value = item.value
    if not isinstance(value, dict):
        return Skip("not_a_conversation", place, f"a {type(value).__name__}; expected an object with mapping")
    is_page = is_shared_page(value)
    if not is_page and not isinstance(value.get("mapping"), dict):
        keys = ", ".join(sorted(value)[:SHOWN_KEYS])
        return Skip("no_mapping", place, f"expected an object with mapping; its keys: {keys}")
    key = id_of(value.get("conversation_id")) or id_of(value.get("id"))
    if key is None:
        key = text_of(value.get("shared_conversation_id")) if is_page else None
    context, sources = _gather_context(value, key, files)
    return Record(key or _derive_key(value), place, value, context or None, sources, item.written)


def _derive_key(value: dict[str, Any]) -> str:
    """Return a key for a conversation without an id: its first message and its time stay when it grows."""
    times = [
        (read_time(object_of(object_of(node).get("message")).get("create_time")) or "~", key)  # "~": after all times
        for key, node in object_of(value.get("mapping")).items()
    ]
    first = min(times, default=None)
    return f"derived-{hash_record([value.get('create_time'), list(first or [])])[:32]}"


class _Gathering:
    """What other files say of one conversation, and which files said it."""

    def __init__(self) -> None:
        self.context: dict[str, Any] = {}
        self.sources: dict[str, None] = {}

    def add(self, name: str, value: Any, *exports: str) -> None:
        if value:
            self.context[name] = value
            self.sources.update(dict.fromkeys(exports))

    def add_set(self, name: str, entries: list[dict[str, Any]] | None, exports: list[str]) -> None:
        """Add entries whose order in their file says nothing."""
        self.add(
            name, sorted(entries or (), key=lambda entry: (str(entry.get("create_time")), hash_record(entry))), *exports
        )


def _gather_context(value: dict[str, Any], key: str | None, files: ExportFiles) -> tuple[dict[str, Any], list[str]]:
    found, side = _Gathering(), files.side_files
    if files.is_alone:
        return {}, []
    found.add("account", side.account, side.account_export or "")
    if key is not None:
        found.add_set("feedback", side.feedback_by_conversation.get(key), side.feedback_exports)
        found.add_set("shared_links", side.links_by_conversation.get(key), side.links_exports)
    attachments: dict[str, Any] = {}
    canvases: dict[str, Any] = {}
    for node, message in _list_messages(value):
        for asked in _list_asked(node, message, key or "") if _may_ask(message) else ():
            if (entry := files.find(asked)) is not None:
                attachments[key_in_context(node, asked.attachment)] = entry
                found.sources.update(dict.fromkeys([entry["export"]] if "export" in entry else []))
        for canvas_id in list_canvas_ids(object_of(message.get("metadata"))) if side.canvas_by_id else ():
            if canvas_id in side.canvas_by_id:
                canvases[canvas_id], export = side.canvas_by_id[canvas_id]
                found.sources[export] = None
    found.add("attachments", attachments, *side.library_exports)
    found.add("canvases", canvases)
    return found.context, sorted(found.sources)


def _list_messages(value: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, node in sorted(object_of(value.get("mapping")).items()):
        message = node.get("message") if isinstance(node, dict) else None
        if isinstance(message, dict):
            yield key, message


def _may_ask(message: dict[str, Any]) -> bool:
    """Whether a message may ask for a file. Most do not, and need not be read twice."""
    metadata, content = object_of(message.get("metadata")), message.get("content")
    if metadata.get("attachments") or object_of(metadata.get("aggregate_result")).get("messages"):
        return True
    if not isinstance(content, dict) or content_type_of(message) not in PLAIN_TYPES:
        return content is not None
    parts = content.get("parts")
    pieces = parts if isinstance(parts, list) and parts else (parts, content.get("text"), content.get("content"))
    return any("sandbox:" in piece if isinstance(piece, str) else piece is not None for piece in pieces)


def _list_asked(node: str, message: dict[str, Any], conversation: str) -> list[Asked]:
    attachments = [block.attachment for block in read_blocks(message) if block.attachment is not None]
    ids = frozenset({node, text_of(message.get("id")) or node})
    names = frozenset(
        attachment.name or "" for attachment in attachments if (attachment.id or "").startswith("sandbox:")
    )
    return [Asked(attachment, conversation, ids, names) for attachment in attachments]


# Parsing


def _as_mapping(page: dict[str, Any]) -> dict[str, Any]:
    """Return a shared page in the form of a conversation."""
    mapping: dict[str, Any] = {}
    for number, message in enumerate(list_of(page.get("messages"))):
        key = text_of(object_of(message).get("node_id")) or f"message-{number}"
        node = _as_node(message, key)
        if message is not None and mapping.get(key) != node:
            mapping[_name_node(key, mapping)] = node
    return {**keep_rest(page, SHARED_FIELDS), "mapping": mapping}


def _as_node(message: Any, key: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        return {"message": message}
    rest = keep_rest(message, frozenset({"node_id", "parent", "children", "role", "text"}))
    content = {"content_type": "text", "parts": [message.get("text")]}
    inner = {**rest, "id": key, "author": {"role": message.get("role")}, "content": content}
    return {"id": key, "parent": message.get("parent"), "children": message.get("children"), "message": inner}


def _name_node(key: str, mapping: Mapping[str, Any]) -> str:
    """Return a key that no other node has: of two messages with one id the first keeps it."""
    if key not in mapping:
        return key
    return next(name for copy in itertools.count(2) if (name := f"{key}~{copy}") not in mapping)


def _read_conversation(value: dict[str, Any], key: str, context: dict[str, Any]) -> Conversation:
    own_ids = [id_of(value.get(name)) for name in ("conversation_id", "id", "shared_conversation_id")]
    conversation = Conversation(
        provider=PROVIDER,
        native_id=key,
        is_id_derived=not any(own_ids),
        account=text_of(context.get("account")),
        model=text_of(value.get("default_model_slug")) or text_of(value.get("model_slug")),
        flags=[flag for name, flag in FLAGS.items() if value.get(name) is True],
        extra=keep_rest(value, CONVERSATION_FIELDS) | odd_of(value, KIND_BY_FIELD),
    )
    if (other_model := text_of(value.get("model_slug"))) != conversation.model and other_model:
        conversation.extra["model_slug"] = other_model
    conversation.created = _read_time(value, "create_time", conversation.extra, conversation)
    conversation.updated = _read_time(value, "update_time", conversation.extra, conversation)
    if (other_id := own_ids[1]) and other_id != key:
        conversation.extra["id"] = other_id
    _read_gizmos(conversation, value)
    if links := context.get("shared_links"):
        conversation.extra["shared_links"] = links
    return conversation


def _read_gizmos(conversation: Conversation, value: dict[str, Any]) -> None:
    """Tell projects (g-p-…) from custom GPTs (g-…): two fields may hold one of each, or one twice."""
    for name in ("gizmo_id", "conversation_template_id"):
        gizmo = text_of(value.get(name))
        if gizmo is None:
            continue
        field = "project_id" if gizmo.startswith(PROJECT_PREFIX) else "gizmo_id"
        if getattr(conversation, field) is None:
            setattr(conversation, field, gizmo)
        elif getattr(conversation, field) != gizmo:
            conversation.extra[name] = gizmo


def _read_time(value: dict[str, Any], name: str, extra: dict[str, Any], conversation: Conversation) -> str | None:
    """Return a time; one that cannot be read is counted, and kept as it is."""
    found = value.get(name)
    if found is None:
        return None
    time = read_time(found)
    if isinstance(found, str) and lacks_zone(found):
        _warn(conversation, TIME_WITHOUT_ZONE)
    if time is None and is_damaged_time(found):
        _warn(conversation, "damaged_time")
        extra[name] = found
    return time


def _warn(conversation: Conversation, what: str) -> None:
    conversation.warnings[what] = conversation.warnings.get(what, 0) + 1


class _Tree(NamedTuple):
    """The nodes of a mapping."""

    messages: list[Message]  # parents before children
    links: dict[str, str | None]  # the parents of nodes without a message
    key_by_id: Mapping[str, str]  # of nodes whose own id is not their key


def _read_tree(mapping: dict[str, Any], conversation: Conversation) -> _Tree:
    nodes = {key: object_of(node) for key, node in mapping.items()}
    others = [(key, node["id"]) for key, node in nodes.items() if node.get("id", key) != key]  # nearly always none
    renamed = [key for key, own_id in others if isinstance(own_id, str) and own_id not in nodes]
    key_by_id = {nodes[key]["id"]: key for key in sorted(renamed, reverse=True)}  # of two, the first key counts
    parents = _read_parents(nodes, key_by_id)
    message_by_node: dict[str, Message] = {}
    for key, node in mapping.items():
        message = node.get("message") if isinstance(node, dict) else node
        if message is not None:
            message_by_node[key] = read = _read_message(key, message, conversation)
            read.parent = parents[key]
            rest = keep_rest(nodes[key], NODE_FIELDS)
            if parents[key] is None:  # what a node says of its parent, nobody may be able to read
                rest |= odd_of(nodes[key], KIND_BY_NODE_FIELD)
            if rest:
                read.extra["node"] = rest
    order = _order_nodes(nodes, parents, message_by_node)
    messages = [message_by_node[key] for key in order if key in message_by_node]
    return _Tree(messages, {key: parents[key] for key in order if key not in message_by_node}, key_by_id)


def _read_parents(nodes: dict[str, dict[str, Any]], key_by_id: Mapping[str, str]) -> dict[str, str | None]:
    """Return each node's parent: what it says itself, or else the node that lists it as a child."""
    parents = {key: text_of(node.get("parent")) for key, node in nodes.items()}
    orphans = [key for key, parent in parents.items() if parent is None]
    if len(orphans) > 1:  # one alone is the root
        lister_by_child = _find_listers(nodes)
        for key in orphans:
            lister = lister_by_child.get(key) or lister_by_child.get(str(nodes[key].get("id")))
            parents[key] = None if lister == key else lister
    if key_by_id:
        parents = {key: key_by_id.get(parent or "", parent) for key, parent in parents.items()}
    return parents


def _find_listers(nodes: dict[str, dict[str, Any]]) -> dict[str, str]:
    listers: dict[str, str] = {}
    for key in sorted(nodes):
        for child in list_of(nodes[key].get("children")):
            if isinstance(child, str):
                listers.setdefault(child, key)
    return listers


def _order_nodes(
    nodes: dict[str, dict[str, Any]], parents: Mapping[str, str | None], message_by_node: Mapping[str, Message]
) -> list[str]:
    """Return all nodes, a parent before its children, whatever their order in the mapping.

    Siblings: as their parent lists them, else by time. Nodes on a circle come last.
    """
    children_by_node: dict[str | None, list[str]] = {}
    for key, parent in parents.items():
        children_by_node.setdefault(parent if parent in nodes else None, []).append(key)
    for parent, children in children_by_node.items():
        if len(children) > 1:
            listed = [child for child in list_of(nodes.get(parent or "", {}).get("children")) if isinstance(child, str)]
            _sort_children(children, listed, message_by_node)
    order: dict[str, None] = {}
    _place_below(children_by_node.get(None, []), children_by_node, order)
    if len(order) < len(nodes):
        _place_below(sorted(nodes), children_by_node, order)  # each circle from its first node
    return list(order)


def _sort_children(children: list[str], listed: list[str], message_by_node: Mapping[str, Message]) -> None:
    place_by_child = {child: place for place, child in enumerate(listed)}
    times = {key: order_of(message_by_node[key].created) for key in children if key in message_by_node}
    children.sort(key=lambda key: (place_by_child.get(key, len(listed)), times.get(key, ""), key))


def _place_below(starts: list[str], children_by_node: Mapping[str | None, list[str]], order: dict[str, None]) -> None:
    waiting = starts[::-1]
    while waiting:
        key = waiting.pop()
        if key not in order:
            order[key] = None
            if key in children_by_node:
                waiting += reversed(children_by_node[key])


def _read_message(key: str, value: Any, conversation: Conversation) -> Message:
    if not isinstance(value, dict):
        _warn(conversation, "damaged_message")
        return Message(key, blocks=[Block(Kind.CONTEXT, raw=value, flags=["unknown_type"])])
    if isinstance(value.get("author"), str):
        value = {**value, "author": {"role": value["author"]}}
    author, metadata = object_of(value.get("author")), object_of(value.get("metadata"))
    role, status = _read_role(author, conversation), _read_status(value, metadata)
    extra = _list_extra(value, author, role, status)
    message = Message(
        key,
        role=role,
        native_id=native_id if (native_id := text_of(value.get("id"))) != key else None,
        author=text_of(author.get("name")),
        model=text_of(metadata.get("model_slug")),
        created=_read_time(value, "create_time", extra, conversation),
        updated=_read_time(value, "update_time", extra, conversation),
        status=status,
        end_turn=flag_of(value.get("end_turn")),
        blocks=read_blocks(value),
        extra=extra,
    )
    message.hidden = _why_hidden(value, metadata, message)
    if message.role == USER:
        message.origin = Origin.RUNTIME_CONTEXT if message.hidden == "context" else HUMAN
    elif message.role == ASSISTANT:
        message.group = text_of(metadata.get("turn_exchange_id")) or text_of(metadata.get("request_id"))
    if rest := _keep_metadata(metadata, message):
        message.extra["metadata"] = rest
    return message


def _read_role(author: dict[str, Any], conversation: Conversation) -> str:
    role = author.get("role")
    if isinstance(role, str) and role in ROLES:
        return role
    _warn(conversation, "unknown_role")
    return Role.UNKNOWN


def _read_status(value: dict[str, Any], metadata: dict[str, Any]) -> str | None:
    """Return a message's status. That a person stopped it stands elsewhere, and `status` may say it was finished."""
    end = metadata.get("finish_details")
    return INTERRUPTED if isinstance(end, dict) and end.get("type") == INTERRUPTED else text_of(value.get("status"))


def _why_hidden(value: dict[str, Any], metadata: dict[str, Any], message: Message) -> str | None:
    if content_type_of(value) in CONTEXT_TYPES or (metadata.get("is_user_system_message") and message.blocks):
        return "context"
    is_flagged = metadata.get(HIDDEN_FLAG) is True
    if not is_flagged and not _weighs_nothing(value):
        return None
    if message.role == SYSTEM and not message.blocks:
        return "empty system seed"
    return "vendor flag" if is_flagged else "weight 0"


def _weighs_nothing(value: dict[str, Any]) -> bool:
    weight = value.get("weight")
    return (weight == 0 and weight is not False) or weight in WEIGHTLESS


def _list_extra(value: dict[str, Any], author: dict[str, Any], role: str, status: str | None) -> dict[str, Any]:
    """Return what no other field of the message holds, but for the metadata."""
    extra = keep_rest(value, MESSAGE_FIELDS)
    if odd := odd_of(value, KIND_BY_MESSAGE_FIELD):
        extra.update(odd)
    if channel := value.get("channel"):
        extra["channel"] = channel
    recipient = value.get("recipient")
    if recipient != "all" and recipient and tool_of(value) is None:
        extra["recipient"] = recipient
    if (weight := value.get("weight")) is not None and weight != 1 and weight != 0:
        extra["weight"] = weight
    has_more = author.get("metadata") or not AUTHOR_FIELDS.issuperset(author)
    if has_more and (rest := keep_rest(author, SHOWN_AUTHOR_FIELDS)):
        extra["author"] = rest
    if (name := author.get("name")) is not None and not isinstance(name, str):
        extra["author"] = {**extra.get("author", {}), "name": name}
    if role == Role.UNKNOWN and (said := author.get("role")) is not None:
        extra["role"] = said
    if (said := value.get("status")) is not None and said != status:
        extra["status"] = said
    return extra


def _keep_metadata(metadata: dict[str, Any], message: Message) -> dict[str, Any]:
    if not metadata:
        return {}
    rest = keep_rest(metadata, METADATA_FIELDS)
    if message.model is None or "attachments" in metadata or HIDDEN_FLAG in metadata:
        rest.update(odd_of(metadata, KIND_BY_METADATA_FIELD))
    for name in ("citations", "content_references"):
        if name in rest:
            _keep_uncited(rest, name, message)
    data = rest.get("user_context_message_data")
    if isinstance(data, dict) and all(isinstance(text, str) for text in data.values()):
        del rest["user_context_message_data"]  # a block each
    return rest


def _keep_uncited(metadata: dict[str, Any], name: str, message: Message) -> None:
    """Leave the sources in the metadata that no citation of the message holds."""
    cited = {id(block.extra.get("source")) for block in message.blocks if block.kind == CITATION}
    if not isinstance(metadata[name], list):
        return
    metadata[name] = [source for source in metadata[name] if id(source) not in cited]
    if not metadata[name]:
        del metadata[name]


# After the tree is settled


def _join_pieces(messages: list[Message]) -> None:
    """Put an answer that goes on with the one before into one group with it."""
    pieces = [message for message in messages if _goes_on(message)]
    message_by_key = {message.key: message for message in messages} if pieces else {}
    for message in pieces:
        before = message_by_key.get(message.parent or "")
        if before is not None and message.role == before.role == ASSISTANT:
            before.group = before.group or before.key
            message.group = before.group


def _goes_on(message: Message) -> bool:
    metadata = message.extra.get("metadata")
    return isinstance(metadata, dict) and metadata.get("message_type") == "continue"


class _Call(NamedTuple):
    key: str
    tool: str


MOST_OPEN_CALLS = 16  # of one path that a result is looked for among


def _pair_calls(messages: list[Message]) -> None:
    """Join each call to its results by their place in the tree: there are no ids.

    A result belongs to the call it hangs on; else to the nearest call of its tool since the person's last words.
    """
    calls_by_message: dict[str, tuple[_Call, ...]] = {}
    for message in messages:
        calls = () if message.origin == HUMAN else calls_by_message.get(message.parent or "", ())
        for block in message.blocks:
            if block.kind == TOOL_USE:
                block.call_id = message.key
                calls = (*calls, _Call(message.key, block.tool_name or ""))[-MOST_OPEN_CALLS:]
        if calls:
            calls_by_message[message.key] = calls
            if message.role == TOOL:
                _answer_call(message, _choose_call(message, calls))


def _choose_call(message: Message, calls: tuple[_Call, ...]) -> _Call:
    nearest = calls[-1]
    if nearest.key == message.parent or message.author is None:
        return nearest
    tool = message.author.partition(".")[0]
    return next((call for call in reversed(calls) if call.tool.partition(".")[0] == tool), nearest)


def _answer_call(message: Message, call: _Call) -> None:
    if not any(block.kind == TOOL_RESULT for block in message.blocks):
        message.blocks.insert(0, Block(TOOL_RESULT))  # pictures, or nothing at all, answer a call, too
    for block in message.blocks:
        if block.kind in (TOOL_RESULT, Kind.ATTACHMENT):
            block.call_id = call.key
        if block.kind == TOOL_RESULT:
            block.tool_name = block.tool_name or message.author or call.tool


def _add_context(conversation: Conversation, context: dict[str, Any]) -> dict[str, bytes]:
    """Add what other files of the export say; return the bytes of canvas documents by name in extras/."""
    found = object_of(context.get("attachments"))
    extras: dict[str, bytes] = {}
    for message in conversation.messages:
        for block in message.blocks:
            if block.attachment is not None:
                key = key_in_context(message.key, block.attachment)
                settle_attachment(block.attachment, object_of(found.get(key)), extras)
    _add_feedback(conversation, objects_of(context.get("feedback")))
    extras.update(add_canvas_versions(conversation))
    for canvas_id, document in sorted(object_of(context.get("canvases")).items()):
        extras.update(attach_final_text(conversation, canvas_id, object_of(document)))
    return extras


def _add_feedback(conversation: Conversation, ratings: list[dict[str, Any]]) -> None:
    """Put ratings to the messages that they are of, and those that name none to the conversation."""
    message_by_id: dict[str | None, Message] = {}
    for message in conversation.messages if ratings else ():
        message_by_id.setdefault(message.native_id, message)
        message_by_id[message.key] = message
    for rating in ratings:
        ids = [text_of(rating.get("message_id")), text_of(rating.get("id"))]
        rated = next((message_by_id[name] for name in ids if name and name in message_by_id), None)
        (conversation if rated is None else rated).extra.setdefault("feedback", []).append(rating)


def _count_unknown(conversation: Conversation) -> None:
    flags = [flag for message in conversation.messages for block in message.blocks for flag in block.flags]
    if count := flags.count("unknown_type"):
        conversation.warnings["unknown_type"] = count
