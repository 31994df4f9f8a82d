"""From the archive to an experiment: chosen messages and conversations become concepts, and say where they came from.

    choose messages and conversations ─▶ Passage: a text and its origin ─▶ concepts.csv, concepts/<level>/, origins.csv

A concept's identity is its name and its text, as ever: where it came from stands beside, in origins.csv, and goes with
the documents that are made from it. What is in the config already is never changed: a concept whose text a person has
edited, or whose message says something else now, is left as it is, and told.
"""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.archive.conversation_documents import read_conversation
from pipeline.archive.conversations import Kind, Message, Role
from pipeline.archive.exports import CONTENT_FILE
from pipeline.archive.file_names import make_slug
from pipeline.archive.views import View, walk_views
from pipeline.concepts import COLUMNS, ORIGIN_COLUMNS, ORIGINS_FILE, Concept, Origin, load_concepts
from pipeline.errors import ConfigInvalid, InputInvalid, Problem, UnknownName
from pipeline.spreadsheets import guard_text
from pipeline.stages import ArchiveStage
from pipeline.workspace import Workspace
from store.data_root import DataRoot
from store.documents import Document
from store.identity import hash_bytes

CONCEPTS_FOLDER = "concepts"
NAME_CHARACTERS = 80
SHORT_ID_LENGTH = 8  # of a conversation's id, and of the hash of a message's key, in a concept's id
SHOWN_NAMES = 8
_TOLD_ROLES = {Role.USER: "User", Role.ASSISTANT: "Assistant"}
_LINES = re.compile(r"(?:^|:| )(?P<first>\d+)-(?P<last>\d+)$")  # the end of the place of a record in lines

Json = dict[str, Any]


class Choice(NamedTuple):
    """A message of a conversation by its key; without `message` all of the active path."""

    conversation: str  # conversation_id; as a person types it, the start of it
    message: str | None = None


class Passage(NamedTuple):
    """What becomes a concept."""

    name: str
    text: str
    origin: Origin


class Outcome(NamedTuple):
    """What became of a choice: added, unchanged, differs (what is there has another text), empty (it says nothing)."""

    state: str
    choice: Choice
    concept_id: str | None = None

    def as_json(self) -> Json:
        return {"concept_id": self.concept_id, "state": self.state, **self.choice._asdict()}


def read_choice(text: str) -> Choice:
    """Read a message as search shows it: "7k3f0q9x2m4b8z1c/a1" -> Choice("7k3f0q9x2m4b8z1c", "a1")."""
    conversation, slash, message = text.partition("/")
    if not (conversation and slash and message):
        raise InputInvalid(f"{text!r} names no message. Expected a conversation's id, / and the message's key.")
    return Choice(conversation, message)


def add_concepts(workspace: Workspace, choices: Sequence[Choice], folder: Path, *, level: str) -> list[Outcome]:
    """Add what is chosen to the concepts of a config folder, of which `folder` is the folder concepts.

    Raises UnknownName, InputInvalid for a choice that is not there, ConfigInvalid for concepts that cannot be read;
    then nothing is written.
    """
    if folder.name != CONCEPTS_FOLDER:
        raise InputInvalid(f"{folder} cannot hold concepts. Expected a folder named {CONCEPTS_FOLDER}.")
    book = ConceptBook(folder.parent)
    passages = read_passages(workspace, choices)
    outcomes = [
        book.add(choice, passages[choice], level) if passages[choice].text else Outcome("empty", choice)
        for choice in dict.fromkeys(choices)
    ]
    book.write()
    return outcomes


# Passages


def read_passages(workspace: Workspace, choices: Iterable[Choice]) -> dict[Choice, Passage]:
    """Return what each choice says now, and where it was read. Raises UnknownName for one that is not there."""
    chosen: dict[str, list[Choice]] = {}
    for choice in choices:
        chosen.setdefault(choice.conversation, []).append(choice)
    passages = {}
    for view in walk_views(workspace, only=chosen.keys()):
        for choice in chosen.pop(view.conversation_id):
            passages[choice] = _read_passage(workspace.data, view, choice)
    for conversation_id in chosen:
        raise UnknownName("conversation", conversation_id, [])
    return passages


def _read_passage(data: DataRoot, view: View, choice: Choice) -> Passage:
    title = " ".join((view.conversation.title or "").split())
    if choice.message is None:
        text = "\n\n".join(_tell(message) for message in view.conversation.messages if _is_told(message)).strip()
        return Passage(_cut(title or text), text, _find_origin(data, view, None, text))
    message = _find_message(view, choice.message)
    text = write_text(message)
    return Passage(_cut(text), text, _find_origin(data, view, message, text))


def _find_message(view: View, key: str) -> Message:
    found = next((message for message in view.conversation.messages if message.key == key), None)
    if found is None:
        known = [message.key for message in view.conversation.messages]
        raise UnknownName(f"message of conversation {view.conversation_id}", key, known[:SHOWN_NAMES])
    return found


def _cut(text: str) -> str:
    return textwrap.shorten(text, NAME_CHARACTERS, placeholder="…") or "Untitled"


def _is_told(message: Message) -> bool:
    return bool(message.is_active and not message.hidden and message.role in _TOLD_ROLES and write_text(message))


def _tell(message: Message) -> str:
    return f"{_TOLD_ROLES[Role(message.role)]}: {write_text(message)}"


def write_text(message: Message) -> str:
    """Return what a message says; code in fences that no line of it can close."""
    parts = []
    for block in message.blocks:
        if block.kind == Kind.CODE and block.text:
            longest = max((len(run) for run in re.findall("`+", block.text)), default=0)
            fence = "`" * max(3, longest + 1)
            parts.append(f"{fence}{block.language or ''}\n{block.text.rstrip()}\n{fence}")
        elif block.kind == Kind.TEXT and block.text:
            parts.append(block.text.strip())
    return "\n\n".join(part for part in parts if part).strip()


# Origins


def _find_origin(data: DataRoot, view: View, message: Message | None, text: str) -> Origin:
    """Return the newest version of a conversation that has the message, and where the export had it."""
    document = next(
        (found for doc_id in view.versions if (found := _find_version(data, doc_id, message)) is not None),
        data.documents.read(ArchiveStage.CONVERSATION, view.versions[0]),
    )
    export = str(document.metadata["parents"][0]["doc_id"])  # the file of the record; attachments come after it
    member, place = str(document.metadata["member"]), str(document.metadata["place"])
    line = None if message is None else _find_line(data, export, place, message)
    return Origin(
        hash_bytes(text.encode()),
        view.conversation_id,
        document.doc_id,
        message.key if message else "",
        export,
        member,
        f"{member}:{line}" if line else place if place.startswith(member) else f"{member}: {place}",
    )


def _find_version(data: DataRoot, doc_id: str, message: Message | None) -> Document | None:
    conversation = read_conversation(data.documents, doc_id)
    if message is None or any(each.key == message.key for each in conversation.messages):
        return data.documents.read(ArchiveStage.CONVERSATION, doc_id)
    return None


def _find_line(data: DataRoot, export: str, place: str, message: Message) -> int | None:
    """Return the line of an export that has a message, where the record is some lines of it; None if not known."""
    lines = _LINES.search(place)
    if lines is None:
        return None
    if isinstance(line := message.extra.get("line"), int):
        return line
    name = re.escape(json.dumps(message.native_id or message.key, ensure_ascii=False).encode())
    own_id = re.compile(rb'"(?:uuid|id)"\s*:\s*' + name)  # other fields with it are links from other lines
    path = data.documents.folder_of(ArchiveStage.EXPORT, export) / CONTENT_FILE
    with path.open("rb") as file:
        for number, content in enumerate(file, start=1):
            if int(lines["first"]) <= number <= int(lines["last"]) and own_id.search(content):
                return number
    return None


# The concepts of a config folder


class ConceptBook:
    """The concepts of a config folder, to which some are added. Nothing that is there is changed."""

    def __init__(self, config_root: Path) -> None:
        self._table, self._folder = config_root / "concepts.csv", config_root / CONCEPTS_FOLDER
        problems: list[Problem] = []
        self._concepts: dict[str, Concept] = load_concepts(config_root, problems) if self._table.exists() else {}
        if problems:
            raise ConfigInvalid(problems)
        self._added: list[Concept] = []
        self._texts: dict[Path, str] = {}
        self._origins: list[list[str]] = []

    def add(self, choice: Choice, passage: Passage, level: str) -> Outcome:
        concept = self._find(passage.origin, level)
        if concept is not None:
            is_same = concept.texts.get(level) == passage.text
            return Outcome("unchanged" if is_same else "differs", choice, concept.concept_id)
        concept = Concept(self._choose_id(passage), passage.name, {level: passage.text}, {level: passage.origin})
        self._concepts[concept.concept_id] = concept
        self._added.append(concept)
        self._texts[self._folder / level / f"{concept.concept_id}.txt"] = passage.text + "\n"
        self._origins.append([concept.concept_id, level, *map(guard_text, passage.origin)])
        return Outcome("added", choice, concept.concept_id)

    def _find(self, origin: Origin, level: str) -> Concept | None:
        """Return the concept that came from the same message or conversation."""
        wanted = origin.conversation, origin.message
        for concept in self._concepts.values():
            found = concept.origins.get(level)
            if found is not None and (found.conversation, found.message) == wanted:
                return concept
        return None

    def _choose_id(self, passage: Passage) -> str:
        origin = passage.origin
        parts = [make_slug(passage.name), origin.conversation[:SHORT_ID_LENGTH]]
        parts += [hash_bytes(origin.message.encode())[:SHORT_ID_LENGTH]] if origin.message else []
        name = "-".join(parts)
        numbers = (f"{name}-{number}" for number in range(2, len(self._concepts) + 3))
        return name if name not in self._concepts else next(other for other in numbers if other not in self._concepts)

    def write(self) -> None:
        """Write texts first and the tables that name them last."""
        for path, text in self._texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="") as file:
                file.write(text)
        if self._added:
            self._folder.mkdir(parents=True, exist_ok=True)
            rows = ([concept.concept_id, concept.name] for concept in self._added)
            _append_rows(self._table, COLUMNS, rows)
            _append_rows(self._folder / ORIGINS_FILE, ORIGIN_COLUMNS, self._origins)


def _append_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Add rows behind what is there, which stays as it is; a new file gets its header."""
    before = path.read_bytes() if path.exists() else b""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([*([] if before else [columns]), *rows])
    separator = b"" if not before or before.endswith(b"\n") else b"\n"
    with path.open("ab") as file:
        file.write(separator + text.getvalue().encode())
