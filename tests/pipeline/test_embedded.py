"""The model inside this process: reproducible, offline, silent, and strict about what it is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.embedded import count_prompt_tokens, find_weights, generate
from pipeline.errors import GatewayError

pytestmark = pytest.mark.xdist_group("embedded")

MODEL = "local/smollm2-135m-instruct"
CONTEXT_TOKENS = 1024
SCHEMA = {
    "type": "object",
    "properties": {
        "score": {"type": "integer", "minimum": 0, "maximum": 9},
        "reason": {"type": "string", "maxLength": 24},
    },
    "required": ["reason", "score"],
    "additionalProperties": False,
}


def write(prompt: str = "Write about the sea.", *, slots: int = 1, model: str = MODEL, **params: Any) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    params = {"max_tokens": 8, "seed": 7} | params
    return generate(model, messages, params, context_tokens=CONTEXT_TOKENS, threads=1, slots=slots)


def text_of(response: bytes) -> str:
    return str(json.loads(response)["choices"][0]["message"]["content"])


def test_one_seed_gives_equal_bytes_whatever_was_asked_between() -> None:
    first = write()
    write("Write about the sea and the wind.")

    assert write() == first


def test_another_seed_gives_another_text() -> None:
    assert text_of(write(seed=7)) != text_of(write(seed=8))


@pytest.mark.slow
def test_slots_that_work_at_once_change_no_byte() -> None:
    prompts = [f"Write about {number} seas. " * number for number in range(1, 5)]

    with ThreadPoolExecutor(4) as executor:
        at_once = list(executor.map(lambda prompt: write(prompt, slots=4), prompts))

    assert at_once == [write(prompt) for prompt in prompts]


def test_threads_change_no_byte() -> None:
    messages = [{"role": "user", "content": "Write about the sea."}]
    params = {"max_tokens": 8, "seed": 7}

    with_two = generate(MODEL, messages, params, context_tokens=CONTEXT_TOKENS, threads=2, slots=1)

    assert with_two == write()


def test_a_response_is_canonical_and_says_which_weights_wrote_it() -> None:
    response = write()

    body = json.loads(response)
    assert sorted(body) == ["choices", "model", "object", "system_fingerprint", "usage"]
    assert (body["model"], body["object"]) == (MODEL, "chat.completion")
    weights = find_weights(MODEL)
    assert body["system_fingerprint"] == f"{weights.name} {weights.stat().st_size}"
    assert response == json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_prompt_tokens_are_counted_as_the_model_counts_them() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Write <|im_end|> é 🌊."}]
    params = {"max_tokens": 1, "seed": 1}

    response = generate(MODEL, messages, params, context_tokens=CONTEXT_TOKENS, threads=1, slots=1)

    counted = count_prompt_tokens(MODEL, messages, context_tokens=CONTEXT_TOKENS, threads=1)
    assert json.loads(response)["usage"]["prompt_tokens"] == counted


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_schema_holds_in_its_own_order(seed: int) -> None:
    prompt = "Rate this essay, with a reason and a score: The sea is blue."

    answer = json.loads(text_of(write(prompt, seed=seed, max_tokens=120, response_schema=SCHEMA)))

    assert list(answer) == ["reason", "score"]
    assert len(answer["reason"]) <= 24
    assert 0 <= answer["score"] <= 9


def test_a_stop_text_ends_the_answer_before_it() -> None:
    whole = text_of(write(max_tokens=12))
    stop = whole.split()[2]

    assert text_of(write(max_tokens=12, stop=stop)) == whole.partition(stop)[0]


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(GatewayError, match="lower max_tokens, or raise context_tokens") as raised:
        write(max_tokens=1000)

    assert raised.value.reason == "context_overflow"
    for number in ("35 tokens", "max_tokens is 1000", "together 1035", f"holds {CONTEXT_TOKENS}"):
        assert number in raised.value.detail


def test_what_fits_exactly_is_not_refused() -> None:
    messages = [{"role": "user", "content": "Write about the sea."}]
    left = CONTEXT_TOKENS - count_prompt_tokens(MODEL, messages, context_tokens=CONTEXT_TOKENS, threads=1)

    assert write(max_tokens=left, stop=["e", "a", "i", "o"])
    with pytest.raises(GatewayError, match="together 1025"):
        write(max_tokens=left + 1)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"extra_body": {"mirostat": 2}}, "extra_body"),
        ({"n": 2}, "'n'"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32 - 1}, "seed"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_a_param_that_cannot_be_followed_is_refused(params: dict[str, Any], named: str) -> None:
    with pytest.raises(GatewayError, match=named) as raised:
        write(**params)

    assert raised.value.reason == "bad_params"


@pytest.mark.parametrize("params", [{"temperature": "hot"}, {"response_schema": {"type": "strange"}}])
def test_what_llama_refuses_is_a_bad_request(params: dict[str, Any]) -> None:
    with pytest.raises(GatewayError, match="refused the request") as raised:
        write(**params)

    assert raised.value.reason == "bad_request"


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(GatewayError, match="Known: local/smollm2-135m-instruct") as raised:
        write(model="local/smollm9")

    assert raised.value.reason == "bad_request"


def test_missing_weights_list_what_lies_beside_them(tmp_path: Path) -> None:
    (tmp_path / "other.gguf").touch()

    with pytest.raises(GatewayError, match=r"no file .*/mine\.gguf\. That folder holds other\.gguf"):
        write(model=f"local/{tmp_path}/mine.gguf")


def test_damaged_weights_are_a_bad_request(tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF and then nothing of use")

    with pytest.raises(GatewayError, match="cannot load") as raised:
        write(model=f"local/{tmp_path}/mine.gguf")

    assert raised.value.reason == "bad_request"


def test_weights_may_lie_anywhere(tmp_path: Path) -> None:
    (tmp_path / "copy.gguf").symlink_to(find_weights(MODEL))

    assert text_of(write(model=f"local/{tmp_path}/copy.gguf")) == text_of(write())


# A process that loads the model, looks for internet sockets of its own, and forks a child that loads it too.
LIFE_OF_A_PROCESS = """
import json, multiprocessing, os
from pathlib import Path
from pipeline.embedded import generate

def write():
    messages = [{"role": "user", "content": "Write about the sea."}]
    params = {"max_tokens": 4, "seed": 7}
    return generate("local/smollm2-135m-instruct", messages, params, context_tokens=512, threads=1, slots=1).decode()

def own_internet_sockets():
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    tables = [Path("/proc/self/net", name) for name in ("tcp", "tcp6", "udp", "udp6")]
    rows = [row.split() for table in tables if table.exists() for row in table.read_text().splitlines()[1:]]
    return sorted({row[9] for row in rows} & {link[8:-1] for link in links if link.startswith("socket:[")})

text = write()
fork = multiprocessing.get_context("fork")
inside, outside = fork.Pipe(duplex=False)
child = fork.Process(target=lambda: outside.send(write()))
child.start()
child.join()
folders = [[oct(path.stat().st_mode)[-3:], os.listdir(path)] for path in Path(os.environ["TMPDIR"]).iterdir()]
print(json.dumps({
    "sockets": own_internet_sockets(), "texts": [text, inside.recv(), write()], "child": child.exitcode,
    "folders": folders,
}))
"""


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sockets")
    finished = subprocess.run(
        [sys.executable, "-c", LIFE_OF_A_PROCESS],
        capture_output=True, text=True, check=True, timeout=60, env=os.environ | {"TMPDIR": str(folder)},
    )  # fmt: skip
    seen: dict[str, Any] = json.loads(finished.stdout)
    return seen | {"stderr": finished.stderr, "left": os.listdir(folder)}


@pytest.mark.skipif(not Path("/proc/self/net").exists(), reason="reads the sockets of a process from /proc")
def test_no_internet_socket_is_opened(life: dict[str, Any]) -> None:
    assert life["sockets"] == []


def test_a_forked_child_loads_its_own_and_ends_well(life: dict[str, Any]) -> None:
    assert life["child"] == 0
    assert len(set(life["texts"])) == 1


def test_the_socket_is_private_and_goes_with_its_process(life: dict[str, Any]) -> None:
    assert life["folders"] == [["700", ["llama.sock"]]]
    assert life["left"] == []


def test_llama_says_nothing(life: dict[str, Any]) -> None:
    assert life["stderr"] == ""
