"""The page in a real browser: every control, at two widths, light and dark, English and Chinese.

Skipped where Playwright (`pip install '.[browser]'`) or Chromium is missing; LLMBERT_SCREENSHOTS=FOLDER keeps pictures
of every part, LLMBERT_AXE=axe.min.js lets axe-core look at them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live import Live, live

from llmbert.serving.catalogue import Served
from llmbert.serving.settings import Key, ServeSettings, digest_of

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)
PICTURES = os.environ.get("LLMBERT_SCREENSHOTS")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(browser: Any, server: Live) -> Iterator[Any]:
    """The page, and no word of complaint in its console when the test is over."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, locale="en-GB")
    context.set_default_timeout(10_000)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(server.url) else None)
    opened.goto(server.url)
    opened.wait_for_selector("#write-run option", state="attached")
    yield opened
    context.close()
    assert not [each for each in complaints if "status of 422" not in each]  # what a test lets the server refuse


def choose(page: Any, select: str, value: str) -> None:
    page.select_option(f"#{select}", value=value)


def slide(page: Any, name: str, value: float) -> None:
    change = "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')) }"
    page.locator(f"#{name}").evaluate(change, value)


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; the page's own rules forbid Playwright to wait for one inside it."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"it never came to {expression}")


def write(page: Any, run: str, prompt: str, tokens: int = 16, rated: bool = True) -> None:
    choose(page, "write-run", run)
    page.fill("#write-prompt", prompt)
    if not page.input_value("#seed"):  # else each text is another, and a few end before their last token
        page.fill("#seed", "1")
    page.evaluate("n => { max_tokens.value = n; max_tokens.dispatchEvent(new Event('input')) }", tokens)
    page.click("#write-go")
    until(page, r"/(tokens|词元).(s|秒)$/.test(document.querySelector('.outputs .hint')?.textContent)")
    if rated:  # a server that keeps no feedback shows no thumbs
        page.wait_for_selector(".thumbs .up")


class TestWriting:
    def test_tokens_stream_with_their_probabilities(self, page: Any) -> None:
        write(page, "gpt", "the river")
        tokens = page.locator(".written .token")
        assert tokens.count() == 16
        assert page.locator(".written .prompt").inner_text() == "the river"
        page.locator(".written .token:not(:empty)").nth(3).hover()
        page.wait_for_selector("#popover:not([hidden])")
        assert re.search(r"probability [\d.e-]+ %, surprise [\d.]+ bits", page.inner_text("#popover p"))
        assert page.locator("#popover button").count() == 8
        shares = [float(text.split()[0]) for text in page.locator("#popover button span:last-child").all_inner_texts()]
        assert shares == sorted(shares, reverse=True) and sum(shares) <= 100.5
        assert "16 tokens" in page.inner_text(".outputs .hint")

    def test_another_token_can_be_gone_on_from(self, page: Any) -> None:
        page.fill("#seed", "3")
        write(page, "gpt", "the river")
        before = page.locator(".written .token").all_inner_texts()
        chosen = page.locator(".written .token:not(:empty)").nth(2)
        at = int(chosen.get_attribute("data-at"))
        chosen.click()
        other = page.locator("#popover button:not([disabled])").nth(4)
        other.click()
        page.wait_for_selector(".versions button >> nth=1")
        page.wait_for_selector(".thumbs .up", timeout=20_000)
        after = page.locator(".written .token").all_inner_texts()
        assert after[:at] == before[:at] and len(after) == at + 1 + 16
        page.click(".versions button >> nth=0")
        assert page.locator(".written .token").all_inner_texts() == before

    def test_of_an_encoder_decoder_too(self, page: Any) -> None:
        write(page, "ende", "the river runs")
        assert page.inner_text("#write-prompt-label") == "Text to write from"
        page.locator(".written .token:not(:empty)").nth(1).click()  # a byte of a character has no text of its own
        page.locator("#popover button:not([disabled])").nth(1).click()
        page.wait_for_selector(".versions button >> nth=1")
        page.wait_for_selector(".thumbs .up", timeout=20_000)
        assert page.is_hidden("#notice")

    def test_the_keyboard_is_enough(self, page: Any) -> None:
        choose(page, "write-run", "ngram")
        page.focus("#write-prompt")
        page.keyboard.type("the mill")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".thumbs .up")
        page.locator(".written .token[tabindex='0']").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.dataset.at") == "2"
        page.wait_for_selector("#popover:not([hidden])")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.closest('#popover') !== null")
        page.keyboard.press("Escape")
        assert page.is_hidden("#popover")
        assert page.evaluate("document.activeElement.dataset.at") == "2"

    def test_two_runs_side_by_side(self, page: Any) -> None:
        page.check("#write-two")
        choose(page, "write-other", "lstm")
        write(page, "gpt", "a town")
        until(page, "document.querySelectorAll('.thumbs .up').length === 2")
        assert page.locator(".outputs h2").all_inner_texts() == ["gpt", "lstm"]
        boxes = [page.locator(".outputs .card").nth(i).bounding_box() for i in range(2)]
        assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]

    def test_settings_show_what_they_do(self, page: Any) -> None:
        choose(page, "write-run", "gpt")
        page.fill("#write-prompt", "the river")
        page.wait_for_selector("#next tbody tr")

        def told() -> int:
            page.wait_for_timeout(600)
            return int(re.search(r"; ([\d,]+) tokens", page.inner_text("#next-told"))[1].replace(",", ""))  # type: ignore[index]

        everything = told()
        for name, value, fewer in (
            ("top_k", 5, 5),
            ("top_k", 0, everything),
            ("min_p", 0.5, None),
            ("top_p", 0.3, None),
        ):
            slide(page, name, value)
            found = told()
            assert found == fewer if fewer is not None else found < everything
            assert float(page.inner_text(f"output[for={name}]")) == value
        slide(page, "temperature", 0)
        assert told() == 1
        slide(page, "repetition_penalty", 1.5)
        assert told() == 1

    def test_a_seed_repeats_a_text_and_stop_breaks_off(self, page: Any) -> None:
        page.fill("#seed", "11")
        write(page, "gpt", "the sea")
        first = page.inner_text(".written")
        page.click("#write-go")
        until(page, "document.querySelector('.outputs .hint').textContent.includes('16')")
        assert page.inner_text(".written") == first
        slide(page, "max_tokens", 512)
        page.click("#write-go")
        stop_at_once(page, "#write-stop", "document.querySelectorAll('.written .token').length > 3")
        until(page, "document.querySelector('.outputs .hint').textContent.includes('stopped')")
        assert 3 < page.locator(".written .token").count() < 512

    def test_a_run_that_fills_gaps_writes_plain_text(self, page: Any) -> None:
        write(page, "bert", "the river")
        assert page.locator(".written .token[data-at]").count() == 0

    def test_what_is_refused_is_told(self, page: Any) -> None:
        choose(page, "write-run", "ende")
        page.fill("#write-prompt", "river " * 100)
        page.click("#write-go")
        page.wait_for_selector("#notice:not([hidden])")
        assert "the model reads 96" in page.inner_text("#notice")


def test_thumbs_land_in_the_database(page: Any, server: Live) -> None:
    from llmbert.serving.feedback import read_thumbs

    assert server.inside.feedback is not None
    write(page, "ngram", "in spring")
    page.click(".thumbs .up")
    page.wait_for_selector("text=Thank you.")
    page.click(".thumbs .down")
    page.fill(".thumbs input", "in spring the water is high")
    page.click(".thumbs .keep")
    page.wait_for_timeout(400)
    server.inside.feedback.flush()
    (rated,) = [row for row in read_thumbs(server.inside.feedback.path) if row["prompt"] == "in spring"]
    assert rated["good"] is False and rated["better"] == "in spring the water is high" and rated["seconds"] > 0


def stop_at_once(page: Any, button: str, once: str = "true") -> None:
    """Press a button as soon as it can be: by the time a click has come from here, a quick model may be done."""
    it = f"document.querySelector('{button}')"
    until(page, f"(() => {once} && !{it}.disabled && ({it}.click(), true))()")


def stop_as_it_begins(page: Any, button: str) -> None:
    """The same of what is not begun yet, however quickly it is done."""
    watched = "(b) => new MutationObserver((_, it) => {if (!b.disabled) {it.disconnect(); window.seen = 1; b.click()}})"
    page.evaluate(
        f"({watched})(document.querySelector('{button}')).observe(document.querySelector('{button}'), "
        "{attributes: true})"
    )


def test_a_conversation(page: Any) -> None:
    page.click("#tab-chat")
    choose(page, "chat-run", "ngram")
    page.fill("#chat-system", "Speak of rivers.")
    page.fill("#chat-text", "where does it rise?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#chat-log .thumbs")
    page.fill("#chat-text", "and then?")
    page.click("#chat-go")
    until(page, "document.querySelectorAll('#chat-log .thumbs').length === 2")
    assert page.locator("#chat-log .turn").count() == 4
    page.fill("#chat-text", "one\n")
    page.keyboard.press("Shift+Enter")
    assert page.input_value("#chat-text").startswith("one\n")
    page.click("#chat-new")
    assert page.locator("#chat-log .turn").count() == 0
    stop_as_it_begins(page, "#chat-stop")
    page.click("#chat-go")
    until(page, "window.seen === 1")
    page.wait_for_selector("#chat-stop[disabled]")


def test_tasks(page: Any) -> None:
    page.click("#tab-tasks")
    assert page.locator("#tasks-verb option").all_inner_texts() == ["Translate", "Summarise", "Classify"]
    page.fill("#tasks-text", "the river runs")
    page.click("#tasks-go")
    page.wait_for_selector("#tasks-thumbs .up")
    choose(page, "tasks-verb", "summarise")
    assert page.input_value("#tasks-run") == "t5"
    choose(page, "tasks-verb", "classify")
    assert page.input_value("#tasks-run") == "kinds"
    page.click("#tasks-go")
    page.wait_for_selector("#tasks-answer table")
    assert page.inner_text("#tasks-answer strong") in ("water", "land")


def test_attention_maps(page: Any) -> None:
    page.click("#tab-inside")
    assert page.is_hidden("#inside-target-part")
    choose(page, "inside-run", "gpt")
    page.fill("#inside-text", "the mill")
    page.click("#inside-go")
    page.wait_for_selector("#inside-map td[title]")
    assert page.locator("#inside-map tbody tr").count() == 9  # the begin token too
    page.select_option("#inside-head", label="2")
    assert "Layer 1, Head 2" in page.inner_text("#inside-told")
    choose(page, "inside-run", "ende")
    page.fill("#inside-target", "die")
    page.click("#inside-go")
    until(page, "document.querySelector('#inside-part').options.length === 3")
    assert page.locator("#inside-map thead th").count() == 9 and page.locator("#inside-map tbody tr").count() == 4
    choose(page, "inside-part", "0")
    choose(page, "inside-layer", "0")
    assert page.locator("#inside-map tbody tr").count() == 9


def test_runs_show_their_curve_and_report(page: Any) -> None:
    page.click("#tab-runs")
    choose(page, "runs-run", "gpt")
    page.wait_for_selector("#runs-curve svg")
    page.wait_for_selector("#runs-report:not([hidden])")
    frame = page.frame_locator("#runs-report")
    assert frame.locator("h1").inner_text()
    assert page.locator("#runs-facts tr").count() >= 6
    choose(page, "runs-run", "lstm")
    page.wait_for_selector("#runs-none:not([hidden])")


def test_language_theme_and_tabs_by_keyboard(page: Any) -> None:
    page.click("#language")
    assert page.inner_text("#write-go") == "开始写" and page.evaluate("document.documentElement.lang") == "zh-Hans"
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    page.wait_for_selector("#write-run option", state="attached")
    assert page.inner_text("#tab-chat") == "对话"
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.focus("#tab-write")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.id") == "tab-runs" and page.is_visible("#runs")
    page.click("#language")
    assert page.inner_text("#tab-chat") == "Chat"


def test_a_key_is_asked_for_and_used(browser: Any, runs: dict[str, Served]) -> None:
    key = "0123456789abcdef-page"
    with live({"ngram": runs["ngram"]}, ServeSettings(keys=(Key("page", digest_of(key)),))) as server:
        context = browser.new_context()
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key-value", "not this server's key")
        page.click("#key-form button")
        until(page, "document.querySelector('#notice').textContent.includes('one of this server')")
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key-value", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#write-run option", state="attached")
        write(page, "ngram", "the mill", rated=False)
        page.click("#key-open")
        assert page.is_visible("#key-dialog")
        assert page.locator(".skip").get_attribute("href") == "#main"
        context.close()


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_part_fits_and_axe_finds_no_serious_fault(
    browser: Any, server: Live, width: int, theme: str, language: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=theme, locale=language)
    context.set_default_timeout(10_000)
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector("#write-run option", state="attached")
    page.fill("#seed", "1")
    write(page, "gpt", "the river rises in the hills", 64)
    page.locator(".written .token").nth(5).focus()
    fill_everything(page)
    for part in ("write", "chat", "tasks", "inside", "runs"):
        page.click(f"#tab-{part}")
        page.wait_for_timeout(100)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{part} is {wide} pixels wider than the window"
        if PICTURES:
            page.screenshot(path=Path(PICTURES) / f"{part}-{width}-{theme}-{language}.png", full_page=True)
        assert not serious_faults(page)
    context.close()


def fill_everything(page: Any) -> None:
    page.click("#tab-chat")
    page.select_option("#chat-run", "ngram")
    page.fill("#chat-text", "where does the river rise?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#chat-log .thumbs")
    page.click("#tab-tasks")
    page.select_option("#tasks-verb", "classify")
    page.fill("#tasks-text", "the river runs")
    page.click("#tasks-go")
    page.wait_for_selector("#tasks-answer table")
    page.click("#tab-inside")
    page.fill("#inside-text", "the mill stands")
    page.click("#inside-go")
    page.wait_for_selector("#inside-map td[title]")


def serious_faults(page: Any) -> list[str]:
    """What axe-core finds, where its script is on this machine (LLMBERT_AXE=axe.min.js)."""
    axe = os.environ.get("LLMBERT_AXE")
    if not axe:
        return []
    page.evaluate(Path(axe).read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found if each["impact"] in ("serious", "critical")
    ]
