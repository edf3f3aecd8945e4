"""A server of the OpenAI form in the place of a model: what is sent, what is read, and how it fails."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from domainsam.errors import ConfigError, EndpointError
from domainsam.prompter.language.endpoint import EndpointSpeaker, is_this_machine, refuse_remote
from domainsam.prompter.language.speakers import AskOptions, Question, load_speaker

PICTURE = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
QUESTION = Question(PICTURE, (("user", "Where is it?"),))
Answer = Callable[[dict[str, Any]], tuple[int, Any]]


class Server:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = lambda body: (200, say("[100,200,300,400]"))
        self.asked: list[dict[str, Any]] = []
        self.step = 0
        """Bytes that are sent at a time, with pauses; 0 for all at once."""
        self.pause = 0.0
        """Seconds between the head of an answer and its content."""
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                outer.headers.append(dict(self.headers))
                code, content = outer.answer(body)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(code)
                if 300 <= code < 400:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                time.sleep(outer.pause)
                with suppress(ConnectionError):
                    for start in range(0, len(data), outer.step or len(data) or 1):
                        self.wfile.write(data[start : start + (outer.step or len(data))])
                        time.sleep(0.05 if outer.step else 0)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


def say(text: str, logprobs: list[dict[str, Any]] | None = None, finish: str = "stop") -> dict[str, Any]:
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    if logprobs is not None:
        choice["logprobs"] = {"content": logprobs}
    return {"choices": [choice]}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def speaker(server: Server, model: str = "qwen3-vl", timeout: float = 5.0) -> EndpointSpeaker:
    made = load_speaker(AskOptions(f"{server.address}#{model}", timeout=timeout))
    assert isinstance(made, EndpointSpeaker)
    return made


def test_the_picture_and_the_question_arrive_as_they_are(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("DOMAINSAM_MLLM_KEY", "secret")
    server.answer = lambda body: (200, say("[1,2,3,4]", [{"token": "[", "logprob": np.log(0.5)}]))
    (said,) = speaker(server).write([QUESTION], 77)
    assert said.text == "[1,2,3,4]"
    assert said.sure == pytest.approx(0.5)
    assert said.finished
    (body,) = server.asked
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("qwen3-vl", 77, 0)
    image, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "Where is it?"}
    data = image["image_url"]["url"].removeprefix("data:image/png;base64,")
    assert np.array_equal(np.asarray(Image.open(BytesIO(base64.b64decode(data)))), PICTURE)
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_an_answer_that_was_cut_off_is_not_finished(server: Server) -> None:
    server.answer = lambda body: (200, say("[1,2", finish="length"))
    (said,) = speaker(server).write([QUESTION], 4)
    assert not said.finished
    assert said.sure == 1.0


def test_confidences_are_read_of_the_likeliest_tokens(server: Server) -> None:
    top = [
        {"token": "Yes", "logprob": np.log(0.6)},
        {"token": " yes", "logprob": np.log(0.2)},
        {"token": "No", "logprob": np.log(0.1)},
        {"token": "Nope", "logprob": np.log(0.05)},
    ]
    server.answer = lambda body: (200, say("Yes", [{"token": "Yes", "logprob": 0, "top_logprobs": top}]))
    made = speaker(server)
    assert not made.aligns(("Yes", "No"))
    (weights,) = made.weigh([QUESTION], [1], ("Yes", "No"))
    assert weights == pytest.approx(np.array([[0.8, 0.1]]))
    assert server.asked[0]["max_tokens"] == 1


def test_a_server_that_tells_no_probabilities_is_asked_without(server: Server) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return (400, {"error": "logprobs unsupported"}) if "logprobs" in body else (200, say("No."))

    server.answer = answer
    made = speaker(server)
    (weights,) = made.weigh([QUESTION], [1], ("Yes", "No"))
    assert weights.tolist() == [[0.0, 1.0]]
    made.write([QUESTION], 4)
    assert ["logprobs" in body for body in server.asked] == [True, False, False]


@pytest.mark.parametrize(
    ("code", "content", "message"),
    [
        (200, b"<html>It works!</html>", "expected JSON, got '<html>It works!</html>'"),
        (200, {"error": "no such model"}, "expected an answer with choices"),
        (200, {"choices": []}, "expected an answer with choices"),
        (200, [1], "expected an answer with choices"),
        (200, {"choices": [{"message": {"content": [1]}}]}, "no text"),
        (200, b"[" * 100_000, "expected JSON"),
        (404, {"error": "model 'x' not found"}, "refused with 404 Not Found"),
        (500, b"out of memory\x1b[31m", r"refused with 500 .*out of memory\\x1b"),
        (302, b"", "sends elsewhere"),
    ],
)
def test_wrong_answers_are_one_line(server: Server, code: int, content: Any, message: str) -> None:
    server.answer = lambda body: (code, content)
    with pytest.raises(EndpointError, match=message) as caught:
        speaker(server).write([QUESTION], 4)
    assert "\n" not in str(caught.value)
    assert server.address in str(caught.value)


def test_a_slow_server_and_one_that_is_down(server: Server) -> None:
    released = threading.Event()

    def wait(body: dict[str, Any]) -> tuple[int, Any]:
        released.wait(5)
        return 200, say("late")

    server.step = 1
    with pytest.raises(EndpointError, match=r"gave no answer within 0\.3 s"):
        speaker(server, timeout=0.3).write([QUESTION], 4)
    server.step = 0
    server.answer = wait
    with pytest.raises(EndpointError, match=r"gave no answer within 0\.2 s; wait longer with --timeout"):
        speaker(server, timeout=0.2).write([QUESTION], 4)
    released.set()
    down = EndpointSpeaker.of(AskOptions("http://127.0.0.1:9/v1#m"))
    with pytest.raises(EndpointError, match="cannot be reached"):
        down.write([QUESTION], 4)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://localhost:8000/v1", "names no model"),
        ("http://#m", "is no address"),
        ("https://user:word@host/v1#m", "is no address"),
        ("http://host/v1?key=1#m", "is no address"),
    ],
)
def test_addresses_are_checked(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_speaker(AskOptions(address))


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("localhost.evil.org", False),
        ("127.0.0.1.evil.org", False),
        ("10.0.0.2", False),
        ("0.0.0.0", False),
        ("example.org", False),
    ],
)
def test_patients_stay_on_this_machine(host: str, own: bool) -> None:
    address = f"http://{host}:8000/v1#m"
    assert is_this_machine(address) is own
    if own:
        refuse_remote(AskOptions(address))
    else:
        with pytest.raises(ConfigError, match="--allow-remote"):
            refuse_remote(AskOptions(address))
        refuse_remote(AskOptions(address, allow_remote=True))


def test_models_that_count_pixels_are_sent_sizes_that_stay(server: Server) -> None:
    made = speaker(server, "qwen2.5-vl:7b")
    assert made.codec.name == "pixels"
    assert made.fit(PICTURE).shape == (56, 56, 3)
    large = made.fit(np.zeros((3000, 1000, 3), np.uint8))
    height, width = large.shape[:2]
    assert height % 28 == width % 28 == 0
    assert height * width <= 14 * 14 * 4 * 1280
    assert height / width == pytest.approx(3, rel=0.06)
    assert speaker(server, "llava").fit(PICTURE) is PICTURE


@pytest.mark.parametrize(
    "top", [{"Yes": -0.1}, ["Yes"], [{"token": "Yes", "logprob": None}], [{"token": "Yes", "logprob": "x"}]]
)
def test_confidences_in_another_form_break_nothing(server: Server, top: Any) -> None:
    server.answer = lambda body: (200, say("No", [{"token": "No", "logprob": 0, "top_logprobs": top}]))
    (weights,) = speaker(server).weigh([QUESTION], [1], ("Yes", "No"))
    rows = isinstance(top, list) and isinstance(top[0], dict)
    assert weights.tolist() == [[0.0, 0.0 if rows else 1.0]]


def test_a_refusal_that_stalls_is_an_error_of_the_server(server: Server) -> None:
    """The head of the answer comes, and the rest later than a person waits."""
    server.answer, server.pause = (lambda body: (500, {"error": "busy"})), 0.6
    with pytest.raises(EndpointError, match="refused with 500"):
        speaker(server, timeout=0.2).write([QUESTION], 8)


def test_an_address_that_cannot_be_read_is_one_line() -> None:
    options = AskOptions("http://[::1/v1#m")
    with pytest.raises(ConfigError, match="is no address"):
        load_speaker(options)
    with pytest.raises(ConfigError, match="slices of a patient"):
        refuse_remote(options)
