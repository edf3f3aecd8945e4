"""A server of the OpenAI form in the place of a model: ``http://localhost:8000/v1#NAME``.

vLLM, llama.cpp and Ollama offer it: ``POST {address}/chat/completions`` with pictures as data addresses.
Nothing is sent unless a person names the address. Redirections are not followed and proxies are not used,
so that pictures go to the machine that was named and to no other.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import math
import os
import socket
from collections.abc import Sequence
from http.client import HTTPException
from io import BytesIO
from time import monotonic
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urldefrag, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domainsam.errors import ConfigError, EndpointError
from domainsam.names import show
from domainsam.prompter.language.answers import Said
from domainsam.prompter.language.codecs import CoordinateCodec, Size, choose_codec
from domainsam.prompter.language.speakers import AskOptions, Question

KEY = "DOMAINSAM_MLLM_KEY"
"""Environment variable with the key of a server that wants one."""
LARGEST = 16 << 20
"""Bytes of an answer; a longer one is none."""
STEP, LEAST, MOST = 28, 56 * 56, 14 * 14 * 4 * 1280
"""Models that count pixels see pictures whose sides are multiples of this, within these areas (Qwen2-VL)."""
TOLD = 20
"""Likeliest tokens that are asked for, as many as the form allows."""


class _Stay(HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class EndpointSpeaker:
    """A server as a :class:`~domainsam.prompter.language.speakers.Speaker`.

    Parameters
    ----------
    address
        Up to ``/v1``.
    model
        The model's name there.
    codec
        How it writes places.
    timeout
        Seconds for an answer.
    """

    def __init__(self, address: str, model: str, codec: CoordinateCodec, timeout: float = 120.0) -> None:
        self.address, self.model, self.codec, self.timeout = address.rstrip("/"), model, codec, timeout
        self.name, self.kind, self.identity, self.at_once = model, model, f"{self.address}#{model}", 1
        self._opener: OpenerDirector = build_opener(ProxyHandler({}), _Stay())
        self._tells = True

    @classmethod
    def of(cls, options: AskOptions) -> EndpointSpeaker:
        """The server that the options name.

        Raises
        ------
        ConfigError
            If the address is none, or names no model.
        """
        try:
            address, model = urldefrag(options.mllm)
            parts = urlsplit(address)
        except ValueError as error:
            raise ConfigError(f"--mllm {options.mllm}: is no address: {error}") from error
        if not parts.hostname or parts.query or parts.username:
            raise ConfigError(f"--mllm {address}: is no address such as http://localhost:8000/v1#NAME")
        if not model:
            raise ConfigError(f"--mllm {address}: names no model; put it behind '#': {address}#NAME")
        return cls(address, model, choose_codec(model, options.coordinates), options.timeout)

    def refuse(self, phrase: str) -> None:
        """Nothing: the server sees to it that texts are texts."""

    def fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture; for models that count pixels in a size that the server leaves as it is."""
        if self.codec.steps is not None:
            return picture
        height, width = picture.shape[:2]
        scale = math.sqrt(max(1.0, LEAST / (height * width)) / max(1.0, height * width / MOST))
        rows, cols = (max(2 * STEP, int(side * scale) // STEP * STEP) for side in (height, width))
        return np.asarray(Image.fromarray(picture).resize((cols, rows), Image.Resampling.BICUBIC))

    def seen(self, size: Size) -> Size:
        """The size that a fitted picture has."""
        return size

    def write(self, questions: Sequence[Question], limit: int) -> list[Said]:
        """As of the protocol."""
        said = []
        for question in questions:
            choice = self._ask(question, limit)
            text = choice["message"].get("content") or ""
            if not isinstance(text, str):
                raise EndpointError(f"{self.address}: answered with content that is no text")
            chances = [
                step["logprob"] for step in _steps(choice) if isinstance(step.get("logprob"), float | int)
            ]
            sure = math.exp(min(0.0, sum(chances) / len(chances))) if chances else 1.0
            said.append(Said(text.strip(), sure, choice.get("finish_reason") != "length"))
        return said

    def weigh(
        self, questions: Sequence[Question], counts: Sequence[int], words: tuple[str, str]
    ) -> list[NDArray[np.float64]]:
        """As of the protocol, one answer a question; without probabilities what is said counts as certain."""
        weights = []
        for question in questions:
            choice = self._ask(question, 1)
            steps = _steps(choice)
            said = choice["message"].get("content") or ""
            told = steps[0].get("top_logprobs") if steps else None
            rows = _dicts(told) or [{"token": str(said), "logprob": 0.0}]
            weights.append(np.array([[_chance(rows, word) for word in words]]))
        return weights

    def aligns(self, words: tuple[str, str]) -> bool:
        """Never: its tokenizer is not known."""
        return False

    def _ask(self, question: Question, limit: int) -> dict[str, Any]:
        """The first choice of the server's answer."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": _messages(question),
            "max_tokens": limit,
            "temperature": 0,
        }
        if self._tells:
            body |= {"logprobs": True, "top_logprobs": TOLD}
        try:
            answer = self._post(body)
        except _RefusedError:
            if not self._tells:
                raise
            # Some servers tell no probabilities, and say so by refusing the question.
            self._tells = False
            return self._ask(question, limit)
        try:
            choice = answer["choices"][0]
            choice["message"].get("content")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            told = show(json.dumps(answer))[:120]
            raise EndpointError(f"{self.address}: expected an answer with choices, got {told}") from error
        return dict(choice)

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = Request(f"{self.address}/chat/completions", json.dumps(body).encode(), headers)
        deadline = monotonic() + self.timeout
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                content = _read(response, deadline)
        except HTTPError as error:
            raise self._refused(error) from error
        except TimeoutError as error:
            raise self._slow() from error
        except URLError as error:
            if isinstance(error.reason, TimeoutError | socket.timeout):
                raise self._slow() from error
            raise EndpointError(f"{self.address}: cannot be reached: {error.reason}") from error
        except (HTTPException, OSError) as error:
            told = str(error) or type(error).__name__
            raise EndpointError(f"{self.address}: broke off its answer: {told}") from error
        try:
            if len(content) > LARGEST:
                raise ValueError("too long")
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            told = show(content[:80].decode("utf-8", "replace"))
            raise EndpointError(f"{self.address}: expected JSON, got '{told}'") from error

    def _slow(self) -> EndpointError:
        return EndpointError(
            f"{self.address}: gave no answer within {self.timeout:g} s; wait longer with --timeout, and go "
            "on with --resume"
        )

    def _refused(self, error: HTTPError) -> EndpointError:
        try:
            content = error.read(2000)
        except (HTTPException, OSError):
            # A server may stall or break off while it says why.
            content = b""
        told = show(" ".join(content.decode("utf-8", "replace").split()))[:200]
        kind = _RefusedError if error.code in (400, 422) else EndpointError
        if 300 <= error.code < 400:
            return EndpointError(f"{self.address}: sends elsewhere ({error.code}), which is not followed")
        return kind(f"{self.address}: refused with {error.code} {error.reason}: {told}")


class _RefusedError(EndpointError):
    """The server did not like the form of a question."""


def is_this_machine(address: str) -> bool:
    """Whether an address is this machine's own by its loopback interface, so that nothing leaves it."""
    try:
        host = urlsplit(address).hostname or ""
        if host.lower() == "localhost":
            return True
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_remote(options: AskOptions) -> None:
    """Refuse to send pictures of patients to another machine, unless that was allowed.

    Raises
    ------
    ConfigError
        If the model is a server's elsewhere and ``allow_remote`` is not set.
    """
    if options.remote and not options.allow_remote and not is_this_machine(options.mllm):
        raise ConfigError(
            f"--mllm would send slices of a patient to {_host(options.mllm)}: run the model on this machine, "
            "or say --allow-remote if that is permitted"
        )


def _host(address: str) -> str:
    """The machine of an address; the address itself where it is none."""
    try:
        return urlsplit(address).hostname or address
    except ValueError:
        return address


def _read(response: Any, deadline: float) -> bytes:
    """A response's content, as far as :data:`LARGEST`; a server may not trickle it for ever.

    Raises
    ------
    TimeoutError
        If it is not there by ``deadline``.
    """
    parts: list[bytes] = []
    while sum(map(len, parts)) <= LARGEST and (part := response.read1(1 << 16)):
        parts.append(part)
        if monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _messages(question: Question) -> list[dict[str, Any]]:
    """A conversation in the OpenAI form; the picture is a PNG in the first question."""
    messages: list[dict[str, Any]] = []
    if question.system:
        messages.append({"role": "system", "content": question.system})
    shown = [{"type": "image_url", "image_url": {"url": _encode(question.picture)}}]
    for speaker, text in question.turns:
        parts = [*shown, {"type": "text", "text": text}] if shown else text
        messages.append({"role": speaker, "content": parts})
        shown = []
    return messages


def _encode(picture: NDArray[np.uint8]) -> str:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _steps(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """Tokens of an answer with their probabilities; none where they are not told."""
    told = choice.get("logprobs")
    steps = told.get("content") if isinstance(told, dict) else None
    return _dicts(steps)


def _dicts(told: Any) -> list[dict[str, Any]]:
    """What of a list is described by names; none where a server tells something else."""
    return [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []


def _chance(rows: list[dict[str, Any]], word: str) -> float:
    """Probability of a word among the likeliest tokens: of all that begin with it as it may be written."""
    total = 0.0
    for row in rows:
        token = str(row.get("token", "")).strip().lower().rstrip(".,!")
        logprob = row.get("logprob")
        if token and token == word.strip().lower() and isinstance(logprob, float | int):
            total += math.exp(min(0.0, logprob))
    return min(total, 1.0)
