"""Who may ask, how much, how often and how slowly; and that whatever comes, the server answers the next one."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from live import Live, live

from llmbert.protocols import LLMBertError, UsageError
from llmbert.serving.catalogue import Served
from llmbert.serving.guard import Rate
from llmbert.serving.server import check_address, open_socket
from llmbert.serving.settings import ServeSettings, find_key, read_keys

KEY, OTHER = "0123456789abcdef-first", "0123456789abcdef-second"
ASK = {"model": "ngram", "prompt": "the river", "max_tokens": 3}


@pytest.fixture(scope="module")
def kept(runs: dict[str, Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with keys, small limits and a page elsewhere that may ask."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# who may ask\nann {KEY}\nbob {OTHER} 6\n")
    settings = ServeSettings(
        keys=read_keys(path),
        hosts=("127.0.0.1", "localhost"),
        origins=("https://page.example",),
        body_bytes=4096,
        prompt_tokens=64,
        max_tokens=50,
        header_seconds=1,
    )
    with live({name: runs[name] for name in ("ngram", "gpt")}, settings) as running:
        yield running


def refused(response: httpx2.Response, status: int) -> str:
    """The sentence of a refusal in OpenAI's form."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text and "/src/" not in response.text
    return str(error["message"])


class TestKeys:
    @pytest.mark.parametrize("header", [None, "Bearer", f"Bearer {KEY[:-1]}", f"Basic {KEY}", "Bearer \xff\xfe"])
    def test_without_a_key_nothing_is_answered(self, kept: Live, header: str | None) -> None:
        headers = {"authorization": header.encode("latin-1")} if header else {}
        for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/models/gpt/report"):
            response = httpx2.get(kept.url + path, headers=headers)
            assert "key" in refused(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"

    def test_with_one_it_is(self, kept: Live) -> None:
        with kept.client(KEY) as client:
            assert client.get("/v1/models").status_code == 200
            assert client.post("/v1/completions", json=ASK).status_code == 200

    def test_the_page_and_the_probes_need_none(self, kept: Live) -> None:
        for path in ("/", "/playground/app.js", "/healthz", "/readyz", "/favicon.ico"):
            assert httpx2.get(kept.url + path).status_code == 200

    def test_keys_are_read_from_a_file_or_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LLMBERT_API_KEYS", f"{KEY}, {OTHER}")
        assert [key.name for key in read_keys()] == ["key-1", "key-2"]
        monkeypatch.delenv("LLMBERT_API_KEYS")
        assert read_keys() == ()
        path = tmp_path / "keys"
        path.write_text(f"{KEY}\nbob {OTHER} 2.5 # slowly\n\n")
        keys = read_keys(path)
        assert [(key.name, key.rate) for key in keys] == [("key-1", None), ("bob", 2.5)]
        assert find_key(keys, OTHER) is keys[1] and find_key(keys, "") is None
        assert KEY not in repr(keys)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("short", "shorter than 16"),
            (f"a {KEY} b c", "line 1: write KEY"),
            (f"a {KEY} -3", "line 1"),
            (f"a {KEY}\nb {KEY}", "equal"),
            (f"a {KEY}\na {OTHER}", "same name"),
            ("# nobody", "holds no key"),
        ],
    )
    def test_a_file_of_another_form_is_refused(self, tmp_path: Path, text: str, said: str) -> None:
        path = tmp_path / "keys"
        path.write_text(text)
        with pytest.raises(LLMBertError, match=said):
            read_keys(path)

    def test_elsewhere_only_with_keys(self) -> None:
        with pytest.raises(UsageError, match="reached from other machines"):
            check_address("0.0.0.0", ServeSettings())
        check_address("127.0.0.1", ServeSettings())

    def test_a_port_that_is_taken(self, kept: Live) -> None:
        with pytest.raises(LLMBertError, match=f"cannot listen on 127.0.0.1 port {kept.port}"):
            open_socket("127.0.0.1", kept.port)


class TestHowOften:
    def test_a_key_has_its_own_rate(self, kept: Live) -> None:
        with kept.client(OTHER) as client:
            assert client.get("/v1/models").status_code == 200
            response = client.get("/v1/models")
            assert "6 requests a minute" in refused(response, 429)
            assert 1 <= int(response.headers["retry-after"]) <= 10
        with kept.client(KEY) as client:
            assert all(client.get("/v1/models").status_code == 200 for _ in range(20))

    def test_a_bucket_fills_as_time_goes_on(self) -> None:
        now = 0.0
        rate = Rate(lambda: now, most=2)
        assert [rate.wait("a", 60) for _ in range(10)] == [0.0] * 10
        assert rate.wait("a", 60) == pytest.approx(1.0)
        now = 0.5
        assert rate.wait("a", 60) == pytest.approx(0.5)
        now = 1.0
        assert rate.wait("a", 60) == 0.0
        now = 1e6
        assert [rate.wait("a", 60) for _ in range(11)].count(0.0) == 10
        for who in "bcd":
            assert rate.wait(who, 60) == 0.0
        assert len(rate._buckets) == 2


class TestHowMuch:
    def test_a_body_that_says_it_is_too_long(self, kept: Live) -> None:
        with kept.client(KEY) as client:
            response = client.post(
                "/v1/completions", content=b"x" * 100_000, headers={"content-type": "application/json"}
            )
            assert "4,096 bytes" in refused(response, 413)

    def test_a_body_that_does_not_say_how_long_it_is(self, kept: Live) -> None:
        def pieces() -> Iterator[bytes]:
            for _ in range(50):
                yield b"x" * 1000

        with kept.client(KEY) as client:
            try:
                response = client.post(
                    "/v1/completions", content=pieces(), headers={"content-type": "application/json"}
                )
                assert "4,096 bytes" in refused(response, 413)
            except httpx2.TransportError:
                pass  # the server closed before all was sent, which is its right
            assert client.get("/v1/models").status_code == 200

    def test_prompts_and_answers_have_their_limits(self, kept: Live) -> None:
        with kept.client(KEY) as client:
            assert "64" in refused(client.post("/v1/completions", json={**ASK, "prompt": "a" * 65}), 422)
            assert "at most 50" in refused(client.post("/v1/completions", json={**ASK, "max_tokens": 51}), 422)


class TestHostsAndPages:
    def test_another_name_is_not_answered(self, kept: Live) -> None:
        for host in ("evil.example", "evil.example:8000", "", "127.0.0.1.evil.example"):
            response = httpx2.get(kept.url + "/", headers={"host": host})
            assert response.status_code in (400, 421)
        assert httpx2.get(kept.url + "/", headers={"host": "LOCALHOST:1"}).status_code == 200

    def test_other_pages_may_ask_only_where_they_are_named(self, kept: Live, server: Live) -> None:
        headers = {"origin": "https://page.example", "access-control-request-method": "POST"}
        answer = httpx2.options(kept.url + "/v1/completions", headers=headers)
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        refusal = httpx2.get(kept.url + "/v1/models", headers={"origin": "https://page.example"})
        assert refusal.status_code == 401
        assert refusal.headers["access-control-allow-origin"] == "https://page.example"
        headers["origin"] = "https://other.example"
        assert (
            "access-control-allow-origin" not in httpx2.options(kept.url + "/v1/completions", headers=headers).headers
        )
        closed = httpx2.options(server.url + "/v1/completions", headers=headers)
        assert closed.status_code == 405 and "access-control-allow-origin" not in closed.headers

    def test_a_form_of_another_page_cannot_ask(self, server: Live) -> None:
        """A page elsewhere can send text/plain, or a blob of no type at all, without the browser asking first; neither
        must be taken for JSON."""
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None):
            headers = {} if kind is None else {"content-type": kind}
            response = httpx2.post(server.url + "/v1/completions", content=json.dumps(ASK), headers=headers)
            assert "Content-Type: application/json" in refused(response, 415)

    def test_headers_of_every_answer(self, server: Live) -> None:
        answer = httpx2.get(server.url + "/")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        page = httpx2.get(server.url + "/playground/index.html")
        assert page.headers["content-security-policy"] == answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff" and "server" not in answer.headers
        report = httpx2.get(server.url + "/v1/models/gpt/report")
        assert report.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


def raw(port: int, data: bytes, wait: float = 5.0) -> bytes:
    """What the server says to these bytes before it closes, or in so many seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        connection.sendall(data)
        said = b""
        try:
            while piece := connection.recv(65536):
                said += piece
        except (TimeoutError, ConnectionError):
            pass
        return said


class TestSlowClients:
    def test_a_head_that_never_ends(self, kept: Live) -> None:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", kept.port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            try:
                for number in range(40):
                    connection.sendall(b"X-%d: y\r\n" % number)
                    time.sleep(0.1)
                closed = False
            except OSError:
                closed = True
        assert closed and time.monotonic() - began < 3.5

    def test_a_second_head_on_the_same_connection(self, kept: Live) -> None:
        with socket.create_connection(("127.0.0.1", kept.port), timeout=4) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said = b""
            while b'"ok"' not in said:
                said += connection.recv(65536)
            connection.sendall(b"GET /healthz HT")
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                assert connection.recv(65536) == b""
            assert time.monotonic() - began < 3

    def test_a_body_that_never_comes(self, kept: Live) -> None:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        said = raw(kept.port, head.encode() + b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
        assert b"408" in said and b"too slowly" in said


HOSTILE: list[tuple[str, bytes]] = [
    ("deep", b"[" * 3000 + b"]" * 3000),
    ("deep objects", b'{"a":' * 800 + b"1" + b"}" * 800),
    ("invalid UTF-8", b'{"model": "ngram", "prompt": "\xff\xfe"}'),
    ("cut off", b'{"model": "ngram", "prompt'),
    ("not JSON", b"model=ngram"),
    ("a number", b"5"),
    ("nothing", b""),
    ("NaN", b'{"model": "ngram", "prompt": "x", "temperature": NaN}'),
    ("infinite", b'{"model": "ngram", "prompt": "x", "temperature": 1e999}'),
    ("huge whole number", b'{"model": "ngram", "prompt": "x", "max_tokens": ' + b"9" * 1000 + b"}"),
    ("negative", b'{"model": "ngram", "prompt": "x", "max_tokens": -1}'),
    ("twice", b'{"model": "ngram", "prompt": "x", "n": 1, "n": 99}'),
    ("a lone surrogate", b'{"model": "ngram", "prompt": "\\ud800"}'),
    ("ids beyond the vocabulary", b'{"model": "ngram", "prompt": [99999]}'),
    ("negative ids", b'{"model": "ngram", "prompt": [-5]}'),
    ("mixed prompt", b'{"model": "ngram", "prompt": ["x", 5]}'),
    ("an empty list", b'{"model": "ngram", "prompt": []}'),
    ("empty stops", b'{"model": "ngram", "prompt": "x", "stop": [""]}'),
    ("many stops", b'{"model": "ngram", "prompt": "x", "stop": ' + json.dumps(["s"] * 99).encode() + b"}"),
    ("a seed of no size", b'{"model": "ngram", "prompt": "x", "seed": 99999999999999999999999999}'),
    ("a path for a run", b'{"model": "../../etc/passwd", "prompt": "x"}'),
    ("NUL for a run", b'{"model": "ngram\\u0000", "prompt": "x"}'),
    (
        "a regex bomb",
        b'{"model":"ngram","response_format":{"type":"json_schema","json_schema":{"name":"x","schema":'
        b'{"type":"string","pattern":"(((((a{1,100}){1,100}){1,100}){1,100}){1,100})"}}}}',
    ),
    (
        "a schema that names files",
        b'{"model":"ngram","response_format":{"type":"json_schema","json_schema":{"name":"x",'
        b'"schema":{"$ref":"file:///etc/passwd"}}}}',
    ),
    (
        "a schema that goes in circles",
        b'{"model":"ngram","max_tokens":5,"response_format":{"type":"json_schema",'
        b'"json_schema":{"name":"x","schema":{"$ref":"#"}}}}',
    ),
]


@pytest.mark.parametrize("body", [body for _, body in HOSTILE], ids=[name for name, _ in HOSTILE])
@pytest.mark.parametrize("path", ["completions", "chat/completions", "score"])
def test_hostile_bodies_are_refused_and_the_next_is_answered(server: Live, path: str, body: bytes) -> None:
    with server.client() as client:
        response = client.post(f"/v1/{path}", content=body, headers={"content-type": "application/json"})
        if not (path == "completions" and b"json_schema" in body and response.status_code == 200):
            assert 400 <= response.status_code < 500, response.text
            refused(response, response.status_code)
        assert client.post("/v1/completions", json=ASK).status_code == 200


def test_nul_in_a_prompt_is_text(server: Live) -> None:
    with server.client() as client:
        assert client.post("/v1/completions", json={**ASK, "prompt": "a\x00b"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/%2e%2e/report",
        "/v1/models/gpt%00/report",
        "/playground/../app.py",
        "/playground/%2e%2e%2fapp.py",
        "/playground/..%5capp.py",
        "/v1/models/" + "x" * 5000,
        "/v1/%ff%fe",
    ],
)
def test_paths_lead_nowhere(server: Live, path: str) -> None:
    said = raw(server.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert said.split()[1] in (b"404", b"400", b"405"), said[:300]
    assert b"def build_app" not in said and b"root:" not in said


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_let_go(server: Live, data: bytes) -> None:
    said = raw(server.port, data, wait=3)
    assert not said.startswith(b"HTTP/1.1 5") and b"Traceback" not in said
    assert httpx2.get(server.url + "/healthz").status_code == 200


def test_the_log_holds_no_text_and_no_key(kept: Live, capfd: pytest.CaptureFixture[str]) -> None:
    import io

    from llmbert.serving.telemetry import log_as_json

    stream = io.StringIO()
    log = log_as_json(stream)
    try:
        with kept.client(KEY) as client:
            answer: Any = client.post(
                "/v1/completions", json={**ASK, "prompt": "SECRET In spring the", "max_tokens": 40, "temperature": 0}
            ).json()
        deadline = time.monotonic() + 5
        while '"route": "/v1/completions"' not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        log.handlers = []
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (line,) = [line for line in lines if line.get("route") == "/v1/completions"]
    assert line["status"] == 200 and line["key"] == "ann" and line["model"] == "ngram"
    assert line["prompt_tokens"] == 20 and line["completion_tokens"] > 3 and line["id"] == answer["id"]
    for secret in ("SECRET", KEY, answer["choices"][0]["text"][:8]):
        assert secret not in stream.getvalue()
