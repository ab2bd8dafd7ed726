"""The optional judge, asked over HTTP from a stub on this machine; no test leaves it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from extrabitter.behaviours import judge
from extrabitter.behaviours.judge import JudgeError, JudgeSettings, ask, judge_completions, read_answer
from extrabitter.params import ParameterError, validate
from extrabitter.tasks import BEHAVIOURS

TEXT = "3 + 8 + 9 = 20, too small.\nSo 3 * 8 + 9 = 33."
PROMPT = "numbers 3 8 9 target 33 :"


def verdict(**claims: tuple[int, str]) -> str:
    """An answer in the schema; behaviours that are not named do not occur."""
    return json.dumps(
        {b: dict(zip(("count", "quote"), claims.get(b, (0, "")), strict=True)) for b in BEHAVIOURS}
    )


GOOD = verdict(verification=(1, "20, too small"), backtracking=(1, "too small. So 3 * 8"))


class Stub(ThreadingHTTPServer):
    """An endpoint whose replies are given beforehand: an answer, a body, a status code, or seconds of silence."""

    replies: list[Any]
    seen: list[dict[str, Any]]


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(
            {"path": self.path, "key": self.headers.get("Authorization"), "body": json.loads(body)}
        )
        reply = self.server.replies.pop(0)
        if isinstance(reply, float):
            time.sleep(reply)
            return
        status = reply if isinstance(reply, int) else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        if isinstance(reply, bytes):
            self.wfile.write(reply)
        elif isinstance(reply, str):
            self.wfile.write(json.dumps({"choices": [{"message": {"content": reply}}]}).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(("127.0.0.1", 0), Handler)
    server.replies, server.seen = [], []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def settings(stub: Stub, tmp_path: Path) -> JudgeSettings:
    address = f"http://127.0.0.1:{stub.server_address[1]}/v1"
    return JudgeSettings(base_url=address, model="m", cache_dir=str(tmp_path / "cache"))


def test_a_text_is_judged_once_and_read_from_the_cache_after(stub: Stub, settings: JudgeSettings) -> None:
    stub.replies = [GOOD]
    first, second = ask(TEXT, PROMPT, settings), ask(TEXT, PROMPT, settings)
    assert first == second and first.reason == "ok" and first.counts is not None
    assert first.counts["verification"] == 1 and first.counts["subgoal_setting"] == 0
    assert [request["path"] for request in stub.seen] == ["/v1/chat/completions"]
    sent = stub.seen[0]["body"]
    assert sent["model"] == "m" and sent["temperature"] == 0
    assert TEXT in sent["messages"][1]["content"] and PROMPT in sent["messages"][1]["content"]


def test_another_text_problem_or_model_is_another_question(stub: Stub, settings: JudgeSettings) -> None:
    stub.replies = [GOOD, verdict(), GOOD, GOOD]
    ask(TEXT, PROMPT, settings)
    ask(TEXT + " Done.", PROMPT, settings)
    ask(TEXT, PROMPT.replace("33", "34"), settings)
    ask(TEXT, PROMPT, settings.model_copy(update={"model": "other"}))
    assert len(stub.seen) == 4


def test_another_endpoint_is_another_question(stub: Stub, settings: JudgeSettings) -> None:
    stub.replies = [GOOD, verdict()]
    other = settings.model_copy(update={"base_url": settings.base_url.replace("/v1", "/other/v1")})
    first, second = (ask(TEXT, PROMPT, asked).counts for asked in (settings, other))
    assert first is not None and second is not None and first != second
    assert [ask(TEXT, PROMPT, asked).counts for asked in (settings, other)] == [first, second]
    slashed = settings.model_copy(update={"base_url": settings.base_url + "/"})
    assert ask(TEXT, PROMPT, slashed).counts == first and len(stub.seen) == 2


@pytest.mark.parametrize("empty", [b"<html>Welcome</html>", "", " "])
def test_an_empty_answer_is_asked_for_again(stub: Stub, settings: JudgeSettings, empty: str | bytes) -> None:
    stub.replies = [empty, GOOD]
    assert [ask(TEXT, PROMPT, settings).reason for _ in range(2)] == ["no_answer", "ok"]


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b'{"error": "no such model"}', ""])
def test_an_endpoint_without_answers_is_found_out(
    stub: Stub, settings: JudgeSettings, body: str | bytes
) -> None:
    stub.replies = [body]
    with pytest.raises(JudgeError, match=r"/v1/chat/completions responds without an answer") as raised:
        judge.check(settings)
    assert "\n" not in str(raised.value)


def test_the_check_asks_the_endpoint_whatever_the_cache_holds(
    stub: Stub, settings: JudgeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.replies = [GOOD, GOOD, 404]
    judge.check(settings)
    judge.check(settings)
    with pytest.raises(JudgeError, match="answers 404"):
        judge.check(settings)
    monkeypatch.delenv("STUB_KEY", raising=False)
    with pytest.raises(JudgeError, match="STUB_KEY: must hold a key"):
        judge.check(settings.model_copy(update={"api_key_env": "STUB_KEY"}))
    assert len(stub.seen) == 3


def test_an_unparsed_answer_is_missing_and_not_asked_for_again(stub: Stub, settings: JudgeSettings) -> None:
    stub.replies = ["The text is fine."]
    assert [ask(TEXT, PROMPT, settings).reason for _ in range(2)] == ["not_json", "not_json"]
    assert len(stub.seen) == 1


def test_completions_are_judged_on_their_own_prompts_and_missing_is_not_zero(
    stub: Stub, settings: JudgeSettings
) -> None:
    stub.replies = [GOOD, "?", verdict(verification=(1, "words of its own"))]
    completions = pd.DataFrame({"prompt": [PROMPT, "another", PROMPT], "completion": [TEXT, "1 + 2 = 3", TEXT + " "]})
    table = judge_completions(completions, settings)
    assert table["reason"].tolist() == ["ok", "not_json", "quote_not_in_text"]
    assert table["verification"].tolist() == [1, pd.NA, pd.NA] and table["verification"].mean() == 1
    asked = [request["body"]["messages"][1]["content"] for request in stub.seen]
    assert PROMPT in asked[0] and "another" in asked[1] and PROMPT not in asked[1]


def test_a_cache_that_cannot_be_written_is_one_line(
    stub: Stub, settings: JudgeSettings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    stub.replies = [GOOD]
    with pytest.raises(JudgeError, match=r"cache_dir = .*: cannot be written") as raised:
        judge.check(settings.model_copy(update={"cache_dir": str(tmp_path / "file" / "cache")}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (f"Here you are:\n```json\n{GOOD}\n```", "ok"),
        ("", "no_answer"),
        (None, "no_answer"),
        (GOOD + " " * 30_000, "not_json"),
        ("{", "not_json"),
        ("[1]", "not_json"),
        ("{" * 15_000 + "}", "not_json"),
        ("[" * 9_000 + "{}" + "]" * 9_000, "wrong_schema"),
        ("{}", "wrong_schema"),
        (GOOD.replace('"count": 1', '"count": "1"'), "wrong_schema"),
        (GOOD.replace('"count": 1', '"count": -1'), "wrong_schema"),
        (GOOD.replace('"count": 1', '"count": true'), "wrong_schema"),
        (GOOD[:-1] + ', "aha": 1}', "wrong_schema"),
        (verdict(verification=(1, "")), "quote_not_in_text"),
        (verdict(verification=(1, "check 33")), "quote_not_in_text"),
        (verdict(verification=(1, "Too  small.\n\nSo")), "ok"),
    ],
)
def test_answers_are_read_strictly(answer: object, reason: str) -> None:
    read = read_answer(answer, TEXT)
    assert read.reason == reason and (read.counts is not None) == (reason == "ok")
    assert reason in judge.REASONS


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited for, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(judge.time, "sleep", waited.append)
    return waited


@pytest.mark.parametrize("first", [503, 0.0, 0.4])
def test_a_busy_server_and_a_broken_connection_are_tried_again_and_then_given_up(
    stub: Stub, settings: JudgeSettings, waits: list[float], first: float
) -> None:
    stub.replies = [first, 429, GOOD]
    assert ask(TEXT, PROMPT, settings.model_copy(update={"timeout_s": 0.2})).reason == "ok"
    assert [wait for wait in waits if wait >= 1] == [1.0, 2.0] and len(stub.seen) == 3
    stub.replies = [503] * (judge.RETRIES + 1)
    with pytest.raises(JudgeError, match="answers 503"):
        ask(TEXT + "!", PROMPT, settings)


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refusal_is_one_line_and_leaves_no_cache(
    stub: Stub, settings: JudgeSettings, tmp_path: Path, status: int
) -> None:
    stub.replies = [status]
    with pytest.raises(JudgeError, match=f"answers {status}") as raised:
        ask(TEXT, PROMPT, settings)
    assert "\n" not in str(raised.value) and not list(tmp_path.rglob("*.json"))
    assert len(stub.seen) == 1, "no redirect is followed"


@pytest.mark.parametrize(
    ("address", "retries"),
    [("http://127.0.0.1:9/v1", judge.RETRIES), ("http://127.0.0.1:x/v1", 0), ("http://[::1/v1", 0)],
)
def test_no_server_is_one_line(settings: JudgeSettings, waits: list[float], address: str, retries: int) -> None:
    gone = settings.model_copy(update={"base_url": address})
    with pytest.raises(JudgeError, match="cannot be reached") as raised:
        ask(TEXT, PROMPT, gone)
    assert "\n" not in str(raised.value) and len(waits) == retries


@pytest.mark.parametrize(
    "body", [b"not json", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": 3}}]}']
)
def test_a_response_of_another_form_is_no_answer(stub: Stub, settings: JudgeSettings, body: bytes) -> None:
    stub.replies = [body]
    assert ask(TEXT, PROMPT, settings).reason == "no_answer"


def test_the_key_is_sent_and_neither_cached_nor_printed(
    stub: Stub, settings: JudgeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = settings.model_copy(update={"api_key_env": "STUB_KEY"})
    monkeypatch.delenv("STUB_KEY", raising=False)
    with pytest.raises(JudgeError, match="STUB_KEY: must hold a key"):
        ask(TEXT, PROMPT, keyed)
    monkeypatch.setenv("STUB_KEY", "secret-value")
    stub.replies = [GOOD, 401]
    assert ask(TEXT, PROMPT, keyed).reason == "ok"
    assert stub.seen[0]["key"] == "Bearer secret-value"
    assert not [path for path in tmp_path.rglob("*.json") if "secret-value" in path.read_text()]
    with pytest.raises(JudgeError) as raised:
        ask(TEXT + "!", PROMPT, keyed)
    assert "secret-value" not in str(raised.value)


@pytest.mark.parametrize("key", ["secret\nvalue", "secret\u00e9"])
def test_a_key_that_no_header_carries_is_not_printed(
    stub: Stub, settings: JudgeSettings, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("STUB_KEY", key)
    with pytest.raises(JudgeError, match="STUB_KEY: must hold a key of printable ASCII") as raised:
        ask(TEXT, PROMPT, settings.model_copy(update={"api_key_env": "STUB_KEY"}))
    assert "secret" not in str(raised.value) and not stub.seen


def test_half_a_character_in_an_answer_is_no_end(stub: Stub, settings: JudgeSettings) -> None:
    stub.replies = [b'{"choices": [{"message": {"content": "\\ud800"}}]}']
    assert [ask(TEXT, PROMPT, settings).reason for _ in range(2)] == ["not_json", "not_json"]
    assert len(stub.seen) == 1


def test_a_damaged_cache_entry_is_asked_for_again(
    stub: Stub, settings: JudgeSettings, tmp_path: Path
) -> None:
    stub.replies = [GOOD, GOOD]
    ask(TEXT, PROMPT, settings)
    (entry,) = tmp_path.rglob("*.json")
    entry.write_text("{")
    assert ask(TEXT, PROMPT, settings).reason == "ok" and len(stub.seen) == 2


def test_text_that_is_too_long_is_not_sent(stub: Stub, settings: JudgeSettings) -> None:
    assert ask("x" * (judge.MAX_TEXT + 1), PROMPT, settings).reason == "text_too_long"
    assert not stub.seen


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://a/v1", "localhost:8000"])
def test_only_http_addresses_are_taken(address: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="base_url"):
        JudgeSettings(base_url=address, model="m", cache_dir=str(tmp_path))


@pytest.mark.parametrize("address", ["http://user:secret@host/v1", "http://secret@host/v1", "user:secret@h"])
def test_an_address_with_a_password_is_refused_and_not_printed(address: str, tmp_path: Path) -> None:
    values = {"base_url": address, "model": "m", "cache_dir": str(tmp_path)}
    with pytest.raises(ParameterError, match="base_url: must not hold a user or password") as told:
        validate(JudgeSettings, values, "judge")
    with pytest.raises(ValueError, match="base_url") as raised:
        JudgeSettings.model_validate(values)
    assert "secret" not in str(told.value) + str(raised.value)
